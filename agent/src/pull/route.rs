//! What a request asks for. Pure: method, host and path in, one of a few things out.

use hyper::Method;
use sifleet_common::wire::pull::{MAX_REFERENCE, MAX_REPOSITORY};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Whether this is a registry.
    Ping,
    /// A manifest.
    Manifest { repository: String, reference: String },
    /// Bytes.
    Blob { digest: String },
    /// Something that a registry may have, and this one has not.
    Elsewhere,
    /// No way of asking here.
    WrongMethod,
    /// A name that can be none.
    BadName,
    /// Somebody who thinks that this is another host: a page in a browser.
    WrongHost,
}

/// Finds out what is asked for.
pub(super) fn route(method: &Method, host: Option<&str>, path: &str) -> Route {
    if !host.is_some_and(is_local) {
        return Route::WrongHost;
    }
    let Some(rest) = path.strip_prefix("/v2/") else {
        return if path == "/v2" { Route::Ping } else { Route::Elsewhere };
    };
    if *method != Method::GET && *method != Method::HEAD {
        return Route::WrongMethod;
    }
    if rest.is_empty() {
        return Route::Ping;
    }
    let Some((above, last)) = rest.rsplit_once('/') else { return Route::Elsewhere };
    let Some((repository, kind)) = above.rsplit_once('/') else { return Route::Elsewhere };
    if !is_repository(repository) || !is_reference(last) {
        return Route::BadName;
    }
    match kind {
        "manifests" => Route::Manifest { repository: repository.to_owned(), reference: last.to_owned() },
        "blobs" => Route::Blob { digest: last.to_owned() },
        _ => Route::Elsewhere,
    }
}

/// Tells whether a host means this machine, whatever the port.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    matches!(name, "localhost" | "127.0.0.1" | "::1")
}

fn is_repository(text: &str) -> bool {
    let is_part = |part: &str| {
        part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
            && part.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
    };
    text.len() <= MAX_REPOSITORY && text.split('/').all(is_part)
}

fn is_reference(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':');
    (1..=MAX_REFERENCE).contains(&text.len()) && text.bytes().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Route {
        route(&Method::GET, Some("localhost:7443"), path)
    }

    #[test]
    fn names_with_slashes_are_found_between_the_words_of_the_path() {
        let manifest = |repository: &str, reference: &str| Route::Manifest {
            repository: repository.into(),
            reference: reference.into(),
        };
        assert_eq!(get("/v2/"), Route::Ping);
        assert_eq!(get("/v2"), Route::Ping);
        assert_eq!(get("/v2/compute/openfoam/manifests/v2312"), manifest("compute/openfoam", "v2312"));
        assert_eq!(get("/v2/a/manifests/sha256:00"), manifest("a", "sha256:00"));
        assert_eq!(get("/v2/manifests/blobs/blobs/sha256:00"), Route::Blob { digest: "sha256:00".into() });
    }

    #[test]
    fn what_is_no_name_is_told_from_what_is_not_here() {
        for path in
            ["/v2/A/manifests/latest", "/v2/../manifests/latest", "/v2//manifests/latest", "/v2/a/blobs/"]
        {
            assert_eq!(get(path), Route::BadName, "{path}");
        }
        let long = format!("/v2/{}/manifests/latest", "a/".repeat(200));
        assert_eq!(get(&long), Route::BadName);
        for path in ["/", "/v2/_catalog", "/v2/a/tags/list", "/v1/images"] {
            assert_eq!(get(path), Route::Elsewhere, "{path}");
        }
    }

    #[test]
    fn only_this_machine_is_meant_and_only_reading() {
        for host in ["localhost", "localhost:1", "127.0.0.1:7443", "[::1]:7443", "[::1]"] {
            assert_eq!(route(&Method::GET, Some(host), "/v2/"), Route::Ping, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:80", "127.0.0.1.nip.io", "[::2]:1", ""] {
            assert_eq!(route(&Method::GET, Some(host), "/v2/"), Route::WrongHost, "{host}");
        }
        assert_eq!(route(&Method::GET, None, "/v2/"), Route::WrongHost);
        assert_eq!(route(&Method::POST, Some("localhost"), "/v2/a/blobs/uploads"), Route::WrongMethod);
    }
}
