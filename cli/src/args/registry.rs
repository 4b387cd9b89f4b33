//! The grammar of `sifleet registry` and of `sifleet image import`.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueHint};
use serde_json::{Map, Value};
use sifleet_common::name::ImageName;

use super::Progress;

pub(super) const IMPORT_HELP: &str = "\
Examples:
  sifleet image import oras://registry.example/team/openfoam:v2312
  sifleet image import oras://registry.example/vnc_desktop --name viz/vnc_desktop.sif
  sifleet image import ./vnc_desktop.sif                  a file of this machine
  sifleet image import docker-archive:openfoam.tar        built here with apptainer, then sent

The host of oras:// is that of a registry in the catalogue (`sifleet registry add`), and the coordinator fetches the image itself. \
Ctrl-C only stops watching then: the same command watches again, and nothing is fetched twice. \
Ends with 0 when the image is in the library, 11 when the registry denies it, 12 when there is no such image or registry, 13 when it is \
no SIF or not what the registry announced, 14 when the library has too little space, 1 when it failed otherwise.";

const ADD_HELP: &str = "\
Examples:
  sifleet registry add hub https://registry.example:5000 --tag internal --set metadata.owner=mlops
  sifleet registry add team https://team.example --username robot --password-file token.txt";

const SET_HELP: &str = "\
Examples:
  sifleet registry set hub metadata.owner=mlops config.max_layer_size_mb=500
  sifleet registry set hub 'tags=[\"ai\",\"internal\"]'
  sifleet registry set hub public_url=https://new.example     forgets the credentials
  sifleet registry set hub --username robot --password-file token.txt
  sifleet registry set hub --no-credentials";

const LS_HELP: &str = "\
Examples:
  sifleet registry ls
  sifleet registry ls '{\"tags\": {\"$in\": [\"ai\", \"internal\"]}}'
  sifleet registry ls '{\"config.max_layer_size_mb\": {\"$gte\": 500}}' -o name";

/// What to do with external registries.
#[derive(Debug, Subcommand)]
pub(crate) enum RegistryVerb {
    /// Writes a registry down
    #[command(after_help = ADD_HELP)]
    Add(Box<Adding>),
    /// Lists registries, all or those that a question is about
    #[command(visible_alias = "list", after_help = LS_HELP)]
    Ls {
        /// The question as JSON: $in $nin $eq $ne $gt $gte $lt $lte $exists $regex $and $or $not, dotted paths.
        #[arg(value_name = "QUERY", value_parser = query)]
        query: Option<Object>,
    },
    /// Shows a registry, without its credentials
    #[command(after_help = "Examples:\n  sifleet registry show hub\n  sifleet registry show hub -o json")]
    Show {
        /// Its name or id.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        registry: String,
    },
    /// Changes a registry, or its credentials
    #[command(after_help = SET_HELP)]
    Set(Box<Setting>),
    /// Forgets a registry and its credentials; images stay
    #[command(visible_alias = "remove", after_help = "Examples:\n  sifleet registry rm hub")]
    Rm {
        /// Its name or id.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        registry: String,
    },
    /// Looks whether a registry answers
    #[command(
        after_help = "Examples:\n  sifleet registry check hub\n\nThe coordinator asks, not this machine. Ends with 0 when a registry answers, 1 when not."
    )]
    Check {
        /// Its name or id.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        registry: String,
    },
}

/// A registry to be written down.
#[derive(Debug, Args)]
pub(crate) struct Adding {
    /// What to call it.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: String,
    /// Where it answers, such as `https://registry.example:5000`.
    // Not `url`: by that name the coordinator's own is known.
    #[arg(value_name = "URL", value_parser = NonEmptyStringValueParser::new(), value_hint = ValueHint::Url)]
    pub(crate) public_url: String,
    /// Its id; made if not said.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// A word to find it by (repeatable).
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// What names of its images begin with, such as registry.example:5000/team.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) image_prefix: Option<String>,
    /// A value below metadata, config or storage_info, as JSON or text (repeatable).
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = assignment)]
    pub(crate) set: Vec<(String, Value)>,
    /// With what to sign in.
    #[command(flatten)]
    pub(crate) credentials: Credentials,
}

/// What is to change.
#[derive(Debug, Args)]
pub(crate) struct Setting {
    /// The name or id of the registry.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) registry: String,
    /// Values by field or path, as JSON or text: metadata.owner=mlops.
    #[arg(value_name = "PATH=VALUE", value_parser = assignment, required_unless_present_any = ["username", "no_credentials"])]
    pub(crate) changes: Vec<(String, Value)>,
    /// With what to sign in.
    #[command(flatten)]
    pub(crate) credentials: Credentials,
    /// Forgets the credentials.
    #[arg(long, conflicts_with = "username")]
    pub(crate) no_credentials: bool,
}

/// With what to sign in at a registry.
#[derive(Debug, Args)]
pub(crate) struct Credentials {
    /// The user at the registry; setting credentials needs the role admin.
    #[arg(long, requires = "password_file")]
    pub(crate) username: Option<String>,
    /// Reads the password or token from this file, which nobody else may read; - for standard input.
    #[arg(long, value_name = "FILE", requires = "username", value_hint = ValueHint::FilePath)]
    pub(crate) password_file: Option<PathBuf>,
    /// The service on another host that makes the registry's tokens and may see them, such as `https://auth.example`.
    #[arg(long, value_name = "URL", requires = "username")]
    pub(crate) realm: Option<String>,
}

/// What to bring into the library.
#[derive(Debug, Args)]
pub(crate) struct Importing {
    /// oras://HOST/REPOSITORY:TAG, docker-archive:FILE, or a file of this machine.
    #[arg(value_parser = NonEmptyStringValueParser::new(), value_hint = ValueHint::FilePath)]
    pub(crate) source: String,
    /// Its name in the library; made from the source if not said.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<ImageName>,
    /// How to tell what happens.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) progress: Progress,
}

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

fn query(text: &str) -> Result<Object, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("write a JSON object such as {{\"tags\": \"ai\"}}: {error}"))
}

/// Reads `path=value`; what is no JSON is text.
fn assignment(text: &str) -> Result<(String, Value), String> {
    let (path, value) =
        text.split_once('=').filter(|(path, _)| !path.is_empty()).ok_or("write PATH=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_text| Value::String(value.to_owned()));
    Ok((path.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_json_or_text() {
        for (text, value) in [
            ("a.b=1", json!(1)),
            ("a.b=one", json!("one")),
            ("a.b=\"1\"", json!("1")),
            ("a.b=[1]", json!([1])),
            ("a.b=x=y", json!("x=y")),
            ("a.b=", json!("")),
            ("a.b=true", json!(true)),
        ] {
            assert_eq!(assignment(text), Ok(("a.b".to_owned(), value)), "{text}");
        }
        assert!(assignment("a").is_err() && assignment("=a").is_err());
    }
}
