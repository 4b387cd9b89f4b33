//! Durations, sizes and rates as people write them: `30s`, `1h30m`, `64MiB`, `1.5GB/s`.
//!
//! Owns all notations. Each has a unit always, because a bare number is a riddle. Settings are written once and read by
//! others later, so their sizes are exact; rates are typed in a hurry.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest duration that can be set: ten years, far from where clocks overflow.
const MAX_PERIOD: Duration = Duration::from_secs(3_660 * 86_400);

/// Units of duration with their milliseconds, largest first.
const PERIOD_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size with their bytes, largest first, binary before decimal.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// Says why a text is no duration or size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a duration.
    #[error("{text:?} is not a duration; write for example \"250ms\", \"30s\", \"10m\" or \"1h30m\"")]
    NotPeriod {
        /// What was written.
        text: String,
    },
    /// A duration that cannot be meant.
    #[error("the duration {text:?} must be longer than nothing and shorter than ten years")]
    PeriodOutOfRange {
        /// What was written.
        text: String,
    },
    /// Not a size.
    #[error("{text:?} is not a size; write for example \"512B\", \"64MiB\" or \"10GB\"")]
    NotSize {
        /// What was written.
        text: String,
    },
    /// Not a rate.
    #[error("write a rate such as 100M, 1.5GB or 64MiB (bytes a second), or none")]
    NotRate {
        /// What was written.
        text: String,
    },
}

/// Holds a duration from the settings: at least a millisecond, at most ten years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

impl Period {
    /// Makes a period for use as a default, in seconds; zero becomes one millisecond.
    #[must_use]
    pub const fn seconds(seconds: u32) -> Self {
        Self::milliseconds(seconds as u64 * 1_000)
    }

    /// Makes a period for use as a default, in milliseconds; zero becomes one, and ten years is the most.
    #[must_use]
    pub const fn milliseconds(milliseconds: u64) -> Self {
        let most = MAX_PERIOD.as_secs() * 1_000;
        Self(Duration::from_millis(match milliseconds {
            0 => 1,
            more if more > most => most,
            fits => fits,
        }))
    }

    /// Returns the duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

impl FromStr for Period {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let not_period = || UnitError::NotPeriod { text: text.to_owned() };
        let out_of_range = || UnitError::PeriodOutOfRange { text: text.to_owned() };
        let (mut rest, mut total, mut coarser) = (text, 0_u64, u64::MAX);
        while !rest.is_empty() {
            let (number, behind) = leading_number(rest).ok_or_else(not_period)?;
            let unit_len = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
            let (unit, tail) = behind.split_at(unit_len);
            let size = scale(&PERIOD_UNITS, unit).filter(|size| *size < coarser).ok_or_else(not_period)?;
            let part = number.and_then(|number| number.checked_mul(size)).ok_or_else(out_of_range)?;
            total = total.checked_add(part).ok_or_else(out_of_range)?;
            (rest, coarser) = (tail, size);
        }
        match Duration::from_millis(total) {
            _ if text.is_empty() => Err(not_period()),
            period if period.is_zero() || period > MAX_PERIOD => Err(out_of_range()),
            period => Ok(Self(period)),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        for (unit, size) in PERIOD_UNITS {
            if left >= size {
                write!(f, "{}{unit}", left / size)?;
                left %= size;
            }
        }
        Ok(())
    }
}

/// Holds a number of bytes from the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// Makes a size for use as a default.
    #[must_use]
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Makes a size for use as a default, in units of 1,048,576 bytes.
    #[must_use]
    pub const fn mebibytes(mebibytes: u32) -> Self {
        Self(mebibytes as u64 * (1 << 20))
    }

    /// Returns the number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        leading_number(text)
            .and_then(|(number, unit)| number?.checked_mul(scale(&SIZE_UNITS, unit.trim_start())?))
            .map(Self)
            .ok_or_else(|| UnitError::NotSize { text: text.to_owned() })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, size): &&(&str, u64)| self.0 != 0 && self.0.is_multiple_of(*size);
        let (unit, size) = SIZE_UNITS.iter().filter(whole).max_by_key(|(_, size)| *size).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

