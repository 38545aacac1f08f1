//! A scenario's surroundings: a grant to begin with, a folder of its own, and the executor's process.

use crate::peer::{Peer, SOON};
use roadstead_domain::attempt::protocol::{Bootstrap, Finish, Input, Limits, StartGrant};
use roadstead_domain::ids::ExecutionId;
use roadstead_domain::workflow::from_text;
use serde_json::value::RawValue;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A grant with generous limits for these steps (YAML).
pub fn grant(steps: &str) -> StartGrant {
    StartGrant {
        workflow: from_text(&format!("steps:\n{steps}")).unwrap(),
        input: Input::Inline(RawValue::from_string(r#"{"in": [1, 2.50]}"#.into()).unwrap()),
        timeout_seconds: 600,
        lease_seconds: 90,
        heartbeat_seconds: 1,
        grace_seconds: 5,
        outcome_url: String::new(),
        traceparent: None,
        limits: Limits {
            max_line_bytes: 16 * 1024,
            segment_bytes: 1024 * 1024,
            max_log_bytes: 64 * 1024 * 1024,
            max_result_bytes: 1024 * 1024,
            inline_result_bytes: 1024,
            max_artifacts: 100,
            max_artifact_bytes: 1024 * 1024 * 1024,
            part_bytes: 5 * 1024 * 1024,
        },
    }
}

/// A step (YAML) that runs a shell script; `more` holds further fields, as in `retries: 1`.
pub fn sh(id: &str, script: &str, more: &str) -> String {
    let script = serde_json::to_string(script).unwrap();
    let comma = if more.is_empty() { "" } else { ", " };
    format!("- {{id: {id}, command: [sh, -c, {script}]{comma}{more}}}\n")
}

/// One attempt and what it runs against.
pub struct Scenario {
    pub peer: Peer,
    /// For files by which a step and its test speak; steps are told its path by `{dir}` in their YAML.
    pub dir: tempfile::TempDir,
    pub id: ExecutionId,
}

impl Scenario {
    pub fn new(steps: &str, change: impl FnOnce(&mut StartGrant)) -> Self {
        Self::against(steps, change, Peer::start)
    }

    pub fn against(
        steps: &str,
        change: impl FnOnce(&mut StartGrant),
        start_peer: impl FnOnce(StartGrant) -> Peer,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut grant = grant(&steps.replace("{dir}", dir.path().to_str().unwrap()));
        change(&mut grant);
        let peer = start_peer(grant);
        let outcome_url = format!("{}/store/outcome.json?signature=hush", peer.url());
        peer.state().grant.as_mut().unwrap().outcome_url = outcome_url;
        Self { peer, dir, id: ExecutionId::new() }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("attempts")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn start(&self) -> Executor {
        self.start_as(&mut Command::new(env!("CARGO_BIN_EXE_roadstead-executor")))
    }

    pub fn start_as(&self, command: &mut Command) -> Executor {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let bootstrap = Bootstrap {
            execution_id: self.id,
            attempt: 1,
            api_url: self.peer.url(),
            credential: "launch-credential".into(),
            workspace_root: self.root().to_str().unwrap().into(),
        };
        child.stdin.take().unwrap().write_all(&serde_json::to_vec(&bootstrap).unwrap()).unwrap();
        Executor { child, root: self.root() }
    }

    /// Starts one that learns everything from its arguments.
    pub fn start_told(&self, command: &mut Command) -> Executor {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Executor { child, root: self.root() }
    }

    /// Runs to the end, which must be a reported one.
    pub fn run(&self) -> Finish {
        self.start().ends_with(0);
        self.finish()
    }

    /// The one report.
    pub fn finish(&self) -> Finish {
        let state = self.peer.state();
        assert_eq!(state.finishes.len(), 1);
        state.finishes[0].clone()
    }

    pub fn outcome_file(&self) -> Option<Finish> {
        self.peer.state().objects.get("outcome.json").map(|bytes| serde_json::from_slice(bytes).unwrap())
    }

    /// The pid that a step wrote into a file.
    pub fn pid_in(&self, name: &str) -> i32 {
        let path = self.path(name);
        let text = wait_until(&format!("a pid in {name}"), || {
            std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
        });
        text.trim().parse().unwrap()
    }
}

pub struct Executor {
    child: Child,
    root: PathBuf,
}

impl Executor {
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end, checks the status, that nothing was left on disk and nothing secret was said; answers standard error.
    pub fn ends_with(mut self, status: i32) -> String {
        let ended = wait_until("the executor's end", || self.child.try_wait().unwrap());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        self.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(ended.code(), Some(status), "{said}");
        assert!(said.lines().count() <= 1, "{said}");
        assert!(!said.contains("hush") && !said.contains("credential"), "{said}");
        let left = std::fs::read_dir(&self.root).into_iter().flatten();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).filter(|name| name != ".spare").collect();
        assert!(left.is_empty(), "the workspace is gone: {left:?}");
        said
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // A scenario that failed leaves nothing running but what its executor could not end any more.
        if let Ok(None) = self.child.try_wait() {
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_child(&self.child),
                rustix::process::Signal::TERM,
            );
            let _ = self.child.wait();
        }
    }
}

pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process runs. One that ended and was not reaped yet does not.
pub fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X'])))
}
