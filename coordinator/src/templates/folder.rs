//! The directory of templates: looked at every two seconds, files read when they changed.
//!
//! Files that end in `.yaml`, `.yml` or `.json` count, hidden ones do not, nor do those of folders below. A file with a
//! mistake keeps what it said before; one that is gone is gone. A directory that cannot be read keeps all.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sifleet_common::api::templates::TemplateMistake;
use sifleet_common::time::UnixMillis;

use super::{Filed, Shelf, file};
use crate::reread::{Stamp, read_if_changed};
use crate::store::template::TemplateRecord;

/// How often the directory is looked at: a stat a file costs microseconds, and whoever edits one waits for the effect.
pub const POLL: Duration = Duration::from_secs(2);
/// Most files that are read.
const MAX_FILES: usize = 1_000;
/// Longest file, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// A file as it was last read.
#[derive(Debug)]
struct Read {
    stamp: Option<Stamp>,
    record: Option<TemplateRecord>,
    mistake: Option<TemplateMistake>,
    /// The id that seems to stand in it.
    claims: Option<String>,
}

/// A directory and how its files looked when they were last read.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    files: BTreeMap<String, Read>,
    /// What was last found to be there.
    last: Option<Shelf>,
}

impl Folder {
    /// Names the directory; nothing is read yet.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, files: BTreeMap::new(), last: None }
    }

    /// Has every file read next time, whether it changed or not.
    pub fn forget(&mut self) {
        self.files.values_mut().for_each(|read| read.stamp = None);
    }

    /// Looks at the directory; nothing if all is as it was. Waits for the disk.
    pub fn read(&mut self, now: UnixMillis) -> Option<Shelf> {
        let mut mistakes = Vec::new();
        match names(&self.dir) {
            Ok((names, too_many)) => {
                self.files.retain(|name, _| names.contains(name));
                for name in names {
                    self.look(&name, now);
                }
                if too_many {
                    mistakes.push(whole(format!(
                        "{} has more than {MAX_FILES} templates; the others are not read",
                        self.dir.display()
                    )));
                }
            }
            Err(error) => {
                mistakes.push(whole(format!("cannot read {}: {error}", self.dir.display())));
            }
        }
        let shelf = self.shelf(mistakes);
        (self.last.as_ref() != Some(&shelf)).then(|| self.last.insert(shelf).clone())
    }

    fn look(&mut self, name: &str, now: UnixMillis) {
        let before = self.files.get(name);
        let read = match read_if_changed(&self.dir.join(name), before.and_then(|read| read.stamp), MAX_BYTES)
        {
            Ok(None) => return,
            Ok(Some((bytes, stamp))) if bytes.len() as u64 > MAX_BYTES => {
                (Some(stamp), Err(format!("it has more than {MAX_BYTES} bytes; is it a template?")))
            }
            Ok(Some((bytes, stamp))) => (Some(stamp), Ok(bytes)),
            Err(error) => (None, Err(format!("cannot be read: {error}"))),
        };
        let claims = read.1.as_ref().ok().and_then(|bytes| file::claimed(bytes));
        let parsed = match read.1 {
            Ok(bytes) => file::parse(name, &bytes, now),
            Err(message) => Err(TemplateMistake { file: name.to_owned(), line: None, column: None, message }),
        };
        let last_good = self.files.remove(name).and_then(|read| read.record);
        let (record, mistake) = match parsed {
            // What says the same was not changed.
            Ok(record) => {
                let same = last_good.filter(|last| TemplateRecord { changed: now, ..last.clone() } == record);
                (Some(same.unwrap_or(record)), None)
            }
            Err(mistake) => (last_good, Some(mistake)),
        };
        self.files.insert(name.to_owned(), Read { stamp: read.0, record, mistake, claims });
    }

    /// Puts what the files say in order: of two with the same id the first by name counts.
    fn shelf(&self, mut mistakes: Vec<TemplateMistake>) -> Shelf {
        let mut shelf = Shelf::default();
        for (name, read) in &self.files {
            mistakes.extend(read.mistake.clone());
            let Some(record) = &read.record else {
                let stem = name.rsplit_once('.').map(|(stem, _)| stem.to_owned());
                let names = stem.into_iter().chain(read.claims.clone());
                let unread = names.zip(std::iter::repeat(&read.mistake));
                shelf.unread.extend(unread.filter_map(|(name, mistake)| Some((name, mistake.clone()?))));
                continue;
            };
            if let Some(first) = shelf.filed.get(&record.id) {
                let message = format!("id: {} is the file {}'s already", record.id, first.file);
                mistakes.push(TemplateMistake { file: name.clone(), line: None, column: None, message });
                continue;
            }
            let filed = Filed { record: record.clone(), file: name.clone(), mistake: read.mistake.clone() };
            shelf.filed.insert(record.id.clone(), filed);
        }
        shelf.mistakes = mistakes;
        shelf
    }
}