/// Holds bytes a second, or that there is no limit.
///
/// Besides what a [`Size`] may be it may be a fraction, in small letters, have one letter for its unit, which counts in
/// thousands as networks do, and end in `/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(Option<u64>);

impl Rate {
    /// Returns bytes a second; none for no limit.
    #[must_use]
    pub const fn get(self) -> Option<u64> {
        self.0
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text.trim().eq_ignore_ascii_case("none") {
            return Ok(Self(None));
        }
        let rate = fraction(text.trim()).filter(|bytes| *bytes > 0);
        rate.map(|bytes| Self(Some(bytes))).ok_or_else(|| UnitError::NotRate { text: text.to_owned() })
    }
}

/// Reads `1.5GB/s`, or `1.5g`, into bytes.
fn fraction(text: &str) -> Option<u64> {
    let size = text.strip_suffix("/s").unwrap_or(text);
    let (number, unit) = size.split_at(size.find(|c: char| c.is_ascii_alphabetic())?);
    let written =
        if unit.len() == 1 && !unit.eq_ignore_ascii_case("b") { format!("{unit}B") } else { unit.into() };
    let scale = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&written))?.1;
    // Thousandths are as precise as anybody writes, and need no floating point.
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if part.len() > 3 || !digits(whole) || !digits(part) {
        return None;
    }
    let thousandths: u64 = format!("{whole}{part:0<3}").parse().ok()?;
    u64::try_from(u128::from(thousandths) * u128::from(scale) / 1_000).ok()
}

/// Splits `30s` into 30 and `s`; the number is `None` when it is too large for any use.
fn leading_number(text: &str) -> Option<(Option<u64>, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    if number.is_empty() { None } else { Some((number.parse().ok(), rest)) }
}

fn scale(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, size)| *size)
}

macro_rules! as_text {
    ($name:ident, $expecting:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
}
as_text!(Period, "a duration with its unit, such as \"30s\"");
as_text!(Size, "a size with its unit, such as \"64MiB\"");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_written_with_their_units() {
        let check = |text: &str, milliseconds| {
            assert_eq!(text.parse::<Period>().unwrap().get(), Duration::from_millis(milliseconds), "{text}");
        };
        check("250ms", 250);
        check("30s", 30_000);
        check("10m", 600_000);
        check("1h30m", 5_400_000);
        check("365d", 31_536_000_000);
        for bad in ["", "30", "s", "-1s", "1.5s", "30 s", "1m1h", "1s1s", "3s ", "1w", "٣s"] {
            assert!(matches!(bad.parse::<Period>(), Err(UnitError::NotPeriod { .. })), "{bad:?}");
        }
        for far in ["0s", "4000d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(matches!(far.parse::<Period>(), Err(UnitError::PeriodOutOfRange { .. })), "{far:?}");
        }
    }

    #[test]
    fn sizes_are_written_with_their_units() {
        let check = |text: &str, bytes| assert_eq!(text.parse::<Size>().unwrap().get(), bytes, "{text}");
        check("0B", 0);
        check("512B", 512);
        check("64MiB", 64 << 20);
        check("10GB", 10_000_000_000);
        check("1 TiB", 1 << 40);
        for bad in
            ["", "64", "MiB", "64M", "-1B", "1.5GiB", "18446744073709551615kB", "99999999999999999999B"]
        {
            assert!(bad.parse::<Size>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_rate_has_a_unit_and_is_something() {
        for (text, bytes) in [
            ("100M", Some(100_000_000)),
            ("100MB/s", Some(100_000_000)),
            ("1.5g", Some(1_500_000_000)),
            ("64MiB", Some(64 << 20)),
            ("2tib", Some(2 << 40)),
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

    proptest! {
        #[test]
        fn a_period_reads_as_it_shows(milliseconds in 1..3_660 * 86_400_000_u64) {
            let period = Period::milliseconds(milliseconds);
            prop_assert_eq!(period.to_string().parse(), Ok(period));
        }

        #[test]
        fn a_size_reads_as_it_shows(bytes: u64, zeros in 0..60_u32) {
            let size = Size::bytes(bytes >> zeros << zeros);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
