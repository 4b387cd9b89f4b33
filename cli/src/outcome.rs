//! How the program ends: exit codes, and how a failure is told.
//!
//! The codes are a contract with scripts and are listed in `--help`; they are only ever added to.

use std::fmt::{self, Display, Formatter};
use std::process::ExitCode;

use crate::client::ClientError;
use crate::output::{Note, Screen};

/// The exit codes as `--help` and the manual page show them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0   yes, done
  1   no, or failed
  2   the command line or the question is wrong
  3   partly, or not known
  10  the coordinator cannot be reached
  11  not authorised
  12  no such image, node, partition or push
  13  what arrived is not what was sent, or is no image
  14  too little space
  130 ended by Ctrl-C before anything was begun";

/// Tells how the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The answer is yes, or it is done.
    Yes,
    /// The answer is no, or it failed.
    No,
    /// The command line or the question is wrong.
    Usage,
    /// Some nodes yes and some not, or not known.
    Partial,
    /// The coordinator does not answer.
    Unreachable,
    /// The coordinator refuses.
    Unauthorised,
    /// Nobody ever heard of what was asked for.
    NotFound,
    /// What arrived is not what was sent, or is no image.
    Unverified,
    /// Too little space.
    NoSpace,
    /// Somebody had enough before anything was begun.
    Interrupted,
}

/// What cannot be done, found out on this side: what is wrong and what to do instead.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Wrong {
    what: String,
    hint: String,
    outcome: Outcome,
}

impl Wrong {
    /// Says what is wrong with a command line, and what to write instead.
    pub(crate) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into(), outcome: Outcome::Usage }
    }

    /// Ends the program otherwise than for a wrong command line.
    pub(crate) fn ending(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }
}

/// What this side can add to a refusal of the coordinator: the context of such an error.
#[derive(Debug)]
pub(crate) struct Advice(pub(crate) String);

impl Display for Advice {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Outcome {
    /// Returns the exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Yes => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::Unreachable => 10,
            Self::Unauthorised => 11,
            Self::NotFound => 12,
            Self::Unverified => 13,
            Self::NoSpace => 14,
            Self::Interrupted => 130,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

/// Tells a failure on standard error: what happened, why, and what to do; returns how to end.
pub(crate) fn report(failure: &anyhow::Error, screen: &mut Screen) -> Outcome {
    let known = failure.downcast_ref::<ClientError>();
    let advice = failure.downcast_ref::<Advice>();
    let mut chain = failure.chain().skip(usize::from(advice.is_some())).map(ToString::to_string);
    let mut notes: Vec<Note> = chain.next().map(Note::Error).into_iter().collect();
    notes.extend(chain.map(Note::Because));
    notes.extend(advice.map(|advice| Note::Hint(advice.to_string())));
    notes.extend(known.into_iter().flat_map(ClientError::notes));
    let wrong = failure.downcast_ref::<Wrong>();
    notes.extend(wrong.map(|wrong| Note::Hint(wrong.hint.clone())));
    screen.tell(&notes);
    wrong.map_or_else(|| known.map_or(Outcome::No, ClientError::outcome), |wrong| wrong.outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_documented() {
        for outcome in [
            Outcome::Yes,
            Outcome::No,
            Outcome::Usage,
            Outcome::Partial,
            Outcome::Unreachable,
            Outcome::Unauthorised,
            Outcome::NotFound,
            Outcome::Unverified,
            Outcome::NoSpace,
            Outcome::Interrupted,
        ] {
            let listed = format!("\n  {:<4}", outcome.code());
            assert!(EXIT_CODES.contains(&listed), "{outcome:?}");
        }
    }
}
