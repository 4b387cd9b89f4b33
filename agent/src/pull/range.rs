//! Which bytes of a file are asked for. Pure. Outside facts: RFC 9110 section 14.

use std::ops::Range;

/// What of a file is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    All,
    /// These bytes, never none.
    Part(Range<u64>),
    /// Nothing: they are not there.
    Beyond,
}

/// Reads a Range header for a file of `size` bytes. What is no range of bytes, or several, counts as none: whoever asks gets
/// all.
pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Wanted::All };
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::All };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (first, last) = match (number(first), number(last), first.trim().is_empty(), last.trim().is_empty()) {
        (Some(first), Some(last), ..) if first <= last => (first, last.saturating_add(1).min(size)),
        (Some(first), None, _, true) => (first, size),
        (None, Some(count), true, _) => (size.saturating_sub(count), size),
        _ => return Wanted::All,
    };
    if first < last { Wanted::Part(first..last) } else { Wanted::Beyond }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_at_the_end_of_the_file() {
        for (header, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=10-19", Wanted::Part(10..20)),
            ("bytes=10-", Wanted::Part(10..100)),
            ("bytes=90-1000", Wanted::Part(90..100)),
            ("bytes=-10", Wanted::Part(90..100)),
            ("bytes=-1000", Wanted::Part(0..100)),
            ("bytes=0-18446744073709551615", Wanted::Part(0..100)),
            ("bytes=100-", Wanted::Beyond),
            ("bytes=-0", Wanted::Beyond),
        ] {
            assert_eq!(wanted(Some(header), 100), expected, "{header}");
        }
    }

    #[test]
    fn what_is_no_single_range_asks_for_all() {
        for header in ["bytes=0-1,3-4", "bytes=5-1", "bytes=a-b", "bytes=-", "items=0-1", "0-1", "bytes=1"] {
            assert_eq!(wanted(Some(header), 100), Wanted::All, "{header}");
        }
        assert_eq!(wanted(None, 100), Wanted::All);
    }
}
