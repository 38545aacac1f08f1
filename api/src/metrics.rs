//! What `/metrics` says: the counters of this process, and gauges of the whole system.
//!
//! The gauges are counted when somebody scrapes, every few seconds at most; without a scraper no query is made. While PostgreSQL is away or does not answer they
//! are NaN, because an old number would look like a current one; what this process has counted itself is told all the same.

use crate::problem::Problem;
use crate::state::App;
use actix_web::web;
use metrics::gauge;
use moka::future::Cache;
use roadstead_backend::store::capacity::depths;
use roadstead_backend::telemetry::metrics as names;
use roadstead_domain::execution::Priority;
use std::time::Duration;

/// Scrapers come every few seconds, and several of them may.
const BELIEF: Duration = Duration::from_secs(5);

/// For counting: Prometheus gives a scrape up after 10 s by default.
const PATIENCE: Duration = Duration::from_secs(8);

/// When the gauges were last counted.
#[derive(Clone, Debug)]
pub struct GaugeCache(Cache<(), ()>);

impl Default for GaugeCache {
    fn default() -> Self {
        Self(Cache::builder().time_to_live(BELIEF).build())
    }
}

/// The text of a scrape; `None` where metrics are switched off.
pub async fn render(app: &web::Data<App>) -> Option<String> {
    let handle = app.metrics.as_ref()?;
    app.gauges.0.get_with((), refresh(app)).await;
    Some(handle.render())
}

async fn refresh(app: &web::Data<App>) {
    gauge!(names::MAX_CONCURRENT_JOBS).set(f64::from(app.config.executions.max_concurrent_jobs));
    let (connections, idle) = app.database.connections();
    gauge!(names::POOL_CONNECTIONS, "pool" => "postgres").set(f64::from(connections));
    gauge!(names::POOL_IDLE_CONNECTIONS, "pool" => "postgres").set(f64::from(idle));
    // In a task of its own: a connection whose answer nobody waits for any more must not be lent to others before it came.
    let app = app.clone();
    let counting = actix_web::rt::spawn(async move { system(&app).await });
    let system = match tokio::time::timeout(PATIENCE, counting).await {
        Ok(Ok(Ok(system))) => system,
        _ => System::unknown(),
    };
    for (priority, depth) in Priority::ALL.iter().zip(system.depths) {
        gauge!(names::QUEUE_DEPTH, "priority" => priority.as_str()).set(depth);
    }
    gauge!(names::QUEUE_OLDEST_AGE_SECONDS).set(system.oldest_age_seconds);
    gauge!(names::LIVE_ATTEMPTS).set(system.live);
}

struct System {
    /// In the order of [`Priority::ALL`].
    depths: [f64; 3],
    oldest_age_seconds: f64,
    live: f64,
}

impl System {
    const fn unknown() -> Self {
        Self { depths: [f64::NAN; 3], oldest_age_seconds: f64::NAN, live: f64::NAN }
    }
}

async fn system(app: &App) -> Result<System, Problem> {
    let live = app.load.berths(app).await?.live as f64;
    let mut system = System { depths: [0.0; 3], oldest_age_seconds: 0.0, live };
    for depth in app.database.run(async |connection| depths(connection, None).await).await? {
        system.depths[usize::from(depth.priority().rank().unsigned_abs()).min(2)] += depth.queued as f64;
        system.oldest_age_seconds = system.oldest_age_seconds.max(depth.oldest_age_seconds.unwrap_or(0.0));
    }
    Ok(system)
}
