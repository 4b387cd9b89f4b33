//! Which end-point a path below `/v2/` means. Names of repositories hold slashes, so that paths are read from their end.

use crate::oci::digest::OciDigest;
use crate::oci::error::OciError;
use crate::oci::name::Repository;

/// What a path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// `_catalog`
    Catalog,
    /// `NAME/tags/list`
    Tags(Repository),
    /// `NAME/manifests/REFERENCE`, the reference as it was written: what is wrong with it depends on the method.
    Manifest(Repository, String),
    /// `NAME/blobs/DIGEST`
    Blob(Repository, OciDigest),
    /// `NAME/blobs/uploads/`
    Uploads(Repository),
    /// `NAME/blobs/uploads/ID`
    Upload(Repository, String),
    /// `NAME/referrers/DIGEST`
    Referrers(Repository, OciDigest),
}

/// Reads a path, decoded, from behind `/v2/` on; none where nothing is.
///
/// # Errors
/// [`OciError::BadName`], [`OciError::BadDigest`].
pub(super) fn read(path: &str) -> Result<Option<Asked>, OciError> {
    if path == "_catalog" {
        return Ok(Some(Asked::Catalog));
    }
    if let Some(name) = path.strip_suffix("/tags/list") {
        return name.parse().map(Asked::Tags).map(Some);
    }
    if let Some(name) = path.strip_suffix("/blobs/uploads").or_else(|| path.strip_suffix("/blobs/uploads/")) {
        return name.parse().map(Asked::Uploads).map(Some);
    }
    let Some((before, last)) = path.rsplit_once('/').filter(|(_, last)| !last.is_empty()) else {
        return Ok(None);
    };
    if let Some(name) = before.strip_suffix("/blobs/uploads") {
        return Ok(Some(Asked::Upload(name.parse()?, last.to_owned())));
    }
    if let Some(name) = before.strip_suffix("/manifests") {
        return Ok(Some(Asked::Manifest(name.parse()?, last.to_owned())));
    }
    if let Some(name) = before.strip_suffix("/blobs") {
        return Ok(Some(Asked::Blob(name.parse()?, last.parse()?)));
    }
    match before.strip_suffix("/referrers") {
        Some(name) => Ok(Some(Asked::Referrers(name.parse()?, last.parse()?))),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;

    fn check(path: &str, asked: Asked) {
        assert_eq!(read(path).unwrap(), Some(asked), "{path}");
    }

    #[test]
    fn names_may_hold_the_words_of_paths() {
        let (a, odd): (Repository, Repository) = ("a".parse().unwrap(), "a/blobs/tags/list".parse().unwrap());
        let digest = Algorithm::Sha256.of(b"");
        check("_catalog", Asked::Catalog);
        check("a/tags/list", Asked::Tags(a.clone()));
        check("a/blobs/tags/list/tags/list", Asked::Tags(odd.clone()));
        check("a/manifests/v1", Asked::Manifest(a.clone(), "v1".to_owned()));
        check("a/blobs/tags/list/manifests/v1", Asked::Manifest(odd, "v1".to_owned()));
        check(&format!("a/blobs/{digest}"), Asked::Blob(a.clone(), digest.clone()));
        check("a/blobs/uploads/", Asked::Uploads(a.clone()));
        check("a/blobs/uploads", Asked::Uploads(a.clone()));
        check("a/blobs/uploads/x", Asked::Upload(a.clone(), "x".to_owned()));
        check(&format!("a/referrers/{digest}"), Asked::Referrers(a, digest));
    }

    #[test]
    fn elsewhere_is_nothing_and_bad_names_are_told() {
        for nothing in ["", "a", "a/b", "manifests/x/", "a/tags/lists"] {
            assert_eq!(read(nothing).unwrap(), None, "{nothing}");
        }
        assert!(matches!(read("A/tags/list"), Err(OciError::BadName { .. })));
        assert!(matches!(read("../etc/tags/list"), Err(OciError::BadName { .. })));
        assert!(matches!(read("a/blobs/sha256:x"), Err(OciError::BadDigest { .. })));
    }
}
