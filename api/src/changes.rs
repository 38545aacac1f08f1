//! Wakes whoever waits for something to happen to one execution, within this process.
//!
//! A hint like every other bell: a waiter also looks again by itself every second, because another replica's changes ring here not at all.
//! Memory is bounded by the number of waiters; a change that nobody waits for costs one look-up.

use roadstead_domain::ids::ExecutionId;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How often a waiter looks by itself.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

const SHARDS: usize = 16;

type Shard = Mutex<HashMap<ExecutionId, watch::Sender<()>>>;

/// Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    shards: Arc<[Shard; SHARDS]>,
}

impl Changes {
    /// Something about this execution is new: its state, its steps, its log.
    pub fn touch(&self, id: ExecutionId) {
        if let Some(bell) = self.shard(id).get(&id) {
            bell.send_replace(());
        }
    }

    /// From now on, every touch is noticed. Take it before the first look.
    pub fn watch(&self, id: ExecutionId) -> Watch {
        let bell = self.shard(id).entry(id).or_insert_with(|| watch::Sender::new(())).subscribe();
        Watch { id, bell, changes: self.clone() }
    }

    fn shard(&self, id: ExecutionId) -> MutexGuard<'_, HashMap<ExecutionId, watch::Sender<()>>> {
        // The last byte of a UUIDv7 is random.
        let shard = &self.shards[usize::from(id.0.as_bytes()[15]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One waiter.
#[derive(Debug)]
pub struct Watch {
    id: ExecutionId,
    bell: watch::Receiver<()>,
    changes: Changes,
}

impl Watch {
    /// Returns when the execution was touched since the last call, or after `at_most`.
    pub async fn changed(&mut self, at_most: Duration) {
        // The sender lives as long as this receiver does, so only a touch or the time ends the wait.
        let _ = tokio::time::timeout(at_most, self.bell.changed()).await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Entry::Occupied(entry) = self.changes.shard(self.id).entry(self.id)
            && entry.get().receiver_count() <= 1
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_touch_between_the_look_and_the_wait_is_noticed() {
        let changes = Changes::default();
        let id = ExecutionId::new();
        let mut watch = changes.watch(id);
        changes.touch(id);
        let before = tokio::time::Instant::now();
        watch.changed(LONG).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
        watch.changed(LONG).await;
        assert_eq!(before.elapsed(), LONG, "one touch wakes once");
    }

    #[tokio::test]
    async fn nothing_is_kept_of_an_execution_that_nobody_waits_for() {
        let changes = Changes::default();
        let id = ExecutionId::new();
        changes.touch(id);
        let (first, second) = (changes.watch(id), changes.watch(id));
        drop(first);
        assert_eq!(changes.shard(id).len(), 1);
        drop(second);
        assert_eq!(changes.shard(id).len(), 0);
    }
}
