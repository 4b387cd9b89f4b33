//! In which language whoever asks wants to read sentences.
//!
//! Outside facts: RFC 9110 section 12.5.4 (Accept-Language), RFC 4647 section 3.4 (lookup by the first subtag).

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::extract::Json;
use crate::words::Language;

/// Longest header that is read, in bytes: browsers send some fifty.
const MAX_HEADER: usize = 1_024;

/// The language that is wanted most of those we have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted(pub(super) Language);

impl<S: Sync> FromRequestParts<S> for Wanted {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let values = parts.headers.get_all(header::ACCEPT_LANGUAGE).iter();
        let written: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        Ok(Self(best(&written.join(","))))
    }
}

/// An answer with sentences, and the language they are in.
pub(super) struct Told<T>(pub(super) Language, pub(super) T);

impl<T: Serialize> IntoResponse for Told<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.1).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(self.0.tag()));
        headers.insert(header::VARY, HeaderValue::from_static("accept-language"));
        response
    }
}

/// Chooses the language with the highest weight, the first of those alike; English where none of ours is wanted.
fn best(header: &str) -> Language {
    let header = header.get(..header.floor_char_boundary(MAX_HEADER)).unwrap_or_default();
    let mut best = (0, Language::default());
    for range in header.split(',') {
        let (tag, parameters) = range.split_once(';').unwrap_or((range, ""));
        let primary = tag.trim().split('-').next().unwrap_or_default();
        let Some(language) =
            Language::ALL.into_iter().find(|language| primary.eq_ignore_ascii_case(language.tag()))
        else {
            continue;
        };
        let weight = weight(parameters);
        if weight > best.0 {
            best = (weight, language);
        }
    }
    best.1
}

/// Reads `q=0.8` as thousandths; what cannot be read counts as nothing.
fn weight(parameters: &str) -> u32 {
    let Some(written) =
        parameters.trim().strip_prefix(['q', 'Q']).and_then(|rest| rest.trim().strip_prefix('='))
    else {
        return 1_000;
    };
    let (whole, rest) = written.trim().split_once('.').unwrap_or((written.trim(), ""));
    let thousandths = format!("{rest:0<3}").get(..3).and_then(|digits| digits.parse::<u32>().ok());
    let whole = whole.parse::<u32>().ok().filter(|whole| *whole <= 1);
    whole.zip(thousandths).map_or(0, |(whole, rest)| (whole * 1_000 + rest).min(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_that_is_wanted_most_is_spoken() {
        for (header, language) in [
            ("", Language::English),
            ("ko", Language::Korean),
            ("KO-kr,ko;q=0.9,en;q=0.8", Language::Korean),
            ("en-US,en;q=0.9,ko;q=0.8", Language::English),
            ("de, ko;q=0.5, en;q=0.4", Language::Korean),
            ("ko;q=0, en;q=0.1", Language::English),
            ("ko;q=0.30, en;q=0.4", Language::English),
            ("fr, *;q=0.5", Language::English),
            ("kok", Language::English),
            ("ko;q=x,en;q=9", Language::English),
            (" ; , ;;q, ko", Language::Korean),
        ] {
            assert_eq!(best(header), language, "{header:?}");
        }
        assert_eq!(best(&format!("{}ko", "x,".repeat(2_000))), Language::English);
    }
}
