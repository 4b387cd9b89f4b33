//! Which request needs which role, and who gets past.
//!
//! A route says its needs where it is mounted, each method its own, and cannot be mounted without; what is said is written
//! into the OpenAPI document, and a method that is served but not said lets nobody pass. Who asks is the business of
//! [`crate::access`].
//! Outside facts: RFC 6750 (bearer tokens), RFC 7617 (Basic), RFC 9110 section 11.6 (WWW-Authenticate).

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use base64::Engine as _;
use sifleet_common::role::Role;
use sifleet_common::time::Now;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::SecurityRequirement;

use super::App;
use super::problem::{ApiError, Code, describe};
use crate::access::tokens::Unfit;
use crate::access::{Access, Caller, Peer, Refused, Who};

/// How the document calls what bearers of tokens send.
pub(super) const SCHEME: &str = "token";

/// Whom a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// Anybody.
    Public,
    /// Somebody with this role, or a higher one.
    Role(Role),
    /// Nobody gets past: nothing was said.
    Nobody,
}

/// Reads.
pub(super) const VIEWER: Need = Need::Role(Role::Viewer);
/// Changes what is where.
pub(super) const OPERATOR: Need = Need::Role(Role::Operator);
/// Changes who may do what, and how much.
pub(super) const ADMIN: Need = Need::Role(Role::Admin);

/// What the methods of one path need.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Needs {
    get: Option<Need>,
    post: Option<Need>,
    put: Option<Need>,
    patch: Option<Need>,
    delete: Option<Need>,
    /// Whether requests alike share a record of the audit.
    pub(super) counted: bool,
}

const NOTHING: Needs = Needs { get: None, post: None, put: None, patch: None, delete: None, counted: false };

/// Says what reading a path needs.
pub(super) const fn get(need: Need) -> Needs {
    Needs { get: Some(need), ..NOTHING }
}

/// Says what posting to a path needs.
pub(super) const fn post(need: Need) -> Needs {
    Needs { post: Some(need), ..NOTHING }
}

/// Says what deleting a path needs.
pub(super) const fn delete(need: Need) -> Needs {
    Needs { delete: Some(need), ..NOTHING }
}

impl Needs {
    /// And posting to it.
    pub(super) const fn post(self, need: Need) -> Self {
        Self { post: Some(need), ..self }
    }

    /// And putting something there.
    pub(super) const fn put(self, need: Need) -> Self {
        Self { put: Some(need), ..self }
    }

    /// And changing it.
    pub(super) const fn patch(self, need: Need) -> Self {
        Self { patch: Some(need), ..self }
    }

    /// And deleting it.
    pub(super) const fn delete(self, need: Need) -> Self {
        Self { delete: Some(need), ..self }
    }

    /// Counts requests that are alike as one in the audit: they are the pieces of one thing.
    pub(super) const fn counted(self) -> Self {
        Self { counted: true, ..self }
    }

    /// Tells what a method needs. One that the path does not take needs what the least of the others does: who may
    /// nothing there does not learn what there is.
    pub(super) fn of(&self, method: &Method) -> Need {
        let said = match *method {
            Method::GET | Method::HEAD => self.get,
            Method::POST => self.post,
            Method::PUT => self.put,
            Method::PATCH => self.patch,
            Method::DELETE => self.delete,
            _ => None,
        };
        let all = [self.get, self.post, self.put, self.patch, self.delete];
        said.or_else(|| all.into_iter().flatten().min()).unwrap_or(Need::Nobody)
    }

    /// Shuts methods that are served and of which nothing was said, and writes down what was.
    pub(super) fn declare(mut self, item: &mut PathItem) -> Self {
        for (need, operation) in [
            (&mut self.get, &mut item.get),
            (&mut self.post, &mut item.post),
            (&mut self.put, &mut item.put),
            (&mut self.patch, &mut item.patch),
            (&mut self.delete, &mut item.delete),
        ] {
            if let Some(operation) = operation {
                document(operation, *need.get_or_insert(Need::Nobody));
            }
        }
        self
    }
}

