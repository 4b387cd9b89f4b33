//! Work that many wait for and that is done once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::task::Tasks;

/// What is being worked on, by what it is for; clones share it.
#[derive(Debug)]
pub struct Once<K: Ord, T> {
    tasks: Tasks,
    running: Arc<Mutex<Running<K, T>>>,
}

type Running<K, T> = BTreeMap<K, watch::Receiver<Option<T>>>;

impl<K: Ord, T> Clone for Once<K, T> {
    fn clone(&self) -> Self {
        Self { tasks: self.tasks.clone(), running: Arc::clone(&self.running) }
    }
}

impl<K, T> Once<K, T>
where
    K: Ord + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Begins without any; the work is done on these tasks.
    #[must_use]
    pub fn new(tasks: Tasks) -> Self {
        Self { tasks, running: Arc::default() }
    }

    /// Begins the work, or waits for whoever began it for the same key; none if it broke off. Whoever asked may go away:
    /// what was begun is done all the same.
    pub async fn work(&self, key: K, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let mut done = self.join(key, work);
        done.wait_for(Option::is_some).await.ok().and_then(|done| done.clone())
    }

    fn join(&self, key: K, work: impl Future<Output = T> + Send + 'static) -> watch::Receiver<Option<T>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(done) = running.get(&key) {
            return done.clone();
        }
        let (tell, done) = watch::channel(None);
        running.insert(key.clone(), done.clone());
        let ended = Ended { once: self.clone(), key };
        self.tasks.spawn("work once", async move {
            let found = work.await;
            // Whoever asks from here on begins anew.
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

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn many_who_want_the_same_have_it_done_once_and_the_next_one_anew() {
        let (once, count) = (Once::<u8, usize>::new(Tasks::new()), Arc::new(AtomicUsize::new(0)));
        let (open, gate) = oneshot::channel::<()>();
        let counted = Arc::clone(&count);
        let mut waiting = vec![once.join(1, async move {
            drop(gate.await);
            counted.fetch_add(1, Ordering::SeqCst)
        })];
        for _ in 0..99 {
            let counted = Arc::clone(&count);
            waiting.push(once.join(1, async move { counted.fetch_add(1, Ordering::SeqCst) }));
        }
        open.send(()).unwrap();
        for mut done in waiting {
            assert_eq!(*done.wait_for(Option::is_some).await.unwrap(), Some(0));
        }
        assert_eq!(once.work(1, async { 7 }).await, Some(7));
    }

    #[tokio::test]
    async fn work_that_breaks_off_is_told_from_work_that_takes_long() {
        let once = Once::<u8, usize>::new(Tasks::new());
        assert_eq!(once.work(1, async { panic!("on purpose") }).await, None);
        assert_eq!(once.work(1, async { 1 }).await, Some(1));
    }
}
