//! What a SIF says of itself, gathered into [`ImageMetadata`] within its limits.
//!
//! Owns the limits: every text and list is charged to one budget, and what does not fit is cut and said so.
//! Damage inside a describing object (JSON, signature) is a note, because apptainer runs such an image.
//! Outside facts: apptainer 1.4 pkg/inspect/metadata.go (the JSON), pkg/image/sif.go (which partition runs).

use std::collections::BTreeMap;

use super::signature::{self, MAX_SIGNATURE};
use super::{DataType, Descriptor, ReadAt, Sif, SifError, read_up_to};
use crate::image::{
    App, Arch, Ext, FileSystem, Format, ImageMetadata, MAX_ENTRIES, MAX_KEY, MAX_METADATA, MAX_NOTES,
    MAX_PARTITIONS, MAX_SIGNATURES, MAX_TEXT, PROBE_LEN, PartitionRole, Runnable, SifPartition, Squashfs,
};

/// Longest JSON object parsed, in bytes; apptainer writes 2 to 100 KB.
const MAX_JSON: usize = 1024 * 1024;
/// Most environment objects read; tools that write them write one.
const MAX_ENVIRONMENTS: usize = 8;
/// Longest note, in bytes.
const MAX_NOTE: usize = 300;
const INSPECT: &str = "inspect-metadata.json";
const OCI_CONFIG: &str = "oci-config.json";

#[derive(serde::Deserialize)]
struct Inspect {
    #[serde(default)]
    data: InspectData,
}

#[derive(Default, serde::Deserialize)]
struct InspectData {
    #[serde(default)]
    attributes: Attributes,
}

/// The attributes of an image or of one of its apps; an app has a part of them.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Attributes {
    apps: Option<BTreeMap<String, Option<Attributes>>>,
    environment: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
    runscript: Option<String>,
    startscript: Option<String>,
    test: Option<String>,
    helpfile: Option<String>,
    deffile: Option<String>,
}

/// Reads the metadata of a SIF whose bounds have been checked.
pub(crate) fn read(file: &impl ReadAt, sif: &Sif) -> Result<ImageMetadata, SifError> {
    let mut image = ImageMetadata::bare(Format::Sif, sif.size);
    image.arch = arch(sif);
    image.uuid = Some(sif.header.uuid.to_string());
    image.created = sif.header.created;
    image.modified = sif.header.modified;
    image.used = sif.used();
    image.objects = u32::try_from(sif.objects.len()).unwrap_or(u32::MAX);
    let mut kept = Kept { budget: MAX_METADATA, notes: Vec::new() };
    image.runnable = runnable(file, sif)?;
    read_partitions(sif, &mut image, &mut kept);
    read_signatures(file, sif, &mut image, &mut kept)?;
    read_inspect(file, sif, &mut image, &mut kept)?;
    read_classic(file, sif, &mut image, &mut kept)?;
    image.oci_config = read_oci_config(file, sif, &mut kept)?;
    image.notes = kept.notes;
    Ok(image)
}

/// Returns the processor of what runs. The header only repeats it, and tools that edit a SIF may forget to.
fn arch(sif: &Sif) -> Arch {
    let mut primary =
        sif.partitions().filter(|(_, partition)| partition.role == PartitionRole::PrimarySystem);
    primary
        .next()
        .map(|(_, partition)| partition.arch)
        .filter(|arch| *arch != Arch::Unknown)
        .unwrap_or(sif.header.arch)
}

/// Says whether apptainer finds one root file system in it, and checks that its squashfs is whole.
fn runnable(file: &impl ReadAt, sif: &Sif) -> Result<Runnable, SifError> {
    let mut primary =
        sif.partitions().filter(|(_, partition)| partition.role == PartitionRole::PrimarySystem);
    let Some((object, partition)) = primary.next() else { return Ok(Runnable::NoPrimaryPartition) };
    if primary.next().is_some() {
        return Ok(Runnable::SeveralPrimaryPartitions);
    }
    let len = usize::try_from(object.size).unwrap_or(PROBE_LEN).min(PROBE_LEN);
    let verdict = match partition.file_system {
        FileSystem::Squashfs => {
            let head = read_up_to(file, "start of the primary partition", object.offset, len)?;
            match Squashfs::read(&head) {
                Some(squashfs) => {
                    squashfs.checked_used(Some(object.id), object.size)?;
                    Runnable::Yes
                }
                None => Runnable::DamagedFileSystem,
            }
        }
        FileSystem::Ext3 => {
            let head = read_up_to(file, "start of the primary partition", object.offset, len)?;
            if Ext::read(&head).is_some_and(|ext| ext.is_ext3()) {
                Runnable::Yes
            } else {
                Runnable::DamagedFileSystem
            }
        }
        FileSystem::EncryptedSquashfs | FileSystem::GocryptfsSquashfs => Runnable::Yes,
        FileSystem::Archive | FileSystem::Raw | FileSystem::Unknown => Runnable::UnsupportedFileSystem,
    };
    Ok(verdict)
}

