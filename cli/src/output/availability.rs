//! How `sifleet available` looks.

use sifleet_common::api::availability::{Availability, DigestNodes, Reason};
use sifleet_common::availability::{NodeAnswer, Satisfied, Verdict};

use super::text::{Block, Cell, Csv, Note, Table, Tone};
use super::{Render, human};

/// The answers in the order in which they are shown, with their words.
const ANSWERS: [(NodeAnswer, &str, Tone); 4] = [
    (NodeAnswer::Ready, "ready", Tone::Good),
    (NodeAnswer::Outdated, "outdated", Tone::Warn),
    (NodeAnswer::Missing, "missing", Tone::Bad),
    (NodeAnswer::Unknown, "unknown", Tone::Unsure),
];

/// Returns the word and meaning of a verdict.
pub(super) fn verdict(verdict: Verdict) -> (&'static str, Tone) {
    match verdict {
        Verdict::Ready => ("ready", Tone::Good),
        Verdict::Partial => ("partial", Tone::Warn),
        Verdict::Missing => ("missing", Tone::Bad),
        Verdict::Unknown => ("unknown", Tone::Unsure),
    }
}

/// Says in one line who holds which bytes.
pub(super) fn holders(digests: &[DigestNodes], wide: bool) -> String {
    let each = digests.iter().map(|one| format!("{} on {}", human::digest(&one.digest, wide), one.nodes));
    each.collect::<Vec<_>>().join("; ")
}

fn of(answer: &Availability, which: NodeAnswer) -> (u32, &str) {
    match which {
        NodeAnswer::Ready => (answer.counts.ready, &answer.nodes.ready),
        NodeAnswer::Outdated => (answer.counts.outdated, &answer.nodes.outdated),
        NodeAnswer::Missing => (answer.counts.missing, &answer.nodes.missing),
        NodeAnswer::Unknown => (answer.counts.unknown, &answer.nodes.unknown),
    }
}

/// Lists nodes by what there is to say about them: for ready ones where the file is, else why not.
fn details(answer: &Availability, which: NodeAnswer) -> Vec<(u32, &str, String)> {
    if which == NodeAnswer::Ready {
        return answer
            .paths
            .iter()
            .map(|path| (path.count, path.nodes.as_str(), path.path.clone()))
            .collect();
    }
    let reasons = answer.reasons.iter().filter(|reason| reason.answer == which);
    reasons.map(|reason| (reason.count, reason.nodes.as_str(), why(reason))).collect()
}

fn why(reason: &Reason) -> String {
    if reason.message.is_empty() { reason.code.clone() } else { reason.message.clone() }
}

impl Render for Availability {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let (word, tone) = verdict(self.verdict);
        let nodes = self.counts.nodes();
        let mut said = if nodes == 0 {
            " — the partition has no nodes".to_owned()
        } else {
            format!(" — {} of {} ready", self.counts.ready, human::nodes(nodes))
        };
        if self.require != "all" {
            said.push_str(&format!(", {} required", self.require));
        }
        let mut table = Table::new(&[]).indented();
        for (which, word, tone) in ANSWERS {
            let (count, nodes) = of(self, which);
            if count == 0 {
                continue;
            }
            let details = details(self, which);
            let only = match details.as_slice() {
                [(_, _, text)] => text.as_str(),
                _ => "",
            };
            table.row(vec![
                Cell::new(word).tone(tone),
                Cell::number(count),
                Cell::new(nodes),
                Cell::new(only).tone(Tone::Faint),
            ]);
            for (count, nodes, text) in details.iter().filter(|_| details.len() > 1) {
                let nodes = format!("  {nodes} ({count})");
                table.row(vec![
                    Cell::new(""),
                    Cell::new(""),
                    Cell::new(nodes),
                    Cell::new(text).tone(Tone::Faint),
                ]);
            }
        }
        let title = Cell::new(&self.image).tone(Tone::Strong);
        let mut blocks = vec![
            Block::Line(vec![
                title,
                Cell::new(format!(" on {}: ", self.partition)),
                Cell::new(word).tone(tone),
                Cell::new(said),
            ]),
            Block::Table(table),
        ];
        if wide {
            blocks.push(Block::Table(evidence(self)));
        }
        blocks
    }

    fn names(&self) -> Vec<String> {
        Some(self.nodes.ready.clone()).filter(|nodes| !nodes.is_empty()).into_iter().collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&["answer", "count", "nodes", "detail"]);
        for (which, word, _) in ANSWERS {
            let (count, nodes) = of(self, which);
            let details = details(self, which);
            for (count, nodes, text) in &details {
                csv.row(vec![word.into(), count.to_string(), (*nodes).into(), text.clone()]);
            }
            if details.is_empty() && count > 0 {
                csv.row(vec![word.into(), count.to_string(), nodes.into(), String::new()]);
            }
        }
        csv
    }

    fn notes(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        if self.membership.stale {
            notes.push(Note::Warning(format!(
                "the nodes of {} are as of {} ago: {}",
                self.partition,
                human::age(&self.membership.as_of, &self.as_of),
                self.membership.reason.as_deref().unwrap_or("their source does not answer")
            )));
        }
        if self.digests.len() > 1 {
            notes.push(Note::Warning(format!("drift: {}", holders(&self.digests, false))));
        }
        for degraded in &self.degraded {
            notes.push(Note::Warning(format!("{} is degraded: {}", degraded.nodes, degraded.reason)));
        }
        if self.satisfied != Satisfied::Yes {
            notes.extend(hint(self).map(Note::Hint));
        }
        notes
    }
}

