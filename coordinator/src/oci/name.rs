//! Names as the OCI distribution specification writes them, and which files of the library they mean.
//!
//! Repository `compute/openfoam` and tag `v2312` mean `compute/openfoam_v2312.sif`; the tag `latest` means
//! `compute/openfoam.sif` too. Outside facts: OCI distribution specification 1.1, "Pulling manifests".

use std::fmt;
use std::str::FromStr;

use sifleet_common::name::ImageName;

use super::digest::OciDigest;
use super::error::OciError;

/// Longest name of a repository in bytes: clients count the host's name and it together against 255.
const MAX_REPOSITORY: usize = 255;
/// Longest tag in bytes, as the specification says.
const MAX_TAG: usize = 128;
/// The tag that is meant when none is named.
const LATEST: &str = "latest";

/// Names a repository: lower-case parts, parted by slashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repository(String);

impl Repository {
    /// Borrows the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Finds the repository that a file of the library is; none for names that no client could ask for. Capitals become
    /// small letters, for a repository has none.
    #[must_use]
    pub fn of(name: &ImageName) -> Option<Self> {
        name.as_str().strip_suffix(".sif")?.to_lowercase().parse().ok()
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Repository {
    type Err = OciError;

    fn from_str(text: &str) -> Result<Self, OciError> {
        if text.len() <= MAX_REPOSITORY && text.split('/').all(is_part) {
            return Ok(Self(text.to_owned()));
        }
        Err(OciError::BadName { name: super::cut(text) })
    }
}

/// Looks at one part: letters and digits, with one separator between them at a time.
fn is_part(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (bytes, mut at) = (part.as_bytes(), 0);
    let starts = bytes.first().copied().is_some_and(is_word);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let word = rest.iter().take_while(|byte| is_word(**byte)).count();
        let between = rest.get(word..).unwrap_or_default();
        let separator = between.iter().take_while(|byte| !is_word(**byte)).count();
        let fits = match between.get(..separator).unwrap_or_default() {
            b"" => between.is_empty(),
            b"." | b"_" | b"__" => true,
            dashes => dashes.iter().all(|byte| *byte == b'-'),
        };
        // A separator stands between words, never at the end.
        if !fits || (separator > 0 && separator == between.len()) {
            return false;
        }
        at += word + separator;
    }
    starts
}

/// Names a version of a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// Borrows the tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag of a file that appeared in the library by itself.
    #[must_use]
    pub fn latest() -> Self {
        Self(LATEST.to_owned())
    }

    /// Tells whether it is the one that is meant when none is named.
    #[must_use]
    pub fn is_latest(&self) -> bool {
        self.0 == LATEST
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = OciError;

    fn from_str(text: &str) -> Result<Self, OciError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let starts = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if text.len() <= MAX_TAG && text.bytes().all(fits) && text.as_bytes().first().is_some_and(starts) {
            return Ok(Self(text.to_owned()));
        }
        Err(OciError::BadTag { tag: super::cut(text) })
    }
}

/// What follows `/manifests/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A tag.
    Tag(Tag),
    /// A manifest's own digest.
    Digest(OciDigest),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl FromStr for Reference {
    type Err = OciError;

    fn from_str(text: &str) -> Result<Self, OciError> {
        if text.contains(':') { text.parse().map(Self::Digest) } else { text.parse().map(Self::Tag) }
    }
}

/// Names the file that a push of a tag makes.
///
/// # Errors
/// [`OciError::BadName`] where no file can be called so.
pub fn file_of(repository: &Repository, tag: &Tag) -> Result<ImageName, OciError> {
    let name = if tag.is_latest() { format!("{repository}.sif") } else { format!("{repository}_{tag}.sif") };
    name.parse()
        .map_err(|_why: sifleet_common::name::NameError| OciError::BadName { name: super::cut(&name) })
}

/// Lists the files that a tag may mean, the likeliest first.
#[must_use]
pub fn files_of(repository: &Repository, tag: &Tag) -> Vec<ImageName> {
    let plain = tag.is_latest().then(|| format!("{repository}.sif"));
    let names = [Some(format!("{repository}_{tag}.sif")), plain];
    names.into_iter().flatten().filter_map(|name| name.parse().ok()).collect()
}

/// Lists the repositories and tags whose pushes make this file.
#[must_use]
pub fn pairs_of(name: &ImageName) -> Vec<(Repository, Tag)> {
    let Some(stem) = name.as_str().strip_suffix(".sif") else { return Vec::new() };
    let cut = |at: usize| Some((stem.get(..at)?, stem.get(at.checked_add(1)?..)?));
    let parts = stem.match_indices('_').filter_map(|(at, _)| cut(at));
    let pairs = parts.chain([(stem, LATEST)]);
    pairs
        .filter_map(|(repository, tag)| Some((repository.parse().ok()?, tag.parse().ok()?)))
        .filter(|(repository, tag)| file_of(repository, tag).is_ok_and(|made| made == *name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_written_as_the_specification_says() {
        for good in ["a", "a/b", "viz/vnc_desktop", "a.b/c__d/e---f", "0/1", &"a".repeat(255)] {
            assert!(good.parse::<Repository>().is_ok(), "{good}");
        }
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "a_", "_a", "a..b", "a___b", "a._b", "a b", "a\\b", "../a", "é",
        ] {
            assert!(bad.parse::<Repository>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(256).parse::<Repository>().is_err());
    }

    #[test]
    fn tags_are_written_as_the_specification_says() {
        for good in ["latest", "v2312", "_x", "1.0-rc.1", "V", &"a".repeat(128)] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "a:b", "a b", &"a".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_tag_is_part_of_the_files_name() {
        let (repository, tag): (Repository, Tag) =
            ("compute/openfoam".parse().unwrap(), "v2312".parse().unwrap());
        let names = |names: &[ImageName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(file_of(&repository, &tag).unwrap().as_str(), "compute/openfoam_v2312.sif");
        assert_eq!(file_of(&repository, &Tag::latest()).unwrap().as_str(), "compute/openfoam.sif");
        assert_eq!(names(&files_of(&repository, &tag)), ["compute/openfoam_v2312.sif"]);
        assert_eq!(
            names(&files_of(&repository, &Tag::latest())),
            ["compute/openfoam_latest.sif", "compute/openfoam.sif"]
        );
    }

    #[test]
    fn several_pairs_of_repository_and_tag_would_make_the_same_file() {
        let pairs = |name: &str| {
            let pairs = pairs_of(&name.parse().unwrap());
            pairs.iter().map(|(repository, tag)| format!("{repository}:{tag}")).collect::<Vec<_>>()
        };
        let expected = ["a_b/openfoam:dev_v1", "a_b/openfoam_dev:v1", "a_b/openfoam_dev_v1:latest"];
        assert_eq!(pairs("a_b/openfoam_dev_v1.sif"), expected);
        assert_eq!(pairs("x__y.sif"), ["x:_y", "x__y:latest"]);
        assert_eq!(pairs("x_latest.sif"), ["x_latest:latest"]);
        assert_eq!(pairs("X_V1.sif"), Vec::<String>::new());
        assert_eq!(pairs("x_v1.img"), Vec::<String>::new());
    }

    #[test]
    fn a_file_is_a_repository_by_its_stem() {
        let of = |name: &str| Repository::of(&name.parse().unwrap()).map(|repository| repository.to_string());
        assert_eq!(of("compute/OpenFOAM_v2312.sif").as_deref(), Some("compute/openfoam_v2312"));
        assert_eq!(of("a.img"), None);
        assert_eq!(of("한글.sif"), None);
        assert_eq!(of("a b.sif"), None);
    }
}