fn read_partitions(sif: &Sif, image: &mut ImageMetadata, kept: &mut Kept) {
    for (object, partition) in sif.partitions() {
        let writable_root =
            partition.role == PartitionRole::PrimarySystem && partition.file_system == FileSystem::Ext3;
        image.mutable |= partition.role == PartitionRole::Overlay || writable_root;
        if image.partitions.len() < MAX_PARTITIONS {
            image.partitions.push(SifPartition {
                id: object.id,
                file_system: partition.file_system,
                role: partition.role,
                arch: partition.arch,
                offset: object.offset,
                size: object.size,
            });
        }
    }
    let count = sif.partitions().count();
    if count > MAX_PARTITIONS {
        kept.note(&format!("{MAX_PARTITIONS} of {count} partitions are listed"));
    }
}

fn read_signatures(
    file: &impl ReadAt,
    sif: &Sif,
    image: &mut ImageMetadata,
    kept: &mut Kept,
) -> Result<(), SifError> {
    let all = sif.objects.iter().filter(|object| object.data_type == DataType::Signature);
    let count = all.clone().count();
    for object in all.take(MAX_SIGNATURES) {
        let bytes = whole(file, object, "signature", MAX_SIGNATURE)?;
        let (signature, trouble) = signature::describe(sif, object, bytes.as_deref());
        if let Some(trouble) = trouble {
            kept.note(&format!("signature {} cannot be read: {trouble}", object.id));
        }
        // A listed object takes at most 5 bytes, the rest of a signature at most 100.
        let names: usize = signature.key_ids.iter().map(String::len).sum();
        kept.charge(names.saturating_add(signature.objects.len().saturating_mul(5)).saturating_add(100));
        image.signatures.push(signature);
    }
    if count > MAX_SIGNATURES {
        kept.note(&format!("{MAX_SIGNATURES} of {count} signatures are listed"));
    }
    Ok(())
}

/// Reads what `apptainer inspect` prints, where apptainer or singularity 3 and later stored it.
fn read_inspect(
    file: &impl ReadAt,
    sif: &Sif,
    image: &mut ImageMetadata,
    kept: &mut Kept,
) -> Result<(), SifError> {
    let Some(text) = read_json(file, sif, INSPECT, MAX_JSON, kept)? else { return Ok(()) };
    let inspect: Inspect = match serde_json::from_str(&text) {
        Ok(inspect) => inspect,
        Err(error) => {
            kept.note(&format!("{INSPECT} is not what apptainer writes ({error}): nothing of it is shown"));
            return Ok(());
        }
    };
    let attributes = inspect.data.attributes;
    image.labels = kept.map("label", attributes.labels);
    image.definition = kept.text("the definition", attributes.deffile);
    image.help = kept.text("the help", attributes.helpfile);
    image.runscript = kept.text("the runscript", attributes.runscript);
    image.startscript = kept.text("the startscript", attributes.startscript);
    image.test = kept.text("the test", attributes.test);
    image.environment = kept.map("environment", attributes.environment);
    for (name, app) in attributes.apps.unwrap_or_default() {
        let app = app.unwrap_or_default();
        if !kept.key("app", &name, image.apps.len()) {
            continue;
        }
        let told = App {
            labels: kept.map("app label", app.labels),
            environment: kept.map("app environment", app.environment),
            runscript: kept.text("an app's runscript", app.runscript),
            test: kept.text("an app's test", app.test),
            help: kept.text("an app's help", app.helpfile),
        };
        image.apps.insert(name, told);
    }
    Ok(())
}

/// Reads the objects that older and other tools write, for whatever is not known by then.
fn read_classic(
    file: &impl ReadAt,
    sif: &Sif,
    image: &mut ImageMetadata,
    kept: &mut Kept,
) -> Result<(), SifError> {
    let of = |data_type| sif.objects.iter().filter(move |object| object.data_type == data_type);
    if image.definition.is_none()
        && let Some(object) = of(DataType::Definition).next()
    {
        let text = read_text(file, object, "definition file")?;
        image.definition = kept.text_of("the definition", text, object.size);
    }
    if image.labels.is_empty()
        && let Some(object) = of(DataType::Labels).next()
    {
        let text = whole(file, object, "labels", MAX_JSON)?.unwrap_or_default();
        match serde_json::from_str(&String::from_utf8_lossy(&text)) {
            Ok(labels) => image.labels = kept.map("label", labels),
            Err(error) => kept.note(&format!("labels object {} is damaged ({error})", object.id)),
        }
    }
    for object in of(DataType::Environment).take(MAX_ENVIRONMENTS) {
        let text = read_text(file, object, "environment variables")?;
        let name = format!("object {} {}", object.id, object.name).trim_end().to_owned();
        if kept.key("environment", &name, image.environment.len())
            && let Some(text) = kept.text_of("the environment", text, object.size)
        {
            image.environment.insert(name, text);
        }
    }
    if of(DataType::Environment).count() > MAX_ENVIRONMENTS {
        kept.note(&format!("{MAX_ENVIRONMENTS} environment objects are shown, there are more"));
    }
    Ok(())
}

