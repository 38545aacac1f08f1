//! The worker's life: its servers, its rooms, and the order in which they end.

use crate::dispatch::Dispatcher;
use crate::launch::process::{self, ProcessLauncher, Surroundings};
use crate::supervise::{Supervisor, presence, settle};
use crate::worker::{Freed, Judged, Pulse, Settings, Worker};
use crate::{backoff::Backoff, health, identity, shutdown};
use anyhow::Context;
use roadstead_backend::config::{WorkerConfig, extra_roots_file, search_path};
use roadstead_backend::dispatch::Dispatch;
use roadstead_backend::objects::Objects;
use roadstead_backend::store::{Database, database, settle as settlement};
use roadstead_backend::telemetry;
use slog::{Logger, info, o, warn};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A workspace that nobody touched for so long belongs to no executor that is about to remove it.
const LEFTOVER_AGE: Duration = Duration::from_secs(600);

/// Runs until a signal, and until what was begun is ended.
pub async fn run(config: WorkerConfig, log: Logger) -> anyhow::Result<()> {
    let id = identity::new();
    let log = log.new(o!("worker" => id.clone()));
    let stop = shutdown::listen(log.clone()).context("can't listen for signals")?;
    let metrics = telemetry::install_metrics();
    let listener = TcpListener::bind((config.host, config.port))
        .await
        .with_context(|| format!("can't listen on {}:{}", config.host, config.port))?;
    info!(log, "listening"; "address" => listener.local_addr()?.to_string());

    let workspace_root =
        std::path::absolute(&config.workspace_root).context("WORKSPACE_ROOT can't be made absolute")?;
    let worker = Arc::new(assemble(&config, id, log.clone(), workspace_root.clone())?);
    let over = CancellationToken::new();
    let metrics = config.metrics_enabled.then_some(metrics);
    let desk = tokio::spawn(health::serve(listener, Arc::clone(&worker), metrics, over.clone()));

    if wait_for_schema(&config, &worker, &stop).await {
        info!(log, "working"; "cap" => worker.settings.cap, "launcher" => worker.launcher.name());
        let cleaning = tokio::spawn(clear_leftovers(Arc::clone(&worker), workspace_root));
        work(&worker, &stop, &over).await;
        cleaning.abort();
    }
    over.cancel();
    desk.await.context("the health listener")?;
    info!(log, "stopped");
    Ok(())
}

fn assemble(config: &WorkerConfig, id: String, log: Logger, workspace_root: PathBuf) -> anyhow::Result<Worker> {
    let settings = Settings::from(config);
    let surroundings = Surroundings {
        executor: std::path::absolute(&config.executor_path).context("EXECUTOR_PATH can't be made absolute")?,
        api_url: config.api_url.clone(),
        workspace_root,
        search_path: search_path(),
        certificates: extra_roots_file(),
    };
    Ok(Worker {
        id,
        database: Database::new(&config.database),
        dispatch: Dispatch::new(&config.redis)?,
        objects: Objects::new(&config.objects)?,
        launcher: Arc::new(ProcessLauncher::new(surroundings, settings.cap, log.clone())),
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
    let (reclaimer, reclaimed) = mpsc::channel(1);
    let supervisor = tokio::spawn(Supervisor::new(Arc::clone(worker), reclaimer).run(stop.clone()));
    let ends = tokio::spawn(settle::see_ends(Arc::clone(worker), over.clone()));
    let presence = tokio::spawn(presence::run(Arc::clone(worker), over.clone()));
    Dispatcher::new(Arc::clone(worker), reclaimed).run(stop.clone()).await;
    over.cancel();
    let _ = tokio::join!(supervisor, ends, presence);
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
async fn clear_leftovers(worker: Arc<Worker>, workspace_root: PathBuf) {
    let cleared = async {
        let leftovers = process::leftovers(workspace_root, LEFTOVER_AGE).await?;
        let attempts: Vec<_> = leftovers.iter().map(|(attempt, _)| *attempt).collect();
        let live =
            settlement::live(&mut *worker.database.get().await?, &attempts, &settlement::Observer::Supervisor).await?;
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
