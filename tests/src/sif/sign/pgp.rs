//! OpenPGP keys of every sort, made from a number, that sign messages.

use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedKeyDetails, SignedPublicKey,
    SignedPublicSubKey, SignedSecretKey, SubkeyParamsBuilder,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{
    KeyFlags, PublicKey, PublicSubkey, Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData,
};
use pgp::ser::Serialize;
use pgp::types::{Duration, KeyDetails, Password, SignedUser, Tag, Timestamp};
use rand08::SeedableRng;
use rand08::rngs::StdRng;

/// What a key and its signatures shall be; times are in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct PgpWish {
    /// When the key is made.
    pub key_created: u32,
    /// How long the key is good for, in seconds.
    pub key_lifetime: Option<u32>,
    /// Whether the key says that it signs.
    pub key_signs: bool,
    /// Whether the key is revoked.
    pub key_revoked: bool,
    /// Whether a subkey signs in place of the key itself.
    pub subkey: bool,
    /// Whether the subkey agreed to belong to the key.
    pub subkey_agrees: bool,
    /// Whether the subkey is revoked.
    pub subkey_revoked: bool,
    /// How long the subkey is good for, in seconds.
    pub subkey_lifetime: Option<u32>,
    /// Whether the key is bound to its name and subkeys by its own signatures.
    pub bound: bool,
    /// When it signs.
    pub signed: u32,
    /// How long its signatures are good for, in seconds.
    pub lifetime: Option<u32>,
    /// The hash function of its signatures.
    pub hash: HashAlgorithm,
    /// How many bits its key has if it is RSA; Ed25519 else.
    pub rsa: Option<u32>,
}

impl Default for PgpWish {
    fn default() -> Self {
        Self {
            key_created: 1_700_000_000,
            key_lifetime: None,
            key_signs: true,
            key_revoked: false,
            subkey: false,
            subkey_agrees: true,
            subkey_revoked: false,
            subkey_lifetime: None,
            bound: true,
            signed: 1_700_000_100,
            lifetime: None,
            hash: HashAlgorithm::Sha256,
            rsa: None,
        }
    }
}

impl PgpWish {
    fn algorithm(&self) -> PublicKeyAlgorithm {
        if self.rsa.is_some() { PublicKeyAlgorithm::RSA } else { PublicKeyAlgorithm::EdDSALegacy }
    }
}

/// A key that signs, and what its public half looks like.
#[derive(Debug)]
pub struct PgpSigner {
    wish: PgpWish,
    secret: SignedSecretKey,
    public: SignedPublicKey,
}

#[track_caller]
fn done<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("a test's key cannot be made: {error}"),
    }
}

