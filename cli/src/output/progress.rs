//! What is seen while bytes move: frames of a few lines for terminals, one line for logs. Pure: text out of answers.

use sifleet_common::api::pushes::{PushBody, PushNode};
use sifleet_common::push::Phase;

use super::human;
use super::pushes::{in_phase, moved, phase};
use super::text::{self, Cell, Tone};

/// Columns of a bar.
const BAR: u64 = 24;
/// Most nodes named as the slowest.
const SLOWEST: usize = 3;
/// Columns of the longest name of a phase.
const PHASE: usize = 9;

/// How far something is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes {
    /// So far.
    pub(crate) done: u64,
    /// In all.
    pub(crate) total: u64,
    /// A second.
    pub(crate) rate: u64,
}

impl Bytes {
    /// Takes those of a push.
    pub(crate) fn of(push: &PushBody) -> Self {
        Self { done: moved(&push.bytes), total: push.bytes.total, rate: push.bytes.rate }
    }

    fn words(self) -> String {
        let mut words = format!(
            "{:>3} %  {} of {}",
            human::percent(self.done, self.total),
            human::size(self.done),
            human::size(self.total)
        );
        if self.rate > 0 {
            let left = self.total.saturating_sub(self.done).div_ceil(self.rate);
            words.push_str(&format!("  {}  {} left", human::rate(self.rate), human::lasting(left)));
        }
        words
    }

    fn bar(self) -> String {
        let full = u128::from(self.done) * u128::from(BAR) / u128::from(self.total.max(1));
        let full = usize::try_from(full.min(u128::from(BAR))).unwrap_or_default();
        let empty = usize::try_from(BAR).unwrap_or_default().saturating_sub(full);
        format!("{}{}", "█".repeat(full), "░".repeat(empty))
    }
}

/// Draws one bar in a line of at most `width` columns.
pub(crate) fn bar(what: &str, bytes: Bytes, width: usize) -> String {
    let title = Cell::new(what).tone(Tone::Strong);
    let bar = Cell::new(bytes.bar()).tone(Tone::Good);
    text::fit(&[title, Cell::new("  "), bar, Cell::new("  "), Cell::new(bytes.words())], width)
}

/// Says in one line how far something is, for logs.
pub(crate) fn plain(what: &str, bytes: Bytes) -> String {
    text::fit(&[Cell::new(what), Cell::new(": "), Cell::new(bytes.words().trim_start())], usize::MAX)
}

/// Draws a push: a bar, its nodes by phase, the slowest ones.
pub(crate) fn frame(push: &PushBody, nodes: &[PushNode], width: usize) -> Vec<String> {
    let mut lines = vec![bar(&push.image, Bytes::of(push), width)];
    for one in &push.phases {
        let count = Cell::new(format!("{:>6}  ", one.count));
        let word = Cell::new(format!("  {:<PHASE$}", one.phase.name())).tone(phase(one.phase));
        lines.push(text::fit(&[word, count, Cell::new(&one.nodes)], width));
    }
    let slowest = slowest(push, nodes);
    if !slowest.is_empty() {
        let word = Cell::new(format!("  {:<PHASE$}        ", "slowest")).tone(Tone::Faint);
        lines.push(text::fit(&[word, Cell::new(slowest)], width));
    }
    lines
}

/// Names the nodes that have the most to fetch, while others have less.
fn slowest(push: &PushBody, nodes: &[PushNode]) -> String {
    let mut fetching: Vec<_> =
        nodes.iter().filter(|node| node.phase == Phase::Fetching).map(|node| (held(node), node)).collect();
    fetching.sort_by_key(|(held, _)| *held);
    let said = fetching.iter().take(SLOWEST).map(|(held, node)| {
        format!("{} {} % {}", node.node, human::percent(*held, push.size), human::rate(node.rate))
    });
    said.collect::<Vec<_>>().join(", ")
}

fn held(node: &PushNode) -> u64 {
    node.fetched.saturating_add(node.reused).saturating_add(node.resumed)
}

/// Says in one line how a push stands, for logs.
pub(crate) fn line(push: &PushBody) -> String {
    let phases = push.phases.iter().map(|one| format!("{} {}", one.count, one.phase));
    let words = format!(
        "push {}: {}: {}; {}",
        push.id,
        push.image,
        phases.collect::<Vec<_>>().join(", "),
        Bytes::of(push).words().trim_start()
    );
    text::fit(&[Cell::new(words)], usize::MAX)
}

/// Draws `sifleet top`: a bar for each push, then the nodes at work, the busiest first; below a warning if there is one.
pub(crate) fn top(
    pushes: &[(PushBody, Vec<PushNode>)],
    warning: Option<&str>,
    width: usize,
    height: usize,
) -> Vec<String> {
    let rate = pushes.iter().map(|(push, _)| push.bytes.rate).fold(0, u64::saturating_add);
    let count = if pushes.len() == 1 { "1 push".to_owned() } else { format!("{} pushes", pushes.len()) };
    let mut lines = vec![text::fit(
        &[
            Cell::new(format!("{count} running")).tone(Tone::Strong),
            Cell::new(format!(", {}", human::rate(rate))),
        ],
        width,
    )];
    lines.extend(warning.map(|warning| text::fit(&[Cell::new(warning).tone(Tone::Warn)], width)));
    for (push, _) in pushes {
        let done = format!("{} {} {}/{}", push.id, push.image, in_phase(push, Phase::Done), push.nodes);
        lines.push(bar(&done, Bytes::of(push), width));
    }
    let mut busy: Vec<_> = pushes
        .iter()
        .flat_map(|(push, nodes)| nodes.iter().map(move |node| (push, node)))
        .filter(|(_, node)| node.phase.is_under_way())
        .collect();
    busy.sort_by(|(_, a), (_, b)| (b.rate, &a.node).cmp(&(a.rate, &b.node)));
    let room = height.saturating_sub(lines.len() + 1);
    if !busy.is_empty() && room > 0 {
        lines.push(columns(
            ["NODE", "PUSH", "PHASE", "HAS", "RATE", "FROM"].map(str::to_owned),
            Tone::Faint,
            width,
        ));
    }
    for (push, node) in busy.iter().take(room) {
        let from =
            node.sources.iter().take(SLOWEST).map(|one| one.node.as_str()).collect::<Vec<_>>().join(",");
        let cells = [
            node.node.clone(),
            push.id.clone(),
            node.phase.name().to_owned(),
            format!("{} %", human::percent(held(node), push.size)),
            human::rate(node.rate),
            from,
        ];
        lines.push(columns(cells, Tone::Plain, width));
    }
    lines
}

fn columns([node, push, phase, has, rate, from]: [String; 6], tone: Tone, width: usize) -> String {
    let line = format!("{node:<20}  {push:<10}  {phase:<PHASE$}  {has:>6}  {rate:>12}  {from}");
    text::fit(&[Cell::new(line).tone(tone)], width)
}

#[cfg(test)]
mod tests;
