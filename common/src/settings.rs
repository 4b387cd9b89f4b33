//! Settings of a daemon: one TOML file, a directory of additions, and the environment, in this order.
//!
//! Owns where settings come from, how they are laid over one another, and how a mistake is shown: with file,
//! line, column and the nearest thing that would have been right. What the settings are is the business of each
//! daemon, in types that derive `Deserialize` with `deny_unknown_fields`.
//! Outside facts: TOML 1.1, conf.d directories as in systemd.unit(5), exit code 78 (EX_CONFIG) of sysexits.h.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{File, read_dir};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

mod explain;
mod layer;

pub use crate::units::{Period, Size, UnitError};
use layer::{Fault, Layer, NOWHERE, Origin};

/// Exit code of a daemon whose settings are wrong; its unit tells systemd not to try again.
pub const EXIT_BAD_SETTINGS: u8 = 78;
/// Largest settings file, in bytes.
pub const MAX_FILE: u64 = 1024 * 1024;
/// Most files in the directory of additions: more than a person can keep an eye on.
pub const MAX_ADDITIONS: usize = 100;

/// Says where to look for settings.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The main file, such as `/etc/sifleet/agent.toml`; additions are `*.toml` in `/etc/sifleet/agent.toml.d`.
    pub path: &'a Path,
    /// Whether somebody asked for this file: then it must exist.
    pub explicit: bool,
    /// What variables begin with, such as `SIFLEET_AGENT_`: `SIFLEET_AGENT_SESSION__ADDRESS` sets `address` in
    /// `[session]`. The prefix followed by `CONFIG` is left alone: it names the file itself.
    pub env_prefix: &'a str,
}

/// Holds settings and the files that they came from, in the order in which they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<T> {
    /// The settings.
    pub settings: T,
    /// The files.
    pub files: Vec<PathBuf>,
}

/// Says where in the settings something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A position in a file; lines and columns count from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// An environment variable.
    Variable {
        /// Its name.
        name: String,
    },
    /// Nowhere yet, and this is the file to put it into.
    Absent {
        /// The main file.
        path: PathBuf,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable { name } => write!(f, "environment variable {name}"),
            Self::Absent { path } => write!(f, "{}", path.display()),
        }
    }
}

/// Says why settings cannot be used. A daemon shows it and exits with [`EXIT_BAD_SETTINGS`].
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file or the directory of additions cannot be read.
    #[error("cannot read the settings in {}", path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is longer than any settings.
    #[error("{} is larger than {MAX_FILE} bytes; is it a settings file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The directory of additions is full of files.
    #[error("{} holds more than {MAX_ADDITIONS} files; merge some of them", path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
    },
    /// Something in the settings is wrong; `--check-config` shows it without starting anything.
    #[error("{place}: {problem}")]
    Wrong {
        /// Where.
        place: Place,
        /// What, and what would be right.
        problem: String,
    },
}

/// Loads settings: later sources win key by key, tables are merged, lists are replaced.
///
/// A variable's value is read as TOML (`8`, `true`, `["a", "b"]`) where that fits, else as plain text.
///
/// # Errors
/// [`SettingsError`] for the first thing that is wrong.
pub fn load<T: DeserializeOwned>(options: &Options<'_>) -> Result<Loaded<T>, SettingsError> {
    load_with(options, None, std::env::vars_os())
}

/// Loads settings as if one of the additions were not there; for whoever writes that one.
///
/// # Errors
/// As [`load`].
pub fn load_without<T: DeserializeOwned>(
    options: &Options<'_>,
    without: &Path,
) -> Result<Loaded<T>, SettingsError> {
    load_with(options, Some(without), std::env::vars_os())
}

