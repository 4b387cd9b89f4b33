//! What the library has to do with a push: which image a file would replace there, and which one was perhaps meant.

use std::path::Path;

use sifleet_common::api::images::{DigestUse, ImageDetail, ImageList, ImageSummary};

use super::file::Local;
use crate::client::{Client, ClientError, Target};
use crate::outcome::Advice;
use crate::output;

/// An image of the library that a file takes the place of.
pub(super) struct Replaced {
    /// Its name.
    pub(super) name: String,
    /// Its digest.
    pub(super) digest: String,
}

impl Replaced {
    /// Says it to people.
    pub(super) fn words(&self) -> String {
        format!("replaces {} in the library ({})", self.name, output::digest(&self.digest, false))
    }
}

/// Finds another image that the library holds under the name of a file.
///
/// # Errors
/// [`ClientError`] when nobody answers; who does and knows of no such image knows of none that is replaced.
pub(super) fn replaced_by(client: &Client, local: &Local) -> Result<Option<Replaced>, ClientError> {
    let name = local.name.to_string();
    let summary = match client.get::<ImageDetail>(&Target::v1("images").segment(&name)) {
        Ok(answer) => answer.value.summary,
        Err(error) if error.may_pass() => return Err(error),
        Err(_) => return Ok(None),
    };
    // A name that is only alike is another image.
    let held = summary.digests.into_iter().filter(|_| summary.name == name).find(|held| held.in_library);
    let other = held.filter(|held| held.digest != local.digest.to_string());
    Ok(other.map(|held| Replaced { name, digest: held.digest }))
}

/// Tells whether the library is known to hold a file's bytes under its name; so it is, too, where that cannot be told.
///
/// # Errors
/// [`ClientError`] when nobody answers.
pub(super) fn shows(client: &Client, local: &Local) -> Result<bool, ClientError> {
    let name = local.name.to_string();
    match client.get::<ImageDetail>(&Target::v1("images").segment(&name)) {
        Ok(answer) => {
            let (summary, digest) = (answer.value.summary, local.digest.to_string());
            let held = |held: &DigestUse| held.in_library && held.digest == digest;
            Ok(summary.name == name && summary.digests.iter().any(held))
        }
        Err(error) if error.may_pass() => Err(error),
        Err(error) => Ok(error.code() != Some("unknown_image")),
    }
}

/// Adds what this side knows to a refusal of the coordinator.
pub(super) fn advised(client: &Client, image: &str, error: ClientError) -> anyhow::Error {
    let advice = match error.code() {
        Some("unknown_image" | "no_holder") if !image.contains('/') && Path::new(image).is_file() => {
            Some(format!("for the file of this machine write ./{image}"))
        }
        Some("images_differ") => folders(client, image),
        _ => None,
    };
    match advice {
        Some(advice) => anyhow::Error::new(error).context(Advice(advice)),
        None => error.into(),
    }
}

/// Says which images the library has under that name in the folders of partitions.
fn folders(client: &Client, image: &str) -> Option<String> {
    let stem = image.split('@').next()?.trim_end_matches(".sif");
    let list = client.get::<ImageList>(&Target::v1("images").query("q", stem)).ok()?.value;
    list.images.iter().find_map(|found| in_folder(found, stem))
}

fn in_folder(found: &ImageSummary, stem: &str) -> Option<String> {
    let (folder, name) = found.name.split_once('/')?;
    let held = found.digests.iter().find(|held| held.in_library)?;
    let digest = output::digest(&held.digest, false);
    (name.trim_end_matches(".sif") == stem).then(|| {
        let whole = &found.name;
        format!("the library has {whole}: push it with -p {folder}, or name its bytes: {stem}@{digest}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_library_and_only_that_very_name_are_pointed_at() {
        let image = |name: &str, in_library| ImageSummary {
            name: name.into(),
            digests: vec![DigestUse {
                digest: format!("blake3:{}", "5".repeat(64)),
                size: 1,
                arch: "amd64".into(),
                format: "sif".into(),
                mutable: false,
                in_library,
                count: 1,
                nodes: "head".into(),
            }],
            drift: false,
            nodes: "head".into(),
            count: 1,
            last_known: String::new(),
        };
        let said = in_folder(&image("compute/openfoam.sif", true), "openfoam").unwrap();
        assert_eq!(
            said,
            "the library has compute/openfoam.sif: push it with -p compute, or name its bytes: \
             openfoam@blake3:555555555555"
        );
        for (name, in_library) in
            [("compute/openfoam.sif", false), ("compute/openfoam2.sif", true), ("openfoam.sif", true)]
        {
            assert!(in_folder(&image(name, in_library), "openfoam").is_none(), "{name}");
        }
    }
}
