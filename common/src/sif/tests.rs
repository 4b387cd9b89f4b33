//! What the SIF reader promises, on SIFs made here byte by byte.

use super::*;
use crate::image::{Arch, MAX_ENTRIES, MAX_METADATA, MAX_NOTES, MAX_SIGNATURES, MAX_TEXT, Runnable};

mod signatures;

const TABLE_AT: u64 = 4096;
const DATA_AT: u64 = 4096 + 48 * 585;

/// One object of a SIF under test.
struct Put {
    data_type: i32,
    name: &'static str,
    extra: Vec<u8>,
    link: u32,
    bytes: Vec<u8>,
}

fn put(data_type: i32, name: &'static str, bytes: &[u8]) -> Put {
    Put { data_type, name, extra: Vec::new(), link: 0, bytes: bytes.to_vec() }
}

fn json(name: &'static str, text: &str) -> Put {
    put(0x4006, name, text.as_bytes())
}

fn partition(file_system: u8, role: u8, bytes: &[u8]) -> Put {
    let extra = vec![file_system, 0, 0, 0, role, 0, 0, 0, b'0', b'2', 0];
    Put { extra, ..put(0x4004, "", bytes) }
}

fn squashfs() -> Put {
    let mut bytes = vec![0; 200];
    bytes[..4].copy_from_slice(b"hsqs");
    bytes[28] = 4;
    bytes[40] = 190;
    partition(1, 2, &bytes)
}

fn signature(text: &str) -> Put {
    Put { extra: vec![1, 0, 0, 0, 0xab], link: 0xf000_0001, ..put(0x4005, "", text.as_bytes()) }
}

fn sif(objects: &[Put]) -> Vec<u8> {
    let slots = 48_u64.max(objects.len() as u64);
    let data_at = TABLE_AT + slots * 585;
    let mut file = b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\x0001\x0002\0".to_vec();
    file.extend([7; 16]);
    for number in [10, 20, slots - objects.len() as u64, slots, TABLE_AT, slots * 585, data_at, 0] {
        file.extend(number.to_le_bytes());
    }
    file.resize(usize::try_from(TABLE_AT).unwrap(), 0);
    let mut at = data_at;
    for (id, object) in (1_u32..).zip(objects) {
        let from = file.len();
        file.extend(object.data_type.to_le_bytes());
        file.push(1);
        let group: u32 = if object.data_type == 0x4005 { 0xf000_0000 } else { 0xf000_0001 };
        for number in [id, group, object.link] {
            file.extend(number.to_le_bytes());
        }
        for number in [at, object.bytes.len() as u64, 0, 0, 0, 0, 0] {
            file.extend(number.to_le_bytes());
        }
        file.extend(object.name.as_bytes());
        file.resize(from + 201, 0);
        file.extend(&object.extra);
        file.resize(from + 585, 0);
        at += object.bytes.len() as u64;
    }
    file.resize(usize::try_from(data_at).unwrap(), 0);
    for object in objects {
        file.extend(&object.bytes);
    }
    file
}

fn image(objects: &[Put]) -> ImageMetadata {
    read(&sif(objects).as_slice()).unwrap()
}

fn refused(bytes: &[u8]) -> String {
    read(&bytes).unwrap_err().to_string()
}

fn with_i64(objects: &[Put], at: u64, value: i64) -> Vec<u8> {
    let mut bytes = sif(objects);
    let at = usize::try_from(at).unwrap();
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    bytes
}

