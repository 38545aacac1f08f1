//! A process's life: configuration, state, servers, and the order in which it all ends.
//!
//! Invariant: on SIGTERM, what was accepted is finished: requests first, then the ids that are on their way to Redis.

use crate::server;
use crate::startup;
use crate::state::App;
use actix_web::web;
use anyhow::Context;
use roadstead_backend::config::{AdminConfig, ApiConfig, Reader, redacted};
use roadstead_backend::objects::Objects;
use roadstead_backend::store::database;
use roadstead_backend::telemetry;
use slog::{info, warn};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long migrations wait for PostgreSQL.
const MIGRATION_PATIENCE: Duration = Duration::from_secs(60);
const BETWEEN_MIGRATIONS: Duration = Duration::from_secs(2);
/// For the ids that are on their way when the servers have ended.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

pub async fn serve(mut reader: Reader) -> anyhow::Result<()> {
    let config = ApiConfig::read(&mut reader);
    let summary = reader.summary();
    let config = reader.finish(config)?;
    let (log, _guard) = telemetry::logger(&config.log, "roadstead-api");
    summary.log(&log, env!("CARGO_PKG_VERSION"));
    let metrics = config.metrics.enabled.then(telemetry::install_metrics);
    telemetry::metrics::begin_api_series();
    let app = web::Data::new(App::new(config, log.clone(), metrics)?);
    let api = server::bind(&app)?;
    let metrics = server::bind_metrics(&app)?;
    stop_on_signal(app.stopping.clone())?;
    info!(log, "listening"; "address" => format!("{}:{}", app.config.host, app.config.port), "api_url" => redacted(&app.config.api_url));
    let ready = async {
        startup::prepare(&app).await;
        Ok(())
    };
    let others = async {
        match metrics {
            Some(metrics) => metrics.await,
            None => Ok(()),
        }
    };
    tokio::try_join!(api, others, ready).context("the HTTP server failed")?;
    info!(log, "draining");
    if tokio::time::timeout(FLUSH_TIMEOUT, app.enqueuer.flush()).await.is_err() {
        warn!(log, "some ids did not get to Redis in time; the relay finds their rows");
    }
    info!(log, "stopped");
    Ok(())
}

fn stop_on_signal(stopping: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.cancel();
    });
    Ok(())
}

/// A PostgreSQL that starts at the same time is waited for.
async fn migrated(config: &AdminConfig) -> anyhow::Result<Vec<String>> {
    let until = Instant::now() + MIGRATION_PATIENCE;
    loop {
        let error = match database::migrate(&config.database).await {
            Ok(applied) => return Ok(applied),
            Err(error) => error,
        };
        if !database::is_unreachable(&error) || Instant::now() >= until {
            return Err(error);
        }
        eprintln!("PostgreSQL is not ready, trying on: {error:#}");
        tokio::time::sleep(BETWEEN_MIGRATIONS).await;
    }
}

/// Applies migrations, and makes the buckets where that is asked for.
pub async fn migrate(config: &AdminConfig) -> anyhow::Result<()> {
    let applied = migrated(config).await.context("the migrations could not be applied")?;
    match applied.as_slice() {
        [] => eprintln!("the schema is up to date"),
        some => eprintln!("applied: {}", some.join(", ")),
    }
    if let Some(objects) = config.objects.as_ref().filter(|objects| objects.create_buckets) {
        Objects::new(objects)?.ensure_buckets().await.context("the buckets could not be made")?;
    }
    Ok(())
}
