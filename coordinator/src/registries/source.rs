//! One registry that is read from: signs in where it has to, asks for manifests and for bytes of blobs.
//!
//! Of redirects only those of blobs are followed, as registries that keep theirs elsewhere need it: a few, each looked at like any
//! other address, and without anything that says who we are.
//! Outside facts: OCI distribution specification 1.1, end-2 and end-3; RFC 9110 section 14 (ranges).

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use url::Url;

use super::address::Origin;
use super::auth::{self, Challenge};
use super::outside::{Outside, Reply, Trouble};
use super::reference::{ACCEPT, MAX_MANIFEST, Manifest, Reference, Which, manifest};
use crate::library::Sha256;
use crate::store::registry::{Credentials, RegistryRecord};

/// Most redirects of one blob that are followed.
const MAX_REDIRECTS: usize = 3;
/// Most of what a stranger said that is repeated.
const MAX_SAID: usize = 120;

/// Says why a registry does not give an image.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It could not be asked.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// It does not let us in.
    #[error("{host} does not let us read {what}: {detail}")]
    Denied {
        /// Who.
        host: String,
        /// What.
        what: String,
        /// Why, as far as we know.
        detail: &'static str,
    },
    /// It has not got it.
    #[error("{host} has no {what}")]
    Absent {
        /// Who.
        host: String,
        /// What.
        what: String,
    },
    /// It answered otherwise than a registry should.
    #[error("{host} answered wrongly: {detail}")]
    Odd {
        /// Who.
        host: String,
        /// How.
        detail: String,
    },
    /// What it has is not what can be brought in.
    #[error("{what} cannot be brought into the library: {reason}")]
    NotASif {
        /// Which image.
        what: String,
        /// Why.
        reason: &'static str,
    },
}

impl SourceError {
    /// Returns the stable word for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Trouble(trouble) => trouble.word(),
            Self::Denied { .. } => "registry_denied",
            Self::Absent { .. } => "registry_has_none",
            Self::Odd { .. } => "registry_odd",
            Self::NotASif { .. } => "not_a_sif",
        }
    }

    /// Tells whether another attempt may go better.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Trouble(trouble) => trouble.may_pass(),
            Self::Odd { .. } => true,
            Self::Denied { .. } | Self::Absent { .. } | Self::NotASif { .. } => false,
        }
    }
}

/// A registry that is read from.
pub struct Source {
    outside: Outside,
    origin: Origin,
    reference: Reference,
    credentials: Option<Credentials>,
    /// What it wants to see with each request, once it has said so.
    pass: Option<HeaderValue>,
}

impl Source {
    /// Takes a registry of the catalogue and the image that is wanted.
    ///
    /// # Errors
    /// [`SourceError::Odd`] where the registry has no address any more.
    pub fn new(outside: Outside, record: &RegistryRecord, reference: Reference) -> Result<Self, SourceError> {
        let odd =
            |_changed| SourceError::Odd { host: record.name.clone(), detail: "it has no address".to_owned() };
        let origin = record.public_url.parse().map_err(odd)?;
        Ok(Self { outside, origin, reference, credentials: record.credentials.clone(), pass: None })
    }

    /// Shows the registry this before it asks for anything, unless whoever listens on the way would see it.
    #[must_use]
    pub fn showing(mut self, pass: Option<HeaderValue>) -> Self {
        self.pass = pass.filter(|_| self.origin.is_secure());
        self
    }

