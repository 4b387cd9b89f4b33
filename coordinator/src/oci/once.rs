//! Work that many want at once and that is done once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// What is being worked on, by what it is for; clones share it.
#[derive(Debug)]
pub(super) struct Once<K: Ord, T> {
    running: Arc<Mutex<BTreeMap<K, watch::Receiver<Option<T>>>>>,
}

impl<K: Ord, T> Clone for Once<K, T> {
    fn clone(&self) -> Self {
        Self { running: Arc::clone(&self.running) }
    }
}

impl<K: Ord, T> Default for Once<K, T> {
    fn default() -> Self {
        Self { running: Arc::default() }
    }
}

impl<K, T> Once<K, T>
where
    K: Ord + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Works where blocking is allowed, or waits for whoever works for the same key; none if the work broke off. Who asked
    /// may go away: what was begun is done all the same.
    pub(super) async fn work(&self, key: K, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let mut done = self.join(key, work);
        done.wait_for(Option::is_some).await.ok().and_then(|done| done.clone())
    }

    fn join(&self, key: K, work: impl FnOnce() -> T + Send + 'static) -> watch::Receiver<Option<T>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(done) = running.get(&key) {
            return done.clone();
        }
        let (tell, done) = watch::channel(None);
        running.insert(key.clone(), done.clone());
        let ended = Ended { once: self.clone(), key };
        tokio::task::spawn_blocking(move || {
            let found = work();
            // Whoever asks from here on asks anew.
            drop(ended);
            tell.send_replace(Some(found));
        });
        done
    }
}

/// Ends the work of a key, also where it panics.
struct Ended<K: Ord, T> {
    once: Once<K, T>,
    key: K,
}

impl<K: Ord, T> Drop for Ended<K, T> {
    fn drop(&mut self) {
        self.once.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[tokio::test]
    async fn a_hundred_who_want_the_same_have_it_done_once() {
        let (once, count) = (Once::<u8, usize>::default(), Arc::new(AtomicUsize::new(0)));
        let (open, gate) = sync_channel::<()>(1);
        let gate = Arc::new(Mutex::new(gate));
        let all = (0..100).map(|_| {
            let (count, gate) = (Arc::clone(&count), Arc::clone(&gate));
            once.work(1, move || {
                assert!(gate.lock().unwrap().recv().is_ok());
                count.fetch_add(1, Ordering::SeqCst)
            })
        });
        let all = futures_util::future::join_all(all);
        let open = async { assert!(open.send(()).is_ok()) };
        let (found, ()) = tokio::join!(all, open);
        assert!(found.iter().all(|found| *found == Some(0_usize)), "{found:?}");
        assert_eq!(once.work(1, || 7).await, Some(7), "what has ended is begun anew");
    }

    #[tokio::test]
    async fn work_that_panics_is_told_from_work_that_takes_long() {
        let once = Once::<u8, usize>::default();
        assert_eq!(once.work(1, || panic!("on purpose")).await, None);
        assert_eq!(once.work(1, || 1).await, Some(1));
    }
}
