//! A look at everything that somebody waits for: each root holds a share until it has looked, and the last one says so.

use tokio::sync::{mpsc, oneshot};

/// What is shared by the roots that are still to be looked at.
#[derive(Debug)]
pub struct Asked {
    reply: Option<oneshot::Sender<()>>,
    done: mpsc::Sender<oneshot::Sender<()>>,
}

impl Asked {
    /// Notes whom to tell, and by which way.
    #[must_use]
    pub fn new(reply: oneshot::Sender<()>, done: mpsc::Sender<oneshot::Sender<()>>) -> Self {
        Self { reply: Some(reply), done }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            // Where there is no room nobody is told, which is not the same as being told that it is done.
            drop(self.done.try_send(reply));
        }
    }
}
