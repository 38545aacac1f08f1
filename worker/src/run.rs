//! The worker's life: its servers, its rooms, and the order in which they end.

use crate::dispatch::Dispatcher;
use crate::health::Standing;
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
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
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
pub async fn run(config: WorkerConfig, plan: Plan, log: Logger) -> anyhow::Result<()> {
    let id = identity::new();
    let log = log.new(o!("worker" => id.clone()));
    let stop = shutdown::listen(log.clone()).context("can't listen for signals")?;
    let metrics = telemetry::install_metrics();
    let listener = bind(config.host, config.port).await?;
    info!(log, "listening"; "address" => listener.local_addr()?.to_string());

    let worker = Arc::new(assemble(&config, plan, id, log.clone()).await?);
    telemetry::metrics::begin_worker_series(worker.launcher.name());
    let over = CancellationToken::new();
    let metrics = config.metrics_enabled.then_some(metrics);
    let standing = Arc::new(Standing::new(stop.clone()));
    let desk = tokio::spawn(health::serve(listener, Arc::clone(&worker), Arc::clone(&standing), metrics, over.clone()));

    if wait_for_schema(&config, &worker, &stop).await {
        standing.note_migrated();
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

/// Several workers on one machine need no ports of their own, as long as nobody asked for one.
async fn bind(host: IpAddr, port: Option<u16>) -> anyhow::Result<TcpListener> {
    let asked = SocketAddr::new(host, port.unwrap_or(WorkerConfig::DEFAULT_PORT));
    let bound = match TcpListener::bind(asked).await {
        Err(error) if error.kind() == ErrorKind::AddrInUse && port.is_none() => TcpListener::bind((host, 0)).await,
        bound => bound,
    };
    bound.with_context(|| format!("WORKER_HOST, METRICS_PORT: can't listen on {asked}"))
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
        let over = leftovers.into_iter().filter(|(attempt, _)| !live.iter().any(|live| live.id == *attempt));
        anyhow::Ok(remove_each(&worker.log, over.map(|(_, folder)| folder)).await)
    };
    match cleared.await {
        Ok(0) => {}
        Ok(removed) => info!(worker.log, "removed workspaces of ended attempts"; "workspaces" => removed),
        Err(error) => warn!(worker.log, "workspaces of ended attempts can't be removed"; "error" => %error),
    }
}

/// Answers how many are removed. One that can't be holds up no other.
async fn remove_each(log: &Logger, folders: impl Iterator<Item = PathBuf>) -> usize {
    let mut removed = 0;
    for folder in folders {
        match process::remove_leftover(folder.clone()).await {
            Ok(()) => removed += 1,
            Err(error) => {
                warn!(log, "a workspace of an ended attempt can't be removed"; "folder" => %folder.display(), "error" => %error);
            }
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use slog::Discard;

    #[tokio::test]
    async fn a_workspace_that_can_not_be_removed_holds_up_no_other() {
        let root = tempfile::tempdir().unwrap();
        let good = root.path().join("good");
        std::fs::create_dir(&good).unwrap();
        std::fs::write(root.path().join("file"), "").unwrap();
        let folders = [root.path().join("file/below"), good.clone()];
        let removed = remove_each(&Logger::root(Discard, o!()), folders.into_iter()).await;
        assert_eq!((removed, good.exists()), (1, false));
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn a_port_that_was_asked_for_is_the_only_one() {
        let taken = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = format!("{:#}", bind(HERE, Some(port)).await.unwrap_err());
        assert!(error.contains("METRICS_PORT") && error.contains(&port.to_string()), "{error}");
    }

    #[tokio::test]
    async fn workers_that_ask_for_no_port_have_one_each() {
        let (one, other) = (bind(HERE, None).await.unwrap(), bind(HERE, None).await.unwrap());
        assert_ne!(one.local_addr().unwrap(), other.local_addr().unwrap());
    }
}
