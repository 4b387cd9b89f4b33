//! Images as people build them: from a tree of files, by mksquashfs, with the options of apptainer.
//!
//! The files are those of the Debian packages of this machine, in the order of their names, so that a package added and a
//! file changed are what they are in a container. The same machine gives the same tree.
//! Outside facts: apptainer 1.4 calls `mksquashfs … -noappend`, as a user with `-all-root`, and leaves the compression to
//! mksquashfs (gzip) unless told; dpkg(1) keeps `info/PACKAGE.list`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};

use crate::sif::SifBuilder;

/// Bytes of files in the tree at least.
const ENOUGH: u64 = 400_000_000;
/// A package larger than this would be most of the tree.
const LARGEST: u64 = 60_000_000;
/// A package smaller than this is in the tree.
const SMALLEST: u64 = 1_000_000;
/// Of so many bytes one is not in the tree, but added later.
const HELD_BACK: u64 = 20;
/// One file of so many is changed: 2 %.
const CHANGED: usize = 50;
const LISTS: &str = "/var/lib/dpkg/info";

/// A tree of files.
#[derive(Debug)]
pub struct Tree {
    folder: PathBuf,
    later: Vec<Vec<PathBuf>>,
    /// Bytes of its files.
    pub bytes: u64,
}

impl Tree {
    /// Makes it below a folder.
    ///
    /// # Errors
    /// When this machine has no packages, or a file cannot be copied.
    pub fn make(folder: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut lists: Vec<PathBuf> = fs::read_dir(LISTS)
            .with_context(|| format!("{LISTS}: the tree is made of Debian's packages"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|kind| kind == "list"))
            .collect();
        lists.sort();
        let (mut tree, mut held_back) = (Self { folder, later: Vec::new(), bytes: 0 }, 0);
        for list in &lists {
            let files: Vec<PathBuf> = fs::read_to_string(list)?.lines().map(PathBuf::from).collect();
            let bytes = files.iter().filter_map(|file| regular(file)).sum::<u64>();
            if bytes > LARGEST {
                continue;
            }
            if bytes >= SMALLEST && (held_back + bytes) * HELD_BACK <= tree.bytes {
                tree.later.push(files);
                held_back += bytes;
            } else {
                tree.copy(&files)?;
                tree.bytes += bytes;
            }
            if tree.bytes >= ENOUGH {
                return Ok(tree);
            }
        }
        ensure!(tree.bytes >= ENOUGH, "the packages of this machine make {} bytes only", tree.bytes);
        Ok(tree)
    }

    fn copy(&self, files: &[PathBuf]) -> anyhow::Result<()> {
        for file in files {
            let Ok(found) = file.symlink_metadata() else { continue };
            let Some(to) = self.place(file) else { continue };
            if to.symlink_metadata().is_ok() {
                continue;
            }
            if let Some(above) = to.parent() {
                fs::create_dir_all(above)?;
            }
            if found.is_dir() {
                fs::create_dir_all(&to)?;
            } else if found.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(file)?, &to)?;
            } else if found.is_file() {
                fs::copy(file, &to).with_context(|| format!("copy {}", file.display()))?;
                File::options().write(true).open(&to)?.set_modified(found.modified()?)?;
            }
        }
        Ok(())
    }

    /// Returns where a file of this machine goes. No link is on the way: where one leads to, the file's own folder lies,
    /// and nothing outside of the tree is ever touched.
    fn place(&self, file: &Path) -> Option<PathBuf> {
        let above = file.parent()?.canonicalize().ok()?;
        Some(self.folder.join(above.strip_prefix("/").ok()?).join(file.file_name()?))
    }

    /// Adds the packages that were held back; returns how many, and the bytes of their files.
    ///
    /// # Errors
    /// When a file cannot be copied.
    pub fn add_packages(&self) -> anyhow::Result<(usize, u64)> {
        for files in &self.later {
            self.copy(files)?;
        }
        let bytes = self.later.iter().flatten().filter_map(|file| regular(file)).sum();
        Ok((self.later.len(), bytes))
    }

    /// Takes them away again.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn remove_packages(&self) -> anyhow::Result<()> {
        for file in self.later.iter().flatten() {
            let Some(there) = self.place(file) else { continue };
            if there.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
                fs::remove_file(there)?;
            }
        }
        Ok(())
    }

    /// Inserts a line into the middle of two files of a hundred; returns how many that were.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn change_files(&self) -> anyhow::Result<usize> {
        let mut files = Vec::new();
        walk(&self.folder, &mut files)?;
        files.sort();
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let chosen: Vec<&PathBuf> = files.iter().skip(CHANGED / 2).step_by(CHANGED).collect();
        for path in &chosen {
            let mut bytes = Vec::new();
            File::open(path)?.read_to_end(&mut bytes)?;
            let (start, end) = bytes.split_at(bytes.len() / 2);
            let mut file = File::create(path)?;
            for part in [start, b"# a line that was not there before\n", end] {
                file.write_all(part)?;
            }
            file.set_modified(later)?;
        }
        Ok(chosen.len())
    }

    /// Makes an image of it; `seed` makes the image's identifier.
    ///
    /// # Errors
    /// When mksquashfs fails.
    pub fn image(&self, compression: &str, path: &Path, seed: u64) -> anyhow::Result<()> {
        let squashfs = path.with_extension("squashfs");
        let mut mksquashfs = Command::new("mksquashfs");
        mksquashfs.arg(&self.folder).arg(&squashfs).args(["-noappend", "-all-root", "-comp", compression]);
        let status = mksquashfs.arg("-no-progress").stdout(Stdio::null()).status();
        let status = status.context("mksquashfs is missing: apt install squashfs-tools")?;
        ensure!(status.success(), "mksquashfs ended with {status}");
        SifBuilder::new().squashfs(&squashfs, seed)?.write(path)?;
        fs::remove_file(squashfs)?;
        Ok(())
    }
}

fn regular(file: &Path) -> Option<u64> {
    file.symlink_metadata().ok().filter(fs::Metadata::is_file).map(|found| found.len())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else if kind.is_file() && entry.metadata()?.len() > 0 {
            files.push(entry.path());
        }
    }
    Ok(())
}
