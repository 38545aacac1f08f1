//! Every metric by its name, with its unit and meaning: the one table. Nobody writes a metric's name elsewhere.
//!
//! Labels never hold an id: the number of series stays what the code gives, whatever the load.

use super::process;
use metrics::Unit::{self, Bytes, Count, Seconds};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use roadstead_domain::execution::{Reason, State};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::task::JoinHandle;

pub const EXECUTIONS_SUBMITTED_TOTAL: &str = "roadstead_executions_submitted_total";
/// Label `outcome`: the terminal state.
pub const EXECUTIONS_FINISHED_TOTAL: &str = "roadstead_executions_finished_total";
/// Label `priority`.
pub const QUEUE_DEPTH: &str = "roadstead_queue_depth";
pub const QUEUE_OLDEST_AGE_SECONDS: &str = "roadstead_queue_oldest_age_seconds";
pub const LIVE_ATTEMPTS: &str = "roadstead_live_attempts";
pub const MAX_CONCURRENT_JOBS: &str = "roadstead_max_concurrent_jobs";
pub const SUBMIT_TO_START_SECONDS: &str = "roadstead_submit_to_start_seconds";
/// Label `launcher`.
pub const LAUNCH_SECONDS: &str = "roadstead_launch_seconds";
pub const RUN_SECONDS: &str = "roadstead_run_seconds";
pub const DISPATCH_LAG_SECONDS: &str = "roadstead_dispatch_lag_seconds";
pub const RECONCILE_SECONDS: &str = "roadstead_reconcile_seconds";
/// Label `reason`: of [`Reason::START_FAILURES`], or [`UNKNOWN`].
pub const LAUNCH_FAILURES_TOTAL: &str = "roadstead_launch_failures_total";
/// Of a launch that nobody knows the end of; it is tried again.
pub const UNKNOWN: &str = "unknown";
/// Labels `method`, `route` (its pattern), `status`.
pub const HTTP_REQUESTS_TOTAL: &str = "roadstead_http_requests_total";
/// Labels `method`, `route` (its pattern).
pub const HTTP_REQUEST_SECONDS: &str = "roadstead_http_request_seconds";
pub const HTTP_REQUESTS_IN_FLIGHT: &str = "roadstead_http_requests_in_flight";
/// Label `pool`.
pub const POOL_CONNECTIONS: &str = "roadstead_pool_connections";
/// Label `pool`.
pub const POOL_IDLE_CONNECTIONS: &str = "roadstead_pool_idle_connections";
/// Label `pool`.
pub const POOL_WAIT_SECONDS: &str = "roadstead_pool_wait_seconds";
pub const PROCESS_CPU_SECONDS_TOTAL: &str = "process_cpu_seconds_total";
pub const PROCESS_RESIDENT_MEMORY_BYTES: &str = "process_resident_memory_bytes";
pub const PROCESS_OPEN_FDS: &str = "process_open_fds";
pub const PROCESS_THREADS: &str = "process_threads";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}
use Kind::{Counter, Gauge, Histogram};

const TABLE: &[(&str, Kind, Unit, &str)] = &[
    (EXECUTIONS_SUBMITTED_TOTAL, Counter, Count, "Executions that were accepted."),
    (EXECUTIONS_FINISHED_TOTAL, Counter, Count, "Executions that reached a terminal state."),
    (QUEUE_DEPTH, Gauge, Count, "Executions that are queued."),
    (QUEUE_OLDEST_AGE_SECONDS, Gauge, Seconds, "How long the oldest queued execution has waited."),
    (LIVE_ATTEMPTS, Gauge, Count, "Attempts whose berth is not given back yet, over all workers."),
    (MAX_CONCURRENT_JOBS, Gauge, Count, "The cap on live attempts."),
    (SUBMIT_TO_START_SECONDS, Histogram, Seconds, "From an accepted submission to its first granted start."),
    (LAUNCH_SECONDS, Histogram, Seconds, "How long the launcher took to launch an attempt."),
    (RUN_SECONDS, Histogram, Seconds, "From an attempt's granted start to its end."),
    (DISPATCH_LAG_SECONDS, Histogram, Seconds, "From an execution's becoming due to its claim."),
    (
        RECONCILE_SECONDS,
        Histogram,
        Seconds,
        "How long it took to see to what must happen without anybody's asking, or to find that there is nothing; what failed is not counted.",
    ),
    (LAUNCH_FAILURES_TOTAL, Counter, Count, "Attempts that failed to start, and launches whose end is not known."),
    (HTTP_REQUESTS_TOTAL, Counter, Count, "HTTP requests that were answered."),
    (HTTP_REQUEST_SECONDS, Histogram, Seconds, "From a request's head to its answer's head."),
    (HTTP_REQUESTS_IN_FLIGHT, Gauge, Count, "HTTP requests that are being answered."),
    (POOL_CONNECTIONS, Gauge, Count, "Connections of a pool."),
    (POOL_IDLE_CONNECTIONS, Gauge, Count, "Connections of a pool that nobody uses."),
    (POOL_WAIT_SECONDS, Histogram, Seconds, "How long a connection of a pool was waited for."),
    (PROCESS_CPU_SECONDS_TOTAL, Counter, Seconds, "User and system time of this process, in whole seconds."),
    (PROCESS_RESIDENT_MEMORY_BYTES, Gauge, Bytes, "Memory of this process that is resident."),
    (PROCESS_OPEN_FDS, Gauge, Count, "File descriptors that this process has open."),
    (PROCESS_THREADS, Gauge, Count, "Threads of this process."),
];