#[test]
fn a_whole_image_is_read() {
    let inspect = r#"{"data":{"attributes":{"labels":{"a":"1","b":""},"runscript":"run","helpfile":"help",
        "environment":{"/e.sh":"export A=1"},"deffile":"def","startscript":"start","test":"test",
        "apps":{"foo":{"labels":{"l":"v"},"runscript":"app","environment":{"/f":"g"},"test":"t","helpfile":"h"}}}},
        "type":"container"}"#;
    let image = image(&[
        put(0x4001, "", b"other def"),
        json("inspect-metadata.json", inspect),
        json("oci-config.json", "{}"),
        squashfs(),
    ]);
    assert_eq!(
        (image.format, image.runnable, image.mutable),
        (crate::image::Format::Sif, Runnable::Yes, false)
    );
    assert_eq!((image.arch, image.created, image.modified), (Arch::Amd64, Some(10), Some(20)));
    assert_eq!(image.uuid.as_deref(), Some("07070707-0707-0707-0707-070707070707"));
    assert_eq!(
        image.labels.iter().collect::<Vec<_>>(),
        [(&"a".to_owned(), &"1".to_owned()), (&"b".to_owned(), &String::new())]
    );
    assert_eq!(image.definition.as_deref(), Some("def"));
    assert_eq!(image.environment["/e.sh"], "export A=1");
    for (told, expected) in [
        (&image.runscript, "run"),
        (&image.startscript, "start"),
        (&image.test, "test"),
        (&image.help, "help"),
        (&image.oci_config, "{}"),
        (&image.apps["foo"].runscript, "app"),
        (&image.apps["foo"].help, "h"),
    ] {
        assert_eq!(told.as_deref(), Some(expected));
    }
    assert_eq!(image.apps["foo"].labels["l"], "v");
    assert_eq!(image.notes, Vec::<String>::new());
    assert_eq!(image.used, image.size);
}

#[test]
fn the_processor_is_that_of_what_runs_and_the_header_only_helps_out() {
    let made_for = |header: &[u8; 2], partition: &[u8; 2]| {
        let mut primary = squashfs();
        primary.extra[8..10].copy_from_slice(partition);
        let mut bytes = sif(&[primary]);
        bytes[45..47].copy_from_slice(header);
        read(&bytes.as_slice()).unwrap().arch
    };
    assert_eq!(made_for(b"04", b"02"), Arch::Amd64);
    assert_eq!(made_for(b"00", b"04"), Arch::Arm64);
    assert_eq!(made_for(b"04", b"99"), Arch::Arm64);
}

#[test]
fn classic_objects_tell_what_no_json_tells() {
    let image = image(&[
        put(0x4001, "", b"bootstrap: docker"),
        put(0x4002, "env", b"A=1"),
        put(0x4003, "", br#"{"k":"v"}"#),
        squashfs(),
    ]);
    assert_eq!(image.definition.as_deref(), Some("bootstrap: docker"));
    assert_eq!(image.environment["object 2 env"], "A=1");
    assert_eq!(image.labels["k"], "v");
}

#[test]
fn what_runs_is_one_primary_partition_of_a_known_file_system() {
    let ext3 = {
        let mut bytes = vec![0; 2048];
        bytes[1080..1082].copy_from_slice(&[0x53, 0xef]);
        bytes[1116] = 4;
        bytes
    };
    let cases = [
        (vec![], Runnable::NoPrimaryPartition),
        (vec![partition(1, 1, b"hsqs")], Runnable::NoPrimaryPartition),
        (vec![squashfs(), squashfs()], Runnable::SeveralPrimaryPartitions),
        (vec![partition(1, 2, b"nothing")], Runnable::DamagedFileSystem),
        (vec![partition(2, 2, b"nothing")], Runnable::DamagedFileSystem),
        (vec![partition(2, 2, &ext3)], Runnable::Yes),
        (vec![partition(4, 2, b"raw")], Runnable::UnsupportedFileSystem),
        (vec![partition(9, 2, b"?")], Runnable::UnsupportedFileSystem),
        (vec![partition(5, 2, b"LUKS")], Runnable::Yes),
        (vec![squashfs()], Runnable::Yes),
    ];
    for (objects, expected) in cases {
        assert_eq!(image(&objects).runnable, expected, "{}", objects.len());
    }
}

#[test]
fn an_overlay_or_a_writable_root_makes_an_image_mutable() {
    assert!(image(&[squashfs(), partition(2, 4, b"overlay")]).mutable);
    assert!(image(&[partition(2, 2, b"ext3")]).mutable);
    assert!(!image(&[squashfs(), partition(2, 1, b"system"), partition(2, 3, b"data")]).mutable);
}

#[test]
fn a_file_cut_anywhere_is_never_an_image() {
    let whole = sif(&[put(0x4001, "", b"def"), squashfs()]);
    for len in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        let error = read(&&whole[..len]).unwrap_err();
        let fits = match len {
            0..42 => matches!(error, SifError::NotAnImage { .. }),
            42..128 => matches!(error, SifError::HeaderTruncated { needs: 128, has } if has == len as u64),
            128..32_176 => {
                matches!(error, SifError::TableTruncated { needs: DATA_AT, has } if has == len as u64)
            }
            32_176..32_179 => matches!(error, SifError::Truncated { id: 1, .. }),
            _ => {
                matches!(error, SifError::Truncated { id: 2, needs, has } if has == len as u64 && needs == whole.len() as u64)
            }
        };
        assert!(fits, "cut at {len}: {error:?}");
    }
}

