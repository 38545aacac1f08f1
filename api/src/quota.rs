//! How many executions of a tenant may wait: a count that is kept in memory and corrected by PostgreSQL.
//!
//! Invariants: nothing is refused by a guess: before a refusal the rows are counted, or were a moment ago (up to two seconds where counting takes long);
//! nothing is accepted past the bound by one process, however many requests come at once, because what is on its way to the
//! database counts too. Far from the bound no request costs a query.
//! Several processes know of each other's submissions by their counts only, so together they may overshoot by what they accept between two counts.

use crate::problem::{Kind, Problem};
use actix_web::http::header::{HeaderName, HeaderValue};
use roadstead_backend::store::{Connection, Database, StoreError, capacity};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Between two counts that somebody waits for.
const COUNT_INTERVAL: Duration = Duration::from_millis(50);
/// A count that took long is of many rows: for so many times as long it is not made again, however insistently a tenant at its bound goes on submitting,
const PAUSE_PER_COUNT: u32 = 20;
/// but not longer than this: a tenant that was refused is let in again soon after there is room.
const MAX_COUNT_INTERVAL: Duration = Duration::from_secs(2);
/// An older count is made anew in the background when the tenant submits.
const MAX_AGE: Duration = Duration::from_secs(10);

static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The tallies of all tenants that submitted something here.
#[derive(Clone, Debug)]
pub struct Quotas {
    database: Database,
    tallies: Arc<RwLock<HashMap<String, Arc<Tally>>>>,
}

#[derive(Debug, Default)]
struct Tally {
    figures: Mutex<Figures>,
    counting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Figures {
    /// Nobody counted yet: `None`.
    count: Option<Count>,
    /// Reserved, and not known to be committed or given up.
    in_flight: i64,
    /// Reserved, less what was given up, since the count that is being made began.
    since_begin: i64,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    began: Instant,
    took: Duration,
    /// What waits, at most: what was counted and what was reserved since. What was taken out of the queue since is still in it.
    waiting: i64,
    /// Reserved since.
    added: i64,
}

/// Room for some executions. Given back when dropped, unless it was used.
#[derive(Debug)]
pub struct Reservation {
    tally: Arc<Tally>,
    executions: i64,
}

impl Quotas {
    pub fn new(database: Database) -> Self {
        Self { database, tallies: Arc::default() }
    }

    /// Reserves room for so many more, if the tenant's waiting executions stay within `bound`.
    pub async fn reserve(&self, tenant: &str, executions: usize, bound: i64) -> Result<Reservation, Problem> {
        let executions = executions as i64;
        let tally = self.tally(tenant);
        if executions > bound {
            return Err(exceeded(bound));
        }
        let room = tally.figures().reserve(executions, bound);
        if let Some(is_stale) = room {
            if is_stale {
                self.recount_later(tenant, &tally, bound);
            }
            return Ok(Reservation { tally, executions });
        }
        let turn = tally.counting.lock().await;
        // Whoever had the turn before may have counted.
        let mut room = tally.figures().reserve(executions, bound);
        if room.is_none() && tally.figures().may_count() {
            self.recount(tenant, &tally, bound).await?;
            room = tally.figures().reserve(executions, bound);
        }
        drop(turn);
        if room.is_some() { Ok(Reservation { tally, executions }) } else { Err(exceeded(bound)) }
    }

    fn tally(&self, tenant: &str) -> Arc<Tally> {
        if let Some(tally) = self.tallies.read().unwrap_or_else(PoisonError::into_inner).get(tenant) {
            return Arc::clone(tally);
        }
        let mut tallies = self.tallies.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tallies.entry(tenant.to_owned()).or_default())
    }

    /// The caller holds the turn to count.
    async fn recount(&self, tenant: &str, tally: &Tally, bound: i64) -> Result<(), StoreError> {
        let count = async |connection: &mut Connection| {
            // Waiting for a connection is no part of what counting costs.
            let began = Instant::now();
            let before = tally.figures().begin_count();
            let counted = capacity::waiting(connection, tenant, bound).await?;
            tally.figures().end_count(began, began.elapsed(), before, counted);
            Ok(())
        };
        self.database.run(count).await
    }

    fn recount_later(&self, tenant: &str, tally: &Arc<Tally>, bound: i64) {
        let (this, tenant, tally) = (self.clone(), tenant.to_owned(), Arc::clone(tally));
        tokio::spawn(async move {
            if let Ok(_turn) = tally.counting.try_lock()
                && tally.figures().may_count()
            {
                // A count that failed leaves the old one, which errs on the side of refusing; a refusal counts for itself.
                let _ = this.recount(&tenant, &tally, bound).await;
            }
        });
    }
}

