//! Puts names in natural order and folds them back into the syntax of node sets.
//!
//! Only the last number of a name is folded (`rack1n[01-04]`, `gpu-a100-[01-16]`), and its digits are kept
//! exactly: `n1` and `n01` are different nodes. A padded range never changes its width (`n[08-99,100-101]`)
//! because Slurm and ClusterShell disagree on what else it would mean.
//! Text that is not a node name is carried along as it is, but then need not parse back.

use std::cmp::Ordering;
use std::sync::Arc;

use super::MAX_DIGITS;

/// Holds a name split at its last number, so that a sorted list of nodes folds without reading names again.
///
/// Keys are ordered as [`natural_cmp`] orders names, and two keys are equal only for the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FoldKey {
    /// Everything before the last number, or the whole name when it has none.
    pub prefix: Arc<str>,
    /// The last number; none where there is none or it has more than [`MAX_DIGITS`] digits.
    pub number: Option<u64>,
    /// Digits of that number as written, leading zeros included; 0 without a number.
    pub width: u8,
    /// Everything behind the last number.
    pub suffix: Arc<str>,
}

impl FoldKey {
    /// Splits a name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let parts = Parts::of(name);
        Self {
            prefix: parts.prefix.into(),
            number: parts.number,
            width: parts.width,
            suffix: parts.suffix.into(),
        }
    }

    /// Splits a name and shares the texts of a neighbour where they are equal.
    ///
    /// Folding compares shared texts by address alone, so a list made this way takes less memory and folds
    /// several times faster.
    #[must_use]
    pub fn beside(name: &str, neighbour: &Self) -> Self {
        let parts = Parts::of(name);
        let share = |text: &str, known: &Arc<str>| if text == &**known { known.clone() } else { text.into() };
        Self {
            prefix: share(parts.prefix, &neighbour.prefix),
            number: parts.number,
            width: parts.width,
            suffix: share(parts.suffix, &neighbour.suffix),
        }
    }

    fn parts(&self) -> Parts<'_> {
        Parts { prefix: &self.prefix, number: self.number, width: self.width, suffix: &self.suffix }
    }

    /// Tells whether `next` is the name right behind this one, written with as many digits: a list of such keys
    /// folds to its first and its last one.
    #[must_use]
    pub fn is_followed_by(&self, next: &Self) -> bool {
        let follows = self.number.and_then(|number| number.checked_add(1)) == next.number;
        follows && self.width == next.width && self.folds_with(next)
    }

    fn folds_with(&self, other: &Self) -> bool {
        let same = |one: &Arc<str>, two: &Arc<str>| Arc::ptr_eq(one, two) || one == two;
        self.number.is_some()
            && other.number.is_some()
            && same(&self.prefix, &other.prefix)
            && same(&self.suffix, &other.suffix)
    }
}

impl Ord for FoldKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().compare(&other.parts())
    }
}

impl PartialOrd for FoldKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Orders names as people count: by everything before the last number, what follows it, then the number.
///
/// `n2` comes before `n10`, `rack2n1` before `rack10n1`; all names of one pattern stay together. Total: only
/// equal names compare equal, `n1` comes before `n01`.
#[must_use]
pub fn natural_cmp(one: &str, other: &str) -> Ordering {
    Parts::of(one).compare(&Parts::of(other))
}

/// Folds names in any order, duplicates allowed, into the shortest expression over their last numbers.
#[must_use]
pub fn fold<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut keys: Vec<FoldKey> = names.into_iter().map(FoldKey::of).collect();
    keys.sort_unstable();
    fold_sorted(&keys)
}

/// Folds keys that are sorted already; others fold to something longer that stands for the same names.
#[must_use]
pub fn fold_sorted<'a>(keys: impl IntoIterator<Item = &'a FoldKey>) -> String {
    fold_runs(keys.into_iter().map(|key| (key, key)))
}

/// Folds runs given by their first and last key, each [followed by](FoldKey::is_followed_by) the next, sorted as
/// for [`fold_sorted`]. It takes as long as there are gaps, not as there are names.
#[must_use]
pub fn fold_runs<'a>(runs: impl IntoIterator<Item = (&'a FoldKey, &'a FoldKey)>) -> String {
    let mut folded = String::new();
    let mut runs = runs.into_iter().peekable();
    while let Some((first, last)) = runs.next() {
        if !folded.is_empty() {
            folded.push(',');
        }
        folded.push_str(&first.prefix);
        let Some(number) = first.number else {
            folded.push_str(&first.suffix);
            while runs.next_if(|(key, _)| *key == first).is_some() {}
            continue;
        };
        let opened = folded.len();
        let mut run = Run::new(number, first.width);
        run.reach(last);
        let mut ranges = 1_usize;
        while let Some((key, last)) = runs.next_if(|(key, _)| key.folds_with(first)) {
            let number = key.number.unwrap_or_default();
            if !run.takes(number, key.width) {
                run.write(&mut folded);
                folded.push(',');
                run = Run::new(number, key.width);
                ranges += 1;
            }
            run.reach(last);
        }
        run.write(&mut folded);
        if ranges > 1 || run.first != run.last {
            folded.insert(opened, '[');
            folded.push(']');
        }
        folded.push_str(&first.suffix);
    }
    folded
}