/// Says what is wrong with the directory as a whole.
fn whole(message: String) -> TemplateMistake {
    TemplateMistake { file: String::new(), line: None, column: None, message }
}

/// Lists the names of files that may be templates, in order, and tells whether there are too many.
fn names(dir: &Path) -> io::Result<(Vec<String>, bool)> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let ends = [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
        if ends && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    let too_many = names.len() > MAX_FILES;
    names.truncate(MAX_FILES);
    Ok((names, too_many))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(shelf: &Shelf) -> Vec<&str> {
        shelf.filed.keys().map(crate::store::template::TemplateId::as_str).collect()
    }

    fn mistakes(shelf: &Shelf) -> Vec<(&str, Option<u64>)> {
        shelf.mistakes.iter().map(|mistake| (mistake.file.as_str(), mistake.line)).collect()
    }

    #[test]
    fn a_mistake_keeps_what_was_last_read_and_names_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let mut folder = Folder::new(dir.path().to_owned());
        write("a.yaml", "image: a.sif\npartition: viz\n");
        write("b.json", "{\"image\": \"b.sif\"");
        write(".c.yaml", "image: c.sif\npartition: viz\n");
        write("notes.txt", "not a template");
        let shelf = folder.read(UnixMillis(1)).unwrap();
        assert_eq!((ids(&shelf), mistakes(&shelf)), (vec!["a"], vec![("b.json", Some(1))]));
        assert!(folder.read(UnixMillis(2)).is_none(), "nothing changed");
        write("a.yaml", "image: other.sif\npartition: viz\nrequre: any\n");
        let shelf = folder.read(UnixMillis(3)).unwrap();
        let kept = shelf.filed.values().next().unwrap();
        assert_eq!((kept.record.image.as_str(), kept.record.changed), ("a.sif", UnixMillis(1)));
        assert_eq!(kept.mistake.as_ref().unwrap().line, Some(3));
        write("a.yaml", "image: other.sif\npartition: viz\nrequire: any\n");
        fs::remove_file(dir.path().join("b.json")).unwrap();
        let shelf = folder.read(UnixMillis(4)).unwrap();
        let read = shelf.filed.values().next().unwrap();
        assert_eq!(
            (read.record.image.as_str(), &read.mistake, mistakes(&shelf)),
            ("other.sif", &None, vec![])
        );
    }

    #[test]
    fn two_files_cannot_be_one_template_and_a_directory_that_is_gone_keeps_all() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("templates");
        fs::create_dir(&below).unwrap();
        for name in ["a.yaml", "b.yaml"] {
            fs::write(below.join(name), "id: same\nimage: a.sif\npartition: viz\n").unwrap();
        }
        fs::create_dir(below.join("folder.yaml")).unwrap();
        let mut folder = Folder::new(below.clone());
        let shelf = folder.read(UnixMillis(1)).unwrap();
        assert_eq!(ids(&shelf), ["same"]);
        assert_eq!(mistakes(&shelf), [("b.yaml", None), ("folder.yaml", None)]);
        fs::rename(&below, dir.path().join("elsewhere")).unwrap();
        let shelf = folder.read(UnixMillis(2)).unwrap();
        assert_eq!((ids(&shelf), mistakes(&shelf)[0]), (vec!["same"], ("", None)));
    }

    #[test]
    fn a_file_that_was_never_read_goes_by_its_name_and_by_the_id_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("a.yaml", "name: A\nid: 'drop'  # the old one\nimage: a.sif\npartition: [\n");
        write("b.json", "{\"id\": \"fall\", \"image\": \"b.sif\"");
        write("c.yaml", "idea: none\nimage: c.sif\n");
        write("d.yaml", "id: same\nimage: d.sif\npartition: viz\n");
        write("e.yaml", "id: same\nimage: e.sif\npartition: viz\n");
        let shelf = Folder::new(dir.path().to_owned()).read(UnixMillis(1)).unwrap();
        let unread: Vec<&str> = shelf.unread.keys().map(String::as_str).collect();
        assert_eq!(unread, ["a", "b", "c", "drop", "fall"]);
        assert_eq!(shelf.unread["drop"].file, "a.yaml");
        assert_eq!(shelf.mistakes.len(), 4);
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("image: a.sif\npartition: viz\n#{}", "x".repeat(70_000));
        fs::write(dir.path().join("a.yaml"), text).unwrap();
        let shelf = Folder::new(dir.path().to_owned()).read(UnixMillis(1)).unwrap();
        assert!(shelf.filed.is_empty() && shelf.mistakes[0].message.contains("65536 bytes"));
    }
}
