//! What to ask for: a path and its query, with everything a user wrote percent-encoded (RFC 3986 §2).

use std::fmt::{self, Display, Formatter};

/// The part of a URL behind host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    path: String,
    query: String,
}

impl Target {
    /// Starts with a noun of the API's first version.
    pub(crate) fn v1(noun: &str) -> Self {
        Self { path: format!("/v1/{noun}"), query: String::new() }
    }

    /// Starts with a path of the registry (OCI distribution specification); its slashes part it, all else is encoded.
    pub(crate) fn v2(path: &str) -> Self {
        let start = Self { path: "/v2".to_owned(), query: String::new() };
        path.split('/').fold(start, Self::segment)
    }

    /// Appends one path segment; slashes in it do not end it.
    pub(crate) fn segment(mut self, text: &str) -> Self {
        self.path.push('/');
        encode(&mut self.path, text);
        self
    }

    /// Appends one parameter.
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(name);
        self.query.push('=');
        encode(&mut self.query, value);
        self
    }

    /// Appends one parameter, if there is a value.
    pub(crate) fn query_if(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        f.write_str(&self.query)
    }
}

fn encode(url: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| char::from(HEX.get(usize::from(nibble)).copied().unwrap_or(b'0'));
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            url.push(char::from(byte));
        } else {
            url.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_wrote_cannot_change_the_path() {
        let target =
            Target::v1("images").segment("../a b/ü?x#[1].sif").query("q", "a&b=c").query_if("p", None);
        assert_eq!(target.to_string(), "/v1/images/..%2Fa%20b%2F%C3%BC%3Fx%23%5B1%5D.sif?q=a%26b%3Dc");
        assert_eq!(Target::v2("a/b?/tags/list").query("n", "1").to_string(), "/v2/a/b%3F/tags/list?n=1");
        assert_eq!(target.query_if("p", Some("v")).to_string().rsplit('&').next(), Some("p=v"));
    }
}
