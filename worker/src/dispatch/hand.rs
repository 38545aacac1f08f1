//! The hand: entries that this worker took and could not claim yet, first in line for the next berth.
//!
//! Bounded. Others leave them alone as long as they are touched now and then; a worker that dies with a hand loses it to the supervisor's reclaim.

use crate::clock;
use roadstead_backend::dispatch::Taken;
use roadstead_backend::store::claim::Claim;
use roadstead_domain::ids::{AttemptId, ExecutionId};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// A turn takes no more than what is launched well within a launch lease.
pub const MAX_HAND: usize = 256;
/// Entries that wait for their tenant's limit. What is taken beyond it, because the ring knew a higher limit than PostgreSQL does, goes back: it would
/// fill the hand, and no other tenant had a place in it.
const MAX_TENANT_FULL: usize = 64;
/// Between two touches, well below the idle time after which an entry counts as forgotten.
const TOUCH_INTERVAL: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub struct Hand {
    held: Vec<Held>,
    touched: Instant,
}

#[derive(Debug)]
struct Held {
    entry: Taken,
    /// It waits for its tenant's limit, so that it takes nobody's berth.
    tenant_full: bool,
}

/// What a claim made of the hand.
#[derive(Debug, Default)]
pub struct Sorted {
    pub claimed: Vec<Claimed>,
    /// Duplicates, cancelled or expired: to be acknowledged and dropped.
    pub dropped: Vec<Taken>,
    /// More than may wait here for their tenants: to be given back to the relay, which also tells the ring the tenants' limits.
    pub surplus: Vec<Taken>,
}

/// An entry that is this worker's to launch.
#[derive(Debug)]
pub struct Claimed {
    pub entry: Taken,
    pub attempt: AttemptId,
    pub timeout: Duration,
    pub waited: Duration,
}

