//! One try of one step: its process from start to burial, with its output read all along.

use super::kill::{self, Exit};
use super::plan::End;
use super::spawn::{Spawned, Surroundings, spawn};
use crate::cgroup;
use crate::clock;
use crate::halt::{Halt, Stop};
use crate::lease::Lease;
use crate::ship::log::{Feed, Log};
use roadstead_domain::attempt::protocol::Stream;
use roadstead_domain::workflow::Step;
use rustix::process::Pid;
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout, timeout_at};

/// How long a background process may hold a step's pipes open after its main process ended.
const DRAIN: Duration = Duration::from_millis(250);

/// What every try needs.
#[derive(Debug)]
pub struct Stage {
    pub around: Surroundings,
    pub log: Arc<Log>,
    pub stop: Stop,
    pub lease: Arc<Lease>,
    pub grace: Duration,
    /// The steps' main processes, which only their own try reaps. This runtime has one thread, so between a spawn and its
    /// entry here nobody looks.
    pub mains: Mutex<HashSet<Pid>>,
}

/// Why a try is over.
enum Over {
    Exited(Exit),
    Halted(Halt),
    TimedOut,
}

impl Stage {
    pub fn is_main(&self, pid: Pid) -> bool {
        self.mains.lock().unwrap_or_else(PoisonError::into_inner).contains(&pid)
    }

    /// Runs one try to its end; nothing of its process group is left then.
    pub async fn run(&self, step: &Step) -> End {
        // The guard says so too, but after a pause of this whole process it may be told of it later than this.
        if self.lease.is_ending() {
            self.stop.ask(Halt::LeaseEnding);
        }
        if self.stop.reason().is_some() {
            return End::Halted;
        }
        let oom_kills = cgroup::oom_kills();
        let mut running = match self.start(step) {
            Ok(running) => running,
            Err(end) => return end,
        };
        let over = running.until_over(self, step.timeout_seconds).await;
        match over {
            Over::Exited(_) => {}
            Over::Halted(Halt::Superseded) => running.kill().await,
            Over::Halted(_) | Over::TimedOut => self.stop_kindly(step, &mut running).await,
        }
        running.close(self).await;
        match over {
            Over::Exited(exit) if is_killed(exit) && cgroup::struck_since(oom_kills) => {
                End::OutOfMemory { exit, limit_bytes: cgroup::memory_limit_bytes() }
            }
            Over::Exited(Exit::Code(code)) => End::Exited(code),
            Over::Exited(Exit::Signal(signal)) => End::Signalled(signal),
            Over::Halted(_) => End::Halted,
            Over::TimedOut => End::TimedOut,
        }
    }

    fn start(&self, step: &Step) -> Result<Running, End> {
        let unable = |error: io::Error| End::NotStarted { message: error.to_string(), hopeless: false };
        // Before the process is there, so that its end can't be missed.
        let children = signal(SignalKind::child()).map_err(unable)?;
        let Spawned { pid, stdout, stderr } = spawn(step, &self.around)?;
        self.mains.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
        let feed = |pipe, stream| Feed::new(pipe, &step.id, stream, &self.log);
        match (feed(stdout, Stream::Stdout), feed(stderr, Stream::Stderr)) {
            (Ok(stdout), Ok(stderr)) => {
                Ok(Running { pid, children, output: Output { stdout, stderr, flowing: true }, log: self.log.clone() })
            }
            (Err(error), _) | (_, Err(error)) => {
                kill::kill_tree(pid);
                self.bury(pid);
                Err(unable(error))
            }
        }
    }

    /// SIGTERM to the whole tree; after the grace, or when the lease can wait no longer, SIGKILL.
    async fn stop_kindly(&self, step: &Step, running: &mut Running) {
        kill::terminate_tree(running.pid);
        let until = (clock::now() + self.grace).min(self.lease.kill_at());
        let ended = async {
            tokio::select! {
                () = async { running.exited().await; running.drained().await } => true,
                _ = self.stop.asked_for(|halt| halt == Halt::Superseded) => false,
            }
        };
        if !timeout_at(until, ended).await.unwrap_or(false) {
            if kill::has_exited(running.pid).is_none() {
                self.log.say(&step.id, "did not stop when it was asked to (SIGTERM); killed (SIGKILL)");
            }
            running.kill().await;
        }
    }

    fn bury(&self, pid: Pid) {
        kill::bury(pid);
        self.mains.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
    }
}

/// By SIGKILL, which nobody here sends to a step before it is over; or a shell says so of its last command.
fn is_killed(exit: Exit) -> bool {
    const KILL: i32 = rustix::process::Signal::KILL.as_raw();
    matches!(exit, Exit::Signal(KILL)) || exit == Exit::Code(128 + KILL)
}

/// A try's process.
struct Running {
    pid: Pid,
    children: Signal,
    output: Output,
    log: Arc<Log>,
}

struct Output {
    stdout: Feed,
    stderr: Feed,
    flowing: bool,
}

impl Running {
    async fn until_over(&mut self, stage: &Stage, timeout_seconds: Option<u32>) -> Over {
        let limit = timeout_seconds.map(|seconds| clock::now() + Duration::from_secs(u64::from(seconds)));
        tokio::select! {
            exit = self.exited() => Over::Exited(exit),
            halt = stage.stop.asked() => Over::Halted(halt),
            () = passed(limit) => Over::TimedOut,
        }
    }

    /// Waits for the main process's end while its output flows. May be dropped and called again.
    async fn exited(&mut self) -> Exit {
        loop {
            if let Some(exit) = kill::has_exited(self.pid) {
                return exit;
            }
            tokio::select! {
                _ = self.children.recv() => {}
                () = self.output.flow(&self.log), if self.output.flowing => {}
            }
        }
    }

    /// Waits until nobody can print any more.
    async fn drained(&mut self) {
        self.output.flow(&self.log).await;
    }

    async fn kill(&mut self) {
        kill::kill_tree(self.pid);
        self.exited().await;
    }

    /// After the main process's end: a moment for what it left in the pipes or to a child of its own, then the group ends.
    async fn close(mut self, stage: &Stage) {
        let _ = timeout(DRAIN, self.drained()).await;
        stage.bury(self.pid);
        // What was printed until then; nobody of the group prints any more.
        let _ = timeout(DRAIN, self.drained()).await;
        self.output.stdout.finish(&self.log);
        self.output.stderr.finish(&self.log);
    }
}

impl Output {
    async fn flow(&mut self, log: &Log) {
        if self.flowing {
            tokio::join!(self.stdout.flow(log), self.stderr.flow(log));
            self.flowing = false;
        }
    }
}

async fn passed(limit: Option<Instant>) {
    match limit {
        Some(limit) => tokio::time::sleep_until(limit).await,
        None => std::future::pending().await,
    }
}
