//! Damaged SIFs: never a panic, never a hang, never a wrong image.
//!
//! Every mutation comes from a seed that is printed when it fails. Whatever is still accepted must keep what
//! the reader promises: all objects inside the file and apart, a bounded answer, a bounded number of bytes
//! read. Starts from images made here and, where they are at hand, from those the reference wrote.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and tells why it skips"
)]

use std::cell::Cell;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use sifleet_common::image::{self, Format, ImageMetadata, MAX_METADATA, MAX_NOTES};
use sifleet_common::sif::{self, ReadAt, Sif, SifError};
use sifleet_tests::sif::{DATA_AT, SifBuilder};

/// Mutations of each kind for each image; with the images made here alone there are 16,000.
const ROUNDS: u64 = 800;
/// Each read is of a page at least or of what is asked, so a hang would show as more of them.
const MAX_READS: u64 = 200;

struct Counting<'a> {
    bytes: &'a [u8],
    read: Cell<u64>,
    reads: Cell<u64>,
}

impl ReadAt for Counting<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read_at(offset, buffer)?;
        self.read.set(self.read.get() + read as u64);
        self.reads.set(self.reads.get() + 1);
        Ok(read)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }
}

/// SplitMix64: the same numbers for the same seed, whatever the version of any crate.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % (end.max(1) as u64)).unwrap()
    }

    /// A place where a SIF keeps something that matters, most of the time.
    fn place(&mut self, len: usize) -> usize {
        let at = match self.below(8) {
            0 | 1 => self.below(128),
            2..=4 => 4096 + self.below(6 * 585),
            5 | 6 => usize::try_from(DATA_AT).unwrap() + self.below(10_000),
            _ => self.below(len),
        };
        at.min(len.saturating_sub(1))
    }

    /// A number that parsers trip over.
    fn number(&mut self) -> i64 {
        let near = i64::try_from(self.roll() % 64).unwrap();
        match self.below(9) {
            0 => i64::MAX - near,
            1 => i64::MIN + near,
            2 => -near,
            3 => near,
            4 => i64::from(u32::MAX) - 32 + near,
            5 => 1 << near.min(62),
            6 => 4096 + near,
            7 => 32_176 + near,
            _ => i64::from_le_bytes(self.roll().to_le_bytes()),
        }
    }
}

/// Changes the bytes of an image; the last is another image to take from.
type Mutate = fn(&mut Dice, &mut Vec<u8>, &[u8]);

fn flip_bytes(dice: &mut Dice, bytes: &mut [u8]) {
    for _ in 0..=dice.below(6) {
        let at = dice.place(bytes.len());
        bytes[at] = u8::try_from(dice.below(256)).unwrap();
    }
}

fn flip_bits(dice: &mut Dice, bytes: &mut [u8]) {
    for _ in 0..=dice.below(3) {
        let at = dice.place(bytes.len());
        bytes[at] ^= 1 << dice.below(8);
    }
}

fn truncate(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let at = if dice.below(2) == 0 { dice.place(bytes.len()) } else { dice.below(bytes.len()) };
    bytes.truncate(at);
}

/// Puts an odd number into a number of the header, of a descriptor or of the squashfs.
fn attack_numbers(dice: &mut Dice, bytes: &mut [u8]) {
    for _ in 0..=dice.below(2) {
        let slot = 4096 + 585 * dice.below(6);
        let at = match dice.below(12) {
            0..=3 => 64 + 8 * dice.below(8),
            4 => slot,
            5 => slot + 5 + 4 * dice.below(3),
            6..=8 => slot + 17 + 8 * dice.below(3),
            9 => slot + 201 + 4 * dice.below(3),
            10 => 36_864 + 40,
            _ => dice.place(bytes.len()) & !7,
        };
        let number = dice.number().to_le_bytes();
        let width = if (5..=9).contains(&((at - 4096.min(at)) % 585)) { 4 } else { 8 };
        if let Some(to) = bytes.get_mut(at..at + width) {
            to.copy_from_slice(&number[..width]);
        }
    }
}

