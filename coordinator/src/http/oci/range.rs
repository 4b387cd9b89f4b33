//! Which bytes of a blob are asked for, and which bytes of an upload come.
//!
//! Outside facts: RFC 9110 section 14 (Range, If-Range), and the OCI distribution specification's own `Content-Range`, which
//! is `FIRST-LAST` alone.

use std::ops::Range;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it: nothing is said, or nothing that is to be heeded.
    All,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that are not there.
    Nothing,
}

/// Reads the header `Range` for a blob of `size` bytes. Several ranges at once are not served, which is allowed.
pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Wanted::All };
    let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else {
        return Wanted::All;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.trim().is_empty() => first..size,
        (None, Some(last)) if first.trim().is_empty() => size.saturating_sub(last)..size,
        (Some(_) | None, Some(_) | None) => return Wanted::All,
    };
    if range.is_empty() { Wanted::Nothing } else { Wanted::Part(range) }
}

/// Reads the header `Content-Range` of a chunk: its first byte, and how many there are.
pub(super) fn chunk(header: &str) -> Option<(u64, u64)> {
    let text = header.trim();
    // Some write it as HTTP does, with the unit and the length.
    let text = text.strip_prefix("bytes ").unwrap_or(text);
    let text = text.split_once('/').map_or(text, |(range, _)| range);
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
    Some((first, last.checked_sub(first)?.checked_add(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        let check = |header: Option<&str>, expected: Wanted| {
            assert_eq!(wanted(header, 1_000), expected, "{header:?}");
        };
        check(None, Wanted::All);
        check(Some("bytes=0-0"), Wanted::Part(0..1));
        check(Some("bytes=500-"), Wanted::Part(500..1_000));
        check(Some("bytes=500-5000"), Wanted::Part(500..1_000));
        check(Some("bytes=-100"), Wanted::Part(900..1_000));
        check(Some("bytes=-5000"), Wanted::Part(0..1_000));
        check(Some("bytes=1000-"), Wanted::Nothing);
        check(Some("bytes=5-1"), Wanted::Nothing);
        check(Some("bytes=-0"), Wanted::Nothing);
        for odd in ["bytes=0-1,5-6", "lines=0-1", "bytes=a-b", "bytes=-", "bytes", "bytes=0-x"] {
            check(Some(odd), Wanted::All);
        }
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Nothing);
        assert_eq!(wanted(Some("bytes=18446744073709551615-18446744073709551615"), 9), Wanted::Nothing);
    }

    #[test]
    fn chunks_say_where_they_begin_and_how_long_they_are() {
        assert_eq!(chunk("0-99"), Some((0, 100)));
        assert_eq!(chunk("bytes 100-199/*"), Some((100, 100)));
        for bad in ["", "0", "5-1", "a-b", "0-18446744073709551615"] {
            assert_eq!(chunk(bad), None, "{bad}");
        }
    }
}