#[test]
fn a_squashfs_longer_than_its_partition_is_cut_short() {
    let mut root = squashfs();
    root.bytes[40] = 201;
    let error = read(&sif(&[root]).as_slice()).unwrap_err();
    assert!(
        matches!(error, SifError::FileSystemTruncated { id: Some(1), needs: 201, has: 200 }),
        "{error:?}"
    );
}

#[test]
fn every_number_that_cannot_be_is_named() {
    let objects = [put(0x4001, "", b"def"), squashfs()];
    let first = TABLE_AT;
    let second = TABLE_AT + 585;
    for (at, value, words) in [
        (80, 49, "free descriptor count = 49"),
        (80, -1, "free descriptor count = -1"),
        (88, 1025, "descriptor count = 1025"),
        (88, i64::MIN, "it is negative"),
        (96, 100, "lie over the header"),
        (96, i64::MAX, "ends inside its object table"),
        (104, -5, "descriptor size = -5"),
        (112, -5, "data offset = -5"),
        (120, -5, "data size = -5"),
        (first + 17, -1, "descriptor at byte 4096 (object 1) says offset = -1"),
        (first + 17, i64::MAX, "cut short: object 1"),
        (first + 25, i64::MIN, "says size = "),
        (first + 25, i64::MAX, "cut short: object 1"),
        (first + 17, 100, "object 1 at byte 100 lies over the header"),
        (first + 17, 5000, "object 1 at byte 5000 lies over the object table"),
        (first + 17, 32_180, "object 1 at byte 32180 lies over object 2"),
    ] {
        let told = refused(&with_i64(&objects, at, value));
        assert!(told.contains(words), "byte {at} = {value}: {told:?} does not say {words:?}");
    }
    let mut twice = sif(&objects);
    twice[usize::try_from(second).unwrap() + 5] = 1;
    assert!(refused(&twice).contains("another object has it too"));
    twice[usize::try_from(second).unwrap() + 5] = 0;
    assert!(refused(&twice).contains("an id from 1"));
}

#[test]
fn versions_up_to_the_one_that_exists_are_read() {
    let mut bytes = sif(&[squashfs()]);
    bytes[42..44].copy_from_slice(b"00");
    assert!(read(&bytes.as_slice()).is_ok());
    bytes[42..44].copy_from_slice(b"02");
    assert!(refused(&bytes).contains("\"02\""));
}

#[test]
fn damaged_descriptions_do_not_make_an_image_absent() {
    for text in ["", "{", "7", r#"{"data":{"attributes":{"labels":{"a":1}}}}"#, &"[".repeat(5000)] {
        let image = image(&[json("inspect-metadata.json", text), squashfs()]);
        assert_eq!(image.runnable, Runnable::Yes);
        assert!(
            image.notes[0].starts_with("inspect-metadata.json is not what apptainer writes"),
            "{:?}",
            image.notes
        );
    }
    for text in ["{}", r#"{"data":null}"#, r#"{"data":{"attributes":{"labels":null,"apps":{"a":null}}}}"#] {
        let image = image(&[json("inspect-metadata.json", text), squashfs()]);
        assert_eq!(image.runnable, Runnable::Yes, "{text}");
    }
}

