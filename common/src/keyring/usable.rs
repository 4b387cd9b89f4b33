//! Whether an OpenPGP key may sign at this moment: bound, not revoked, not expired, for signing, strong enough.
//!
//! Owns the rules the crate `pgp` leaves to its callers. A revoked key signs nothing, whenever the signature claims to
//! have been made, because that claim is the signer's own. Revocations by third parties are not followed.
//! Outside facts: RFC 9580 §5.2.3 (subpackets), §10.1; the judgements of ProtonMail/go-crypto.

use pgp::composed::{SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PublicKey, Signature, SignatureType, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{EcdsaPublicParams, EddsaLegacyPublicParams, KeyDetails, PublicParams, Tag, Timestamp};

use crate::policy::Why;
use crate::time::UnixMillis;

/// How far a signer's clock may be ahead of ours, in seconds.
pub(super) const SKEW: u64 = 300;
/// Weakest RSA key that counts, in bits; keys made as 2,048 bits may have 2,047.
const MIN_RSA_BITS: u16 = 2_047;
/// Most self-signatures of a key, of a name or of a subkey that are looked at.
const MAX_SELF: usize = 64;

/// One key of an OpenPGP key that may have made a signature.
pub(super) enum Component<'a> {
    Primary(&'a PublicKey),
    Subkey(&'a SignedPublicSubKey),
}

impl Component<'_> {
    pub(super) fn details(&self) -> &dyn KeyDetails {
        match self {
            Self::Primary(key) => *key,
            Self::Subkey(subkey) => &subkey.key,
        }
    }

    pub(super) fn verify(&self, signature: &Signature, text: &[u8]) -> Result<(), Why> {
        let verified = match self {
            Self::Primary(key) => signature.verify(*key, text),
            Self::Subkey(subkey) => signature.verify(&subkey.key, text),
        };
        verified.ok().ok_or(Why::Forged)
    }

    /// Says why the key may not sign now.
    pub(super) fn usable(&self, whole: &SignedPublicKey, now: UnixMillis) -> Result<(), Why> {
        let own = primary(whole, now)?;
        match self {
            Self::Primary(_) if own.flags == Some(false) => Err(Why::KeyUnfit),
            Self::Primary(_) => Ok(()),
            Self::Subkey(subkey) => bound(whole, subkey, now),
        }
    }
}

/// What a primary key says of itself.
struct Own {
    /// Whether it is for signing; none if it does not say.
    flags: Option<bool>,
}

fn primary(whole: &SignedPublicKey, now: UnixMillis) -> Result<Own, Why> {
    let key = &whole.primary_key;
    fit(&Component::Primary(key))?;
    let revocations = whole.details.revocation_signatures.iter().take(MAX_SELF);
    let is_revocation = |signature: &&Signature| signature.typ() == Some(SignatureType::KeyRevocation);
    if revocations.filter(is_revocation).any(|signature| signature.verify_key(key).is_ok()) {
        return Err(Why::KeyRevoked);
    }
    let direct = whole.details.direct_signatures.iter().take(MAX_SELF);
    let direct = direct.filter(|signature| {
        signature.typ() == Some(SignatureType::Key)
            && counts(signature, now)
            && signature.verify_key(key).is_ok()
    });
    let direct = direct.max_by_key(|signature| signature.created());
    let names = whole.details.users.iter().take(MAX_SELF).filter_map(|user| {
        let own: Vec<&Signature> = user
            .signatures
            .iter()
            .filter(|signature| by(signature, key))
            .take(MAX_SELF)
            .filter(|signature| signature.verify_certification(key, Tag::UserId, &user.id).is_ok())
            .collect();
        let revoked = own.iter().filter(|one| one.typ() == Some(SignatureType::CertRevocation));
        let revoked = revoked.filter_map(|one| one.created()).max();
        let live =
            own.iter().filter(|one| one.typ() != Some(SignatureType::CertRevocation) && counts(one, now));
        live.copied()
            .max_by_key(|one| one.created())
            .filter(|one| revoked.is_none_or(|at| one.created() > Some(at)))
    });
    let best = names.max_by_key(|signature| (signature.is_primary(), signature.created()));
    let reference = best.or(direct).ok_or(Why::KeyUnfit)?;
    for signature in [Some(reference), direct].into_iter().flatten() {
        expired(key.created_at(), signature, now)?;
    }
    Ok(Own { flags: flags(reference) })
}

/// Says why a subkey may not sign: its newest binding decides, and it must have agreed to be bound.
fn bound(whole: &SignedPublicKey, subkey: &SignedPublicSubKey, now: UnixMillis) -> Result<(), Why> {
    let primary = &whole.primary_key;
    let own: Vec<&Signature> = subkey
        .signatures
        .iter()
        .take(MAX_SELF)
        .filter(|signature| signature.verify_subkey_binding(primary, &subkey.key).is_ok())
        .collect();
    if own.iter().any(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation)) {
        return Err(Why::KeyRevoked);
    }
    let bindings = own.into_iter().filter(|signature| counts(signature, now));
    let binding = bindings.max_by_key(|signature| signature.created()).ok_or(Why::KeyUnfit)?;
    let back = binding.embedded_signature().filter(|back| counts(back, now)).ok_or(Why::KeyUnfit)?;
    if back.verify_primary_key_binding(&subkey.key, primary).is_err() || flags(binding) == Some(false) {
        return Err(Why::KeyUnfit);
    }
    expired(subkey.key.created_at(), binding, now)
}

