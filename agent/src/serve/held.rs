//! An image, or a part of one, that can be given from here: where its spans lie and the file they are read from.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use sifleet_common::chunk::span::SpanId;

use super::giving::Kept;
use crate::fetch::set::SpanSet;
use crate::hash::read::politely;
use crate::layout::Layout;
use crate::scan::{Facts, Print};

/// An image that can be given.
#[derive(Debug)]
pub struct Held {
    layout: Arc<Layout>,
    file: Arc<File>,
    /// What the file was when it was opened; absent for a staging file, which only grows.
    print: Option<Print>,
    have: Mutex<SpanSet>,
}

impl Held {
    /// Holds a whole image.
    ///
    /// # Errors
    /// When the system does not say what the file is, or it has another length than its map.
    pub fn whole(layout: Arc<Layout>, file: File) -> io::Result<Self> {
        Self::of_file(layout, Arc::new(file))
    }

    /// Holds what is there of an image that is being fetched.
    #[must_use]
    pub fn part(layout: Arc<Layout>, file: Arc<File>, have: SpanSet) -> Self {
        Self { layout, file, print: None, have: Mutex::new(have) }
    }

    /// Holds the same image, whole and published: by the same file, which is given only as long as it stays as it is.
    ///
    /// # Errors
    /// As [`Held::whole`].
    pub fn published(&self) -> io::Result<Self> {
        Self::of_file(Arc::clone(&self.layout), Arc::clone(&self.file))
    }

    fn of_file(layout: Arc<Layout>, file: Arc<File>) -> io::Result<Self> {
        let print = print(&file)?;
        if print.size != layout.size() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let have = Mutex::new(SpanSet::full(layout.spans().count()));
        Ok(Self { layout, file, print: Some(print), have })
    }

    /// Returns where everything lies.
    #[must_use]
    pub const fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Tells how much is here.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let have = self.have.lock().unwrap_or_else(PoisonError::into_inner);
        let spans = self.layout.spans().count();
        if self.print.is_some() { Kept::Whole(spans) } else { Kept::Part(spans, have.iter().collect()) }
    }

    /// Notes more spans.
    pub fn gained(&self, spans: &[SpanId]) {
        let mut have = self.have.lock().unwrap_or_else(PoisonError::into_inner);
        for span in spans {
            have.insert(*span);
        }
    }

    /// Tells whether a span is here.
    #[must_use]
    pub fn has(&self, span: SpanId) -> bool {
        self.have.lock().unwrap_or_else(PoisonError::into_inner).contains(span)
    }

    /// Reads bytes of the image, at most 8 MiB. Blocks for the disk.
    ///
    /// # Errors
    /// Whatever reading gives; `InvalidData` when the file is no longer what it was.
    pub fn read(&self, from: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        politely(&self.file, from, &mut bytes)?;
        match &self.print {
            Some(known) if print(&self.file)? != *known => Err(io::ErrorKind::InvalidData.into()),
            Some(_) | None => Ok(bytes),
        }
    }
}

fn print(file: &File) -> io::Result<Print> {
    Ok(Facts::from(&rustix::fs::fstat(file)?).print)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sifleet_common::digest::Digest;

    fn image() -> (tempfile::TempDir, std::path::PathBuf, Arc<Layout>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sif");
        std::fs::write(&path, [7; 100_000]).unwrap();
        let image = Digest::from(blake3::hash(&[7; 100_000]));
        let map = crate::map::make(image, File::open(&path).unwrap()).unwrap();
        (folder, path, Arc::new(Layout::of(Arc::new(map))))
    }

    #[test]
    fn a_file_that_is_written_to_is_no_longer_given() {
        let (_folder, path, layout) = image();
        let held = Held::whole(layout.clone(), File::open(&path).unwrap()).unwrap();
        assert_eq!(held.read(10, 20).unwrap(), [7; 20]);
        let writer = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        io::Write::write_all(&mut &writer, b"x").unwrap();
        assert_eq!(held.read(10, 20).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(Held::whole(layout, File::open(&path).unwrap()).is_err(), "it is longer than its map");
    }

    #[test]
    fn a_published_image_that_is_written_over_is_no_longer_given() {
        let (_folder, path, layout) = image();
        let count = layout.spans().count();
        let fetched = Held::part(layout, Arc::new(File::open(&path).unwrap()), SpanSet::full(count));
        let published = fetched.published().unwrap();
        assert_eq!(published.kept(), Kept::Whole(count));
        assert_eq!(published.read(10, 20).unwrap(), [7; 20]);
        // As `cp` does it.
        std::fs::write(&path, [8; 99_999]).unwrap();
        assert_eq!(published.read(10, 20).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(fetched.published().is_err(), "it has another length");
    }

    #[test]
    fn a_part_is_what_was_gained() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, vec![1; 1_000_000]).unwrap();
        let image = Digest::from(blake3::hash(&vec![1; 1_000_000]));
        let map = crate::map::make(image, File::open(&path).unwrap()).unwrap();
        let layout = Arc::new(Layout::of(Arc::new(map)));
        let count = layout.spans().count();
        let held = Held::part(layout, Arc::new(File::open(&path).unwrap()), SpanSet::empty(count));
        held.gained(&[SpanId(1)]);
        assert_eq!(held.kept(), Kept::Part(count, vec![SpanId(1)]));
        assert!(held.has(SpanId(1)) && !held.has(SpanId(0)));
    }
}