impl Tally {
    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Figures {
    /// Takes room if there is any, and answers whether the count it relies on should be made anew.
    fn reserve(&mut self, executions: i64, bound: i64) -> Option<bool> {
        let count = self.count.as_mut().filter(|count| count.waiting + executions <= bound)?;
        count.waiting += executions;
        count.added += executions;
        self.in_flight += executions;
        self.since_begin += executions;
        // The nearer the bound, the more what others do in the meantime matters.
        let room = bound - count.waiting;
        Some(count.added > room / 2 || count.began.elapsed() > MAX_AGE)
    }

    fn may_count(&self) -> bool {
        self.count.is_none_or(|count| {
            count.began.elapsed() >= (count.took * PAUSE_PER_COUNT).clamp(COUNT_INTERVAL, MAX_COUNT_INTERVAL)
        })
    }

    /// Answers what is in flight: it may be committed before PostgreSQL counts, or after.
    fn begin_count(&mut self) -> i64 {
        self.since_begin = 0;
        self.in_flight
    }

    fn end_count(&mut self, began: Instant, took: Duration, in_flight_before: i64, counted: i64) {
        self.count = Some(Count { began, took, waiting: counted + in_flight_before + self.since_begin, added: 0 });
    }
}

impl Reservation {
    /// The executions are committed.
    pub fn used(mut self) {
        self.tally.figures().in_flight -= self.executions;
        self.executions = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.executions == 0 {
            return;
        }
        let mut figures = self.tally.figures();
        figures.in_flight -= self.executions;
        figures.since_begin -= self.executions;
        if let Some(count) = &mut figures.count {
            count.waiting -= self.executions;
        }
    }
}

fn exceeded(bound: i64) -> Problem {
    let number = |text: String| HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    Problem::new(Kind::QuotaExceeded, format!("at most {bound} executions of this tenant may wait at a time"))
        .retry_after(1)
        .header(RATE_LIMIT_POLICY.clone(), number(format!("\"queued\";q={bound}")))
        .header(RATE_LIMIT.clone(), number("\"queued\";r=0;t=1".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(waiting: i64) -> Arc<Tally> {
        let tally = Tally::default();
        let before = tally.figures().begin_count();
        tally.figures().end_count(Instant::now(), Duration::ZERO, before, waiting);
        Arc::new(tally)
    }

    fn reserve(tally: &Arc<Tally>, executions: i64, bound: i64) -> Option<Reservation> {
        tally.figures().reserve(executions, bound)?;
        Some(Reservation { tally: Arc::clone(tally), executions })
    }

    #[test]
    fn what_is_on_its_way_takes_room() {
        let tally = counted(3);
        let first = reserve(&tally, 2, 5).unwrap();
        assert!(reserve(&tally, 1, 5).is_none());
        drop(first);
        reserve(&tally, 2, 5).unwrap().used();
        assert!(reserve(&tally, 1, 5).is_none(), "what was committed still waits");
    }

    #[test]
    fn a_count_adds_what_it_may_have_missed() {
        let tally = counted(0);
        let early = reserve(&tally, 1, 5).unwrap();
        let before = tally.figures().begin_count();
        let late = reserve(&tally, 1, 5).unwrap();
        early.used();
        tally.figures().end_count(Instant::now(), Duration::ZERO, before, 1);
        assert_eq!(tally.figures().count.unwrap().waiting, 3, "the early one perhaps twice, never not at all");
        drop(late);
        assert_eq!(tally.figures().count.unwrap().waiting, 2);
        assert_eq!(tally.figures().in_flight, 0);
    }

    #[test]
    fn far_from_the_bound_nothing_is_counted_anew() {
        let tally = counted(0);
        for n in 1..=100_i64 {
            assert_eq!(tally.figures().reserve(1, 1_000), Some(false), "{n}");
        }
        assert_eq!(tally.figures().reserve(500, 1_000), Some(true));
    }

    #[test]
    fn a_count_that_took_long_is_not_made_again_soon() {
        let after = |took, ago| {
            let mut figures = Figures::default();
            let before = figures.begin_count();
            figures.end_count(Instant::now().checked_sub(ago).unwrap(), took, before, 1_000);
            figures.may_count()
        };
        let millis = Duration::from_millis;
        assert!(Figures::default().may_count());
        assert!(after(millis(1), millis(60)));
        assert!(!after(millis(1), millis(0)));
        assert!(!after(millis(60), millis(1_000)), "a twentieth of the time at most");
        assert!(after(millis(60), millis(1_300)));
        assert!(!after(millis(300), millis(1_800)));
        assert!(after(millis(300), millis(2_100)), "but not kept out for long");
    }

    #[test]
    fn nothing_is_granted_before_the_first_count() {
        assert_eq!(Figures::default().reserve(1, 1_000), None);
    }
}
