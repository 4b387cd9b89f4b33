//! Image files: any bytes as a file.
//!
//! Reading one costs a bounded number of bytes, and whatever it says of itself fits into one frame.

use std::cell::Cell;
use std::io;

use sifleet_common::digest::Digest;
use sifleet_common::image::classify;
use sifleet_common::sif::{self, ReadAt, Sif};
use sifleet_common::wire::control::{Described, ToCoordinator};
use sifleet_common::wire::frame::encode;

/// Reads the bytes as a file of any format and as a SIF.
///
/// # Panics
/// When a promise is broken.
pub fn run(data: &[u8]) {
    let file = Counted { bytes: data, read: Cell::new(0) };
    let about = classify(&file);
    assert!(file.read.get() <= sif::MAX_READ, "{} bytes were read of {}", file.read.get(), data.len());
    match about {
        Ok(metadata) => {
            let described =
                Described { digest: Digest::from_bytes([0; 32]), metadata: Some(metadata), sidecar: None };
            let frame = encode(&ToCoordinator::Described(Box::new(described)));
            assert!(frame.is_ok(), "an image says more than fits into a frame: {:?}", frame.err());
        }
        Err(error) => assert!(error.to_string().len() < 1_024, "a reason of more than a screen: {error}"),
    }
    if let Ok(sif) = Sif::open(&data) {
        assert!(sif.used() <= data.len() as u64, "a SIF is longer than its file");
    }
}

struct Counted<'a> {
    bytes: &'a [u8],
    read: Cell<u64>,
}

impl ReadAt for Counted<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.bytes.read_at(offset, buffer)?;
        self.read.set(self.read.get() + got as u64);
        Ok(got)
    }

    fn size(&self) -> io::Result<u64> {
        self.bytes.size()
    }
}
