//! Rates and times as people write them on a command line: `100M`, `2GiB`, `90m`, `1h30m`.

use std::str::FromStr;
use std::time::Duration;

/// Bytes of each unit; one letter alone counts in thousands, as networks do.
const SIZES: [(&str, u64); 11] = [
    ("b", 1),
    ("k", 1_000),
    ("kb", 1_000),
    ("kib", 1 << 10),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("tb", 1_000_000_000_000),
];
const TIMES: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
/// Longest time that makes sense, in seconds: a year.
const MAX_TIME: u64 = 366 * 86_400;

/// Bytes a second, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(Option<u64>);

impl Rate {
    /// Returns bytes a second; none for no limit.
    pub(crate) fn get(self) -> Option<u64> {
        self.0
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write a rate such as 100M, 1.5GB or 64MiB (bytes a second), or none".to_owned();
        let lower = text.trim().to_ascii_lowercase();
        if lower == "none" {
            return Ok(Self(None));
        }
        let size = lower.strip_suffix("/s").unwrap_or(&lower);
        let (number, unit) = size.split_at(size.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?);
        let scale = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        // Thousandths are as precise as anybody writes, and need no floating point.
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if part.len() > 3 || (part.is_empty() && number.contains('.')) {
            return Err(wrong());
        }
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(part) {
            return Err(wrong());
        }
        let thousandths: u64 = format!("{whole}{part:0<3}").parse().ok().ok_or_else(wrong)?;
        let bytes = u128::from(thousandths) * u128::from(scale) / 1_000;
        u64::try_from(bytes).ok().filter(|bytes| *bytes > 0).map(|bytes| Self(Some(bytes))).ok_or_else(wrong)
    }
}

/// Reads a time such as `90m` or `1h30m`.
///
/// # Errors
/// Says how to write one.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "write a time such as 90s, 30m, 1h30m or 2d".to_owned();
    let (mut seconds, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, behind) = rest.split_at(end);
        let mut behind = behind.chars();
        let unit =
            behind.next().and_then(|unit| TIMES.iter().find(|(name, _)| *name == unit)).ok_or_else(wrong)?;
        let part =
            number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit.1)).ok_or_else(wrong)?;
        seconds = seconds.checked_add(part).ok_or_else(wrong)?;
        rest = behind.as_str();
    }
    if (1..=MAX_TIME).contains(&seconds) { Ok(Duration::from_secs(seconds)) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_a_unit_and_is_something() {
        for (text, bytes) in [
            ("100M", Some(100_000_000)),
            ("100MB/s", Some(100_000_000)),
            ("1.5g", Some(1_500_000_000)),
            ("64MiB", Some(64 << 20)),
            ("512b", Some(512)),
            ("none", None),
        ] {
            assert_eq!(text.parse::<Rate>().map(Rate::get), Ok(bytes), "{text}");
        }
        for bad in
            ["", "100", "M", "-1M", "1..5M", "1.M", "0M", "1e9b", "99999999999999999999tb", "1.2345M", "+1M"]
        {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_has_units_and_an_end() {
        for (text, seconds) in [("90s", 90), ("1h30m", 5_400), ("2d", 172_800)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "90", "m", "1x", "0s", "1000d", "99999999999999999999s", "1h 30m"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
