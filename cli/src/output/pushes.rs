//! How pushes look: plans, lists, one push as a whole and node by node.

use sifleet_common::api::pushes::{
    PushBody, PushBytes, PushList, PushNode, PushNodes, PushPlan, PushReason, PushState,
};
use sifleet_common::push::{FailCode, Phase};

use super::text::{Block, Cell, Csv, Note, Table, Tone};
use super::{Render, human};

/// Returns the word and meaning of a state.
pub(super) fn state(state: PushState) -> (&'static str, Tone) {
    let tone = match state {
        PushState::Running => Tone::Strong,
        PushState::Done => Tone::Good,
        PushState::Partial => Tone::Warn,
        PushState::Failed => Tone::Bad,
        PushState::Cancelled => Tone::Unsure,
    };
    (state.name(), tone)
}

/// Returns the meaning of a phase; its word is its name.
pub(super) fn phase(phase: Phase) -> Tone {
    match phase {
        Phase::Done => Tone::Good,
        Phase::Failed => Tone::Bad,
        Phase::Deferred | Phase::Cancelled => Tone::Unsure,
        Phase::Waiting | Phase::Preparing => Tone::Faint,
        Phase::Fetching | Phase::Verifying => Tone::Plain,
    }
}

/// Counts the nodes in a phase.
pub(crate) fn in_phase(push: &PushBody, wanted: Phase) -> u32 {
    push.phases.iter().filter(|one| one.phase == wanted).map(|one| one.count).sum()
}

/// Tells how many of all bytes are where they belong.
pub(super) fn moved(bytes: &PushBytes) -> u64 {
    let come = bytes.fetched.saturating_add(bytes.reused).saturating_add(bytes.resumed);
    let moved = come.saturating_add(bytes.present);
    moved.min(bytes.total)
}

fn reasons(table: &mut Table, reasons: &[PushReason], wide: bool) {
    for reason in reasons.iter().filter(|reason| !is_of_phase(reason)) {
        table.row(vec![
            Cell::new(&reason.code).tone(Tone::Bad),
            Cell::number(reason.count),
            Cell::long(&reason.nodes, wide),
            Cell::new(&reason.message).tone(Tone::Faint),
        ]);
    }
}

/// Says what to do; for whom, only where that is not plain.
fn hints(reasons: &[PushReason]) -> Vec<Note> {
    let needed = |reason: &&PushReason| !reason.hint.is_empty() && !reason.hint.starts_with("nothing");
    let asked: Vec<&PushReason> = reasons.iter().filter(needed).collect();
    match asked.as_slice() {
        [only] => vec![Note::Hint(only.hint.clone())],
        several => {
            let words = |reason: &&PushReason| format!("{} ({}): {}", reason.code, reason.nodes, reason.hint);
            several.iter().map(|reason| Note::Hint(words(reason))).collect()
        }
    }
}

/// Tells whether a reason is only another word for the phase that its nodes are in.
fn is_of_phase(reason: &PushReason) -> bool {
    Phase::ALL.iter().any(|phase| phase.name() == reason.code)
}

impl Render for PushPlan {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let said = format!(" onto {}: {} at most", human::nodes(self.count), human::size(self.bytes));
        let time = self.seconds.filter(|seconds| *seconds > 0);
        let time = time.map_or_else(String::new, |seconds| format!(", {} at least", human::lasting(seconds)));
        let mut table = Table::new(&[]).indented();
        let mut line = |name: &str, text: &str, tone: Tone| {
            if !text.is_empty() {
                table.row(vec![Cell::new(name).tone(Tone::Faint), Cell::long(text, wide).tone(tone)]);
            }
        };
        let upload = self.upload.filter(|bytes| *bytes > 0).map_or_else(String::new, human::size);
        line("into the library first", &upload, Tone::Plain);
        line("nodes", &self.nodes, Tone::Plain);
        line("hold another version", &self.replaces, Tone::Warn);
        line("have it already", &self.ready, Tone::Good);
        line("away, get it later", &self.deferred, Tone::Unsure);
        line("from", &self.sources, Tone::Plain);
        let roots = match self.roots.as_slice() {
            [only] => only.path.clone(),
            several => several
                .iter()
                .map(|root| format!("{} ({})", root.path, root.nodes))
                .collect::<Vec<_>>()
                .join(", "),
        };
        line("below", &roots, Tone::Plain);
        line("image", &human::digest(&self.digest, wide), Tone::Plain);
        line("space on each", &human::size(self.size), Tone::Plain);
        let mut refused = Table::new(&[]).indented();
        reasons(&mut refused, &self.refused, wide);
        let title = Cell::new(&self.image).tone(Tone::Strong);
        vec![Block::Line(vec![title, Cell::new(said + &time)]), Block::Table(table), Block::Table(refused)]
    }

    fn names(&self) -> Vec<String> {
        Some(self.nodes.clone()).filter(|nodes| !nodes.is_empty()).into_iter().collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&[
            "image", "digest", "size", "nodes", "count", "ready", "deferred", "bytes", "seconds", "replaces",
            "upload",
        ]);
        csv.row(vec![
            self.image.clone(),
            self.digest.clone(),
            self.size.to_string(),
            self.nodes.clone(),
            self.count.to_string(),
            self.ready.clone(),
            self.deferred.clone(),
            self.bytes.to_string(),
            self.seconds.map(|seconds| seconds.to_string()).unwrap_or_default(),
            self.replaces.clone(),
            self.upload.map(|bytes| bytes.to_string()).unwrap_or_default(),
        ]);
        csv
    }

    fn notes(&self) -> Vec<Note> {
        hints(&self.refused)
    }
}

