//! `roadstead dev` as a newcomer, a script and an impatient person use it: all of it real.

use roadstead_cli::dev::processes::{Process, working_below};
use roadstead_testkit::{Client, programs_folder, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

const START: Duration = Duration::from_mins(2);
const PARTS: [&str; 5] = ["api", "worker", "postgres", "redis", "s3"];

struct Dev {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    folder: PathBuf,
}

impl Dev {
    fn spawn(folder: &Path, arguments: &[&str]) -> Self {
        let stderr = File::options().append(true).create(true).open(folder.join("stderr")).unwrap();
        let mut child = Command::new(programs_folder().unwrap().join("roadstead"))
            .args(["dev", "--port", "0", "--data-dir"])
            .arg(folder.join("data"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("run `make test`, which builds the programs first");
        let stdout = child.stdout.take().map(BufReader::new);
        Self { child, stdout, folder: folder.to_owned() }
    }

    /// Starts it and waits for the line that says where everything is.
    async fn start(folder: &Path) -> (Self, Value) {
        let mut dev = Self::spawn(folder, &["--format", "json", "--no-sample"]);
        let line = dev.read(|line| line.starts_with('{')).await;
        let ready = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}\n{}", dev.stderr()));
        (dev, ready)
    }

    /// Everything on standard output up to a line like this one, which must be the first of its kind.
    async fn read(&mut self, is_last: impl Fn(&str) -> bool + Send + 'static) -> String {
        let mut stdout = self.stdout.take().unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            let mut line = String::new();
            while stdout.read_line(&mut line).unwrap() > 0 {
                text.push_str(&line);
                if is_last(&line) {
                    break;
                }
                line.clear();
            }
            (text, stdout)
        });
        let (text, stdout) = tokio::time::timeout(START, read).await.expect("it says nothing").unwrap();
        self.stdout = Some(stdout);
        text
    }

    fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.join("stderr")).unwrap_or_default()
    }

    fn ledger(&self) -> Value {
        let text = std::fs::read(self.folder.join("data/processes.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    async fn end(mut self, signal: Signal) -> ExitStatus {
        Process::of(self.child.id()).unwrap().signal(signal);
        let ended = wait_for("the end of `roadstead dev`", START, async || match self.child.try_wait().unwrap() {
            Some(status) => Ok(status),
            None => Err("it runs".to_owned()),
        });
        ended.await
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // A failed test must leave nothing either: the polite way, which ends its parts, and then the other.
            Process::of(self.child.id()).inspect(|process| process.signal(Signal::TERM));
            for _ in 0..400 {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        if std::thread::panicking() {
            eprintln!("--- what `roadstead dev` said ---\n{}", self.stderr());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One that PostgreSQL's account can reach when root runs the tests.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

fn client(ready: &Value) -> Client {
    Client::new(ready["api_url"].as_str().unwrap(), ready["api_key"].as_str())
}

fn processes(ready: &Value) -> Vec<Process> {
    PARTS.map(|part| Process::of(ready["pids"][part].as_u64().unwrap() as u32).unwrap()).to_vec()
}

fn assert_nothing_is_left(folder: &Path) {
    let left = working_below(&folder.canonicalize().unwrap());
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn the_stack_says_where_it_is_and_ends_without_a_trace() {
    let folder = folder();
    let (dev, ready) = Dev::start(folder.path()).await;
    let mut names: Vec<&str> = ready.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["api_key", "api_url", "database_url", "pids", "redis_url", "s3_endpoint"]);
    let processes = processes(&ready);

    client(&ready).get("/v1/capacity").await.expect(200);
    Client::new(ready["api_url"].as_str().unwrap(), None).get("/v1/capacity").await.expect(401);
    let database = roadstead_cli::dev::postgres::connect(ready["database_url"].as_str().unwrap()).await.unwrap();
    database.simple_query("SELECT id, tenant, state, attempt FROM executions").await.unwrap();
    let credentials = folder.path().join("data/credentials.json");
    assert_eq!(std::fs::metadata(credentials).unwrap().permissions().mode() & 0o777, 0o600);

    assert!(dev.end(Signal::INT).await.success());
    assert!(processes.iter().all(|process| !process.is_alive()));
    assert_nothing_is_left(folder.path());
}

#[tokio::test]
async fn a_part_that_dies_is_started_again() {
    let folder = folder();
    let (dev, ready) = Dev::start(folder.path()).await;
    let client = client(&ready);
    for part in PARTS {
        let dead = Process::of(ready["pids"][part].as_u64().unwrap() as u32).unwrap();
        dead.signal(Signal::KILL);
        let notice = format!(r#""event":"restarted","part":"{part}""#);
        wait_for(&notice, START, async || {
            let told = dev.stderr();
            if told.contains(&notice) { Ok(()) } else { Err(told) }
        })
        .await;
        wait_for("the API to be ready", START, async || {
            let answer = client.try_send(client.request(reqwest::Method::GET, "/readyz")).await;
            let answer = answer.map_err(|e| e.to_string())?;
            if answer.status.is_success() { Ok(()) } else { Err(answer.text()) }
        })
        .await;
    }
    let id = client.submit_script("echo '{\"n\": 7}' > \"$ROADSTEAD_RESULT\"").await;
    let execution = client.wait_for_state(&id, &["succeeded"], START).await;
    assert_eq!(execution["result"], json!({"n": 7}));
    assert!(dev.end(Signal::TERM).await.success());
    assert_nothing_is_left(folder.path());
}

#[tokio::test]
async fn what_a_killed_stack_left_is_ended_by_the_next() {
    let folder = folder();
    let (dev, first) = Dev::start(folder.path()).await;
    let pid_file = folder.path().join("step.pid");
    let id = client(&first).submit_script(&format!("echo $$. > {}; exec sleep 1000", pid_file.display())).await;
    let step = wait_for("the step", START, async || {
        let text = std::fs::read_to_string(&pid_file).map_err(|e| e.to_string())?;
        let pid = text.trim().strip_suffix('.').and_then(|pid| pid.parse().ok());
        pid.and_then(Process::of).ok_or_else(|| format!("{text:?} is no process"))
    })
    .await;
    let left: Vec<Process> = processes(&first).into_iter().chain([step]).collect();
    dev.end(Signal::KILL).await;

    let (dev, second) = Dev::start(folder.path()).await;
    assert!(left.iter().all(|process| !process.is_alive()), "{left:?}\n{}", dev.stderr());
    assert!(dev.stderr().contains("ended what an earlier run had left"), "{}", dev.stderr());
    assert_eq!(first["api_key"], second["api_key"]);
    assert_eq!(client(&second).execution(&id).await["id"], id.as_str());
    assert!(dev.end(Signal::INT).await.success());
    assert_nothing_is_left(folder.path());
}

#[tokio::test]
async fn an_end_while_something_runs_or_starts_leaves_nothing() {
    for part in ["initdb", "postgres", "api", "worker"] {
        let folder = folder();
        let dev = Dev::spawn(folder.path(), &["--format", "json", "--no-sample"]);
        wait_for(&format!("{part} to be started"), START, async || match dev.ledger().get(part) {
            Some(_) => Ok(()),
            None => Err(dev.stderr()),
        })
        .await;
        assert!(dev.end(Signal::INT).await.success());
        assert_nothing_is_left(folder.path());
    }
    let folder = folder();
    let (dev, ready) = Dev::start(folder.path()).await;
    let id = client(&ready).submit_script("sleep 1000 & setsid sleep 1000 & wait").await;
    client(&ready).wait_for_state(&id, &["running"], START).await;
    assert!(dev.end(Signal::INT).await.success());
    assert_nothing_is_left(folder.path());
}

#[tokio::test]
async fn a_newcomer_sees_the_sample_and_what_to_try_next() {
    let folder = folder();
    let mut dev = Dev::spawn(folder.path(), &[]);
    let shown = dev.read(|line| line.contains("Ctrl-C")).await;
    for part in ["word-count", "split │ ", "Its result", "Its artifacts", ".svg", "/docs", "export ROADSTEAD_URL="] {
        assert!(shown.contains(part), "{part} in {shown}\n{}", dev.stderr());
    }
    assert!(dev.end(Signal::INT).await.success());
    assert_nothing_is_left(folder.path());
}
