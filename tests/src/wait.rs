//! Waiting for something to become so, with a deadline, instead of sleeping and hoping.

use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// What one look counts at most: a machine that stood still for a minute has not let anybody do anything.
const MOST: Duration = Duration::from_secs(1);

/// Looks until `found` gives something, and returns it with the time it took.
///
/// # Errors
/// Names `what` and tells the last thing seen, when `limit` has passed.
pub fn until<T, E: std::fmt::Display>(
    what: &str,
    limit: Duration,
    mut found: impl FnMut() -> Result<T, E>,
) -> anyhow::Result<(T, Duration)> {
    let start = Instant::now();
    let (mut last, mut waited) = (start, Duration::ZERO);
    loop {
        match found() {
            Ok(found) => return Ok((found, start.elapsed())),
            Err(seen) if waited > limit => {
                anyhow::bail!("{what}: not so after {limit:?}; last seen: {seen}")
            }
            Err(_) => pause(LOOK),
        }
        waited += last.elapsed().min(MOST);
        last = Instant::now();
    }
}

/// Lets a moment pass.
pub fn pause(time: Duration) {
    let (_nobody, waiting) = mpsc::sync_channel::<()>(0);
    // Nobody ever sends: the timeout is the point.
    if waiting.recv_timeout(time).is_ok() {
        unreachable!("nobody holds a sender that sends");
    }
}
