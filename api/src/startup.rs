//! Between the start and being ready: the schema, the buckets, the tenant of the development mode.
//!
//! Invariant: nothing that is away at the start ends the program: it is waited for, with a line in the log, and `/livez` answers meanwhile.

use crate::state::{App, DEV_TENANT};
use roadstead_backend::config::ApiConfig;
use roadstead_backend::store::{database, tenants};
use slog::{info, warn};
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What Redis must not do with a queue is anything but this.
const RIGHT_EVICTION_POLICY: &str = "noeviction";

/// Returns when the schema is there, or when the program is told to end.
pub async fn prepare(app: &App) {
    retried(app, "PostgreSQL is not ready", async || schema(&app.config).await).await;
    if app.config.dev_mode {
        retried(app, "the development tenant could not be made", async || {
            tenants::set(&mut *app.database.get().await?, DEV_TENANT, tenants::Change::default()).await?;
            Ok(())
        })
        .await;
    }
    if app.stopping.is_cancelled() {
        return;
    }
    app.note_migrated();
    info!(app.log, "ready");
    if app.config.objects.create_buckets {
        retried(app, "the buckets could not be made", async || Ok(app.objects.ensure_buckets().await?)).await;
    }
    if let Some(policy) = app.dispatch.eviction_policy().await.filter(|policy| policy != RIGHT_EVICTION_POLICY) {
        warn!(app.log, "Redis may evict queued ids: set maxmemory-policy to {}", RIGHT_EVICTION_POLICY; "maxmemory_policy" => policy);
    }
}

async fn schema(config: &ApiConfig) -> anyhow::Result<()> {
    if config.migrate_on_start {
        database::migrate(&config.database).await?;
        return Ok(());
    }
    anyhow::ensure!(
        database::is_migrated(&config.database).await?,
        "the schema is not this program's; run `roadstead-api migrate`"
    );
    Ok(())
}

async fn retried(app: &App, trouble: &'static str, attempt: impl AsyncFn() -> anyhow::Result<()>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let result = tokio::select! {
            result = attempt() => result,
            () = app.stopping.cancelled() => return,
        };
        let Err(error) = result else { return };
        warn!(app.log, "{}", trouble; "error" => format!("{error:#}"), "again_in_seconds" => pause.as_secs_f64());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = app.stopping.cancelled() => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
