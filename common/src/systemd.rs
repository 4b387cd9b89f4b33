//! Conduct of a service: readiness, status, watchdog and signals.
//!
//! Owns what is said to systemd and what is heard from it. Without systemd (no `NOTIFY_SOCKET`) everything here
//! does nothing, quietly. It decides no policy: what stopping or reloading means is up to the daemon.
//! Outside facts: sd_notify(3), sd_watchdog_enabled(3), systemd.service(5) (`Type=notify`, `WatchdogSec`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How often a loop that is alive shows it, at least. The units set `WatchdogSec` to six times this.
pub const BEAT: Duration = Duration::from_secs(10);

/// Says that all listeners are bound and the daemon does its work.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says in one line how it goes; `systemctl status` shows it.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// Says that settings are being read again; [`ready`] is to follow.
pub fn reloading() {
    // systemd 253 and later want the time, so that they can tell this reload's READY=1 from an earlier one.
    match NotifyState::monotonic_usec_now() {
        Ok(time) => notify(&[NotifyState::Reloading, time]),
        Err(error) => debug!(%error, "the monotonic clock cannot be read"),
    }
}

/// Says that the daemon is on its way out.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "systemd cannot be told");
    }
}

/// Hears from each important loop that it still moves; the watchdog is fed only if all of them do.
#[derive(Clone, Debug)]
pub struct Heart {
    loops: Arc<[Loop]>,
}

#[derive(Debug)]
struct Loop {
    name: &'static str,
    moved: AtomicBool,
}

impl Heart {
    /// Makes a heart that waits for these loops.
    #[must_use]
    pub fn new(loops: &[&'static str]) -> Self {
        let waiting = |name: &&'static str| Loop { name, moved: AtomicBool::new(false) };
        Self { loops: loops.iter().map(waiting).collect() }
    }

    /// Says that a loop has moved; it is to do so at least every [`BEAT`], from within the loop.
    ///
    /// A name that was not given to [`Heart::new`] does nothing.
    pub fn beat(&self, name: &str) {
        if let Some(found) = self.loops.iter().find(|candidate| candidate.name == name) {
            found.moved.store(true, Ordering::Relaxed);
        }
    }

    /// Feeds systemd's watchdog until `stop` is cancelled; returns at once where there is none.
    pub async fn feed(self, stop: CancellationToken) {
        if let Some(patience) = sd_notify::watchdog_enabled() {
            let feed = || notify(&[NotifyState::Watchdog]);
            stop.run_until_cancelled(self.feed_within(patience, feed)).await;
        }
    }

    /// Looks four times within the time that systemd waits, so that a loop may miss one look.
    async fn feed_within(self, patience: Duration, mut feed: impl FnMut()) {
        let mut looks = tokio::time::interval((patience / 4).max(Duration::from_millis(1)));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut missed = 0_u32;
        loop {
            looks.tick().await;
            let silent = self.silent();
            if silent.is_empty() {
                self.forget();
                missed = 0;
                feed();
            } else {
                missed = missed.saturating_add(1);
                if missed == 2 {
                    warn!(task = %silent.join(", "), "a loop does not move; the watchdog will end the program");
                }
            }
        }
    }

    fn silent(&self) -> Vec<&'static str> {
        let silent = |entry: &&Loop| !entry.moved.load(Ordering::Relaxed);
        self.loops.iter().filter(silent).map(|entry| entry.name).collect()
    }

    fn forget(&self) {
        self.loops.iter().for_each(|entry| entry.moved.store(false, Ordering::Relaxed));
    }
}

/// What the outside wants of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Stop in good order (SIGTERM, SIGINT). A second one may be taken as "at once".
    Stop,
    /// Read the settings again (SIGHUP).
    Reload,
}

/// Says why signals cannot be heard.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for {name}")]
pub struct SignalError {
    name: &'static str,
    source: io::Error,
}

/// Hears signals, which from its making on do not kill the process.
#[derive(Debug)]
pub struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hangup: Stream,
}