/// What takes milliseconds on an idle system and minutes behind a backlog.
const WAIT_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];
/// What people's own programs take.
const RUN_BUCKETS: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];
/// What should take less than a millisecond.
const SHORT_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// What the API counts is there from its start: a series that appears with its first event has no increase to show for it.
pub fn begin_api_series() {
    metrics::counter!(EXECUTIONS_SUBMITTED_TOTAL).increment(0);
    begin_outcomes();
    for name in [SUBMIT_TO_START_SECONDS, RUN_SECONDS] {
        let _ = metrics::histogram!(name);
    }
}

/// The same of the worker.
pub fn begin_worker_series(launcher: &'static str) {
    begin_outcomes();
    for name in [DISPATCH_LAG_SECONDS, RECONCILE_SECONDS] {
        let _ = metrics::histogram!(name);
    }
    let _ = metrics::histogram!(LAUNCH_SECONDS, "launcher" => launcher);
    for code in Reason::START_FAILURES.iter().chain([&UNKNOWN]) {
        metrics::counter!(LAUNCH_FAILURES_TOTAL, "reason" => *code).increment(0);
    }
}

fn begin_outcomes() {
    for state in State::ALL.iter().filter(|state| state.is_terminal()) {
        metrics::counter!(EXECUTIONS_FINISHED_TOTAL, "outcome" => state.as_str()).increment(0);
    }
}

/// Renders the metrics, and keeps them from growing as long as it lives.
pub struct MetricsHandle {
    prometheus: PrometheusHandle,
    upkeep: JoinHandle<()>,
}

impl MetricsHandle {
    /// In Prometheus's text format.
    pub fn render(&self) -> String {
        process::observe();
        self.prometheus.render()
    }
}

impl Drop for MetricsHandle {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}

/// Makes Prometheus the receiver of this process's metrics. Called within a runtime; calling it again shares the first recorder.
pub fn install_metrics() -> MetricsHandle {
    let prometheus = RECORDER.get_or_init(install).clone();
    let upkept = prometheus.clone();
    let upkeep = tokio::spawn(async move {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            interval.tick().await;
            // Samples wait in memory until somebody drains them, which otherwise only a scrape does.
            upkept.run_upkeep();
        }
    });
    MetricsHandle { prometheus, upkeep }
}

fn install() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), WAIT_BUCKETS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full(RUN_SECONDS.to_owned()), RUN_BUCKETS))
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Full(HTTP_REQUEST_SECONDS.to_owned()), SHORT_BUCKETS)
        })
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full(POOL_WAIT_SECONDS.to_owned()), SHORT_BUCKETS))
        .expect("no list of buckets is empty")
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).expect("this is the only place that installs a recorder, and it runs once");
    for (name, kind, unit, meaning) in TABLE {
        match kind {
            Counter => metrics::describe_counter!(*name, *unit, *meaning),
            Gauge => metrics::describe_gauge!(*name, *unit, *meaning),
            Histogram => metrics::describe_histogram!(*name, *unit, *meaning),
        }
    }
    handle
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_say_their_kind_and_unit() {
        for (name, kind, unit, meaning) in TABLE {
            assert!(name.starts_with("roadstead_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Counter, "{name}");
            assert_eq!(name.trim_end_matches("_total").ends_with("_seconds"), *unit == Seconds, "{name}");
            assert!(meaning.ends_with('.'), "{name}");
        }
        assert_eq!(TABLE.iter().map(|row| row.0).collect::<HashSet<_>>().len(), TABLE.len());
    }

    #[tokio::test]
    async fn every_failed_launch_is_counted_from_zero() {
        let handle = install_metrics();
        begin_worker_series("process");
        let text = handle.render();
        for reason in ["unknown", "quota_exceeded", "start_timeout"] {
            let line = format!("{LAUNCH_FAILURES_TOTAL}{{reason=\"{reason}\"}} 0");
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[tokio::test]
    async fn what_is_counted_is_rendered_with_its_meaning() {
        let handle = install_metrics();
        let again = install_metrics();
        metrics::counter!(EXECUTIONS_SUBMITTED_TOTAL).increment(2);
        metrics::histogram!(LAUNCH_SECONDS, "launcher" => "process").record(0.004);
        metrics::histogram!(RUN_SECONDS).record(2000.0);
        metrics::gauge!(QUEUE_OLDEST_AGE_SECONDS).set(1.5);
        let text = handle.render();
        for line in [
            "# HELP roadstead_executions_submitted_total Executions that were accepted.",
            "# TYPE roadstead_executions_submitted_total counter",
            "roadstead_executions_submitted_total 2",
            "roadstead_launch_seconds_bucket{launcher=\"process\",le=\"0.005\"} 1",
            "roadstead_launch_seconds_bucket{launcher=\"process\",le=\"0.0025\"} 0",
            "roadstead_run_seconds_bucket{le=\"3600\"} 1",
            "roadstead_queue_oldest_age_seconds 1.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
        assert!(again.render().contains("roadstead_executions_submitted_total 2"));
    }
}
