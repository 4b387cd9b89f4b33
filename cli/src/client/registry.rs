//! The coordinator as a registry: manifests and blobs, and errors in the form of the OCI distribution specification 1.1.

use std::io::{self, Read, Write};

use serde::Deserialize;
use sifleet_common::api::problem::Problem;
use ureq::http::header;

use super::{Client, ClientError, MAX_PROBLEM, SILENCE, Target};

/// Kinds of manifests: what a registry is not asked for, it may refuse.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
/// Longest manifest, in bytes, as the specification has it.
const MAX_MANIFEST: u64 = 4 * 1024 * 1024;
/// How many bytes are read at once: few enough to stay in the processor's cache.
const PIECE: usize = 256 * 1024;

/// Says why the bytes of an image did not all come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    /// They were not given.
    #[error(transparent)]
    Refused(#[from] ClientError),
    /// They stopped coming.
    #[error("{url} broke off after {bytes} bytes")]
    Broken {
        /// What was read.
        url: String,
        /// How far it came.
        bytes: u64,
        /// Why.
        source: io::Error,
    },
    /// They cannot be kept.
    #[error("cannot write what {url} gave")]
    Written {
        /// What was read.
        url: String,
        /// Why.
        source: io::Error,
    },
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    code: String,
    #[serde(default)]
    message: String,
}

/// Understands an error of a registry as one of the API.
pub(super) fn problem(status: u16, text: &str) -> Option<Problem> {
    let error = serde_json::from_str::<Errors>(text).ok()?.errors.into_iter().next()?;
    Some(Problem {
        kind: "about:blank".to_owned(),
        title: error.code.clone(),
        status,
        code: error.code,
        detail: error.message,
        hint: None,
        candidates: Vec::new(),
        request_id: None,
    })
}

impl Client {
    /// Reads a manifest as it is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) fn manifest(&self, target: &Target) -> Result<String, ClientError> {
        let url = self.url(target);
        let mut response = Self::accepted(&url, self.signed(self.agent.get(&url), MANIFESTS).call())?;
        let text = response.body_mut().with_config().limit(MAX_MANIFEST).read_to_string();
        text.map_err(|source| ClientError::of_transport(&url, source))
    }

    /// Reads at most `limit` bytes of a blob into `into`; returns how many came. It may take as long as bytes come.
    ///
    /// # Errors
    /// [`DownloadError`]; some of the bytes may have been written.
    pub(crate) fn download(
        &self,
        target: &Target,
        limit: u64,
        into: &mut dyn Write,
    ) -> Result<u64, DownloadError> {
        let url = self.url(target);
        let request = self.signed(self.agent.get(&url), "*/*").header(header::ACCEPT_ENCODING, "identity");
        let sent = request.config().timeout_global(None).timeout_per_read(Some(SILENCE)).build().call();
        let mut from = Self::accepted(&url, sent)?.into_body().into_reader().take(limit);
        let (mut piece, mut bytes) = (vec![0; PIECE], 0_u64);
        loop {
            let read = match from.read(&mut piece) {
                Ok(0) => return Ok(bytes),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(DownloadError::Broken { url, bytes, source }),
            };
            let written = into.write_all(piece.get(..read).unwrap_or_default());
            written.map_err(|source| DownloadError::Written { url: url.clone(), source })?;
            bytes += u64::try_from(read).unwrap_or_default();
        }
    }

    /// Reads an error's text, bounded.
    pub(super) fn refusal(body: &mut ureq::Body) -> Option<String> {
        body.with_config().limit(MAX_PROBLEM).read_to_string().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_registry_is_told_like_any_other() {
        let text = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such repository","detail":{}}]}"#;
        let problem = problem(404, text).unwrap();
        assert_eq!((problem.code.as_str(), problem.detail.as_str()), ("NAME_UNKNOWN", "no such repository"));
        for odd in ["", "{}", r#"{"errors":[]}"#, r#"{"errors":[{"message":"x"}]}"#] {
            assert!(super::problem(404, odd).is_none(), "{odd}");
        }
    }
}
