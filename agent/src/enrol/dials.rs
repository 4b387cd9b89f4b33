//! Whom the agent dials once it is enrolled: a file beside its settings, so that the printed line is all it takes.
//!
//! Owns that file and never touches another one. It is there only while nobody else has said whom to dial: additions to the
//! settings overrule the main file, so one that was left there would silently overrule what a person wrote.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sifleet_common::settings::{Options, SettingsError, load_without};

use crate::credentials::CredentialsError;
use crate::credentials::establish::replace_for_all;
use crate::settings::{DEFAULT_PATH, ENV_PREFIX, Settings};

/// What the file is called among the additions to the settings: all others come later, and overrule it.
const FILE: &str = "00-enrolled.toml";

/// Whom the agent dials from its next start on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dials {
    /// The coordinator that enrolled it, because somebody said so before.
    Already,
    /// The coordinator that enrolled it, because a file says so now.
    Now {
        /// The file.
        file: PathBuf,
    },
    /// Others, because somebody said so.
    Others {
        /// As the settings name them.
        names: Vec<String>,
    },
}

/// Says why nobody is remembered.
#[derive(Debug, thiserror::Error)]
pub enum DialsError {
    /// The settings cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] CredentialsError),
    /// The folder for it cannot be made.
    #[error("cannot make {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file of an earlier enrolment stands in the way of what the settings say.
    #[error("cannot remove {}, which overrules the settings that name {}", path.display(), names.join(", "))]
    Remove {
        /// The file.
        path: PathBuf,
        /// Whom the settings name.
        names: Vec<String>,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Has the agent dial `coordinator`, unless somebody has said whom; `config` is where the settings are if not at the usual place.
///
/// # Errors
/// [`DialsError`]; no other settings have changed.
pub fn remember(config: Option<&Path>, coordinator: &str) -> Result<Dials, DialsError> {
    let is_meant = |names: &[String]| names.iter().any(|name| name == coordinator);
    let path = config.unwrap_or(Path::new(DEFAULT_PATH));
    let mut folder = path.to_owned().into_os_string();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let file = folder.join(FILE);
    let options = Options { path, explicit: config.is_some(), env_prefix: ENV_PREFIX };
    let names = load_without::<Settings>(&options, &file)?.settings.coordinators;
    if is_meant(&names) || names != Settings::default().coordinators {
        let dials = if is_meant(&names) { Dials::Already } else { Dials::Others { names: names.clone() } };
        return match fs::remove_file(&file) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(DialsError::Remove { path: file, names, source })
            }
            Ok(()) | Err(_) => Ok(dials),
        };
    }
    if is_meant(&Settings::load(config)?.settings.coordinators) {
        return Ok(Dials::Already);
    }
    make(&folder).map_err(|source| DialsError::Folder { path: folder.clone(), source })?;
    replace_for_all(
        &file,
        &format!(
            "# Written by `sifleet-agent enrol`. It overrules agent.toml; files that come later, such as site.toml, overrule it.\n\
             coordinators = [{coordinator:?}]\n"
        ),
    )?;
    Ok(Dials::Now { file })
}

/// Makes the folder for everybody to read, whatever the umask is: root enrols, the agent is another user.
fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().mode(0o755).create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn main_file(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("agent.toml");
        fs::write(&path, text).unwrap();
        path
    }

    fn dialled(config: &Path) -> Vec<String> {
        Settings::load(Some(config)).unwrap().settings.coordinators
    }

    #[test]
    fn who_enrolled_is_dialled_where_nobody_said_whom_to_dial() {
        let folder = tempfile::tempdir().unwrap();
        let config = main_file(folder.path(), "partitions = [\"viz\"]\n");
        let file = folder.path().join("agent.toml.d/00-enrolled.toml");
        assert_eq!(remember(Some(&config), "head01:7441").unwrap(), Dials::Now { file: file.clone() });
        assert_eq!(dialled(&config), ["head01:7441"]);
        for (path, mode) in [(file.parent().unwrap(), 0o755), (&file, 0o644)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode, "{path:?}");
        }
        assert_eq!(remember(Some(&config), "head01:7441").unwrap(), Dials::Already);
        // Another cluster: what was written by the first enrolment stands in nobody's way.
        assert_eq!(remember(Some(&config), "[fd00::1]:7441").unwrap(), Dials::Now { file });
        assert_eq!(dialled(&config), ["[fd00::1]:7441"]);
    }

    #[test]
    fn what_a_person_wrote_stands() {
        let folder = tempfile::tempdir().unwrap();
        let config = main_file(folder.path(), "coordinators = [\"a:1\", \"b:1\"]\n");
        assert_eq!(remember(Some(&config), "b:1").unwrap(), Dials::Already);
        let others = Dials::Others { names: vec!["a:1".into(), "b:1".into()] };
        assert_eq!(remember(Some(&config), "c:1").unwrap(), others);
        assert!(!folder.path().join("agent.toml.d").exists());
    }

    #[test]
    fn a_later_file_of_the_site_overrules_it() {
        let folder = tempfile::tempdir().unwrap();
        let config = main_file(folder.path(), "");
        remember(Some(&config), "a:1").unwrap();
        fs::write(folder.path().join("agent.toml.d/site.toml"), "coordinators = \"b:1\"\n").unwrap();
        assert_eq!(remember(Some(&config), "c:1").unwrap(), Dials::Others { names: vec!["b:1".into()] });
        assert_eq!(dialled(&config), ["b:1"]);
    }

    #[test]
    fn what_a_person_wrote_since_the_last_enrolment_stands_too() {
        let folder = tempfile::tempdir().unwrap();
        let config = main_file(folder.path(), "");
        let file = folder.path().join("agent.toml.d/00-enrolled.toml");
        remember(Some(&config), "a:1").unwrap();
        main_file(folder.path(), "coordinators = [\"b:1\"]\n");
        assert_eq!(dialled(&config), ["a:1"], "an addition comes after the main file");
        assert_eq!(remember(Some(&config), "c:1").unwrap(), Dials::Others { names: vec!["b:1".into()] });
        assert!(!file.exists());
        assert_eq!(dialled(&config), ["b:1"]);
        fs::write(&file, "coordinators = \"a:1\"\n").unwrap();
        assert_eq!(remember(Some(&config), "b:1").unwrap(), Dials::Already);
        assert_eq!(dialled(&config), ["b:1"]);
    }

    #[test]
    fn what_was_not_written_whole_is_not_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let config = main_file(folder.path(), "");
        let file = folder.path().join("agent.toml.d/00-enrolled.toml");
        // In the way of the new file, which was written beside it by then.
        fs::create_dir_all(&file).unwrap();
        let error = remember(Some(&config), "b:1").unwrap_err();
        assert!(error.to_string().contains("00-enrolled.toml"), "{error}");
        let left = fs::read_dir(folder.path().join("agent.toml.d")).unwrap();
        assert_eq!(left.map(|entry| entry.unwrap().path()).collect::<Vec<_>>(), [file]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let config = main_file(folder.path(), "");
        fs::write(folder.path().join("agent.toml.d"), "").unwrap();
        let error = remember(Some(&config), "a:1").unwrap_err();
        assert!(error.to_string().contains("agent.toml.d"), "{error}");
    }
}
