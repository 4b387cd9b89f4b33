//! Verifies the signatures of a SIF against a keyring: the same verdict as `apptainer verify`, and by whom.
//!
//! Every object group must have a signature, every signature of every group must hold, and each must name exactly the
//! objects of its group; objects outside any group spoil the image. A signature covers the launch line, version and
//! identifier of the header, and of each object its type, link, size, creation time, owner, name, extra field and data.
//! It does **not** cover the header's processor and times, where objects lie, which number the group has, what other
//! groups exist, and bytes behind the last object. Signatures of before SIF 1.0 count only if the keyring says so, and
//! cover no more than the data of the primary partition.
//! Pure: reads through [`ReadAt`] in pieces of 1 MiB, hashes no object unless all signatures are good ones, and hashes
//! none twice for the same function. Plain keys and OpenPGP keys count side by side.
//! Outside facts: apptainer/sif v2 pkg/integrity (verify.go, metadata.go, select.go), secure-systems-lab/dsse v1.

mod claim;
mod clear_sign;
mod envelope;
mod objects;

use std::collections::{BTreeMap, BTreeSet};

use claim::Claim;
use objects::{Expected, HashFunction};

use super::signature::MAX_SIGNATURE;
use super::{DataType, Descriptor, Link, ReadAt, Sif, SifError, read_up_to};
use crate::image::{HashAlgorithm, MAX_SIGNATURES, PartitionRole};
use crate::keyring::{Fault, Keyring};
use crate::policy::{Fingerprint, Verdict, Why};
use crate::time::UnixMillis;

/// Verifies all signatures of an image. A file that is no SIF is not signed.
///
/// # Errors
/// [`SifError::Read`] if the file cannot be read; nothing is known then.
pub fn verify(file: &impl ReadAt, keyring: &Keyring, now: UnixMillis) -> Result<Verdict, SifError> {
    let sif = match Sif::open(file) {
        Ok(sif) => sif,
        Err(error @ SifError::Read { .. }) => return Err(error),
        Err(SifError::NotAnImage { .. }) => return Ok(Verdict::Unsigned),
        Err(_) => return Ok(Verdict::Bad { object: None, why: Why::NotWhole }),
    };
    let verified = Verifier { file, sif: &sif, keyring, now }.run();
    match verified {
        Ok(by) => Ok(Verdict::Signed { by }),
        Err(Stop::Verdict(verdict)) => Ok(verdict),
        Err(Stop::Read(error)) => Err(error),
    }
}

/// Why verifying ended early.
enum Stop {
    Verdict(Verdict),
    Read(SifError),
}

impl From<SifError> for Stop {
    fn from(error: SifError) -> Self {
        Self::Read(error)
    }
}

fn bad(object: impl Into<Option<u32>>, why: Why) -> Stop {
    Stop::Verdict(Verdict::Bad { object: object.into(), why })
}

/// What a signature is, by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    ClearSigned,
    Legacy,
    Envelope,
    /// None of these: does not hold, if it is linked to a group.
    Unknown,
}

struct Signature<'a> {
    object: &'a Descriptor,
    form: Form,
    bytes: Vec<u8>,
}

struct Verifier<'a, F> {
    file: &'a F,
    sif: &'a Sif,
    keyring: &'a Keyring,
    now: UnixMillis,
}