/// Writes into the document what an operation needs, and what it answers to those who have not got it.
fn document(operation: &mut Operation, need: Need) {
    let (line, codes): (String, &[Code]) = match need {
        Need::Public => ("For everybody.".to_owned(), &[Code::TooManyRequests]),
        Need::Role(role) => (
            format!("Needs the role `{role}`."),
            &[Code::Unauthenticated, Code::CrossSite, Code::Forbidden, Code::TooManyRequests],
        ),
        Need::Nobody => ("For nobody.".to_owned(), &[]),
    };
    let text = operation.description.take().filter(|text| !text.is_empty());
    operation.description = Some(text.map_or(line.clone(), |text| format!("{text}\n\n{line}")));
    operation.responses.responses.extend(describe(codes));
    let token = SecurityRequirement::new::<_, [&str; 0], &str>(SCHEME, []);
    let security = if need == Need::Public { Vec::new() } else { vec![token] };
    operation.security = Some(security);
}

/// Who is turned away, as far as he is known, and why.
pub(super) type Turned = Box<(Caller, ApiError)>;

/// Tells who asks, and whether he may.
///
/// # Errors
/// The caller as far as he is known, and why he does not get past.
pub(super) fn pass(
    access: &Access,
    request: &Request,
    (need, by): (Need, Schemes),
    now: Now,
) -> Result<Caller, Turned> {
    let from = peer(request);
    let stranger = || access.without_token(peer(request));
    let borne = borne(request.headers(), by);
    let known = borne.and_then(|token| access.identify(token.as_deref(), from, now).map_err(why));
    let caller = match known {
        Ok(caller) => caller,
        // Whether the coordinator lives is told to whoever asks with a token that has expired, too.
        Err(ApiError::Unauthenticated { .. }) if need == Need::Public => return Ok(stranger()),
        Err(error) => return Err(Box::new((stranger(), error))),
    };
    match need {
        Need::Public => Ok(caller),
        Need::Role(role) if caller.role >= Some(role) => Ok(caller),
        Need::Role(need) => {
            let error = match caller.who {
                Who::Anonymous => ApiError::Unauthenticated { why: NO_TOKEN },
                Who::Token(_) | Who::User(_) => ApiError::Forbidden { need, has: caller.role },
            };
            Err(Box::new((caller, error)))
        }
        Need::Nobody => Err(Box::new((caller, ApiError::Shut))),
    }
}

/// Tells at which end of which connection a request came in.
pub(super) fn peer(request: &Request) -> Option<Peer> {
    request.extensions().get().cloned()
}

const NO_TOKEN: &str = "the request brings no token";

fn why(refused: Refused) -> ApiError {
    let why = match refused {
        Refused::TooOften { wait } => return ApiError::TooManyRequests { wait },
        Refused::Unfit(Unfit::Unknown) => "the token is none of this coordinator's",
        Refused::Unfit(Unfit::Expired) => "the token has expired",
        Refused::Unfit(Unfit::Revoked) => "the token was revoked",
    };
    ApiError::Unauthenticated { why }
}

/// In which ways a request may say who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schemes {
    /// As the bearer of a token.
    Bearer,
    /// With a token for a password as well, whatever the user is called: clients of registries have nothing else. A browser
    /// sends a password by itself once it knows it, which is why only their routes take any.
    BearerOrBasic,
}

/// Reads the token that a request bears, if any.
fn borne(headers: &HeaderMap, by: Schemes) -> Result<Option<Cow<'_, str>>, ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let why = match by {
        Schemes::Bearer => "the header Authorization is not one `Bearer` and a token",
        Schemes::BearerOrBasic => {
            "the header Authorization is not one `Basic` with a token for a password, nor one `Bearer`"
        }
    };
    let unread = || ApiError::Unauthenticated { why };
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(unread)?;
    let token = token.trim_start_matches(' ');
    if values.next().is_some() {
        return Err(unread());
    }
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(Cow::Borrowed(token)));
    }
    let basic = by == Schemes::BearerOrBasic && scheme.eq_ignore_ascii_case("basic");
    let password = Some(token).filter(|_| basic).and_then(password);
    // Some clients that were told nothing send a password all the same: none.
    let password = password.ok_or_else(unread)?;
    Ok(Some(password).filter(|password| !password.is_empty()).map(Cow::Owned))
}

