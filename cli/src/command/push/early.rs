//! Ctrl-C before there is a push to watch: says that nothing was begun, and ends the program.
//!
//! A thread of its own, because the program may be waiting for an answer that takes minutes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::sync_channel;

use crate::outcome::Outcome;
use crate::output::{Format, Note, Screen};
use crate::waiting;

/// Nothing is asked for yet.
const PREPARING: u8 = 0;
/// The push is asked for, and no answer is there.
const BEGINNING: u8 = 1;
/// There is a push; whoever watches it listens too.
const BEGUN: u8 = 2;
/// The program is about to end.
const ENDING: u8 = 3;

/// Listens until the push is there.
pub(super) struct Early(Arc<AtomicU8>);

impl Early {
    /// Begins to listen; `uploads` tells whether a file is to be sent first.
    ///
    /// # Errors
    /// When signals cannot be heard.
    pub(super) fn listen(uploads: bool) -> io::Result<Self> {
        let (tell, news) = sync_channel(1);
        waiting::signals(tell, || ())?;
        let stage = Arc::new(AtomicU8::new(PREPARING));
        let seen = Arc::clone(&stage);
        std::thread::Builder::new().name("early".into()).spawn(move || {
            while news.recv().is_ok() && seen.load(Ordering::SeqCst) != BEGUN {
                let nothing = seen.compare_exchange(PREPARING, ENDING, Ordering::SeqCst, Ordering::SeqCst);
                end(nothing.is_ok(), uploads);
            }
        })?;
        Ok(Self(stage))
    }

    /// Takes note that the push is asked for from here on; never returns where the program is about to end.
    pub(super) fn begin(&self) {
        let going_on = self.0.compare_exchange(PREPARING, BEGINNING, Ordering::SeqCst, Ordering::SeqCst);
        while going_on.is_err() {
            std::thread::park();
        }
    }

    /// Takes note that there is a push.
    pub(super) fn begun(&self) {
        self.0.store(BEGUN, Ordering::SeqCst);
    }
}

#[expect(clippy::exit, reason = "the thread that would return may be waiting for the network for minutes")]
fn end(nothing: bool, uploads: bool) {
    let (words, outcome) = match (nothing, uploads) {
        (true, true) => {
            ("nothing is pushed yet; run it again: the upload goes on where it was", Outcome::Interrupted)
        }
        (true, false) => ("nothing is pushed yet; run it again", Outcome::Interrupted),
        (false, _) => ("the push was asked for and may have begun: see `sifleet push ls`", Outcome::Partial),
    };
    // Kept until the end: what the program is doing meanwhile says nothing after the hint.
    let _last_word = io::stderr().lock();
    Screen::of_process(Format::Table).tell(&[Note::Hint(words.to_owned())]);
    std::process::exit(outcome.code().into())
}
