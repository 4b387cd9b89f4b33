//! How a registry asks who we are, and who may be told. Pure.
//!
//! A registry may name any service as the one that makes its tokens. Credentials go to the registry itself, and to a service on
//! another host only if whoever stored them named it; everybody else is asked as a stranger, which is what public images need.
//! Outside facts: RFC 9110 section 11, the token protocol of the CNCF Distribution project.

use axum::http::header::{InvalidHeaderValue, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sifleet_common::api::registries::RegistryAuth;
use url::Url;

use super::address::Origin;
use crate::store::registry::Credentials;

/// Longest challenge that is read, in bytes.
const MAX_CHALLENGE: usize = 8 * 1024;
/// Longest answer of a service that makes tokens, in bytes.
pub const MAX_TOKEN_ANSWER: usize = 64 * 1024;
/// Longest token, in bytes.
const MAX_TOKEN: usize = 32 * 1024;

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A name and a password.
    Basic,
    /// A token, and where it is made.
    Bearer {
        /// The address of the service.
        realm: String,
        /// What it is to be told.
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads what the headers of an answer ask for; a token rather than a password.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let mut basic = None;
        for text in texts.filter(|text| text.len() <= MAX_CHALLENGE) {
            for challenge in http_auth::parse_challenges(text).unwrap_or_default() {
                let parameter = |wanted: &str| {
                    let found = challenge.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                    found.map(|(_, value)| value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("bearer")
                    && let Some(realm) = parameter("realm")
                {
                    return Some(Self::Bearer { realm, service: parameter("service") });
                }
                if challenge.scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Self::Basic);
                }
            }
        }
        basic
    }

    /// Returns its name.
    #[must_use]
    pub const fn kind(&self) -> RegistryAuth {
        match self {
            Self::Basic => RegistryAuth::Basic,
            Self::Bearer { .. } => RegistryAuth::Bearer,
        }
    }
}

/// Tells whether somebody may be told the credentials of a registry.
#[must_use]
pub fn may_see(credentials: &Credentials, registry: &Origin, asking: &Origin) -> bool {
    let meant_for = registry.to_string() == credentials.origin;
    let named = || credentials.realm.as_deref() == Some(asking.to_string().as_str());
    meant_for && asking.is_secure() && (asking == registry || named())
}

/// Says where to ask for a token that lets us read a repository.
///
/// # Errors
/// What is wrong with the service that the registry names.
pub fn token_url(
    registry: &Origin,
    (realm, service): (&str, Option<&str>),
    repository: &str,
) -> Result<(Origin, String), String> {
    let (origin, mut url): (Origin, Url) = Origin::of_url(realm)
        .map_err(|error| format!("the registry has its tokens made at {realm:.80}: {error}"))?;
    if registry.is_secure() && !origin.is_secure() {
        return Err(format!("the registry has its tokens made at {origin}, which is not encrypted"));
    }
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", &format!("repository:{repository}:pull"));
    }
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    Ok((origin, format!("{}{query}", url.path())))
}

/// Reads the token out of a service's answer.
#[must_use]
pub fn token(answer: &[u8]) -> Option<HeaderValue> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let token =
        answer.token.or(answer.access_token).filter(|token| (1..=MAX_TOKEN).contains(&token.len()))?;
    secret(&format!("Bearer {token}")).ok()
}

/// Writes credentials as a header.
#[must_use]
pub fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let both = format!("{}:{}", credentials.username, credentials.password);
    secret(&format!("Basic {}", STANDARD.encode(both))).ok()
}

/// A header that nobody logs.
fn secret(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::try_from(text)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::read(&headers)
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
        };
        let hub = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="a,b""#;
        assert_eq!(read(&[hub]), bearer("https://auth.example/token", Some("registry.example")));
        assert_eq!(read(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        assert_eq!(read(&["Basic realm=\"x\"", "bearer Realm=\"https://y\""]), bearer("https://y", None));
        for other in
            [&[][..], &["Negotiate"], &["Bearer"], &["=,\"\"=="], &["Digest realm=\"a\", nonce=\"b\""]]
        {
            assert_eq!(read(other), None, "{other:?}");
        }
    }

    #[test]
    fn credentials_are_told_to_nobody_but_their_own_host_and_the_one_that_was_named() {
        let origin = |text: &str| text.parse::<Origin>().unwrap();
        let mut credentials = Credentials {
            username: "robot".to_owned(),
            password: "secret".to_owned(),
            origin: "https://r.example".to_owned(),
            realm: None,
        };
        let registry = origin("https://r.example");
        for (asking, may) in [
            ("https://r.example", true),
            ("http://r.example", false),
            ("https://r.example:444", false),
            ("https://auth.example", false),
            ("https://r.example.evil", false),
            ("https://sub.r.example", false),
        ] {
            assert_eq!(may_see(&credentials, &registry, &origin(asking)), may, "{asking}");
        }
        credentials.realm = Some("https://auth.example".to_owned());
        assert!(may_see(&credentials, &registry, &origin("https://auth.example")));
        assert!(!may_see(&credentials, &registry, &origin("http://auth.example")));
        // A registry that moved takes nothing along.
        let moved = origin("https://evil.example");
        assert!(!may_see(&credentials, &moved, &moved));
        assert!(!may_see(&credentials, &moved, &origin("https://auth.example")));
    }

    #[test]
    fn a_token_is_asked_for_where_the_registry_says_but_never_more_openly_than_the_registry() {
        let registry: Origin = "https://r.example".parse().unwrap();
        let asked = token_url(&registry, ("https://auth.example/token?x=1", Some("a b&c")), "lib/a").unwrap();
        assert_eq!(asked.0.to_string(), "https://auth.example");
        assert_eq!(asked.1, "/token?x=1&service=a+b%26c&scope=repository%3Alib%2Fa%3Apull");
        for realm in
            ["http://auth.example/token", "file:///etc/passwd", "/token", "https://u:p@auth.example/"]
        {
            assert!(token_url(&registry, (realm, None), "a").is_err(), "{realm}");
        }
    }

    #[test]
    fn tokens_are_read_and_what_is_none_is_not() {
        assert_eq!(token(br#"{"token":"abc"}"#).unwrap().to_str().unwrap(), "Bearer abc");
        assert_eq!(
            token(br#"{"access_token":"abc","expires_in":300}"#).unwrap().to_str().unwrap(),
            "Bearer abc"
        );
        for answer in [&b"{}"[..], b"", b"[]", br#"{"token":""}"#, br#"{"token":"a\nb"}"#, br#"{"token":1}"#]
        {
            assert!(token(answer).is_none(), "{}", String::from_utf8_lossy(answer));
        }
    }
}
