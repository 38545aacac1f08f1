//! The process launcher, with shell scripts in the executor's place. A binary of its own: a sweep ends every child of its process that is no executor.

use roadstead_domain::attempt::protocol::Bootstrap;
use roadstead_domain::execution::Reason;
use roadstead_domain::ids::{AttemptId, ExecutionId};
use roadstead_worker::launch::process::{ProcessLauncher, Surroundings};
use roadstead_worker::launch::{Credential, End, Ended, LaunchError, LaunchOrder, Launcher, News, StopCause};
use rustix::process::{Pid, Signal, kill_process};
use slog::{Discard, Logger, o};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// Launchers of one process would end each other's executors.
static ALONE: Mutex<()> = Mutex::const_new(());

struct Scene {
    launcher: ProcessLauncher,
    folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// A launcher whose executor is this script; `$F` in it is a folder of the scene.
async fn scene(script: &str, cap: usize) -> Scene {
    let alone = ALONE.lock().await;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let executor = folder.path().join("executor");
    fs::write(&executor, format!("#!/bin/sh\nF={}\n{script}\n", folder.path().display())).unwrap();
    fs::set_permissions(&executor, fs::Permissions::from_mode(0o755)).unwrap();
    let surroundings = Surroundings {
        executor,
        api_url: "http://127.0.0.1:9".to_owned(),
        workspace_root: folder.path().join("work"),
        search_path: Some("/usr/bin:/bin".into()),
        certificates: None,
    };
    let launcher = ProcessLauncher::new(surroundings, cap, Logger::root(Discard, o!()));
    Scene { launcher, folder, _alone: alone }
}

fn order() -> LaunchOrder {
    LaunchOrder {
        tenant: "t".to_owned(),
        attempt: AttemptId { execution_id: ExecutionId::new(), attempt: 1 },
        credential: Some(Credential { token: "hush".to_owned(), hash: Vec::new() }),
        demand: None,
        is_taken_over: false,
        timeout: Duration::from_secs(60),
    }
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

impl Scene {
    async fn launch(&self) -> AttemptId {
        let order = order();
        let attempt = order.attempt;
        self.launcher.launch(order, soon()).await.unwrap();
        attempt
    }

    /// Why a launch was refused, and whether another attempt might do better.
    async fn refused(&self) -> (Reason, bool) {
        match self.launcher.launch(order(), soon()).await {
            Err(LaunchError::Refused { reason, retryable }) => (reason, retryable),
            other => panic!("it was to be refused: {other:?}"),
        }
    }

    async fn next_end(&self) -> Ended {
        match timeout(PATIENCE, self.launcher.observe()).await.expect("an end") {
            News::Ended(ended) => ended,
            News::Waiting { reason, .. } => panic!("a process waits for nothing: {reason:?}"),
        }
    }

    /// The content of a file, once there is any.
    async fn read(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        let read = async {
            loop {
                match fs::read_to_string(&path) {
                    Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
                    _ => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("{name} was not written"))
    }

    async fn pid(&self, name: &str) -> Pid {
        Pid::from_raw(self.read(name).await.parse().unwrap()).unwrap()
    }
}

fn is_there(pid: Pid) -> bool {
    PathBuf::from(format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn an_executor_gets_its_document_by_standard_input_and_nothing_else() {
    let scene =
        scene("cat > $F/document; echo >> $F/document; tr '\\0' '\\n' < /proc/$$/environ > $F/environment; tr '\\0' ' ' < /proc/$$/cmdline > $F/arguments", 1)
            .await;
    let attempt = scene.launch().await;
    assert_eq!(scene.next_end().await.end, End::Reported);
    let document: Bootstrap = serde_json::from_str(&scene.read("document").await).unwrap();
    assert_eq!((document.execution_id, document.attempt), (attempt.execution_id, 1));
    assert_eq!((document.credential.as_str(), document.api_url.as_str()), ("hush", "http://127.0.0.1:9"));
    assert_eq!(scene.read("environment").await, "PATH=/usr/bin:/bin");
    let arguments = fs::read_to_string(scene.folder.path().join("arguments")).unwrap();
    assert!(!arguments.contains("hush") && !arguments.contains("127.0.0.1"), "{arguments}");
}

#[tokio::test]
async fn what_a_killed_executor_started_is_gone_when_its_end_is_told() {
    let scene = scene(
        "setsid sh -c 'echo $$ > '$F'/daemon; sleep 300 & wait' &
         sh -c 'trap \"\" TERM; echo $$ > '$F'/step; while true; do sleep 0.01; done' &
         echo $$ > $F/executor_pid; wait",
        2,
    )
    .await;
    let attempt = scene.launch().await;
    let workspace = scene.folder.path().join("work").join(attempt.to_string());
    fs::create_dir_all(workspace.join("work/deep")).unwrap();
    let (daemon, step) = (scene.pid("daemon").await, scene.pid("step").await);
    kill_process(scene.pid("executor_pid").await, Signal::KILL).unwrap();
    let ended = scene.next_end().await;
    assert!(!is_there(daemon) && !is_there(step), "{ended:?}");
    assert!(matches!(&ended.end, End::Lost(reason) if reason.message.contains("signal 9")), "{ended:?}");
    assert_eq!(ended.attempt, attempt);
    assert!(!workspace.exists());
    assert_eq!(*scene.launcher.live().borrow(), 0);
}

#[tokio::test]
async fn the_executors_of_others_survive_a_sweep() {
    let scene = scene("echo $$ > $F/$$.pid; echo $$ >> $F/all; while [ ! -e $F/over ]; do sleep 0.01; done", 3).await;
    let first = scene.launch().await;
    let victim = scene.pid("all").await;
    for _ in 0..2 {
        scene.launch().await;
    }
    kill_process(victim, Signal::KILL).unwrap();
    let ended = scene.next_end().await;
    assert_eq!(ended.attempt, first);
    assert_eq!(*scene.launcher.live().borrow(), 2);
    fs::write(scene.folder.path().join("over"), "").unwrap();
    for _ in 0..2 {
        assert_eq!(scene.next_end().await.end, End::Reported);
    }
}

#[tokio::test]
async fn there_are_never_more_than_the_cap() {
    let scene = scene("while [ ! -e $F/over ]; do sleep 0.01; done", 2).await;
    for _ in 0..2 {
        scene.launch().await;
    }
    let failure = scene.refused().await;
    assert!(failure.1 && failure.0.code == "create_rejected", "{failure:?}");
    assert_eq!((*scene.launcher.live().borrow(), scene.launcher.held().len()), (2, 2));
    fs::write(scene.folder.path().join("over"), "").unwrap();
    for _ in 0..2 {
        assert_eq!(scene.next_end().await.end, End::Reported);
    }
    scene.launch().await;
    scene.next_end().await;
}

#[tokio::test]
async fn a_stopped_attempt_ends_and_its_end_says_why() {
    let scene = scene("echo $$ > $F/executor_pid; trap '' TERM; while true; do sleep 0.01; done", 1).await;
    let attempt = scene.launch().await;
    let pid = scene.pid("executor_pid").await;
    kill_process(pid, Signal::STOP).unwrap();
    assert!(scene.launcher.holds(attempt));
    scene.launcher.stop(attempt, StopCause::LeaseExpired);
    scene.launcher.stop(attempt, StopCause::RunTimeout);
    let ended = scene.next_end().await;
    assert_eq!(ended.end, End::Stopped(StopCause::LeaseExpired));
    assert!(!is_there(pid) && !scene.launcher.holds(ended.attempt));
}

#[tokio::test]
async fn the_last_words_of_an_executor_are_kept_however_many_there_were() {
    let scene = scene("head -c 300000 /dev/zero | tr '\\0' x >&2; echo 'no route' >&2; exit 7", 1).await;
    scene.launch().await;
    let End::Lost(reason) = scene.next_end().await.end else { panic!("it was lost") };
    assert!(reason.message.starts_with("the executor ended with status 7: ") && reason.message.ends_with("no route"));
    assert!(reason.message.len() < 5_000);
}

#[tokio::test]
async fn a_missing_executor_is_a_failure_and_takes_no_place() {
    let scene = scene("", 1).await;
    let executor = scene.folder.path().join("executor");
    let away = scene.folder.path().join("away");
    fs::rename(&executor, &away).unwrap();
    assert_eq!(scene.refused().await.0.code, "create_rejected");
    fs::rename(&away, &executor).unwrap();
    scene.launch().await;
    assert_eq!(scene.next_end().await.end, End::Reported);
}