impl<F: ReadAt> Verifier<'_, F> {
    fn run(&self) -> Result<BTreeSet<Fingerprint>, Stop> {
        let signatures = self.signatures()?;
        let data = || self.sif.objects.iter().filter(|object| object.data_type != DataType::Signature);
        if signatures.is_empty() {
            return Err(Stop::Verdict(Verdict::Unsigned));
        }
        if let Some(object) = data().find(|object| object.group.is_none()) {
            return Err(bad(object.id, Why::NoGroup));
        }
        let counts =
            |one: &&Signature<'_>| one.form != Form::Legacy && matches!(one.object.link, Link::Group(_));
        if signatures.iter().any(|one| counts(&one)) {
            return self.groups(&signatures);
        }
        if self.keyring.legacy() {
            return self.primary(&signatures);
        }
        Err(Stop::Verdict(Verdict::Unsigned))
    }

    /// Reads all signatures.
    fn signatures(&self) -> Result<Vec<Signature<'_>>, Stop> {
        let mut signatures = Vec::new();
        for object in self.sif.objects.iter().filter(|object| object.data_type == DataType::Signature) {
            if signatures.len() >= MAX_SIGNATURES {
                return Err(bad(None, Why::TooMany));
            }
            let len = usize::try_from(object.size).ok().filter(|len| *len <= MAX_SIGNATURE);
            let len = len.ok_or_else(|| bad(object.id, Why::TooLong))?;
            let bytes = read_exact(self.file, "signature", object.offset, len)?;
            signatures.push(Signature { object, form: form(&bytes), bytes });
        }
        Ok(signatures)
    }

    /// Verifies the signatures of all groups; returns who signed every one of them.
    fn groups(&self, signatures: &[Signature<'_>]) -> Result<BTreeSet<Fingerprint>, Stop> {
        let groups: BTreeSet<u32> = self.sif.objects.iter().filter_map(|object| object.group).collect();
        let mut signers: Option<BTreeSet<Fingerprint>> = None;
        let mut expected = BTreeMap::new();
        let mut unsigned = None;
        for group in groups {
            let mut by = BTreeSet::new();
            let of_group =
                |one: &&Signature<'_>| one.form != Form::Legacy && one.object.link == Link::Group(group);
            for signature in signatures.iter().filter(of_group) {
                let (keys, claim) = self.claim(signature)?;
                self.hold_against(&claim, group, signature, &mut expected)?;
                by.extend(keys);
            }
            if by.is_empty() {
                unsigned = Some(group);
            }
            signers = Some(signers.map_or_else(|| by.clone(), |all| &all & &by));
        }
        if unsigned.is_some() {
            return Err(bad(None, Why::GroupNotSigned));
        }
        self.check_data(&expected)?;
        signers.ok_or(Stop::Verdict(Verdict::Unsigned))
    }

    /// Verifies that a signature was made by known keys; returns them and what they signed.
    fn claim(&self, signature: &Signature<'_>) -> Result<(BTreeSet<Fingerprint>, Claim), Stop> {
        let object = signature.object;
        if object.hash() == HashAlgorithm::Unknown {
            return Err(bad(object.id, Why::Hash));
        }
        let (keys, payload) = match signature.form {
            Form::ClearSigned | Form::Legacy => self.clear_signed(signature)?,
            Form::Unknown => return Err(bad(object.id, Why::Unreadable)),
            Form::Envelope => envelope::open(&signature.bytes, object.hash(), self.keyring)
                .map_err(|fault| self.stop(object, fault))?,
        };
        let claim = Claim::parse(&payload).map_err(|why| bad(object.id, why))?;
        Ok((keys, claim))
    }

    fn clear_signed(&self, signature: &Signature<'_>) -> Result<(BTreeSet<Fingerprint>, Vec<u8>), Stop> {
        let object = signature.object;
        let message = clear_sign::split(&signature.bytes).ok_or_else(|| bad(object.id, Why::Unreadable))?;
        let by = self.keyring.verify_openpgp(&message.signed, &message.packets, self.now);
        let by = by.map_err(|fault| self.stop(object, fault))?;
        let named = object.fingerprint().and_then(|text| text.parse().ok());
        if named != Some(by) {
            return Err(bad(object.id, Why::OtherKey));
        }
        Ok((BTreeSet::from([by]), message.text))
    }

    #[expect(clippy::unused_self, reason = "reads as what the verifier does with it")]
    fn stop(&self, object: &Descriptor, fault: Fault) -> Stop {
        match fault {
            Fault::Unknown(key) => Stop::Verdict(Verdict::UnknownKey { signature: object.id, key }),
            Fault::Bad(why) => bad(object.id, why),
        }
    }

    /// Holds header and descriptors against a claim, and notes what the data must be.
    fn hold_against(
        &self,
        claim: &Claim,
        group: u32,
        signature: &Signature<'_>,
        expected: &mut BTreeMap<(u32, HashFunction), Expected>,
    ) -> Result<(), Stop> {
        let objects: Vec<&Descriptor> =
            self.sif.objects.iter().filter(|object| object.group == Some(group)).collect();
        let first = objects.iter().map(|object| object.id).min().unwrap_or(0);
        let signed = |object: &&&Descriptor| claim.object(object.id.saturating_sub(first)).is_some();
        if let Some(added) = objects.iter().find(|object| !signed(object)) {
            return Err(bad(added.id, Why::NotSigned));
        }
        if let Some(gone) = claim
            .relative_ids()
            .map(|id| first.saturating_add(id))
            .find(|id| !objects.iter().any(|object| object.id == *id))
        {
            return Err(bad(gone, Why::Missing));
        }
        let header = objects::signed_header(self.file)?;
        if !claim.header().matches(&header) {
            return Err(bad(None, Why::Header));
        }
        for object in objects {
            let relative = object.id.saturating_sub(first);
            let Some(claimed) = claim.object(relative) else { continue };
            let descriptor = objects::signed_descriptor(self.file, object, relative)?;
            if !claimed.descriptor.matches(&descriptor) {
                return Err(bad(object.id, Why::Descriptor));
            }
            let key = (object.id, claimed.data.function);
            let before =
                expected.insert(key, Expected { object: object.clone(), value: claimed.data.value.clone() });
            if before.is_some_and(|before| before.value != claimed.data.value) {
                return Err(bad(signature.object.id, Why::Data));
            }
        }
        Ok(())
    }

    /// Reads every object once and holds its data against what was signed.
    fn check_data(&self, expected: &BTreeMap<(u32, HashFunction), Expected>) -> Result<(), Stop> {
        let mut ids: BTreeMap<u32, Vec<(HashFunction, &Expected)>> = BTreeMap::new();
        for ((id, function), one) in expected {
            ids.entry(*id).or_default().push((*function, one));
        }
        for (id, all) in ids {
            if !objects::data_match(self.file, &all)? {
                return Err(bad(id, Why::Data));
            }
        }
        Ok(())
    }

    /// Verifies the signatures of before SIF 1.0 on the primary partition; returns who made all of them.
    fn primary(&self, signatures: &[Signature<'_>]) -> Result<BTreeSet<Fingerprint>, Stop> {
        let mut primary =
            self.sif.partitions().filter(|(_, partition)| partition.role == PartitionRole::PrimarySystem);
        let (Some((object, _)), None) = (primary.next(), primary.next()) else {
            return Err(bad(None, Why::NoPrimary));
        };
        let mut by = BTreeSet::new();
        for signature in signatures.iter().filter(|one| one.object.link == Link::Object(object.id)) {
            let (keys, text) = match signature.form {
                Form::ClearSigned | Form::Legacy => self.clear_signed(signature)?,
                Form::Envelope | Form::Unknown => return Err(bad(signature.object.id, Why::Unreadable)),
            };
            let digest = claim::legacy(&text, signature.object.hash());
            let digest = digest.map_err(|why| bad(signature.object.id, why))?;
            let expected = Expected { object: object.clone(), value: digest.value };
            if !objects::data_match(self.file, &[(digest.function, &expected)])? {
                return Err(bad(object.id, Why::Data));
            }
            by.extend(keys);
        }
        if by.is_empty() { Err(Stop::Verdict(Verdict::Unsigned)) } else { Ok(by) }
    }
}

fn form(bytes: &[u8]) -> Form {
    if bytes.trim_ascii_start().starts_with(b"{") {
        return Form::Envelope;
    }
    match clear_sign::split(bytes) {
        Some(message) if message.text.starts_with(claim::LEGACY) => Form::Legacy,
        Some(_) => Form::ClearSigned,
        None => Form::Unknown,
    }
}

/// Reads exactly `len` bytes; a file that ends before is one that changes while it is read.
fn read_exact(file: &impl ReadAt, what: &'static str, offset: u64, len: usize) -> Result<Vec<u8>, SifError> {
    let bytes = read_up_to(file, what, offset, len)?;
    if bytes.len() == len {
        return Ok(bytes);
    }
    Err(SifError::Read { what, offset, source: std::io::ErrorKind::UnexpectedEof.into() })
}
