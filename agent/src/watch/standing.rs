//! Whether a thread that does not move is held up by the system, or by the agent itself.
//!
//! A root on a dead file server holds its owner up for as long as the server is dead. To start the agent again would not
//! mend that, and would take the other roots' answers away with it; the kernel does not even end a thread that waits
//! there. A thread that waits for another one or runs in circles is another matter: that is what the watchdog is for.
//! In doubt it is the system. Outside facts: proc_pid_syscall(5), proc_pid_task(5).

use std::path::Path;

use rustix::thread::Pid;

/// The threads of this process.
const THREADS: &str = "/proc/self/task";
/// Calls in which a thread waits for others of the process, or for the network, but for no file.
const IDLE: &[libc::c_long] = &[
    libc::SYS_futex,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_restart_syscall,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

/// Where a thread is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It runs, or could.
    Running,
    /// It waits for another thread, or for the network.
    Idle,
    /// It is in another call: for all that is known, a file system has not answered.
    System,
}

/// Tells whether a thread that has not moved for long is held up by the agent itself.
pub(super) fn is_our_fault(thread: Pid) -> bool {
    judge(place(&Path::new(THREADS).join(thread.to_string())), || {
        let Ok(threads) = std::fs::read_dir(THREADS) else { return true };
        threads.flatten().any(|other| place(&other.path()) == Place::System)
    })
}

/// A thread that waits for one that waits for a file system is held up by the file system too: the watcher's thread
/// resolves paths for the owner, and whoever writes to the memory keeps others from it.
fn judge(place: Place, is_another_in_the_system: impl FnOnce() -> bool) -> bool {
    match place {
        Place::Running => true,
        Place::Idle => !is_another_in_the_system(),
        Place::System => false,
    }
}

fn place(thread: &Path) -> Place {
    let text = std::fs::read_to_string(thread.join("syscall")).unwrap_or_default();
    match text.split_whitespace().next() {
        Some("running") => Place::Running,
        // -1 is a thread that waits outside of a call: for a page of a mapped file.
        Some(number) if number.parse().is_ok_and(|number| IDLE.contains(&number)) => Place::Idle,
        Some(_) | None => Place::System,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::sync_channel;
    use std::time::{Duration, Instant};

    use super::*;

    /// Runs `work` on a thread, and waits until that thread is seen where it belongs.
    #[track_caller]
    fn check(expected: Place, work: impl FnOnce() + Send + 'static) {
        let (tell, told) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid()).unwrap();
            work();
        });
        let task = Path::new(THREADS).join(told.recv().unwrap().to_string());
        let give_up = Instant::now() + Duration::from_secs(60);
        while place(&task) != expected {
            assert!(!thread.is_finished() && Instant::now() < give_up, "never seen as {expected:?}");
            std::thread::yield_now();
        }
        drop(thread);
    }

    #[test]
    fn a_thread_that_waits_for_a_file_is_told_from_one_that_waits_for_another_thread_and_one_that_runs() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        // Nobody ever writes to it.
        let file = pipe.clone();
        check(Place::System, move || drop(std::fs::File::open(file)));
        let (held, never) = sync_channel::<()>(0);
        check(Place::Idle, move || assert!(never.recv().is_err()));
        drop(held);
        static STOP: AtomicBool = AtomicBool::new(false);
        check(Place::Running, || {
            while !STOP.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        STOP.store(true, Ordering::Relaxed);
        drop(std::fs::OpenOptions::new().write(true).open(&pipe).unwrap());
    }

    #[test]
    fn only_who_runs_in_circles_or_waits_for_nothing_is_at_fault() {
        for (place, another_in_the_system, expected) in [
            (Place::Running, true, true),
            (Place::Running, false, true),
            (Place::Idle, false, true),
            (Place::Idle, true, false),
            (Place::System, false, false),
        ] {
            assert_eq!(judge(place, || another_in_the_system), expected, "{place:?} {another_in_the_system}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_fault() {
        assert_eq!(place(Path::new("/nowhere")), Place::System);
    }
}
