//! How tokens look with which nodes enrol. A secret is shown only where it is made.

use sifleet_common::api::enrolments::{EnrolmentBody, EnrolmentList, EnrolmentsCreated};

use super::Render;
use super::text::{Block, Cell, Csv, Note, Table, Tone};

fn state(token: &EnrolmentBody) -> Cell {
    let tone = match token.state.as_str() {
        "waiting" => Tone::Good,
        "used" => Tone::Faint,
        _ => Tone::Unsure,
    };
    Cell::new(&token.state).tone(tone)
}

impl Render for EnrolmentList {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let mut table = Table::new(&["ID", "NODE", "STATE", "EXPIRES", "FROM", "USED"]);
        for token in &self.tokens {
            let used = [&token.used, &token.used_from].into_iter().flatten().cloned().collect::<Vec<_>>();
            table.row(vec![
                Cell::new(&token.id).tone(Tone::Strong),
                Cell::long(&token.node, wide),
                state(token),
                Cell::new(&token.expires),
                Cell::long(&token.from.join(" "), wide),
                Cell::long(&used.join(" from "), wide),
            ]);
        }
        if table.is_empty() {
            return vec![Block::Line(vec![Cell::new("there are no tokens for nodes")])];
        }
        vec![Block::Table(table)]
    }

    fn names(&self) -> Vec<String> {
        self.tokens.iter().map(|token| token.id.clone()).collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&["id", "node", "state", "created", "expires", "from", "used", "used_from"]);
        for token in &self.tokens {
            csv.row(vec![
                token.id.clone(),
                token.node.clone(),
                token.state.clone(),
                token.created.clone(),
                token.expires.clone(),
                token.from.join(" "),
                token.used.clone().unwrap_or_default(),
                token.used_from.clone().unwrap_or_default(),
            ]);
        }
        csv
    }
}

impl Render for EnrolmentBody {
    fn blocks(&self, _wide: bool) -> Vec<Block> {
        let rest = format!(" for {}, until {}: ", self.node, self.expires);
        vec![Block::Line(vec![Cell::new(&self.id).tone(Tone::Strong), Cell::new(rest), state(self)])]
    }

    fn names(&self) -> Vec<String> {
        vec![self.id.clone()]
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&["id", "node", "state"]);
        csv.row(vec![self.id.clone(), self.node.clone(), self.state.clone()]);
        csv
    }
}

/// Returns the line that enrols a node. The token comes by a pipe: arguments can be seen by everybody on the node.
fn line(made: &EnrolmentsCreated, token: &str) -> String {
    let quote = if made.coordinator.starts_with('[') { "'" } else { "" };
    format!(
        "echo {token} | sifleet-agent enrol --coordinator {quote}{}{quote} --ca-pin {} --token-file -",
        made.coordinator, made.ca_pin
    )
}

impl Render for EnrolmentsCreated {
    fn blocks(&self, _wide: bool) -> Vec<Block> {
        // For one node what is to be run there, and nothing else: it can be sent on as it is.
        if let [made] = self.tokens.as_slice() {
            return vec![Block::Line(vec![Cell::new(line(self, &made.secret))])];
        }
        let mut table = Table::new(&["NODE", "TOKEN"]);
        for made in &self.tokens {
            table.row(vec![Cell::new(&made.token.node).tone(Tone::Strong), Cell::new(&made.secret)]);
        }
        vec![Block::Table(table)]
    }

    fn names(&self) -> Vec<String> {
        self.tokens.iter().map(|made| made.secret.clone()).collect()
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&["node", "secret", "expires", "coordinator", "ca_pin"]);
        for made in &self.tokens {
            csv.row(vec![
                made.token.node.clone(),
                made.secret.clone(),
                made.token.expires.clone(),
                self.coordinator.clone(),
                self.ca_pin.clone(),
            ]);
        }
        csv
    }

    fn notes(&self) -> Vec<Note> {
        let until = self.tokens.first().map(|made| made.token.expires.clone()).unwrap_or_default();
        let text = if let [made] = self.tokens.as_slice() {
            format!("run this on {} as root until {until}; it serves once", made.token.node)
        } else {
            let line = line(self, "TOKEN");
            format!("run this on each node as root until {until}, its own token in place of TOKEN: {line}")
        };
        vec![Note::Hint(text)]
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use sifleet_common::api::enrolments::EnrolmentCreated;

    use super::*;
    use crate::output::text::layout;

    fn made(nodes: &[&str], coordinator: &str) -> EnrolmentsCreated {
        let token = |node: &&str| EnrolmentCreated {
            token: EnrolmentBody {
                id: "0123456789abcdef".to_owned(),
                node: (*node).to_owned(),
                state: "waiting".to_owned(),
                created: "2026-11-21T10:00:00.000Z".to_owned(),
                expires: "2026-11-21T10:10:00.000Z".to_owned(),
                from: vec![],
                used: None,
                used_from: None,
            },
            secret: format!("sifleet_enrol_{node}"),
        };
        EnrolmentsCreated {
            tokens: nodes.iter().map(token).collect(),
            coordinator: coordinator.to_owned(),
            ca_pin: "sha256:8d3f".to_owned(),
        }
    }

    fn shown(made: &EnrolmentsCreated) -> String {
        strip_str(&layout(&made.blocks(false))).to_string()
    }

    fn hint(made: &EnrolmentsCreated) -> String {
        made.notes().iter().map(|note| strip_str(&note.line()).to_string()).collect()
    }

    #[test]
    fn one_node_is_enrolled_by_the_one_line_that_is_printed() {
        let made = made(&["viz001"], "head01:7441");
        let line = "echo sifleet_enrol_viz001 | sifleet-agent enrol --coordinator head01:7441 --ca-pin sha256:8d3f --token-file -";
        assert_eq!(shown(&made), format!("{line}\n"));
        assert!(hint(&made).contains("viz001 as root until 2026-11-21T10:10"), "{}", hint(&made));
    }

    #[test]
    fn many_nodes_have_a_table_and_the_line_without_a_token() {
        let made = made(&["viz001", "viz002"], "[fd00::1]:7441");
        assert!(shown(&made).contains("viz002  sifleet_enrol_viz002"), "{}", shown(&made));
        assert!(hint(&made).contains("echo TOKEN | sifleet-agent enrol --coordinator '[fd00::1]:7441'"));
    }
}
