//! The hand: entries that this worker took and could not claim yet, first in line for the next berth.
//!
//! Bounded, in number and in time: the next berth may be another worker's, who would give it to what came later. A worker that dies with a hand loses it
//! to the supervisor's reclaim.

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
/// What is not claimed within this goes back into its place, for whoever has a berth first. Well below the idle time after which an entry counts as
/// forgotten.
const HOLD: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub struct Hand {
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    entry: Taken,
    since: Instant,
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

    /// At the end of the line. An entry may be there already: a worker may reclaim what is its own.
    pub fn add(&mut self, taken: Vec<Taken>) {
        let since = clock::now();
        for entry in taken {
            if !self.entries().any(|held| held.entry == entry.entry && held.stream == entry.stream) {
                self.held.push(Held { entry, since, tenant_full: false });
            }
        }
    }

    /// Sorts by the claim's answers. An id that is there twice was claimed once; its other entry is a duplicate.
    pub fn sort(&mut self, mut answers: HashMap<ExecutionId, Claim>) -> Sorted {
        let mut sorted = Sorted::default();
        let mut tenant_full = 0;
        for Held { entry, since, .. } in std::mem::take(&mut self.held) {
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
                Claim::NoBerth => self.held.push(Held { entry, since, tenant_full: false }),
                Claim::TenantFull if tenant_full < MAX_TENANT_FULL => {
                    tenant_full += 1;
                    self.held.push(Held { entry, since, tenant_full: true });
                }
                Claim::TenantFull => sorted.surplus.push(entry),
                Claim::NotQueued => sorted.dropped.push(entry),
            }
        }
        sorted
    }

    /// What has been held for long enough, to be put back.
    pub fn overdue(&self, now: Instant) -> Vec<Taken> {
        self.held
            .iter()
            .filter(|held| now.saturating_duration_since(held.since) >= HOLD)
            .map(|held| held.entry.clone())
            .collect()
    }

    /// Lets go of these.
    pub fn part_with(&mut self, entries: &[Taken]) {
        self.held.retain(|held| !entries.contains(&held.entry));
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
        let mut hand = Hand::default();
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
        let mut hand = Hand::default();
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
        let mut hand = Hand::default();
        hand.add((0..MAX_HAND).map(|n| taken("a", &n.to_string(), ExecutionId::new())).collect());
        let full: HashMap<_, _> = hand.entries().map(|entry| (entry.id, Claim::TenantFull)).collect();
        let sorted = hand.sort(full);
        assert_eq!((hand.entries().count(), sorted.surplus.len()), (MAX_TENANT_FULL, MAX_HAND - MAX_TENANT_FULL));
        assert_eq!(hand.entries().next().unwrap().entry, "0", "the first ones stay first in line");
        assert_eq!(hand.space(10, 0), 10);
    }

    #[test]
    fn nothing_is_held_for_long() {
        let mut hand = Hand::default();
        let ids = [ExecutionId::new(), ExecutionId::new()];
        let began = clock::now();
        hand.add(vec![taken("a", "1", ids[0])]);
        hand.held[0].since = began;
        hand.add(vec![taken("b", "2", ids[1])]);
        hand.held[1].since = began + HOLD / 2;
        assert!(hand.overdue(began + HOLD / 2).is_empty());
        hand.sort(HashMap::from([(ids[0], Claim::TenantFull), (ids[1], Claim::NoBerth)]));
        let overdue = hand.overdue(began + HOLD);
        assert_eq!(overdue.iter().map(|entry| entry.id).collect::<Vec<_>>(), ids[..1], "a claim is no new beginning");
        hand.part_with(&overdue);
        assert_eq!(hand.entries().map(|entry| entry.id).collect::<Vec<_>>(), ids[1..]);
    }

    #[test]
    fn the_hand_is_bounded() {
        let mut hand = Hand::default();
        hand.add((0..MAX_HAND).map(|n| taken("a", &n.to_string(), ExecutionId::new())).collect());
        assert_eq!(hand.space(1_000_000, 0), 0);
    }

    #[test]
    fn an_id_that_came_twice_is_launched_once() {
        let id = ExecutionId::new();
        let mut hand = Hand::default();
        hand.add(vec![taken("a", "1", id), taken("a", "2", id), taken("a", "2", id)]);
        let sorted = hand.sort(HashMap::from([(id, claim(3))]));
        assert_eq!(sorted.claimed.len(), 1);
        assert_eq!(sorted.claimed[0].attempt.attempt, 3);
        assert_eq!(sorted.dropped.iter().map(|t| t.entry.as_str()).collect::<Vec<_>>(), ["2"]);
        assert!(hand.is_empty());
    }

    #[test]
    fn what_the_claim_does_not_know_is_dropped() {
        let mut hand = Hand::default();
        hand.add(vec![taken("a", "1", ExecutionId::new())]);
        assert_eq!(hand.sort(HashMap::new()).dropped.len(), 1);
    }
}
