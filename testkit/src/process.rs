//! A process under test: started, signalled, killed, started again; its output kept in a file.

use crate::wait::{PATIENCE, wait_for};
use anyhow::{Context, Result};
use roadstead_cli::dev::launch::Launch;
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const END: Duration = Duration::from_secs(3);

pub struct Process {
    name: String,
    launch: Launch,
    child: Mutex<Child>,
}

impl Process {
    pub fn start(name: impl Into<String>, launch: Launch) -> Result<Self> {
        let name = name.into();
        let child = spawn(&launch).with_context(|| format!("can't start {name}"))?;
        Ok(Self { name, launch, child: Mutex::new(child) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    pub fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    /// Sends a signal; one to a process that has ended goes nowhere.
    pub fn signal(&self, signal: Signal) {
        let mut child = self.child();
        // Not reaped yet, so that the number is still this process's.
        if matches!(child.try_wait(), Ok(None))
            && let Some(pid) = Pid::from_raw(child.id() as i32)
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// A signal that ends it at once; a kill where it does not.
    pub(crate) fn end(&self, signal: Signal) {
        self.signal(signal);
        let deadline = Instant::now() + END;
        while self.is_running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
    }

    /// `kill -9`, and the end of it.
    pub fn kill(&self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }

    /// SIGTERM, and the end of it, for which there is limited patience.
    pub async fn terminate(&self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits for its end.
    pub async fn ended(&self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait_for(&what, PATIENCE, async || match self.child().try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(format!("it runs; its log ends: {}", self.log_tail(20))),
            Err(error) => Err(error.to_string()),
        })
        .await
    }

    /// Starts it again, as it was started before. One that still runs is killed.
    pub fn restart(&self) {
        self.kill();
        let child = spawn(&self.launch);
        *self.child() = child.unwrap_or_else(|e| panic!("can't start {} again: {e:#}", self.name));
    }

    /// Everything that it has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.launch.log).unwrap_or_default()).into_owned()
    }

    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(launch: &Launch) -> Result<Child> {
    let mut child = launch.command()?.spawn()?;
    if let (Some(text), Some(mut stdin)) = (&launch.stdin, child.stdin.take()) {
        stdin.write_all(text.as_bytes())?;
    }
    Ok(child)
}