fn read_oci_config(file: &impl ReadAt, sif: &Sif, kept: &mut Kept) -> Result<Option<String>, SifError> {
    let text = read_json(file, sif, OCI_CONFIG, MAX_TEXT, kept)?;
    Ok(text.filter(|text| {
        let fits = text.len() <= kept.budget;
        if fits {
            kept.charge(text.len());
        } else {
            kept.note(&format!("{OCI_CONFIG} is left out: its {} bytes are too many", text.len()));
        }
        fits
    }))
}

/// Reads the JSON object of that name, if the SIF has it and it is not longer than `max`.
fn read_json(
    file: &impl ReadAt,
    sif: &Sif,
    name: &'static str,
    max: usize,
    kept: &mut Kept,
) -> Result<Option<String>, SifError> {
    let named = |object: &&Descriptor| object.data_type == DataType::GenericJson && object.name == name;
    let Some(object) = sif.objects.iter().find(named) else { return Ok(None) };
    match whole(file, object, name, max)? {
        Some(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        None => {
            kept.note(&format!("{name} is left out: {} bytes, at most {max} are read", object.size));
            Ok(None)
        }
    }
}

/// Reads all of an object; none if it is longer than `max`.
fn whole(
    file: &impl ReadAt,
    object: &Descriptor,
    what: &'static str,
    max: usize,
) -> Result<Option<Vec<u8>>, SifError> {
    match usize::try_from(object.size) {
        Ok(len) if len <= max => Ok(Some(read_up_to(file, what, object.offset, len)?)),
        _ => Ok(None),
    }
}

/// Reads as much of a text as can be kept, and one byte more to tell whether it is longer.
fn read_text(file: &impl ReadAt, object: &Descriptor, what: &'static str) -> Result<String, SifError> {
    let most = MAX_TEXT.saturating_add(1);
    let len = usize::try_from(object.size).unwrap_or(most).min(most);
    Ok(String::from_utf8_lossy(&read_up_to(file, what, object.offset, len)?).into_owned())
}

/// Cuts a text to at most `max` bytes, between two characters.
pub(super) fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default()
}

/// What is kept of an image, within its budget.
struct Kept {
    /// Bytes that may still be kept.
    budget: usize,
    notes: Vec<String>,
}

impl Kept {
    fn charge(&mut self, bytes: usize) {
        self.budget = self.budget.saturating_sub(bytes);
    }

    fn note(&mut self, note: &str) {
        let note = match MAX_NOTES.saturating_sub(self.notes.len()) {
            0 => return,
            1 => "more was cut or could not be read",
            _ => cut(note, MAX_NOTE),
        };
        self.charge(note.len());
        self.notes.push(note.to_owned());
    }

    /// Keeps a text, cut to what is allowed; an empty one is the same as none.
    fn text(&mut self, what: &str, text: Option<String>) -> Option<String> {
        let text = text?;
        let size = text.len() as u64;
        self.text_of(what, text, size)
    }

    /// Keeps the beginning of a text of `size` bytes.
    fn text_of(&mut self, what: &str, text: String, size: u64) -> Option<String> {
        let allowed = MAX_TEXT.min(self.budget);
        let text = if text.len() > allowed {
            let shown = cut(&text, allowed).to_owned();
            self.note(&format!("{what} is cut: {} of {size} bytes are shown", shown.len()));
            shown
        } else {
            text
        };
        self.charge(text.len());
        (!text.is_empty()).then_some(text)
    }

    /// Tells whether one more entry under this key can be kept, and charges the key.
    fn key(&mut self, what: &str, key: &str, have: usize) -> bool {
        /// Bookkeeping of an entry on the wire.
        const ENTRY: usize = 16;
        let cost = key.len().saturating_add(ENTRY);
        let fits = key.len() <= MAX_KEY && have < MAX_ENTRIES && cost <= self.budget;
        if fits {
            self.charge(cost);
        } else {
            self.note(&format!("{what} {:?} is left out: too many or too long", cut(key, 80)));
        }
        fits
    }

    fn map(&mut self, what: &str, map: Option<BTreeMap<String, String>>) -> BTreeMap<String, String> {
        let mut shown = BTreeMap::new();
        for (key, text) in map.unwrap_or_default() {
            if self.key(what, &key, shown.len()) {
                let about = format!("{what} {:?}", cut(&key, 80));
                let text = self.text(&about, Some(text)).unwrap_or_default();
                shown.insert(key, text);
            }
        }
        shown
    }
}
