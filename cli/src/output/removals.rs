//! How removals look: plans, lists, one removal.

use sifleet_common::api::removals::{RemovalBody, RemovalList, RemovalPlan, RemovalReason, RemovalState};
use sifleet_common::removal::RemovalPhase;

use super::text::{Block, Cell, Csv, Note, Table, Tone};
use super::{Render, human};

fn tone(state: RemovalState) -> Tone {
    match state {
        RemovalState::Running => Tone::Strong,
        RemovalState::Done => Tone::Good,
        RemovalState::Partial => Tone::Warn,
        RemovalState::Failed => Tone::Bad,
        RemovalState::Cancelled => Tone::Unsure,
    }
}

fn phase(phase: RemovalPhase) -> Tone {
    match phase {
        RemovalPhase::Done => Tone::Good,
        RemovalPhase::Failed => Tone::Bad,
        RemovalPhase::Deferred | RemovalPhase::Cancelled => Tone::Unsure,
        RemovalPhase::Waiting => Tone::Faint,
        RemovalPhase::Removing => Tone::Plain,
    }
}

fn done(removal: &RemovalBody) -> u32 {
    removal.phases.iter().filter(|one| one.phase == RemovalPhase::Done).map(|one| one.count).sum()
}

/// Says in one line how far a removal is.
pub(crate) fn gone_from(removal: &RemovalBody) -> String {
    let phases = removal.phases.iter().filter(|one| one.phase != RemovalPhase::Done);
    let rest: Vec<String> = phases.map(|one| format!("{} {}", one.count, one.phase)).collect();
    let rest = if rest.is_empty() { String::new() } else { format!("; {}", rest.join(", ")) };
    let line =
        format!("{}: gone from {} of {}{rest}", removal.id, done(removal), human::nodes(removal.nodes));
    super::safe_line(&line)
}

fn reasons(list: &[RemovalReason], wide: bool) -> Table {
    let mut table = Table::new(&[]).indented();
    for reason in list {
        table.row(vec![
            Cell::new(&reason.code).tone(Tone::Bad),
            Cell::number(reason.count),
            Cell::long(&reason.nodes, wide),
            Cell::new(&reason.message).tone(Tone::Faint),
        ]);
    }
    table
}

fn hints(list: &[RemovalReason]) -> Vec<Note> {
    let hints = list.iter().filter(|reason| !reason.hint.is_empty() && reason.hint != "nothing");
    hints.map(|reason| Note::Hint(format!("{} ({}): {}", reason.code, reason.nodes, reason.hint))).collect()
}

impl Render for RemovalPlan {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let mut table = Table::new(&[]).indented();
        let mut line = |name: &str, text: &str, tone: Tone| {
            if !text.is_empty() {
                table.row(vec![Cell::new(name).tone(Tone::Faint), Cell::long(text, wide).tone(tone)]);
            }
        };
        line("nodes", &self.nodes, Tone::Plain);
        line("do not have it", &self.absent, Tone::Faint);
        line("hold another version", &self.others, Tone::Faint);
        line("away, lose it later", &self.deferred, Tone::Unsure);
        line("still have it afterwards", &self.left, Tone::Good);
        let bytes = format!("{}, {}", human::digest(&self.digest, wide), human::size(self.size));
        line("image", &bytes, Tone::Plain);
        let said = format!(" goes from {}: {}", human::nodes(self.count), human::size(self.bytes));
        let title = Cell::new(&self.image).tone(Tone::Strong);
        let refused = reasons(&self.refused, wide);
        vec![Block::Line(vec![title, Cell::new(said)]), Block::Table(table), Block::Table(refused)]
    }

    fn names(&self) -> Vec<String> {
        Some(self.nodes.clone()).filter(|nodes| !nodes.is_empty()).into_iter().collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&[
            "image", "digest", "size", "nodes", "count", "absent", "deferred", "bytes", "left", "last",
            "others",
        ]);
        csv.row(vec![
            self.image.clone(),
            self.digest.clone(),
            self.size.to_string(),
            self.nodes.clone(),
            self.count.to_string(),
            self.absent.clone(),
            self.deferred.clone(),
            self.bytes.to_string(),
            self.left.clone(),
            self.last.to_string(),
            self.others.clone(),
        ]);
        csv
    }

    fn notes(&self) -> Vec<Note> {
        let last = "no ready replica of the image would be left in the cluster; that needs --force";
        let last = self.last.then(|| Note::Warning(last.to_owned()));
        last.into_iter().chain(hints(&self.refused)).collect()
    }
}

impl Render for RemovalList {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let mut table = Table::new(&["ID", "IMAGE", "STATE", "DONE", "NODES", "FREED", "AGE"]);
        for removal in &self.removals {
            table.row(vec![
                Cell::new(&removal.id).tone(Tone::Strong),
                Cell::long(&removal.image, wide),
                Cell::new(removal.state.name()).tone(tone(removal.state)),
                Cell::number(done(removal)),
                Cell::number(removal.nodes),
                Cell::number(human::size(removal.freed)),
                Cell::number(human::age(&removal.created, &self.as_of)),
            ]);
        }
        if table.is_empty() {
            return vec![Block::Line(vec![Cell::new("no removals are kept")])];
        }
        vec![Block::Table(table)]
    }

    fn names(&self) -> Vec<String> {
        self.removals.iter().map(|removal| removal.id.clone()).collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&[
            "id", "image", "digest", "state", "done", "nodes", "files", "freed", "created", "ended",
        ]);
        for removal in &self.removals {
            csv.row(vec![
                removal.id.clone(),
                removal.image.clone(),
                removal.digest.clone(),
                removal.state.name().to_owned(),
                done(removal).to_string(),
                removal.nodes.to_string(),
                removal.files.to_string(),
                removal.freed.to_string(),
                removal.created.clone(),
                removal.ended.clone().unwrap_or_default(),
            ]);
        }
        csv
    }
}

impl Render for RemovalBody {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let mut phases = Table::new(&[]).indented();
        for one in &self.phases {
            phases.row(vec![
                Cell::new(one.phase.name()).tone(phase(one.phase)),
                Cell::number(one.count),
                Cell::long(&one.nodes, wide),
            ]);
        }
        let freed = format!(
            " — gone from {} of {}, {}",
            done(self),
            human::nodes(self.nodes),
            human::size(self.freed)
        );
        vec![
            Block::Line(vec![
                Cell::new(format!("removal {}: ", self.id)),
                Cell::new(&self.image).tone(Tone::Strong),
                Cell::new(": "),
                Cell::new(self.state.name()).tone(tone(self.state)),
                Cell::new(freed),
            ]),
            Block::Table(phases),
            Block::Table(reasons(&self.reasons, wide)),
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
        hints(&self.reasons)
    }
}