impl Render for PushList {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let mut table = Table::new(&["ID", "IMAGE", "STATE", "DONE", "NODES", "BYTES", "RATE", "AGE"]);
        for push in &self.pushes {
            let (word, tone) = state(push.state);
            let rate = if push.bytes.rate > 0 { human::rate(push.bytes.rate) } else { String::new() };
            table.row(vec![
                Cell::new(&push.id).tone(Tone::Strong),
                Cell::long(&push.image, wide),
                Cell::new(word).tone(tone),
                Cell::number(in_phase(push, Phase::Done)),
                Cell::number(push.nodes),
                Cell::number(format!("{} %", human::percent(moved(&push.bytes), push.bytes.total))),
                Cell::number(rate),
                Cell::number(human::age(&push.created, &self.as_of)),
            ]);
        }
        if table.is_empty() {
            return vec![Block::Line(vec![Cell::new("no pushes are kept")])];
        }
        vec![Block::Table(table)]
    }

    fn names(&self) -> Vec<String> {
        self.pushes.iter().map(|push| push.id.clone()).collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&[
            "id", "image", "digest", "state", "done", "nodes", "bytes", "fetched", "reused", "created",
            "ended",
        ]);
        for push in &self.pushes {
            csv.row(vec![
                push.id.clone(),
                push.image.clone(),
                push.digest.clone(),
                state(push.state).0.into(),
                in_phase(push, Phase::Done).to_string(),
                push.nodes.to_string(),
                push.bytes.total.to_string(),
                push.bytes.fetched.to_string(),
                push.bytes.reused.to_string(),
                push.created.clone(),
                push.ended.clone().unwrap_or_default(),
            ]);
        }
        csv
    }
}

/// Says where the bytes came from.
fn origins(bytes: &PushBytes) -> String {
    let parts = [
        (bytes.fetched, "fetched"),
        (bytes.reused, "reused"),
        (bytes.resumed, "resumed"),
        (bytes.present, "there before"),
        (bytes.wasted, "wasted"),
    ];
    let said = parts.iter().filter(|(count, _)| *count > 0);
    said.map(|(count, what)| format!("{} {what}", human::size(*count))).collect::<Vec<_>>().join(", ")
}