impl PgpSigner {
    /// Makes a key that is as it should be.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::wished(seed, PgpWish::default())
    }

    /// Makes a key out of a number; the same number makes the same key.
    ///
    /// # Panics
    /// When the wish is none that can be made.
    #[must_use]
    pub fn wished(seed: u64, wish: PgpWish) -> Self {
        let created = Timestamp::from_secs(wish.key_created);
        let mut subkey = SubkeyParamsBuilder::default();
        subkey.key_type(KeyType::Ed25519Legacy).can_sign(true).created_at(created);
        let mut params = SecretKeyParamsBuilder::default();
        params
            .key_type(wish.rsa.map_or(KeyType::Ed25519Legacy, KeyType::Rsa))
            .can_certify(true)
            .can_sign(true)
            .created_at(created)
            .primary_user_id(format!("Test {seed} <test@example.org>"))
            .subkeys(vec![done(subkey.build())]);
        let secret = done(done(params.build()).generate(StdRng::seed_from_u64(seed)));
        let public = Self::public_half(&secret, &wish);
        Self { wish, secret, public }
    }

    fn public_half(secret: &SignedSecretKey, wish: &PgpWish) -> SignedPublicKey {
        let primary: PublicKey = secret.primary_key.public_key().clone();
        let signed =
            Self { wish: *wish, secret: secret.clone(), public: SignedPublicKey::from(secret.clone()) };
        let (mut users, mut subkeys, mut revocations) = (Vec::new(), Vec::new(), Vec::new());
        for user in &secret.details.users {
            let mut config = signed.about(SignatureType::CertPositive, flags(true, wish.key_signs));
            lasting(&mut config, wish.key_lifetime);
            let none = Password::empty();
            let made = config.sign_certification(&secret.primary_key, &primary, &none, Tag::UserId, &user.id);
            let signatures = if wish.bound { vec![done(made)] } else { Vec::new() };
            users.push(SignedUser { id: user.id.clone(), signatures });
        }
        if wish.subkey {
            subkeys.extend(secret.secret_subkeys.first().map(|subkey| {
                let key = subkey.key.public_key().clone();
                SignedPublicSubKey { signatures: signed.bindings(&primary, &key), key }
            }));
        }
        if wish.key_revoked {
            let config = signed.about(SignatureType::KeyRevocation, Vec::new());
            revocations.push(done(config.sign_key(&secret.primary_key, &Password::empty(), &primary)));
        }
        let details = SignedKeyDetails {
            revocation_signatures: revocations,
            direct_signatures: Vec::new(),
            users,
            user_attributes: Vec::new(),
        };
        SignedPublicKey { primary_key: primary, details, public_subkeys: subkeys }
    }

    fn bindings(&self, primary: &PublicKey, key: &PublicSubkey) -> Vec<Signature> {
        let none = Password::empty();
        let Some(secret) = self.secret.secret_subkeys.first() else { return Vec::new() };
        let mut signatures = Vec::new();
        let mut config = self.about(SignatureType::SubkeyBinding, flags(false, true));
        lasting(&mut config, self.wish.subkey_lifetime);
        if self.wish.subkey_agrees {
            let mut back = SignatureConfig::v4(
                SignatureType::KeyBinding,
                PublicKeyAlgorithm::EdDSALegacy,
                HashAlgorithm::Sha256,
            );
            back.hashed_subpackets = vec![
                regular(SubpacketData::SignatureCreationTime(Timestamp::from_secs(self.wish.key_created))),
                regular(SubpacketData::IssuerFingerprint(key.fingerprint())),
            ];
            let back = done(back.sign_primary_key_binding(&secret.key, key, &none, primary));
            config.hashed_subpackets.push(regular(SubpacketData::EmbeddedSignature(Box::new(back))));
        }
        signatures.push(done(config.sign_subkey_binding(&self.secret.primary_key, primary, &none, key)));
        if self.wish.subkey_revoked {
            let config = self.about(SignatureType::SubkeyRevocation, Vec::new());
            signatures.push(done(config.sign_subkey_binding(&self.secret.primary_key, primary, &none, key)));
        }
        signatures
    }

    /// Begins a signature that the key makes about itself.
    fn about(&self, typ: SignatureType, more: Vec<Subpacket>) -> SignatureConfig {
        let mut config = SignatureConfig::v4(typ, self.wish.algorithm(), HashAlgorithm::Sha256);
        config.hashed_subpackets = vec![
            regular(SubpacketData::SignatureCreationTime(Timestamp::from_secs(self.wish.key_created))),
            regular(SubpacketData::IssuerFingerprint(self.secret.primary_key.fingerprint())),
            regular(SubpacketData::IssuerKeyId(self.secret.primary_key.legacy_key_id())),
        ];
        config.hashed_subpackets.extend(more);
        config
    }

    /// Signs a text.
    #[must_use]
    pub fn clear_sign(&self, text: &str) -> String {
        let subkey = self.secret.secret_subkeys.first().filter(|_| self.wish.subkey);
        let (fingerprint, id) = match subkey {
            Some(subkey) => (subkey.key.fingerprint(), subkey.key.legacy_key_id()),
            None => (self.secret.primary_key.fingerprint(), self.secret.primary_key.legacy_key_id()),
        };
        let mut config = SignatureConfig::v4(SignatureType::Text, self.wish.algorithm(), self.wish.hash);
        config.hashed_subpackets = vec![
            regular(SubpacketData::SignatureCreationTime(Timestamp::from_secs(self.wish.signed))),
            regular(SubpacketData::IssuerFingerprint(fingerprint)),
        ];
        config.unhashed_subpackets = vec![regular(SubpacketData::IssuerKeyId(id))];
        if let Some(lifetime) = self.wish.lifetime {
            let expires = SubpacketData::SignatureExpirationTime(Duration::from_secs(lifetime));
            config.hashed_subpackets.push(regular(expires));
        }
        let none = Password::empty();
        let message = match subkey {
            Some(subkey) => CleartextSignedMessage::new(text, config, &subkey.key, &none),
            None => CleartextSignedMessage::new(text, config, &self.secret.primary_key, &none),
        };
        done(done(message).to_armored_string(ArmorOptions::default()))
    }

    /// Returns the public key in binary form.
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        done(self.public.to_bytes())
    }

    /// Returns the public key as text.
    #[must_use]
    pub fn armored(&self) -> String {
        done(self.public.to_armored_string(ArmorOptions::default()))
    }

    /// Returns the private key as text.
    #[must_use]
    pub fn armored_secret(&self) -> String {
        done(self.secret.to_armored_string(ArmorOptions::default()))
    }

    /// Returns how policies name it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{:X}", self.public.fingerprint())
    }

    /// Returns its fingerprint as it stands in the descriptor of a signature.
    #[must_use]
    pub fn fingerprint_bytes(&self) -> [u8; 20] {
        done(<[u8; 20]>::try_from(self.public.fingerprint().as_bytes()))
    }
}

fn regular(data: SubpacketData) -> Subpacket {
    done(Subpacket::regular(data))
}

fn flags(certifies: bool, signs: bool) -> Vec<Subpacket> {
    let mut flags = KeyFlags::default();
    flags.set_certify(certifies);
    flags.set_sign(signs);
    vec![regular(SubpacketData::KeyFlags(flags))]
}

fn lasting(config: &mut SignatureConfig, lifetime: Option<u32>) {
    let expires = lifetime.map(|seconds| SubpacketData::KeyExpirationTime(Duration::from_secs(seconds)));
    config.hashed_subpackets.extend(expires.map(regular));
}