/// Copies a region of another image over, into or out of this one.
fn splice(dice: &mut Dice, bytes: &mut Vec<u8>, other: &[u8]) {
    let from = dice.place(other.len());
    let piece = &other[from..(from + dice.below(4096)).min(other.len())];
    let at = dice.place(bytes.len());
    let end = match dice.below(3) {
        0 => (at + piece.len()).min(bytes.len()),
        1 => at,
        _ => (at + dice.below(4096)).min(bytes.len()),
    };
    bytes.splice(at..end, piece.iter().copied());
}

const MUTATIONS: [(&str, Mutate); 5] = [
    ("flip bytes", |dice, bytes, _| flip_bytes(dice, bytes)),
    ("flip bits", |dice, bytes, _| flip_bits(dice, bytes)),
    ("truncate", |dice, bytes, _| truncate(dice, bytes)),
    ("attack numbers", |dice, bytes, _| attack_numbers(dice, bytes)),
    ("splice", splice),
];

/// Images that hold every kind of object the reader looks into.
fn images_made_here() -> Vec<(String, Vec<u8>)> {
    const CLAIM: &str = r#"{"version":1,"objects":[{"relativeId":0},{"relativeId":1},{"relativeId":2}]}"#;
    const PAYLOAD: &str = "eyJvYmplY3RzIjpbeyJyZWxhdGl2ZUlkIjoyfV19";
    let pgp = format!("-----BEGIN PGP SIGNED MESSAGE-----\n\n{CLAIM}\n-----BEGIN PGP SIGNATURE-----\n");
    let dsse = format!(
        r#"{{"payloadType":"application/vnd.sylabs.sif-metadata+json","payload":"{PAYLOAD}","signatures":[{{"keyid":"SHA256:a"}}]}}"#
    );
    let labelled =
        SifBuilder::new().label("org.label-schema.usage", "x").label("Author", "Nobody <n@example.org>");
    vec![
        ("plain".into(), SifBuilder::new().bytes()),
        ("pgp".into(), labelled.clone().signature(pgp.as_bytes(), [7; 20]).bytes()),
        ("dsse".into(), labelled.clone().signature(dsse.as_bytes(), [0; 20]).overlay(4096).bytes()),
        ("trailing".into(), labelled.payload_bytes(70_000, 3).trailing(5000).bytes()),
    ]
}

fn images_of_the_reference() -> Vec<(String, Vec<u8>)> {
    let mut images = Vec::new();
    for folder in ["sif-corpus", "sif-fixtures"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(folder);
        let Ok(entries) = path.read_dir() else {
            println!("without the images of {}: not there", path.display());
            continue;
        };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "sif"));
        paths.sort();
        images.extend(paths.iter().map(|path| (path.display().to_string(), std::fs::read(path).unwrap())));
    }
    images
}

/// Reads an image and checks all that must hold whatever the bytes are.
fn check(bytes: &[u8]) -> Result<ImageMetadata, SifError> {
    let file = Counting { bytes, read: Cell::new(0), reads: Cell::new(0) };
    let told = image::classify(&file);
    assert!(file.read.get() <= sif::MAX_READ, "{} bytes read", file.read.get());
    assert!(file.reads.get() <= MAX_READS, "{} reads", file.reads.get());
    match &told {
        Err(error) => {
            let reason = error.to_string();
            assert!(!reason.is_empty() && reason.len() < 400, "{reason:?}");
        }
        Ok(image) => check_accepted(bytes, image),
    }
    told
}

