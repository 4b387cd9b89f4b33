//! How tokens look. A secret is shown only where it is made.

use sifleet_common::api::tokens::{TokenBody, TokenCreated, TokenList, TokenState};

use super::text::{Block, Cell, Csv, Note, Table, Tone};
use super::{Render, human};

fn state(state: TokenState) -> Cell {
    let tone = match state {
        TokenState::Good => Tone::Good,
        TokenState::Expired => Tone::Faint,
        TokenState::Revoked => Tone::Unsure,
    };
    Cell::new(state.name()).tone(tone)
}

fn csv(tokens: &[TokenBody]) -> Csv {
    let mut csv = Csv::new(&["id", "name", "role", "state", "created", "expires", "last_used", "revoked"]);
    for token in tokens {
        csv.row(vec![
            token.id.clone(),
            token.name.clone(),
            token.role.name().to_owned(),
            token.state.name().to_owned(),
            token.created.clone(),
            token.expires.clone(),
            token.last_used.clone().unwrap_or_default(),
            token.revoked.clone().unwrap_or_default(),
        ]);
    }
    csv
}

impl Render for TokenList {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let mut table = Table::new(&["ID", "NAME", "ROLE", "STATE", "EXPIRES", "LAST USED"]);
        for token in &self.tokens {
            let used = token.last_used.as_ref();
            let used = used.map_or_else(|| "never".to_owned(), |at| human::age(at, &self.as_of));
            table.row(vec![
                Cell::new(&token.id).tone(Tone::Strong),
                Cell::long(&token.name, wide),
                Cell::new(token.role.name()),
                state(token.state),
                Cell::new(token.expires.get(..10).unwrap_or(&token.expires)),
                Cell::number(used),
            ]);
        }
        if table.is_empty() {
            return vec![Block::Line(vec![Cell::new("there are no tokens")])];
        }
        vec![Block::Table(table)]
    }

    fn names(&self) -> Vec<String> {
        self.tokens.iter().map(|token| token.id.clone()).collect()
    }

    fn csv(&self) -> Csv {
        csv(&self.tokens)
    }
}

impl Render for TokenBody {
    fn blocks(&self, _wide: bool) -> Vec<Block> {
        let rest = format!(" {} ({}), until {}: ", self.name, self.role.name(), self.expires);
        vec![Block::Line(vec![Cell::new(&self.id).tone(Tone::Strong), Cell::new(rest), state(self.state)])]
    }

    fn names(&self) -> Vec<String> {
        vec![self.id.clone()]
    }

    fn csv(&self) -> Csv {
        csv(std::slice::from_ref(self))
    }
}

impl Render for TokenCreated {
    fn blocks(&self, wide: bool) -> Vec<Block> {
        let mut blocks = vec![Block::Line(vec![Cell::new(&self.secret).tone(Tone::Strong)])];
        blocks.extend(self.token.blocks(wide));
        blocks
    }

    fn names(&self) -> Vec<String> {
        vec![self.secret.clone()]
    }

    fn csv(&self) -> Csv {
        let mut csv = Csv::new(&["id", "secret"]);
        csv.row(vec![self.token.id.clone(), self.secret.clone()]);
        csv
    }

    fn notes(&self) -> Vec<Note> {
        let once = "the secret is shown this one time: put it into a file that only its reader may read, and name that \
                    in SIFLEET_TOKEN_FILE";
        vec![Note::Hint(once.to_owned())]
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use sifleet_common::role::Role;

    use super::*;
    use crate::output::text::layout;

    fn token(name: &str) -> TokenBody {
        TokenBody {
            id: "t-000042".to_owned(),
            name: name.to_owned(),
            role: Role::Operator,
            state: TokenState::Good,
            created: "2026-11-21T10:00:00.000Z".to_owned(),
            expires: "2027-02-19T10:00:00.000Z".to_owned(),
            last_used: Some("2026-11-21T10:28:00.000Z".to_owned()),
            revoked: None,
        }
    }

    #[test]
    fn a_list_says_what_tokens_are_for_and_until_when() {
        let list = TokenList {
            tokens: vec![token("dash\u{1b}[31m\nboard")],
            as_of: "2026-11-21T10:30:00.000Z".to_owned(),
        };
        let shown = strip_str(&layout(&list.blocks(false))).to_string();
        assert!(
            shown.contains("t-000042") && shown.contains("operator") && shown.contains("2027-02-19"),
            "{shown}"
        );
        assert!(!shown.contains('\u{1b}') && shown.lines().count() == 2, "{shown}");
        assert_eq!(list.names(), ["t-000042"]);
    }

    #[test]
    fn a_secret_is_shown_where_it_is_made() {
        let made = TokenCreated { token: token("dashboard"), secret: "sifleet_42_00".to_owned() };
        assert_eq!(made.names(), ["sifleet_42_00"]);
        assert!(strip_str(&layout(&made.blocks(false))).to_string().starts_with("sifleet_42_00\n"));
        assert_eq!(made.notes().len(), 1);
    }
}