impl Signals {
    /// Begins to listen. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`SignalError`] when the system refuses.
    pub fn listen() -> Result<Self, SignalError> {
        let open = |kind, name| signal(kind).map_err(|source| SignalError { name, source });
        Ok(Self {
            terminate: open(SignalKind::terminate(), "SIGTERM")?,
            interrupt: open(SignalKind::interrupt(), "SIGINT")?,
            hangup: open(SignalKind::hangup(), "SIGHUP")?,
        })
    }

    /// Waits for the next signal. Cancel safe.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    const CHILD: &str = "SIFLEET_TEST_CHILD";
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_watchdog_is_fed_only_when_every_loop_has_moved() {
        let heart = Heart::new(&["watch", "session"]);
        assert_eq!(heart.silent(), ["watch", "session"]);
        heart.beat("watch");
        heart.beat("unknown");
        assert_eq!(heart.silent(), ["session"]);
        heart.beat("session");
        assert!(heart.silent().is_empty());
        heart.forget();
        assert_eq!(heart.silent(), ["watch", "session"]);
    }

    #[tokio::test]
    async fn a_loop_that_stands_still_starves_the_watchdog() {
        let heart = Heart::new(&["alive", "stuck"]);
        let (fed, mut meals) = tokio::sync::mpsc::channel(1);
        let eat = move || assert!(fed.try_send(()).is_ok());
        let alive = heart.clone();
        let beats = async {
            let mut every = tokio::time::interval(Duration::from_millis(1));
            loop {
                every.tick().await;
                alive.beat("alive");
            }
        };
        let until_three_meals = async {
            for _ in 0..3 {
                heart.beat("stuck");
                assert!(meals.recv().await.is_some());
            }
            // From here on nobody beats for it: looks go by, and no meal is served.
            tokio::time::timeout(Duration::from_millis(100), meals.recv()).await
        };
        let feeder = heart.clone().feed_within(Duration::from_millis(8), eat);
        tokio::select! {
            () = feeder => unreachable!("the feeder never ends"),
            () = beats => unreachable!("the loop never ends"),
            end = until_three_meals => assert!(end.is_err(), "fed although a loop stood still"),
        }
    }

    /// Environment and signals belong to a process, so these run in one of their own.
    fn child(name: &str, environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &format!("systemd::tests::{name}"), "--nocapture"]).env(CHILD, "1");
        command.envs(environment.iter().copied());
        command
    }

    #[test]
    fn systemd_is_told_in_its_own_words() {
        if std::env::var_os(CHILD).is_some() {
            ready("up");
            status("halfway");
            reloading();
            stopping();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        let socket_path = path.to_str().unwrap();
        let end =
            child("systemd_is_told_in_its_own_words", &[("NOTIFY_SOCKET", socket_path)]).status().unwrap();
        assert!(end.success());
        let next = || {
            let mut bytes = [0; 200];
            let len = socket.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..len].to_vec()).unwrap()
        };
        assert_eq!(next(), "READY=1\nSTATUS=up\n");
        assert_eq!(next(), "STATUS=halfway\n");
        let reload = next();
        assert!(reload.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reload}");
        assert_eq!(next(), "STOPPING=1\n");
    }

    #[test]
    fn signals_are_heard_as_wishes() {
        if std::env::var_os(CHILD).is_none() {
            assert!(child("signals_are_heard_as_wishes", &[]).status().unwrap().success());
            return;
        }
        let run = async {
            let mut signals = Signals::listen().unwrap();
            for (name, wish) in [("HUP", Signal::Reload), ("TERM", Signal::Stop), ("INT", Signal::Stop)] {
                let own = std::process::id().to_string();
                assert!(Command::new("kill").args(["-s", name, &own]).status().unwrap().success());
                assert_eq!(tokio::time::timeout(LONG, signals.next()).await, Ok(wish), "{name}");
            }
        };
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run);
    }
}
