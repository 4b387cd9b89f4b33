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

impl Render for EnrolmentsCreated {
    fn blocks(&self, _wide: bool) -> Vec<Block> {
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
        let command = format!(
            "on each node, with its token in a file, until {until}: sifleet-agent enrol --coordinator {} --ca-pin {} \
             --token-file FILE",
            self.coordinator, self.ca_pin
        );
        vec![Note::Hint(command)]
    }
}