fn check_accepted(bytes: &[u8], image: &ImageMetadata) {
    let size = bytes.len() as u64;
    assert_eq!(image.size, size);
    assert!(image.used <= size, "{} of {size} bytes used", image.used);
    assert!(image.notes.len() <= MAX_NOTES);
    assert!(kept(image) <= MAX_METADATA + 16 * 1024, "{} bytes kept", kept(image));
    if image.format != Format::Sif {
        return;
    }
    let sif = Sif::open(&bytes).unwrap();
    assert_eq!(sif.objects.len(), usize::try_from(image.objects).unwrap());
    let mut regions = vec![(0, 128), (sif.header.table_offset, sif.header.table_end())];
    for object in &sif.objects {
        let end = object.offset.checked_add(object.size).unwrap();
        assert!(end <= size, "object {} ends at {end} of {size}", object.id);
        if object.size > 0 {
            regions.push((object.offset, end));
        }
    }
    regions.retain(|(start, end)| start < end);
    regions.sort_unstable();
    assert!(regions.windows(2).all(|pair| pair[0].1 <= pair[1].0), "regions overlap: {regions:?}");
    for signature in &image.signatures {
        let has = |id: &u32| sif.objects.iter().any(|object| object.id == *id);
        assert!(signature.objects.iter().all(has), "signature {} names objects that are not", signature.id);
    }
    if image.runnable.is_yes() {
        let primary: Vec<_> = sif
            .partitions()
            .filter(|(_, partition)| partition.role == image::PartitionRole::PrimarySystem)
            .collect();
        let [(object, partition)] = primary.as_slice() else {
            panic!("{} primary partitions", primary.len())
        };
        let at = usize::try_from(object.offset).unwrap();
        if partition.file_system == image::FileSystem::Squashfs {
            assert_eq!(&bytes[at..at + 4], b"hsqs");
            let used = u64::from_le_bytes(bytes[at + 40..at + 48].try_into().unwrap());
            assert!(used <= object.size, "a squashfs of {used} in a partition of {}", object.size);
        }
    }
}

/// Bytes of all texts and lists together.
fn kept(image: &ImageMetadata) -> usize {
    let map = |map: &std::collections::BTreeMap<String, String>| -> usize {
        map.iter().map(|(key, value)| key.len() + value.len()).sum()
    };
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let mut bytes =
        map(&image.labels) + map(&image.environment) + image.notes.iter().map(String::len).sum::<usize>();
    for one in
        [&image.definition, &image.runscript, &image.startscript, &image.test, &image.help, &image.oci_config]
    {
        bytes += text(one);
    }
    for (name, app) in &image.apps {
        bytes += name.len() + map(&app.labels) + map(&app.environment);
        bytes += text(&app.runscript) + text(&app.test) + text(&app.help);
    }
    for signature in &image.signatures {
        bytes += signature.key_ids.iter().map(String::len).sum::<usize>() + 4 * signature.objects.len();
    }
    bytes
}

/// Mutates every image in every way and returns how many were read and how many of them refused.
fn mutate_all(images: &[(String, Vec<u8>)], rounds: u64) -> (u64, u64) {
    let (mut count, mut refused) = (0, 0);
    for (number, (name, image)) in images.iter().enumerate() {
        let other = &images[(number + 1) % images.len()].1;
        for (kind, mutate) in MUTATIONS {
            for seed in 0..rounds {
                let mut bytes = image.clone();
                mutate(&mut Dice(seed ^ ((number as u64) << 32)), &mut bytes, other);
                match panic::catch_unwind(AssertUnwindSafe(|| check(&bytes))) {
                    Ok(told) => refused += u64::from(told.is_err()),
                    Err(_) => {
                        panic!("{name}: {kind} with seed {seed} (image {number}) breaks a promise: see above")
                    }
                }
                count += 1;
            }
        }
    }
    (count, refused)
}

#[test]
fn no_mutation_of_our_images_breaks_a_promise() {
    let images = images_made_here();
    for (name, image) in &images {
        assert!(check(image).unwrap().runnable.is_yes(), "{name}");
    }
    let (count, refused) = mutate_all(&images, ROUNDS);
    println!("{count} mutations of {} images: {refused} refused", images.len());
    assert!(count >= 5_000);
    assert!(refused > count / 5 && refused < count, "{refused} of {count} refused: the mutations miss");
}

#[test]
fn no_mutation_of_the_references_images_breaks_a_promise() {
    let images = images_of_the_reference();
    if images.is_empty() {
        println!("skipped: no reference images beside the project");
        return;
    }
    let (count, refused) = mutate_all(&images, ROUNDS / 4);
    println!("{count} mutations of {} images: {refused} refused", images.len());
}

#[test]
fn an_image_cut_anywhere_inside_its_objects_is_refused() {
    for (name, image) in images_made_here() {
        let used = usize::try_from(check(&image).unwrap().used).unwrap();
        for len in (0..used).step_by(97).chain([used - 1]) {
            assert!(check(&image[..len]).is_err(), "{name} cut at {len} of {used} is accepted");
        }
    }
}
