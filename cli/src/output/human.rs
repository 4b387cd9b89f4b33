//! Sizes, ages, digests and moments as people read them. Pure: ages are told against the answer's own time,
//! so a clock that is wrong on this machine changes nothing.

use jiff::Timestamp;

/// Shows a length in bytes with the largest binary unit that leaves at least 1.
pub(crate) fn size(bytes: u64) -> String {
    scaled(bytes, 1_024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// Shows bytes a second in thousands, as rates are typed.
pub(super) fn rate(bytes: u64) -> String {
    scaled(bytes, 1_000, ["B/s", "kB/s", "MB/s", "GB/s", "TB/s", "PB/s", "EB/s"])
}

/// Shows a number with the largest unit that leaves at least 1, and one digit after the point while small.
fn scaled(number: u64, step: u128, units: [&str; 7]) -> String {
    let number = u128::from(number);
    let mut unit = 1;
    let mut names = units.into_iter();
    let mut name = names.next().unwrap_or_default();
    while let Some(larger) = names.as_slice().first().filter(|_| number >= unit * step) {
        (unit, name) = (unit * step, larger);
        names.next();
    }
    let tenths = (number * 10 + unit / 2) / unit;
    if unit > 1 && tenths < 1000 {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    } else {
        format!("{} {name}", tenths / 10)
    }
}

/// Tells how long before `now` a moment was; the moment itself where either is no time.
pub(super) fn age(then: &str, now: &str) -> String {
    let (Ok(then), Ok(now)) = (then.parse::<Timestamp>(), now.parse::<Timestamp>()) else {
        return then.to_owned();
    };
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Shows seconds since 1970 to the minute, in UTC.
pub(super) fn moment(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => format!("{seconds} s after 1970"),
    }
}

/// Shortens a digest to what is enough to ask for it, unless `wide`.
pub(crate) fn digest(digest: &str, wide: bool) -> String {
    /// `blake3:` and the twelve digits that a question needs.
    const SHORT: usize = 7 + 12;
    if wide { digest.to_owned() } else { digest.get(..SHORT).unwrap_or(digest).to_owned() }
}

/// Shows a time in its two largest units.
pub(crate) fn lasting(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Shows a share in whole percent, 100 only for all of it.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    let share = u128::from(part.min(whole)) * 100 / u128::from(whole.max(1));
    if whole == 0 { 100 } else { u64::try_from(share).unwrap_or(100) }
}

/// Counts nodes in words.
pub(super) fn nodes(count: u32) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_one_digit_after_the_point_while_small() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_400_000_000, "1.3 GiB"),
            (150 * 1024 * 1024, "150 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn rates_are_shown_as_they_are_typed() {
        for (bytes, shown) in [
            (0, "0 B/s"),
            (999, "999 B/s"),
            (100_000, "100 kB/s"),
            (1_500_000, "1.5 MB/s"),
            (64 << 20, "67.1 MB/s"),
            (2_000_000_000, "2.0 GB/s"),
            (999_960_000, "1000 MB/s"),
            (u64::MAX, "18.4 EB/s"),
        ] {
            assert_eq!(rate(bytes), shown);
        }
    }

    #[test]
    fn ages_are_told_in_one_unit() {
        let now = "2026-03-01T12:00:00Z";
        for (then, shown) in [
            ("2026-03-01T12:00:00.5Z", "0s"),
            ("2026-03-01T11:59:18Z", "42s"),
            ("2026-03-01T11:50:00.123Z", "10m"),
            ("2026-03-01T02:00:00Z", "10h"),
            ("2026-02-01T12:00:00Z", "28d"),
            ("2027-01-01T00:00:00Z", "0s"),
            ("sometime", "sometime"),
        ] {
            assert_eq!(age(then, now), shown);
        }
    }

    #[test]
    fn times_to_come_have_two_units_and_shares_are_cautious() {
        for (seconds, shown) in [(0, "0s"), (61, "1m01s"), (7_260, "2h01m"), (90_000, "1d01h")] {
            assert_eq!(lasting(seconds), shown);
        }
        for (part, whole, shown) in
            [(0, 0, 100), (999, 1000, 99), (1000, 1000, 100), (2, 1, 100), (u64::MAX, u64::MAX, 100)]
        {
            assert_eq!(percent(part, whole), shown);
        }
    }

    #[test]
    fn moments_and_digests_are_short() {
        assert_eq!(moment(0), "1970-01-01 00:00 UTC");
        assert_eq!(moment(i64::MAX), format!("{} s after 1970", i64::MAX));
        assert_eq!(digest("blake3:0123456789abcdef", false), "blake3:0123456789ab");
        assert_eq!(digest("odd", false), "odd");
    }
}