impl Hand {
    pub fn new() -> Self {
        Self { held: Vec::new(), touched: clock::now() }
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub fn entries(&self) -> impl Iterator<Item = &Taken> {
        self.held.iter().map(|held| &held.entry)
    }

    /// What may be taken beside the hand, and beside the launches that are `under_way`, when there are berths for `room`.
    pub fn space(&self, room: usize, under_way: usize) -> usize {
        let in_line = self.held.iter().filter(|held| !held.tenant_full).count();
        room.saturating_sub(in_line).min(MAX_HAND.saturating_sub(self.held.len() + under_way))
    }

    /// Adds what each tenant has in the hand, so that no more than its limit is taken.
    pub fn count_into(&self, live: &mut HashMap<String, i64>) {
        for entry in self.entries() {
            *live.entry(entry.stream.tenant.clone()).or_default() += 1;
        }
    }

    /// At the end of the line. An entry that is there already was touched by its own consumer's reclaim.
    pub fn add(&mut self, taken: Vec<Taken>) {
        for entry in taken {
            if !self.entries().any(|held| held.entry == entry.entry && held.stream == entry.stream) {
                self.held.push(Held { entry, tenant_full: false });
            }
        }
    }

    /// Sorts by the claim's answers. An id that is there twice was claimed once; its other entry is a duplicate.
    pub fn sort(&mut self, mut answers: HashMap<ExecutionId, Claim>) -> Sorted {
        let mut sorted = Sorted::default();
        let mut tenant_full = 0;
        for Held { entry, .. } in std::mem::take(&mut self.held) {
            let id = entry.id;
            match answers.get(&id).copied().unwrap_or(Claim::NotQueued) {
                Claim::Claimed { attempt, timeout_seconds, waited_ms } => {
                    answers.insert(id, Claim::NotQueued);
                    sorted.claimed.push(Claimed {
                        entry,
                        attempt: AttemptId { execution_id: id, attempt },
                        timeout: Duration::from_secs(timeout_seconds.unsigned_abs().into()),
                        waited: Duration::from_millis(waited_ms.unsigned_abs()),
                    });
                }
                Claim::NoBerth => self.held.push(Held { entry, tenant_full: false }),
                Claim::TenantFull if tenant_full < MAX_TENANT_FULL => {
                    tenant_full += 1;
                    self.held.push(Held { entry, tenant_full: true });
                }
                Claim::TenantFull => sorted.surplus.push(entry),
                Claim::NotQueued => sorted.dropped.push(entry),
            }
        }
        sorted
    }

    /// The hand, when it is time to touch it.
    pub fn due_for_touch(&mut self) -> Option<Vec<Taken>> {
        let due = self.touched.elapsed() >= TOUCH_INTERVAL;
        if due {
            self.touched = clock::now();
        }
        (due && !self.is_empty()).then(|| self.entries().cloned().collect())
    }

    /// Empties the hand.
    pub fn put_down(&mut self) -> Vec<Taken> {
        self.held.drain(..).map(|held| held.entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_backend::dispatch::Stream;
    use roadstead_domain::execution::Priority;

    fn taken(tenant: &str, entry: &str, id: ExecutionId) -> Taken {
        let stream = Stream { tenant: tenant.to_owned(), priority: Priority::Normal };
        Taken { stream, entry: entry.to_owned(), id }
    }

    fn claim(attempt: i32) -> Claim {
        Claim::Claimed { attempt, timeout_seconds: 60, waited_ms: 5 }
    }

    #[test]
    fn what_found_no_berth_stays_first_in_line() {
        let ids = [ExecutionId::new(), ExecutionId::new(), ExecutionId::new()];
        let mut hand = Hand::new();
        hand.add(vec![taken("a", "1", ids[0]), taken("a", "2", ids[1]), taken("b", "3", ids[2])]);
        let sorted =
            hand.sort(HashMap::from([(ids[0], Claim::TenantFull), (ids[1], Claim::NoBerth), (ids[2], claim(1))]));
        assert_eq!(sorted.claimed.len(), 1);
        assert_eq!(hand.entries().map(|held| held.id).collect::<Vec<_>>(), ids[..2]);
        hand.add(vec![taken("b", "4", ExecutionId::new())]);
        assert_eq!(hand.entries().next().unwrap().id, ids[0]);
    }

    #[test]
    fn one_that_waits_for_its_tenant_takes_nobodys_place() {
        let id = ExecutionId::new();
        let mut hand = Hand::new();
        hand.add(vec![taken("a", "1", id)]);
        assert_eq!(hand.space(10, 0), 9);
        assert_eq!(hand.space(1_000_000, 100), MAX_HAND - 101);
        assert_eq!(hand.space(1_000_000, MAX_HAND), 0);
        hand.sort(HashMap::from([(id, Claim::TenantFull)]));
        assert_eq!(hand.space(10, 0), 10);
        let mut live = HashMap::from([("a".to_owned(), 2)]);
        hand.count_into(&mut live);
        assert_eq!(live["a"], 3);
    }

    #[test]
    fn a_tenant_over_its_limit_leaves_room_for_the_others() {
        let mut hand = Hand::new();
        hand.add((0..MAX_HAND).map(|n| taken("a", &n.to_string(), ExecutionId::new())).collect());
        let full: HashMap<_, _> = hand.entries().map(|entry| (entry.id, Claim::TenantFull)).collect();
        let sorted = hand.sort(full);
        assert_eq!((hand.entries().count(), sorted.surplus.len()), (MAX_TENANT_FULL, MAX_HAND - MAX_TENANT_FULL));
        assert_eq!(hand.entries().next().unwrap().entry, "0", "the first ones stay first in line");
        assert_eq!(hand.space(10, 0), 10);
    }

    #[test]
    fn the_hand_is_bounded() {
        let mut hand = Hand::new();
        hand.add((0..MAX_HAND).map(|n| taken("a", &n.to_string(), ExecutionId::new())).collect());
        assert_eq!(hand.space(1_000_000, 0), 0);
    }

    #[test]
    fn an_id_that_came_twice_is_launched_once() {
        let id = ExecutionId::new();
        let mut hand = Hand::new();
        hand.add(vec![taken("a", "1", id), taken("a", "2", id), taken("a", "2", id)]);
        let sorted = hand.sort(HashMap::from([(id, claim(3))]));
        assert_eq!(sorted.claimed.len(), 1);
        assert_eq!(sorted.claimed[0].attempt.attempt, 3);
        assert_eq!(sorted.dropped.iter().map(|t| t.entry.as_str()).collect::<Vec<_>>(), ["2"]);
        assert!(hand.is_empty());
    }

    #[test]
    fn what_the_claim_does_not_know_is_dropped() {
        let mut hand = Hand::new();
        hand.add(vec![taken("a", "1", ExecutionId::new())]);
        assert_eq!(hand.sort(HashMap::new()).dropped.len(), 1);
    }
}