/// Reads the password of `Basic` credentials.
fn password(credentials: &str) -> Option<String> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(credentials).ok()?;
    let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some(password.to_owned())
}

/// Whoever asks for a change, for what may become one, or for a stream, for handlers that look at him.
#[derive(Clone, Debug)]
pub(super) struct Asking(pub(super) Caller);

impl Asking {
    /// Refuses whoever has not got a role.
    pub(super) fn must_be(&self, need: Role) -> Result<(), ApiError> {
        let has = self.0.role;
        if has >= Some(need) { Ok(()) } else { Err(ApiError::Forbidden { need, has }) }
    }
}

impl FromRequestParts<Arc<App>> for Asking {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or(ApiError::Shut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_of_which_nothing_was_said_lets_nobody_pass() {
        let mut item = PathItem::default();
        item.get = Some(Operation::default());
        item.delete = Some(Operation::default());
        let needs = get(VIEWER).declare(&mut item);
        assert_eq!(needs.of(&Method::GET), VIEWER);
        assert_eq!(needs.of(&Method::HEAD), VIEWER);
        assert_eq!(needs.of(&Method::DELETE), Need::Nobody);
        assert_eq!(needs.of(&Method::OPTIONS), VIEWER);
        assert_eq!(Needs::default().of(&Method::GET), Need::Nobody);
    }

    #[test]
    fn each_method_needs_what_was_said_of_it() {
        let needs = get(VIEWER).post(OPERATOR).patch(ADMIN).delete(ADMIN);
        assert_eq!(get(VIEWER).put(OPERATOR).of(&Method::PUT), OPERATOR);
        for (method, need) in [
            (Method::HEAD, VIEWER),
            (Method::POST, OPERATOR),
            (Method::PATCH, ADMIN),
            (Method::DELETE, ADMIN),
            (Method::PUT, VIEWER),
        ] {
            assert_eq!(needs.of(&method), need, "{method}");
        }
        assert_eq!(post(OPERATOR).of(&Method::GET), OPERATOR);
        assert_eq!(delete(ADMIN).of(&Method::OPTIONS), ADMIN);
    }

    #[test]
    fn one_bearer_is_read_and_nothing_else() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            borne(&headers, Schemes::Bearer)
                .map(|token| token.map(Cow::into_owned))
                .map_err(|error| error.code())
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["Bearer x"]), Ok(Some("x".to_owned())));
        assert_eq!(read(&["bearer  x"]), Ok(Some("x".to_owned())));
        for bad in [&["x"][..], &["Basic eDp4"], &["Bearer x", "Bearer y"], &[""]] {
            assert_eq!(read(bad), Err(Code::Unauthenticated), "{bad:?}");
        }
    }

    #[test]
    fn a_token_for_a_password_is_read_where_registries_are_spoken() {
        let read = |value: &str, by| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            borne(&headers, by).map(|token| token.map(Cow::into_owned)).map_err(|error| error.code())
        };
        // ann:x:y
        assert_eq!(read("Basic YW5uOng6eQ==", Schemes::BearerOrBasic), Ok(Some("x:y".to_owned())));
        assert_eq!(read("Bearer x", Schemes::BearerOrBasic), Ok(Some("x".to_owned())));
        assert_eq!(read("Basic Og==", Schemes::BearerOrBasic), Ok(None), "skopeo without a password");
        for bad in ["Basic YW5u", "Basic ?", "Basic ", "Digest x"] {
            assert_eq!(read(bad, Schemes::BearerOrBasic), Err(Code::Unauthenticated), "{bad}");
        }
        assert_eq!(read("Basic YW5uOng6eQ==", Schemes::Bearer), Err(Code::Unauthenticated));
    }
}