fn load_with<T, V>(
    options: &Options<'_>,
    without: Option<&Path>,
    variables: V,
) -> Result<Loaded<T>, SettingsError>
where
    T: DeserializeOwned,
    V: Iterator<Item = (OsString, OsString)>,
{
    let mut files = files(options)?;
    files.retain(|file| Some(file.as_path()) != without);
    let mut layers = Vec::new();
    for path in &files {
        layers.push(Layer::new(Origin::File(path.clone()), read(path)?, &layers));
    }
    let mut found: Vec<_> = variables.filter_map(|pair| variable(options.env_prefix, pair)).collect();
    found.sort();
    for (name, keys, text) in found {
        let text = text.into_string().map_err(|_not_text| SettingsError::Wrong {
            place: Place::Variable { name: name.clone() },
            problem: "the value is not UTF-8 text".to_owned(),
        })?;
        layers.push(Layer::new(Origin::Variable { name, keys, plain: false }, text, &layers));
    }
    let settings = settle(&mut layers).map_err(|fault| wrong(&fault, &layers, options.path))?;
    Ok(Loaded { settings, files })
}

/// Reads the layers as one. A variable whose value is of the wrong type gets a second chance as plain text, so
/// that a node may be named 001 without quotes inside quotes.
fn settle<T: DeserializeOwned>(layers: &mut [Layer]) -> Result<T, Fault> {
    let mut suspect = None;
    loop {
        let fault = match merged(layers) {
            Ok(settings) => return Ok(settings),
            Err(fault) => fault,
        };
        let culprit = layers.iter().position(|layer| layer.holds(fault.at));
        match suspect.take() {
            Some((index, first)) if culprit == Some(index) => return Err(first),
            Some(_) | None => {}
        }
        match culprit.filter(|index| layers.get_mut(*index).is_some_and(Layer::take_as_text)) {
            Some(index) => suspect = Some((index, fault)),
            None => return Err(fault),
        }
    }
}

fn merged<T: DeserializeOwned>(layers: &[Layer]) -> Result<T, Fault> {
    let mut all = DeTable::new();
    for layer in layers {
        layer::lay_over(&mut all, layer.table()?);
    }
    let all = Deserializer::from(Spanned::new(NOWHERE, all));
    T::deserialize(all).map_err(|error| Fault::new(&error, 0))
}

fn wrong(fault: &Fault, layers: &[Layer], main: &Path) -> SettingsError {
    let place = layers
        .iter()
        .find_map(|layer| layer.place(fault.at))
        .unwrap_or_else(|| Place::Absent { path: main.to_owned() });
    SettingsError::Wrong { place, problem: explain::explain(&fault.message) }
}

/// Splits `PREFIX` + `SECTION__KEY` into its keys; `None` for a variable that is no setting.
fn variable(prefix: &str, (name, value): (OsString, OsString)) -> Option<(String, Vec<String>, OsString)> {
    let name = name.into_string().ok()?;
    let keys = name.strip_prefix(prefix).filter(|rest| !rest.is_empty() && *rest != "CONFIG")?;
    let keys = keys.split("__").map(str::to_ascii_lowercase).collect();
    Some((name, keys, value))
}

/// Lists the main file, if it is there, and the additions in the order of their names.
fn files(options: &Options<'_>) -> Result<Vec<PathBuf>, SettingsError> {
    let mut files = Vec::new();
    if options.explicit || options.path.exists() {
        files.push(options.path.to_owned());
    }
    let mut directory = options.path.as_os_str().to_owned();
    directory.push(".d");
    let directory = PathBuf::from(directory);
    let failed = |source| SettingsError::Read { path: directory.clone(), source };
    let entries = match read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        Err(error) => return Err(failed(error)),
    };
    let mut additions = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension() == Some(OsStr::new("toml")) {
            additions.push(path);
        }
        if additions.len() > MAX_ADDITIONS {
            return Err(SettingsError::TooMany { path: directory });
        }
    }
    additions.sort();
    files.extend(additions);
    Ok(files)
}

fn read(path: &Path) -> Result<String, SettingsError> {
    let failed = |source| SettingsError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut text = String::new();
    let len = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if u64::try_from(len).is_ok_and(|len| len <= MAX_FILE) {
        Ok(text)
    } else {
        Err(SettingsError::TooLarge { path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests;
