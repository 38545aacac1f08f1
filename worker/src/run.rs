//! The worker's life: its servers, its rooms, and the order in which they end.

use crate::dispatch::Dispatcher;
use crate::launch::Plan;
use crate::launch::process;
use crate::supervise::{Supervisor, news, presence};
use crate::worker::{Freed, Judged, Pulse, Settings, Worker};
use crate::{backoff::Backoff, health, identity, shutdown};
use anyhow::Context;
use roadstead_backend::config::{LauncherConfig, WorkerConfig};
use roadstead_backend::dispatch::Dispatch;
use roadstead_backend::objects::Objects;
use roadstead_backend::store::{Database, database, installation, settle as settlement};
use roadstead_backend::telemetry;
use slog::{Logger, info, o, warn};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A workspace that nobody touched for so long belongs to no executor that is about to remove it.
const LEFTOVER_AGE: Duration = Duration::from_secs(600);

/// Runs until a signal, and until what was begun is ended.
pub async fn run(config: WorkerConfig, plan: Plan, log: Logger) -> anyhow::Result<()> {
    let id = identity::new();
    let log = log.new(o!("worker" => id.clone()));
    let stop = shutdown::listen(log.clone()).context("can't listen for signals")?;
    let metrics = telemetry::install_metrics();
    let listener = TcpListener::bind((config.host, config.port))
        .await
        .with_context(|| format!("can't listen on {}:{}", config.host, config.port))?;
    info!(log, "listening"; "address" => listener.local_addr()?.to_string());

    let worker = Arc::new(assemble(&config, plan, id, log.clone()).await?);
    let over = CancellationToken::new();
    let metrics = config.metrics_enabled.then_some(metrics);
    let desk = tokio::spawn(health::serve(listener, Arc::clone(&worker), metrics, over.clone()));

    if wait_for_schema(&config, &worker, &stop).await {
        info!(log, "working"; "cap" => worker.settings.cap, "launcher" => worker.launcher.name());
        let cleaning = tokio::spawn(clear_leftovers(Arc::clone(&worker), config.launcher.clone()));
        work(&worker, &stop, &over).await;
        cleaning.abort();
    }
    over.cancel();
    desk.await.context("the health listener")?;
    info!(log, "stopped");
    Ok(())
}

async fn assemble(config: &WorkerConfig, plan: Plan, id: String, log: Logger) -> anyhow::Result<Worker> {
    let settings = Settings::from(config);
    Ok(Worker {
        id,
        database: Database::new(&config.database),
        dispatch: Dispatch::new(&config.redis)?,
        objects: Objects::new(&config.objects)?,
        launcher: plan.launcher(config, &log).await?,
        settings,
        freed: Freed::default(),
        judged: Judged::default(),
        settling: TaskTracker::new(),
        pulse: Pulse::default(),
        log,
    })
}

/// The rooms run side by side. What sees ends and says that this worker is here outlives the dispatcher, which waits for the last ends.
async fn work(worker: &Arc<Worker>, stop: &CancellationToken, over: &CancellationToken) {
    if !begin(worker, stop).await {
        return;
    }
    let (reclaimer, reclaimed) = mpsc::channel(1);
    let supervisor = tokio::spawn(Supervisor::new(Arc::clone(worker), reclaimer).run(stop.clone()));
    let ends = tokio::spawn(news::hear(Arc::clone(worker), over.clone()));
    let presence = tokio::spawn(presence::run(Arc::clone(worker), over.clone()));
    Dispatcher::new(Arc::clone(worker), reclaimed).run(stop.clone()).await;
    over.cancel();
    let _ = tokio::join!(supervisor, ends, presence);
}

/// Lets the launcher begin; `false`: told to stop before.
async fn begin(worker: &Worker, stop: &CancellationToken) -> bool {
    let mut backoff = Backoff::default();
    loop {
        let id = match worker.database.get().await {
            Ok(mut connection) => installation::id(&mut connection).await,
            Err(error) => Err(error),
        };
        match id {
            Ok(id) => {
                worker.launcher.begin(id);
                return true;
            }
            Err(error) => warn!(worker.log, "the installation's id can't be read"; "error" => %error),
        }
        tokio::select! {
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}

/// Waits for PostgreSQL and for this program's schema in it; `false`: told to stop before.
async fn wait_for_schema(config: &WorkerConfig, worker: &Worker, stop: &CancellationToken) -> bool {
    let (mut backoff, mut told) = (Backoff::default(), String::new());
    loop {
        worker.pulse.beat();
        let why = match database::is_migrated(&config.database).await {
            Ok(true) => return true,
            Ok(false) => "its schema is not this program's yet".to_owned(),
            Err(error) => error.to_string(),
        };
        if why != told {
            warn!(worker.log, "waiting for PostgreSQL"; "why" => &why);
            told = why;
        }
        tokio::select! {
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}

/// Removes workspaces that killed executors left on this machine.
async fn clear_leftovers(worker: Arc<Worker>, launcher: LauncherConfig) {
    let LauncherConfig::Process { workspace_root, .. } = launcher else { return };
    let cleared = async {
        let leftovers = process::leftovers(std::path::absolute(workspace_root)?, LEFTOVER_AGE).await?;
        let attempts: Vec<_> = leftovers.iter().map(|(attempt, _)| *attempt).collect();
        let live =
            settlement::live(&mut *worker.database.get().await?, &attempts, &settlement::Observer::Anyone).await?;
        let mut removed = 0;
        for (attempt, folder) in leftovers {
            if !live.iter().any(|live| live.id == attempt) {
                process::remove_leftover(folder).await?;
                removed += 1;
            }
        }
        anyhow::Ok(removed)
    };
    match cleared.await {
        Ok(0) => {}
        Ok(removed) => info!(worker.log, "removed workspaces of ended attempts"; "workspaces" => removed),
        Err(error) => warn!(worker.log, "workspaces of ended attempts can't be removed"; "error" => %error),
    }
}
