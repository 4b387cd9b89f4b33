//! The grammar of `sifleet export`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

pub(crate) const EXPORT_HELP: &str = "\
Examples:
  sifleet export --to /srv/www/images --base-url https://head01.example:7440
  sifleet export --to /srv/www/images --base-url https://www.example/images --blobs
  sifleet export --to /srv/www/images --base-url https://www.example/images --blobs -o json

Any web server can serve the directory, and whoever reads it needs nothing but curl and jq:
  curl -s https://www.example/images/a/openfoam/tags/ | jq -r '.tags[]'
  url=$(curl -s https://www.example/images/a/openfoam/manifests/v2312/ | jq -r '.layers[0].urls[0]')
  curl -sLo openfoam.sif \"$url\"

index.html lists all images. What a README.md beside the tags of an image says is shown there, else what the image says of \
itself. Files that are as they should be are not touched, images that left the library leave the directory, and nothing \
that an export did not write is removed. Links below the directory are not followed. Ends with 0 when all images are there, 3 when some \
had to be left out, 1 while another export writes there.";

/// Where the tree goes, and where its images are.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Writes the tree into this directory.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) to: PathBuf,
    /// Says that images are below this address: where the directory is served, with --blobs, else where the coordinator is for
    /// those who read it; else --url.
    #[arg(long, value_name = "URL", value_parser = base_url, value_hint = ValueHint::Url)]
    pub(crate) base_url: Option<String>,
    /// Writes the images themselves into the directory too, each once it has been verified.
    #[arg(long)]
    pub(crate) blobs: bool,
    /// Goes on when the library has no image and the directory has some.
    #[arg(long)]
    pub(crate) allow_empty: bool,
}

/// Reads an address that others are told.
fn base_url(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let fits = |rest: &str| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'<>?#".contains(&byte))
    };
    if rest.is_some_and(fits) {
        return Ok(text.to_owned());
    }
    Err("write an address such as https://www.example/images".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_others_is_a_whole_one() {
        assert_eq!(base_url("https://h/images//").as_deref(), Ok("https://h/images"));
        for bad in [
            "",
            "h",
            "ftp://h",
            "https://",
            "https://h/a b",
            "https://h/?x",
            "https://h/\"",
            "https://h/\u{fc}",
        ] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }
}
