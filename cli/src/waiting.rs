//! Waits for what a person or the system says meanwhile: Ctrl-C, a key, or that a while has passed.
//!
//! Outside facts: termios(3): without ICANON keys arrive one by one; ISIG stays, so that Ctrl-C is a signal.

use std::io::{self, IsTerminal as _, Read as _};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Waits for a while, between two attempts.
pub(crate) fn pause(duration: Duration) {
    let (keep, never) = sync_channel::<()>(1);
    match never.recv_timeout(duration) {
        Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => drop(keep),
    }
}

/// From here on Ctrl-C and SIGTERM no longer end the program but are sent on.
///
/// # Errors
/// When signals cannot be heard.
pub(crate) fn signals<T: Send + 'static>(tell: SyncSender<T>, news: fn() -> T) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    // Ends with the program, or with whoever listens.
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            if tell.send(news()).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// A terminal that sends each key at once and shows none, until this is dropped.
pub(crate) struct Keys(Termios);

impl Keys {
    /// Sends on that `key` was pressed; none where standard input is no terminal.
    ///
    /// # Errors
    /// When the terminal cannot be set.
    pub(crate) fn listen<T: Send + 'static>(
        key: u8,
        tell: SyncSender<T>,
        news: fn() -> T,
    ) -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut after = before.clone();
        after.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        let keys = Self(before);
        tcsetattr(io::stdin(), OptionalActions::Now, &after)?;
        std::thread::Builder::new().name("keys".into()).spawn(move || {
            let mut pressed = [0];
            while io::stdin().read_exact(&mut pressed).is_ok() {
                if pressed == [key] && tell.send(news()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Some(keys))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        tcsetattr(io::stdin(), OptionalActions::Now, &self.0).unwrap_or_default();
    }
}
