//! Who waits for a look at everything below all roots, and is told once what was found has been passed on.

use std::sync::{Arc, Weak};

use tokio::sync::{mpsc, oneshot};

use crate::watch::asked::Asked;

/// Most reconciliations that somebody waits for at once: a root that hangs ends none of them.
pub(super) const MOST_ASKED: usize = 8;

/// The reconciliations that somebody waits for.
pub(super) struct Asking {
    done: mpsc::Sender<oneshot::Sender<()>>,
    under_way: Vec<Weak<Asked>>,
    /// Those that ended, while changes wait to be passed on.
    ended: Vec<oneshot::Sender<()>>,
}

impl Asking {
    /// Makes the list, and the end at which is heard what has come to its end.
    pub(super) fn new() -> (Self, mpsc::Receiver<oneshot::Sender<()>>) {
        let (done, asked) = mpsc::channel(MOST_ASKED);
        (Self { done, under_way: Vec::new(), ended: Vec::new() }, asked)
    }

    /// Begins one; whoever asked is told nothing if there are too many.
    pub(super) fn begin(&mut self, reply: oneshot::Sender<()>) -> Option<Arc<Asked>> {
        self.under_way.retain(|asked| asked.strong_count() > 0);
        if self.under_way.len() >= MOST_ASKED {
            return None;
        }
        let asked = Arc::new(Asked::new(reply, self.done.clone()));
        self.under_way.push(Arc::downgrade(&asked));
        Some(asked)
    }

    /// Notes that every root was looked at.
    pub(super) fn ended(&mut self, reply: oneshot::Sender<()>) {
        self.ended.push(reply);
    }

    /// Tells those whose reconciliation ended; every change has been passed on.
    pub(super) fn answer(&mut self) {
        for reply in self.ended.drain(..) {
            // Whoever asked may have gone.
            reply.send(()).unwrap_or_default();
        }
    }
}
