//! Getting a first certificate with a token, and another one when the last has run out.
//!
//! The private key is made here and never leaves the node. The coordinator is known by its authority's pin, or by the
//! authority that the node trusts already.

use std::error::Error;
use std::net::SocketAddr;

use quinn::{Connection, VarInt};
use rcgen::{CertificateParams, KeyPair};
use sifleet_common::name::NodeName;
use sifleet_common::quic::{self, QuicError};
use sifleet_common::tls::{Pin, Pinned, TlsError};
use sifleet_common::wire::enrol::{Answer, Ask, Certificates, ENROL_ALPN, Enrolment, Secret};
use sifleet_common::wire::frame::{FrameError, FrameReader, write_frame};

use crate::credentials::establish::Establishing;
use crate::credentials::{Credentials, CredentialsError};
use crate::session::{SessionError, link};
use crate::settings;

pub mod dials;

/// Says why a node has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The key could not be made.
    #[error("cannot make a key for this node")]
    Key {
        /// What the library said.
        #[source]
        source: rcgen::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// QUIC cannot be set up.
    #[error(transparent)]
    Quic(#[from] QuicError),
    /// The coordinator cannot be reached.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// It is not the one that the pin tells of.
    #[error(
        "{coordinator} shows {}, not {pin}; it was not given the token. `sifleet-coordinator ca pin` on the head node \
         prints the right --ca-pin; if that is yours, somebody else answers at this address",
        .instead.map_or_else(|| "no authority".to_owned(), |other| format!("the authority {other}"))
    )]
    OtherAuthority {
        /// As asked for.
        coordinator: String,
        /// Which one was expected.
        pin: Pin,
        /// Which one was shown, if any.
        instead: Option<Pin>,
    },
    /// The conversation broke.
    #[error("the coordinator at {address} broke off the enrolment")]
    Broken {
        /// Where.
        address: SocketAddr,
        /// How.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It said no.
    #[error("the coordinator refused: {reason}")]
    Refused {
        /// Why, in its words.
        reason: String,
    },
    /// What it sent cannot be used or kept.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// What a node enrols with.
#[derive(Clone, Debug)]
pub struct Request {
    /// The coordinator as `host:port`.
    pub coordinator: String,
    /// The token as text.
    pub token: Secret,
    /// Whom to believe.
    pub pin: Pin,
    /// What this node believes to be called; a token of another one is refused then.
    pub name: Option<NodeName>,
}

/// Enrols this node and writes its files; returns what it is called.
///
/// # Errors
/// [`EnrolError`]; nothing has changed, unless the disk failed at the very end. The token is used up only after the files
/// were found to be writable.
pub async fn enrol(request: Request, files: &settings::Tls) -> Result<NodeName, EnrolError> {
    let establishing = Establishing::begin(files)?;
    let key = KeyPair::generate().map_err(|source| EnrolError::Key { source })?;
    let signed = CertificateParams::default().serialize_request(&key);
    let signed = signed.map_err(|source| EnrolError::Key { source })?;
    let pinned = Pinned::new(request.pin);
    let config = quic::client(pinned.client_config(ENROL_ALPN)?)?;
    let ask =
        Ask::Enrol(Enrolment { token: request.token, request: signed.der().to_vec(), name: request.name });
    let (coordinator, pin) = (request.coordinator, request.pin);
    let granted = ask_for(&coordinator, &config, &ask).await.map_err(|error| match pinned.instead() {
        Some(instead) => EnrolError::OtherAuthority { coordinator, pin, instead },
        None => error,
    })?;
    establishing.end(&key.serialize_pem(), &granted)?;
    Ok(granted.node)
}

/// Renews a certificate that has run out.
///
/// # Errors
/// [`EnrolError`].
pub async fn renew(coordinator: &str, credentials: &Credentials) -> Result<(), EnrolError> {
    let config = quic::client(credentials.live().client_config(ENROL_ALPN)?)?;
    let granted = ask_for(coordinator, &config, &Ask::Renew).await?;
    Ok(credentials.take(&granted)?)
}

async fn ask_for(
    coordinator: &str,
    config: &quinn::ClientConfig,
    ask: &Ask,
) -> Result<Certificates, EnrolError> {
    let address = link::resolve(coordinator).await?;
    let (endpoint, connection) = link::dial(address, config).await?;
    let answered = tokio::time::timeout(link::DIAL_LIMIT * 2, exchange(&connection, ask)).await;
    connection.close(VarInt::from_u32(0), b"");
    drop(tokio::time::timeout(link::DIAL_LIMIT, endpoint.wait_idle()).await);
    let broken = |source| EnrolError::Broken { address, source };
    match answered {
        Ok(Ok(Some(Answer::Granted(certificates)))) if certificates.are_sound() => Ok(certificates),
        Ok(Ok(Some(Answer::Granted(_)))) => Err(broken("it sent certificates beyond their limits".into())),
        Ok(Ok(Some(Answer::Refused { reason }))) => Err(EnrolError::Refused { reason: link::shown(&reason) }),
        Ok(Ok(None)) => Err(broken("no answer".into())),
        Ok(Err(source)) => Err(broken(source)),
        Err(elapsed) => Err(broken(elapsed.into())),
    }
}

async fn exchange(
    connection: &Connection,
    ask: &Ask,
) -> Result<Option<Answer>, Box<dyn Error + Send + Sync>> {
    let (mut send, receive) = connection.open_bi().await?;
    write_frame(&mut send, ask).await?;
    let answer: Result<_, FrameError> = FrameReader::new(receive).next::<Answer>().await;
    Ok(answer?)
}