#[test]
fn everything_kept_is_bounded_and_every_cut_is_told() {
    let long = "x".repeat(MAX_TEXT) + "é";
    let labels: String = (0..2 * MAX_ENTRIES).map(|n| format!(r#""{n}":"v","#)).collect();
    let scripts: String = (0..20).map(|n| format!(r#""/{n}":"{}","#, "y".repeat(40_000))).collect();
    let inspect = format!(
        r#"{{"data":{{"attributes":{{"labels":{{{labels}"z":""}},"runscript":"{long}","environment":{{{scripts}"z":""}}}}}}}}"#
    );
    assert!(inspect.len() < 1024 * 1024);
    let mut objects =
        vec![put(0x4001, "", &vec![b'd'; 200_000]), json("inspect-metadata.json", &inspect), squashfs()];
    objects.push(json("oci-config.json", &"o".repeat(MAX_TEXT + 1)));
    objects.extend((0..2 * MAX_SIGNATURES).map(|_| signature("{")));
    objects.extend((0..100).map(|_| partition(1, 3, b"d")));
    let image = image(&objects);
    assert_eq!(image.labels.len(), MAX_ENTRIES);
    assert_eq!(image.runscript.as_deref(), Some("x".repeat(MAX_TEXT).as_str()));
    assert_eq!(image.signatures.len(), MAX_SIGNATURES);
    assert_eq!(
        (image.notes.len(), image.notes[MAX_NOTES - 1].as_str()),
        (MAX_NOTES, "more was cut or could not be read")
    );
    assert!(serde_json::to_vec(&image).unwrap().len() < MAX_METADATA + 64 * 1024);
}

#[test]
fn a_cut_text_says_how_much_of_it_is_shown() {
    let image = image(&[put(0x4001, "", &vec![b'd'; 200_000]), squashfs()]);
    assert_eq!(image.definition.unwrap().len(), MAX_TEXT);
    assert_eq!(image.notes, ["the definition is cut: 65536 of 200000 bytes are shown"]);
}

#[cfg(feature = "node")]
#[test]
fn the_metadata_survives_the_wire() {
    let image = image(&[put(0x4001, "", b"def"), squashfs(), signature("{")]);
    let bytes = bincode::serde::encode_to_vec(&image, bincode::config::standard()).unwrap();
    let (back, _): (ImageMetadata, usize) =
        bincode::serde::decode_from_slice(&bytes, bincode::config::standard()).unwrap();
    assert_eq!(back, image);
    let text = serde_json::to_string(&image).unwrap();
    assert_eq!(serde_json::from_str::<ImageMetadata>(&text).unwrap(), image);
}

#[test]
fn objects_are_listed_as_the_reference_lists_them() {
    let bytes = sif(&[put(0x4001, "", b"def"), squashfs(), signature("{")]);
    let lines: Vec<String> =
        Sif::open(&bytes.as_slice()).unwrap().objects.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "1    |1       |NONE    |32176-32179               |Def.FILE",
            "2    |1       |NONE    |32179-32379               |FS (Squashfs/*System/amd64)",
            "3    |NONE    |1   (G) |32379-32380               |Signature (SHA-256)",
        ]
    );
}

/// A file of `size` bytes that begins with these and holds zeros behind them, and counts what is read of it.
struct Sparse {
    head: Vec<u8>,
    size: u64,
    read: std::cell::Cell<u64>,
}

impl ReadAt for Sparse {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.head.as_slice().read_at(offset, buffer)?;
        buffer[there..].fill(b' ');
        self.read.set(self.read.get() + buffer.len() as u64);
        Ok(buffer.len())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }
}

#[test]
fn an_image_of_a_thousand_long_objects_costs_no_more_than_the_limit() {
    const LEN: u64 = 250 * 1024;
    for data_type in [0x4001, 0x4002, 0x4003, 0x4005, 0x4006] {
        let mut objects = vec![json("inspect-metadata.json", ""), json("oci-config.json", "")];
        objects.extend((0..1022).map(|_| put(data_type, "", b"")));
        let mut head = sif(&objects);
        for slot in 0..1024_u64 {
            let at = usize::try_from(TABLE_AT + 585 * slot + 17).unwrap();
            head[at..at + 8].copy_from_slice(&(1024 * 1024 + slot * LEN).to_le_bytes());
            head[at + 8..at + 16].copy_from_slice(&LEN.to_le_bytes());
        }
        let file = Sparse { head, size: 1024 * 1024 + 1024 * LEN, read: std::cell::Cell::new(0) };
        let image = crate::image::classify(&file).unwrap();
        assert_eq!(image.objects, 1024);
        assert!(file.read.get() <= MAX_READ, "{} bytes read of {data_type:#x}", file.read.get());
    }
}
