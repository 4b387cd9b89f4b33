//! By which names the API may be asked, and from which web pages.
//!
//! A browser carries out the requests of any page that somebody reads, also to this machine and to the cluster's
//! network. Two things give such a page away: the name it was told to ask (`Host`), if its owner let a name of his own
//! point at us, and where it comes from (`Origin`, `Sec-Fetch-Site`). Programs send neither, or a name of ours.
//! Outside facts: RFC 9110 section 7.2 (Host), RFC 6454 (Origin), the W3C's Fetch Metadata Request Headers.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, Method, header};

use super::problem::{ApiError, cut};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names by which the API may be asked, besides those of loopback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// The address that is listened on; an unspecified one stands for every address.
    pub listen: Option<IpAddr>,
    /// Names, in lower case; one that begins with `*.` stands for every name with one label more.
    pub names: Vec<String>,
}

impl Hosts {
    /// Refuses what no caller of ours would send. A request without a Host comes from no browser. What a page elsewhere
    /// has a browser send is taken only if it reads what is public.
    pub(super) fn admit(&self, request: &Request, public: bool) -> Result<(), ApiError> {
        let headers = request.headers();
        let host = match request.uri().authority() {
            Some(authority) => Some(authority.as_str()),
            None => text(headers, &header::HOST)?,
        };
        if let Some(host) = host
            && !self.is_ours(name_of(host))
        {
            return Err(ApiError::BadHost { host: cut(host) });
        }
        if public && matches!(*request.method(), Method::GET | Method::HEAD) {
            Ok(())
        } else {
            same_site(headers, host)
        }
    }

    fn is_ours(&self, name: &str) -> bool {
        match name.parse::<IpAddr>() {
            Ok(address) => self.is_our_address(address) || self.names.iter().any(|ours| ours == name),
            Err(_) => {
                name.eq_ignore_ascii_case("localhost") || self.names.iter().any(|ours| covers(ours, name))
            }
        }
    }

    fn is_our_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let listens = |listen: IpAddr| listen.is_unspecified() || listen.to_canonical() == address;
        address.is_loopback() || self.listen.is_some_and(listens)
    }
}

/// Takes the port off, and the brackets of an IPv6 address.
fn name_of(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or(host, |(address, _)| address);
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name)
}

fn covers(ours: &str, name: &str) -> bool {
    match ours.strip_prefix('*') {
        Some(parent) => name.find('.').is_some_and(|dot| dot > 0 && name[dot..].eq_ignore_ascii_case(parent)),
        None => ours.eq_ignore_ascii_case(name),
    }
}

/// Refuses what another page than one of ours had a browser send.
fn same_site(headers: &HeaderMap, host: Option<&str>) -> Result<(), ApiError> {
    if let Some(origin) = text(headers, &header::ORIGIN)? {
        let asked = origin.split_once("://").map(|(_, authority)| authority);
        if asked.is_none() || !asked.zip(host).is_some_and(|(asked, host)| asked.eq_ignore_ascii_case(host)) {
            return Err(ApiError::CrossSite { from: cut(origin) });
        }
    }
    match text(headers, &SEC_FETCH_SITE)? {
        None | Some("same-origin" | "none") => Ok(()),
        Some(site) => Err(ApiError::CrossSite { from: cut(site) }),
    }
}

/// Reads a header that may be there once, in ASCII.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let (value, more) = (values.next(), values.next());
    let text = value.map(|value| value.to_str().unwrap_or_default());
    if more.is_some() || text == Some("") {
        return Err(ApiError::BadHost { host: cut(text.unwrap_or_default()) });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::super::problem::Code;
    use super::*;

    fn hosts() -> Hosts {
        let names = ["head01.cluster", "*.example.org", "2001:db8::7"];
        Hosts { listen: Some([10, 0, 0, 1].into()), names: names.map(str::to_owned).into() }
    }

    fn check(method: Method, headers: &[(&str, &str)], refused: Option<Code>) {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let admitted = hosts().admit(&request.body(Body::empty()).unwrap(), true);
        assert_eq!(admitted.map_err(|error| error.code()).err(), refused, "{headers:?}");
    }

    #[test]
    fn only_our_own_names_are_asked_for() {
        for host in [
            "localhost",
            "LocalHost:7440",
            "127.0.0.1:7440",
            "127.9.9.9",
            "[::1]:7440",
            "[::ffff:127.0.0.1]:1",
            "10.0.0.1:7440",
            "head01.cluster",
            "HEAD01.cluster.:7440",
            "api.example.org",
            "[2001:db8::7]:7440",
        ] {
            check(Method::GET, &[("host", host)], None);
        }
        for host in [
            "",
            "evil.example",
            "10.0.0.2",
            "head01.cluster.evil.example",
            "localhost.evil.example",
            "example.org",
            ".example.org",
            "a.b.example.org",
            "[::2]",
            "[::1",
            "head01",
        ] {
            check(Method::GET, &[("host", host)], Some(Code::BadHost));
        }
        check(Method::GET, &[], None);
        check(Method::GET, &[("host", "localhost"), ("host", "evil.example")], Some(Code::BadHost));
        let absolute = Request::get("http://evil.example/").header("host", "localhost").body(Body::empty());
        assert!(hosts().admit(&absolute.unwrap(), true).is_err());
        let everywhere = Hosts { listen: Some([0, 0, 0, 0].into()), names: Vec::new() };
        assert!(everywhere.is_ours("10.0.0.2") && !everywhere.is_ours("evil.example"));
    }

    #[test]
    fn what_changes_something_is_taken_from_no_foreign_page() {
        let host = ("host", "head01.cluster:7440");
        for headers in [
            vec![host],
            vec![host, ("origin", "https://head01.cluster:7440")],
            vec![host, ("origin", "https://HEAD01.cluster:7440"), ("sec-fetch-site", "same-origin")],
            vec![host, ("sec-fetch-site", "none")],
        ] {
            check(Method::POST, &headers, None);
        }
        for foreign in [
            ("origin", "https://evil.example"),
            ("origin", "https://head01.cluster"),
            ("origin", "https://head01.cluster:7440.evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
                check(method, &[host, foreign], Some(Code::CrossSite));
            }
            check(Method::GET, &[host, foreign], None);
            let private = Request::get("/").header(host.0, host.1).header(foreign.0, foreign.1);
            let admitted = hosts().admit(&private.body(Body::empty()).unwrap(), false);
            assert!(matches!(admitted, Err(ApiError::CrossSite { .. })), "{foreign:?}");
        }
        check(Method::POST, &[("origin", "https://head01.cluster")], Some(Code::CrossSite));
    }
}