    /// Finds out which bytes the image has.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn resolve(&mut self) -> Result<(Sha256, u64), SourceError> {
        let mut which = self.reference.which.clone();
        // An index, and the manifest that it names.
        for _ in 0..2 {
            let bytes = self.manifest(&which).await?;
            if let Which::Digest(wanted) = &which
                && Sha256::of(&bytes) != *wanted
            {
                return Err(self.odd(&format!("the manifest it gave is not {wanted}")));
            }
            match manifest(&bytes) {
                Ok(Manifest::Layer { digest, size }) => return Ok((digest, size)),
                Ok(Manifest::Other(digest)) => which = Which::Digest(digest),
                Err(reason) => return Err(SourceError::NotASif { what: self.reference.to_string(), reason }),
            }
        }
        Err(SourceError::NotASif {
            what: self.reference.to_string(),
            reason: "its index names another index",
        })
    }

    async fn manifest(&mut self, which: &Which) -> Result<Vec<u8>, SourceError> {
        let target = format!("/v2/{}/manifests/{which}", self.reference.repository);
        let accept = [(header::ACCEPT, HeaderValue::from_static(ACCEPT))];
        let reply = self.ask(&target, &accept).await?;
        let what = format!("{} of {}", which, self.reference.repository);
        let reply = self.good(reply, &[StatusCode::OK], &what)?;
        Ok(reply.whole(MAX_MANIFEST).await?)
    }

    /// Asks for a blob from an offset on; returns the answer and the offset at which it begins, which is the same or 0.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn blob(&mut self, digest: Sha256, offset: u64) -> Result<(Reply, u64), SourceError> {
        let target = format!("/v2/{}/blobs/{digest}", self.reference.repository);
        let range =
            HeaderValue::try_from(format!("bytes={offset}-")).unwrap_or(HeaderValue::from_static("bytes=0-"));
        // A blob that is compressed on the way has no offsets.
        let identity = (header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let headers: Vec<_> =
            Some((header::RANGE, range)).filter(|_| offset > 0).into_iter().chain([identity]).collect();
        let mut reply = self.ask(&target, &headers).await?;
        let mut place = (self.origin.clone(), target);
        for _ in 0..MAX_REDIRECTS {
            if !reply.status.is_redirection() {
                break;
            }
            place = self.redirected(&place, &reply)?;
            reply = self.outside.get(&place.0, &place.1, &headers).await?;
        }
        let what = format!("blob {digest}");
        let reply = self.good(reply, &[StatusCode::OK, StatusCode::PARTIAL_CONTENT], &what)?;
        if reply.status == StatusCode::OK {
            return Ok((reply, 0));
        }
        let begins = reply
            .header(&header::CONTENT_RANGE)
            .and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
        match begins.filter(|begins| *begins == offset && offset > 0) {
            Some(begins) => Ok((reply, begins)),
            None => Err(self.odd("it gave other bytes of the blob than it was asked for")),
        }
    }

    /// Finds out where an answer points to. What was encrypted stays so.
    fn redirected(&self, from: &(Origin, String), reply: &Reply) -> Result<(Origin, String), SourceError> {
        let odd = |detail: &str| self.odd(&format!("it sent us elsewhere, {detail}"));
        let location = reply.header(&header::LOCATION).ok_or_else(|| odd("but not where"))?;
        let base = Url::parse(&format!("{}{}", from.0, from.1)).map_err(|_no_url| odd("but not where"))?;
        let url = base.join(location).map_err(|_no_url| odd("to no address"))?;
        let (origin, url) = Origin::of_url(url.as_str()).map_err(|error| odd(&error.to_string()))?;
        if from.0.is_secure() && !origin.is_secure() {
            return Err(odd("where nothing is encrypted"));
        }
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok((origin, format!("{}{query}", url.path())))
    }

    /// Asks the registry itself, and signs in once if it wants that.
    async fn ask(
        &mut self,
        target: &str,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Reply, SourceError> {
        let reply = self.outside.get(&self.origin, target, &self.with_pass(headers)).await?;
        if reply.status != StatusCode::UNAUTHORIZED {
            return Ok(reply);
        }
        let Some(challenge) = Challenge::read(&reply.headers) else { return Ok(reply) };
        drop(reply);
        self.pass = self.sign_in(&challenge).await?;
        Ok(self.outside.get(&self.origin, target, &self.with_pass(headers)).await?)
    }

    fn with_pass(&self, headers: &[(HeaderName, HeaderValue)]) -> Vec<(HeaderName, HeaderValue)> {
        let pass = self.pass.clone().map(|pass| (header::AUTHORIZATION, pass));
        headers.iter().cloned().chain(pass).collect()
    }

    async fn sign_in(&self, challenge: &Challenge) -> Result<Option<HeaderValue>, SourceError> {
        let told = |asking: &Origin| {
            let own = self.credentials.as_ref().filter(|own| auth::may_see(own, &self.origin, asking));
            own.and_then(auth::basic)
        };
        let (realm, service) = match challenge {
            Challenge::Basic => return Ok(told(&self.origin)),
            Challenge::Bearer { realm, service } => (realm.as_str(), service.as_deref()),
        };
        let asked = auth::token_url(&self.origin, (realm, service), &self.reference.repository);
        let (origin, target) = asked.map_err(|detail| self.odd(&detail))?;
        let headers: Vec<_> = told(&origin).map(|own| (header::AUTHORIZATION, own)).into_iter().collect();
        let reply = self.outside.get(&origin, &target, &headers).await?;
        if reply.status != StatusCode::OK {
            let detail = match (&self.credentials, headers.is_empty()) {
                (Some(_), true) => {
                    "its tokens are made on another host, to which the credentials are not sent; name it as realm"
                }
                (Some(_), false) => "the credentials are not good there",
                (None, _) => "it wants credentials, and there are none for it in the catalogue",
            };
            return Err(self.denied(detail));
        }
        let answer = reply.whole(auth::MAX_TOKEN_ANSWER).await?;
        let token = auth::token(&answer).ok_or_else(|| self.odd(&format!("{origin} made no token")))?;
        Ok(Some(token))
    }

    /// Tells good answers from others.
    fn good(&self, reply: Reply, wanted: &[StatusCode], what: &str) -> Result<Reply, SourceError> {
        let host = self.origin.authority();
        match reply.status {
            status if wanted.contains(&status) => Ok(reply),
            StatusCode::NOT_FOUND => Err(SourceError::Absent { host, what: what.to_owned() }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.denied(match self.credentials {
                Some(_) => "the credentials are not good for it",
                None => "it wants credentials, and there are none for it in the catalogue",
            })),
            status => Err(self.odd(&format!("{status} when asked for {what}"))),
        }
    }

    fn denied(&self, detail: &'static str) -> SourceError {
        SourceError::Denied { host: self.origin.authority(), what: self.reference.repository.clone(), detail }
    }

    fn odd(&self, detail: &str) -> SourceError {
        let detail = detail.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect();
        SourceError::Odd { host: self.origin.authority(), detail }
    }
}