/// Says why a key of this kind or size verifies nothing.
pub(super) fn fit(component: &Component<'_>) -> Result<(), Why> {
    let params = component.details().public_params();
    let strong = if let PublicParams::RSA(params) = params {
        // An OpenPGP number begins with its length in bits (RFC 9580 §3.2).
        let bytes = params.to_bytes().unwrap_or_default();
        bytes.first_chunk().is_some_and(|bits| u16::from_be_bytes(*bits) >= MIN_RSA_BITS)
    } else {
        use EcdsaPublicParams::{P256, P384, P521};
        matches!(
            params,
            PublicParams::Ed25519(_)
                | PublicParams::EdDSALegacy(EddsaLegacyPublicParams::Ed25519 { .. })
                | PublicParams::ECDSA(P256 { .. } | P384 { .. } | P521 { .. })
        )
    };
    if strong { Ok(()) } else { Err(Why::KeyUnfit) }
}

fn expired(created: Timestamp, signature: &Signature, now: UnixMillis) -> Result<(), Why> {
    let created = u64::from(created.as_secs());
    if created > seconds(now).saturating_add(SKEW) {
        return Err(Why::Time);
    }
    let lifetime = signature.key_expiration_time().map(|lifetime| u64::from(lifetime.as_secs()));
    match lifetime {
        Some(lifetime) if lifetime > 0 && seconds(now) > created.saturating_add(lifetime) => {
            Err(Why::KeyExpired)
        }
        Some(_) | None => Ok(()),
    }
}

/// Tells whether a key says that it signs; none if it does not say what it is for.
fn flags(signature: &Signature) -> Option<bool> {
    let config = signature.config()?;
    config.hashed_subpackets().find_map(|subpacket| {
        if let SubpacketData::KeyFlags(flags) = &subpacket.data { Some(flags.sign()) } else { None }
    })
}

/// Tells whether a signature a key made about itself is to be believed now. SHA-1 is: the key's own owner chose what
/// was signed, the crate detects collisions, and keys of before 2015 have nothing better.
fn counts(signature: &Signature, now: UnixMillis) -> bool {
    let weak = matches!(
        signature.hash_alg(),
        None | Some(HashAlgorithm::None | HashAlgorithm::Md5 | HashAlgorithm::Ripemd160)
    );
    !weak && knows_what_is_critical(signature) && lives(signature, now)
}

/// Tells whether a signature has begun and not expired.
pub(super) fn lives(signature: &Signature, now: UnixMillis) -> bool {
    let Some(created) = signature.created().map(|created| u64::from(created.as_secs())) else { return false };
    let lifetime = signature.signature_expiration_time().map_or(0, |lifetime| u64::from(lifetime.as_secs()));
    created <= seconds(now).saturating_add(SKEW)
        && (lifetime == 0 || seconds(now) <= created.saturating_add(lifetime))
}

/// Tells whether nothing that the signer called critical is unknown here.
pub(super) fn knows_what_is_critical(signature: &Signature) -> bool {
    let Some(config) = signature.config() else { return false };
    config.hashed_subpackets().filter(|subpacket| subpacket.is_critical).all(|subpacket| {
        !matches!(
            subpacket.data,
            SubpacketData::Notation(_) | SubpacketData::Experimental(..) | SubpacketData::Other(..)
        )
    })
}

/// Tells whether a signature claims to be by this key, so that those of strangers are not even tried.
fn by(signature: &Signature, key: &PublicKey) -> bool {
    signature.issuer_key_id().contains(&&key.legacy_key_id())
        || signature.issuer_fingerprint().contains(&&key.fingerprint())
}

pub(super) fn seconds(now: UnixMillis) -> u64 {
    u64::try_from(now.0.div_euclid(1_000)).unwrap_or_default()
}
