//! Names of nodes, partitions and images, parsed once and valid ever after.
//!
//! Owns what a valid name is and how a hostile file name is shown. It does not resolve what a user wrote
//! to an image: that needs the index and lives with the coordinator.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest node name: the limit of a DNS name (RFC 1035 §2.3.4).
pub const MAX_NODE_NAME: usize = 253;
/// Longest partition name; Slurm itself stays far below.
pub const MAX_PARTITION_NAME: usize = 128;
/// Longest image name in bytes: PATH_MAX of Linux.
pub const MAX_IMAGE_NAME: usize = 4096;
/// Longest path component in bytes: NAME_MAX of Linux.
pub const MAX_COMPONENT: usize = 255;

/// Says why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was written.
    #[error("a {kind} name cannot be empty")]
    Empty {
        /// What was to be named.
        kind: &'static str,
    },
    /// Longer than the limit.
    #[error("a {kind} name has at most {max} bytes, this one has {len}")]
    TooLong {
        /// What was to be named.
        kind: &'static str,
        /// The limit.
        max: usize,
        /// What was given.
        len: usize,
    },
    /// A character that does not belong.
    #[error("{character:?} cannot stand in the {kind} name {name:?}")]
    BadCharacter {
        /// What was to be named.
        kind: &'static str,
        /// The name as written.
        name: String,
        /// The first offending character.
        character: char,
    },
    /// A path that is absolute, climbs or has empty parts.
    #[error(
        "{name:?} is not an image name: it must be a path below a root, without `.`, `..` or empty parts"
    )]
    BadPath {
        /// The name as written.
        name: String,
    },
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Borrows the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// Names a node as Slurm and its certificate do: letters, digits, `.`, `_` and `-`, at most 253 bytes.
    NodeName,
    check_node
);
name!(
    /// Names a partition: letters, digits, `.`, `_`, `-`, `+`, `@`, at most 128 bytes.
    PartitionName,
    check_partition
);
name!(
    /// Names an image by its path below its root, such as `compute/openfoam_v2312.sif`.
    ///
    /// UTF-8 without control characters, `.`, `..` or empty components; at most 4,096 bytes, 255 a component.
    /// A backslash stands only in names made by [`ImageName::escape`], for files whose real name cannot be
    /// written.
    ImageName,
    check_image
);

impl ImageName {
    /// Shows any path below a root as a name: bytes that cannot stand in one become `\xNN`.
    ///
    /// Injective: two different paths never give the same name, because a real backslash is escaped too.
    /// The flag says whether anything was escaped, which means that no image can be addressed by it.
    ///
    /// # Errors
    /// [`NameError`] when the path is empty, absolute, climbs, or is too long once escaped.
    pub fn escape(path: &[u8]) -> Result<(Self, bool), NameError> {
        let mut shown = String::with_capacity(path.len());
        for chunk in path.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character == '\\' || unfit(character) {
                    let mut bytes = [0; 4];
                    for byte in character.encode_utf8(&mut bytes).bytes() {
                        escape_byte(&mut shown, byte);
                    }
                } else {
                    shown.push(character);
                }
            }
            for byte in chunk.invalid() {
                escape_byte(&mut shown, *byte);
            }
        }
        let escaped = shown.as_bytes() != path;
        check_path(&shown, usize::MAX)?;
        Ok((Self(shown.into()), escaped))
    }

    /// Sorts before every name, for ranges; names nothing.
    pub(crate) fn least() -> Self {
        Self("".into())
    }

    /// Returns the last component, `openfoam_v2312.sif` of `compute/openfoam_v2312.sif`.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Returns the last component without `.sif`, which is how people speak of an image.
    #[must_use]
    pub fn stem(&self) -> &str {
        let file = self.file_name();
        file.strip_suffix(".sif").unwrap_or(file)
    }
}

fn escape_byte(shown: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    shown.push_str("\\x");
    for nibble in [byte >> 4, byte & 15] {
        shown.push(char::from(HEX.get(usize::from(nibble)).copied().unwrap_or(b'?')));
    }
}

/// Characters that never reach a terminal or a log as they are: controls, and the bidirectional and
/// invisible marks with which a name can pose as another (Unicode TR 36).
fn unfit(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn check_len(kind: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { kind });
    }
    if text.len() > max {
        return Err(NameError::TooLong { kind, max, len: text.len() });
    }
    Ok(())
}

fn check_characters(kind: &'static str, text: &str, fits: impl Fn(char) -> bool) -> Result<(), NameError> {
    match text.chars().find(|character| !fits(*character)) {
        Some(character) => Err(NameError::BadCharacter { kind, name: text.to_owned(), character }),
        None => Ok(()),
    }
}

fn check_node(text: &str) -> Result<(), NameError> {
    check_len("node", text, MAX_NODE_NAME)?;
    check_characters("node", text, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))?;
    match text.chars().next() {
        Some(first) if !first.is_ascii_alphanumeric() => {
            Err(NameError::BadCharacter { kind: "node", name: text.to_owned(), character: first })
        }
        _ => Ok(()),
    }
}

fn check_partition(text: &str) -> Result<(), NameError> {
    check_len("partition", text, MAX_PARTITION_NAME)?;
    check_characters("partition", text, |c| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '@')
    })
}

fn check_image(text: &str) -> Result<(), NameError> {
    check_path(text, MAX_COMPONENT)
}

fn check_path(text: &str, max_component: usize) -> Result<(), NameError> {
    check_len("image", text, MAX_IMAGE_NAME)?;
    check_characters("image", text, |c| !unfit(c))?;
    for part in text.split('/') {
        if part.is_empty() || part == "." || part == ".." {
            return Err(NameError::BadPath { name: text.to_owned() });
        }
        // An escaped byte takes four characters, so only its unescaped length counts.
        if part.len() > max_component && !part.contains("\\x") {
            return Err(NameError::TooLong { kind: "image", max: max_component, len: part.len() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_image_name_is_a_path_below_a_root() {
        for good in ["a.sif", "compute/openfoam_v2312.sif", "한글 image.sif", "...sif"] {
            assert_eq!(good.parse::<ImageName>().unwrap().as_str(), good);
        }
        for bad in ["", "/a.sif", "a//b", "../a", "a/..", "./a", "a/", "a\nb", "a\u{202e}b", "\u{7f}"] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(256).parse::<ImageName>().is_err());
    }

    #[test]
    fn a_node_name_starts_with_a_letter_or_digit() {
        assert!("viz-node001.cluster".parse::<NodeName>().is_ok());
        for bad in ["-a", "a b", "a/b", "a,b", "a[1-2]", "é"] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_unwritable_file_name_is_shown_escaped() {
        let (name, escaped) = ImageName::escape(b"bad\xff\n\\.sif").unwrap();
        assert_eq!(name.as_str(), "bad\\xff\\x0a\\x5c.sif");
        assert!(escaped);
        assert!(!ImageName::escape(b"a/b.sif").unwrap().1);
    }

    #[test]
    fn stems_are_how_people_speak() {
        let name: ImageName = "compute/openfoam_v2312.sif".parse().unwrap();
        assert_eq!((name.file_name(), name.stem()), ("openfoam_v2312.sif", "openfoam_v2312"));
    }

    proptest! {
        #[test]
        fn two_paths_never_share_an_escaped_name(a in proptest::collection::vec(any::<u8>(), 1..40), b in proptest::collection::vec(any::<u8>(), 1..40)) {
            if let (Ok((x, _)), Ok((y, _))) = (ImageName::escape(&a), ImageName::escape(&b)) {
                prop_assert_eq!(a == b, x == y);
            }
        }
    }
}
