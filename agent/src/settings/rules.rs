//! What a value of the settings must be like beyond its type.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::{Component, MAX_HASH_THREADS, MAX_ROOTS, MAX_SETTLE, MIN_HASH_RATE, Path, Period, Root, Size};

/// Takes one address for a list of one: that is what people write first.
struct Coordinators;

impl<'de> Visitor<'de> for Coordinators {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address such as \"head01:7441\", or a list of them")
    }

    fn visit_str<E: Error>(self, one: &str) -> Result<Self::Value, E> {
        Ok(vec![one.to_owned()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, many: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(many))
    }
}

pub(super) fn coordinators<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let coordinators = from.deserialize_any(Coordinators)?;
    if coordinators.is_empty() {
        return Err(D::Error::custom("name at least one coordinator, such as \"head01:7441\""));
    }
    let lame = coordinators.iter().find(|coordinator| {
        let port = coordinator.rsplit_once(':').map(|(host, port)| (host.is_empty(), port.parse::<u16>()));
        !matches!(port, Some((false, Ok(1..))))
    });
    match lame {
        Some(lame) => Err(D::Error::custom(format!("{lame:?} is not host:port, such as \"head01:7441\""))),
        None => Ok(coordinators),
    }
}

pub(super) fn roots<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Root>, D::Error> {
    let roots = Vec::<Root>::deserialize(from)?;
    if roots.is_empty() || roots.len() > MAX_ROOTS {
        return Err(D::Error::custom(format!("there are 1 to {MAX_ROOTS} roots, not {}", roots.len())));
    }
    for (at, root) in roots.iter().enumerate() {
        if !is_plain(&root.path) {
            let path = root.path.display();
            return Err(D::Error::custom(format!("{path} is not an absolute path without `..`")));
        }
        let before = roots.iter().take(at);
        let mut overlaps =
            before.filter(|other| other.path.starts_with(&root.path) || root.path.starts_with(&other.path));
        if let Some(other) = overlaps.next() {
            return Err(D::Error::custom(format!(
                "{} and {} overlap, so that images in both would be counted twice: keep one of them",
                other.path.display(),
                root.path.display()
            )));
        }
    }
    Ok(roots)
}

fn is_plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

pub(super) fn settle<'de, D: Deserializer<'de>>(from: D) -> Result<Period, D::Error> {
    let settle = Period::deserialize(from)?;
    if settle > MAX_SETTLE {
        return Err(D::Error::custom(format!(
            "watch.settle is {settle}, longer than {MAX_SETTLE}: finished images would be announced late"
        )));
    }
    Ok(settle)
}

pub(super) fn mode<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let text = String::deserialize(from)?;
    match u32::from_str_radix(&text, 8) {
        // An image that only some can read counts as private, so a push of it would never be done.
        Ok(mode) if mode & !0o777 == 0 && mode & 0o444 == 0o444 => Ok(mode),
        _ => Err(D::Error::custom(format!(
            "transfer.mode is {text:?}; write permissions in octal, such as \"644\", that let everybody read"
        ))),
    }
}

pub(super) fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Size>, D::Error> {
    let rate = Size::deserialize(from)?;
    if rate < MIN_HASH_RATE {
        return Err(D::Error::custom(format!(
            "hash.rate is {rate} a second, less than {MIN_HASH_RATE}: images would be unknown for days; leave it out \
             for no limit"
        )));
    }
    Ok(Some(rate))
}

pub(super) fn threads<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    let threads = usize::deserialize(from)?;
    if (1..=MAX_HASH_THREADS).contains(&threads) {
        return Ok(threads);
    }
    Err(D::Error::custom(format!("hash.threads is 1 to {MAX_HASH_THREADS}, not {threads}")))
}
