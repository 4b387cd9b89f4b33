//! Whom the agent dials once it is enrolled: a file beside its settings, so that the printed line is all it takes.
//!
//! Owns that file and never touches another one: where a person has said whom to dial, that stands.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sifleet_common::settings::SettingsError;

use crate::settings::{DEFAULT_PATH, Settings};

/// What the file is called among the additions to the settings; those that come later, such as `site.toml`, overrule it.
const FILE: &str = "coordinator.toml";

/// Whom the agent dials from its next start on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dials {
    /// The coordinator that enrolled it, because its settings said so before.
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
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
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
    let dialled = || Ok::<_, SettingsError>(Settings::load(config)?.settings.coordinators);
    let is_meant = |names: &[String]| names.iter().any(|name| name == coordinator);
    let names = dialled()?;
    if is_meant(&names) {
        return Ok(Dials::Already);
    }
    let mut folder = config.unwrap_or(Path::new(DEFAULT_PATH)).to_owned().into_os_string();
    folder.push(".d");
    let file = PathBuf::from(folder).join(FILE);
    if names != Settings::default().coordinators && !file.exists() {
        return Ok(Dials::Others { names });
    }
    write(&file, coordinator).map_err(|source| DialsError::Write { path: file.clone(), source })?;
    let names = dialled()?;
    Ok(if is_meant(&names) { Dials::Now { file } } else { Dials::Others { names } })
}

/// Writes the file for everybody to read, whatever the umask is: root enrols, the agent is another user.
fn write(file: &Path, coordinator: &str) -> io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.exists()) {
        DirBuilder::new().mode(0o755).create(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    let text = format!(
        "# Written by `sifleet-agent enrol`. Files that come later, such as site.toml, overrule it.\n\
         coordinators = [{coordinator:?}]\n"
    );
    fs::write(file, text)?;
    fs::set_permissions(file, Permissions::from_mode(0o644))
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
        let file = folder.path().join("agent.toml.d/coordinator.toml");
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
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let config = main_file(folder.path(), "");
        fs::write(folder.path().join("agent.toml.d"), "").unwrap();
        let error = remember(Some(&config), "a:1").unwrap_err();
        assert!(error.to_string().contains("agent.toml.d"), "{error}");
    }
}