/// Consecutive numbers of one width, or unpadded ones of any.
struct Run {
    first: u64,
    last: u64,
    width: u8,
    last_width: u8,
    padded: bool,
}

impl Run {
    fn new(number: u64, width: u8) -> Self {
        Self { first: number, last: number, width, last_width: width, padded: digits(number) < width }
    }

    /// Takes the number in, if it follows or repeats the last one and is written alike.
    fn takes(&mut self, number: u64, width: u8) -> bool {
        if number == self.last && width == self.last_width {
            return true;
        }
        let alike = if self.padded { width == self.width } else { width == digits(number) };
        if !alike || number != self.last.saturating_add(1) {
            return false;
        }
        self.last = number;
        self.last_width = width;
        true
    }

    /// Goes on to a key whose forerunners back to the last one are all of the same width.
    fn reach(&mut self, key: &FoldKey) {
        if let Some(number) = key.number {
            self.last = number;
            self.last_width = key.width;
        }
    }

    fn write(&self, folded: &mut String) {
        push_number(folded, self.first, self.width);
        if self.first != self.last {
            folded.push('-');
            push_number(folded, self.last, self.last_width);
        }
    }
}

/// Appends the number, padded with zeros to the width. Formatting macros take three times as long, which
/// shows in sets full of gaps.
fn push_number(folded: &mut String, mut number: u64, width: u8) {
    for _ in digits(number)..width {
        folded.push('0');
    }
    let mut reversed = [0_u8; 20];
    let mut length = 0;
    for place in &mut reversed {
        *place = u8::try_from(number % 10).unwrap_or_default();
        length += 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    folded.reserve(length);
    folded.extend(reversed.iter().take(length).rev().map(|digit| char::from(b'0' + digit)));
}

fn digits(number: u64) -> u8 {
    number.checked_ilog10().map_or(1, |log| u8::try_from(log + 1).unwrap_or(u8::MAX))
}

/// A name split at its last number, borrowed.
struct Parts<'a> {
    prefix: &'a str,
    number: Option<u64>,
    width: u8,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    fn of(name: &'a str) -> Self {
        Self::split(name).unwrap_or(Self { prefix: name, number: None, width: 0, suffix: "" })
    }

    fn split(name: &'a str) -> Option<Self> {
        let bytes = name.as_bytes();
        let end = bytes.iter().rposition(u8::is_ascii_digit)? + 1;
        let start = bytes.get(..end)?.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |at| at + 1);
        let written = name.get(start..end)?;
        if written.len() > MAX_DIGITS {
            return None;
        }
        Some(Self {
            prefix: name.get(..start)?,
            number: Some(written.parse().ok()?),
            width: u8::try_from(written.len()).ok()?,
            suffix: name.get(end..)?,
        })
    }

    fn compare(&self, other: &Self) -> Ordering {
        natural_text(self.prefix, other.prefix)
            .then_with(|| natural_text(self.suffix, other.suffix))
            .then_with(|| self.number.cmp(&other.number))
            .then_with(|| self.width.cmp(&other.width))
    }
}

/// Orders texts with numbers inside by value, and by bytes where all values agree (`a1b` and `a01b`).
fn natural_text(one: &str, other: &str) -> Ordering {
    if one == other {
        return Ordering::Equal;
    }
    let (mut a, mut b) = (one.as_bytes(), other.as_bytes());
    loop {
        let (digits_a, rest_a) = leading_number(a);
        let (digits_b, rest_b) = leading_number(b);
        let order = if digits_a.is_empty() || digits_b.is_empty() {
            match (a.split_first(), b.split_first()) {
                (Some((x, after_x)), Some((y, after_y))) => {
                    (a, b) = (after_x, after_y);
                    x.cmp(y)
                }
                (None, None) => return one.cmp(other),
                (left, right) => return left.is_some().cmp(&right.is_some()),
            }
        } else {
            (a, b) = (rest_a, rest_b);
            let (x, y) = (significant(digits_a), significant(digits_b));
            x.len().cmp(&y.len()).then_with(|| x.cmp(y))
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn leading_number(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

fn significant(digits: &[u8]) -> &[u8] {
    digits.split_at(digits.iter().take_while(|digit| **digit == b'0').count()).1
}