impl Render for PushBody {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let (word, tone) = state(self.state);
        let done = in_phase(self, Phase::Done);
        let mut phases = Table::new(&[]).indented();
        for one in &self.phases {
            let why = self.reasons.iter().find(|reason| reason.code == one.phase.name());
            phases.row(vec![
                Cell::new(one.phase.name()).tone(phase(one.phase)),
                Cell::number(one.count),
                Cell::long(&one.nodes, wide),
                Cell::new(why.map_or("", |reason| &reason.message)).tone(Tone::Faint),
            ]);
        }
        let mut facts = Table::new(&[]).indented();
        let mut line =
            |name: &str, text: String| facts.row(vec![Cell::new(name).tone(Tone::Faint), Cell::new(text)]);
        let origins = origins(&self.bytes);
        if !origins.is_empty() {
            line("bytes", origins);
        }
        if wide {
            line("digest", self.digest.clone());
            line("counts as done", self.completion.clone());
            line("below", self.root.clone().unwrap_or_else(|| "the first root of each node".to_owned()));
            line("from", self.from.clone().unwrap_or_else(|| "every node that has it".to_owned()));
            line("rate of a node", self.rate.map_or_else(|| "no limit".to_owned(), human::rate));
            line("priority", self.priority.to_string());
            line("created", self.created.clone());
            line("ended", self.ended.clone().unwrap_or_default());
            line("deadline", self.deadline.clone());
        }
        let mut failed = Table::new(&[]).indented();
        reasons(&mut failed, &self.reasons, wide);
        vec![
            Block::Line(vec![
                Cell::new(format!("push {}: ", self.id)),
                Cell::new(&self.image).tone(Tone::Strong),
                Cell::new(": "),
                Cell::new(word).tone(tone),
                Cell::new(format!(" — on {done} of {}", human::nodes(self.nodes))),
            ]),
            Block::Table(phases),
            Block::Table(facts),
            Block::Table(failed),
        ]
    }

    fn names(&self) -> Vec<String> {
        vec![self.id.clone()]
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&["phase", "code", "count", "nodes", "message"]);
        for one in &self.phases {
            let (name, count) = (one.phase.name().to_owned(), one.count.to_string());
            csv.row(vec![name, String::new(), count, one.nodes.clone(), String::new()]);
        }
        for one in &self.reasons {
            let (code, count) = (one.code.clone(), one.count.to_string());
            csv.row(vec![String::new(), code, count, one.nodes.clone(), one.message.clone()]);
        }
        csv
    }

    fn notes(&self) -> Vec<Note> {
        let dropped = self.dropped.iter().map(|one| {
            Note::Warning(format!("{} is left alone as a source: {}, says {}", one.node, one.fault, one.by))
        });
        let mut notes: Vec<Note> = dropped.chain(hints(&self.reasons)).collect();
        let helps = |reason: &PushReason| !is_of_phase(reason) && reason.code != FailCode::NoRoot.name();
        let failed = in_phase(self, Phase::Failed) > 0 && self.reasons.iter().any(helps);
        if failed && !matches!(self.state, PushState::Running | PushState::Cancelled) {
            notes.push(Note::Hint(format!("`sifleet push retry {}` tries the failed nodes again", self.id)));
        }
        notes
    }
}

/// Says why a node is not further.
fn why(node: &PushNode) -> String {
    let code = node.code.map(|code| code.name().to_owned());
    [code, node.message.clone()].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

impl Render for PushNodes {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let header: &[&str] = if wide {
            &["NODE", "PHASE", "FETCHED", "REUSED", "RESUMED", "WASTED", "RATE", "FROM", "WHY"]
        } else {
            &["NODE", "PHASE", "FETCHED", "REUSED", "RESUMED", "RATE", "WHY"]
        };
        let mut table = Table::new(header);
        for node in &self.nodes {
            let mut row = vec![
                Cell::new(&node.node).tone(Tone::Strong),
                Cell::new(node.phase.name()).tone(phase(node.phase)),
                Cell::number(human::size(node.fetched)),
                Cell::number(human::size(node.reused)),
                Cell::number(human::size(node.resumed)),
            ];
            if wide {
                row.push(Cell::number(human::size(node.wasted)));
            }
            row.push(Cell::number(if node.rate > 0 { human::rate(node.rate) } else { String::new() }));
            if wide {
                let from = node.sources.iter().map(|one| format!("{} {}", one.node, human::size(one.bytes)));
                row.push(Cell::new(from.collect::<Vec<_>>().join(", ")));
            }
            row.push(Cell::new(why(node)).tone(Tone::Faint));
            table.row(row);
        }
        vec![Block::Table(table)]
    }

    fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.node.clone()).collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&[
            "node", "phase", "code", "message", "fetched", "reused", "resumed", "wasted", "started", "ended",
        ]);
        for node in &self.nodes {
            csv.row(vec![
                node.node.clone(),
                node.phase.name().into(),
                node.code.map(|code| code.name().to_owned()).unwrap_or_default(),
                node.message.clone().unwrap_or_default(),
                node.fetched.to_string(),
                node.reused.to_string(),
                node.resumed.to_string(),
                node.wasted.to_string(),
                node.started.clone().unwrap_or_default(),
                node.ended.clone().unwrap_or_default(),
            ]);
        }
        csv
    }
}

#[cfg(test)]
mod tests;