fn evidence(answer: &Availability) -> Table {
    let mut table = Table::new(&[]).indented();
    let mut line =
        |name: &str, text: String| table.row(vec![Cell::new(name).tone(Tone::Faint), Cell::new(text)]);
    line("expected", answer.expected_digest.clone().unwrap_or_else(|| "any digest of this name".to_owned()));
    for digest in &answer.digests {
        line("digest", format!("{} on {} ({})", digest.digest, digest.nodes, digest.count));
    }
    let age = human::age(&answer.membership.as_of, &answer.as_of);
    line("nodes from", format!("{}, {age} ago", answer.membership.source));
    line("as of", format!("{}, generation {}", answer.as_of, answer.generation));
    table
}

fn hint(answer: &Availability) -> Option<String> {
    let counts = answer.counts;
    if counts.nodes() == 0 {
        return Some(format!(
            "`sifleet partition show {}` tells where its list of nodes comes from",
            answer.partition
        ));
    }
    if counts.ready > 0 {
        return Some(format!(
            "a job that may run on ready nodes alone asks with --require any: {}",
            answer.nodes.ready
        ));
    }
    if counts.unknown > 0 {
        return Some(format!("`sifleet node ls` tells why nothing is known of {}", answer.nodes.unknown));
    }
    Some(format!("`sifleet image show {}` tells where the image is", answer.image))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{availability, both, plain};
    use super::*;

    #[test]
    fn a_partial_answer_names_every_node_and_the_reason() {
        let mut answer = availability();
        answer.membership.stale = true;
        answer.membership.reason = Some("slurm: sinfo took longer than 10 s".to_owned());
        assert_eq!(
            both(&answer, false),
            "\
vnc_desktop.sif on viz: partial — 1 of 4 nodes ready
  ready    1  viz001        /opt/apptainers/vnc_desktop.sif
  missing  1  viz002        no file of this name below any root
  unknown  2  viz[003-004]
                viz003 (1)  no sign of life for 42 s; it held blake3:0123456789ab
                viz004 (1)  never seen
---
warning: the nodes of viz are as of 60s ago: slurm: sinfo took longer than 10 s
warning: drift: blake3:000000000000 on viz001; blake3:111111111111 on viz003
warning: viz001 is degraded: no inotify watches left
hint: a job that may run on ready nodes alone asks with --require any: viz001
"
        );
    }

    #[test]
    fn a_satisfied_answer_gives_no_hint() {
        let mut answer = availability();
        answer.require = "any".into();
        answer.satisfied = Satisfied::Yes;
        answer.degraded.clear();
        answer.digests.truncate(1);
        assert!(
            plain(&answer, false)
                .starts_with("vnc_desktop.sif on viz: partial — 1 of 4 nodes ready, any required\n")
        );
        assert_eq!(answer.notes(), []);
    }

    #[test]
    fn wide_shows_the_evidence() {
        let shown = plain(&availability(), true);
        for line in ["expected    blake3:0000", "nodes from  slurm, 60s ago", "generation 7"] {
            assert!(shown.contains(line), "{line}: {shown}");
        }
    }

    #[test]
    fn names_and_rows_are_for_programs() {
        let answer = availability();
        assert_eq!(answer.names(), ["viz001"]);
        assert_eq!(
            answer.csv().to_string(),
            "\
answer,count,nodes,detail
ready,1,viz001,/opt/apptainers/vnc_desktop.sif
missing,1,viz002,no file of this name below any root
unknown,1,viz003,no sign of life for 42 s; it held blake3:0123456789ab
unknown,1,viz004,never seen
"
        );
    }

    #[test]
    fn an_empty_partition_is_said_to_be_empty() {
        let mut answer = availability();
        answer.counts = Default::default();
        answer.verdict = Verdict::Missing;
        assert!(
            plain(&answer, false)
                .starts_with("vnc_desktop.sif on viz: missing — the partition has no nodes\n")
        );
    }
}
