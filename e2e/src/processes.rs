//! What `/proc` tells of the processes that a site started: they are counted from outside, not asked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A process as `/proc/PID/stat` shows it.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    /// Ended, and not reaped yet.
    pub is_zombie: bool,
}

impl Process {
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may hold anything.
        let mut rest = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = rest.next()?;
        Some(Self { pid, parent: rest.next()?.parse().ok()?, is_zombie: matches!(state, "Z" | "X") })
    }
}

/// Whether a process runs. One that ended and was not reaped yet does not.
pub fn runs(pid: u32) -> bool {
    Process::of(pid).is_some_and(|process| !process.is_zombie)
}

pub fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether the process was started by this path.
fn is_program(pid: u32, path: &Path) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|&byte| byte == 0).next() == Some(path.as_os_str().as_encoded_bytes())
}

/// The processes of one program, which is known by a path that nobody else uses.
#[derive(Debug)]
pub struct Census {
    path: PathBuf,
    /// Until when a process need not be looked at again. A fork becomes another program, and numbers come again.
    strangers: HashMap<u32, Instant>,
}

impl Census {
    /// For so long a process may still be a fork that has not become its program yet.
    const YOUNG: Duration = Duration::from_millis(300);
    const BELIEF: Duration = Duration::from_secs(2);

    pub fn of(path: PathBuf) -> Self {
        Self { path, strangers: HashMap::new() }
    }

    pub fn take(&mut self) -> Vec<Process> {
        let now = Instant::now();
        let mut found = Vec::new();
        for pid in pids() {
            let seen = self.strangers.get(&pid).copied();
            if seen.is_some_and(|seen| (Self::YOUNG..Self::BELIEF).contains(&(now - seen))) {
                continue;
            }
            if is_program(pid, &self.path) {
                self.strangers.remove(&pid);
                found.extend(Process::of(pid).filter(|process| !process.is_zombie));
            } else if seen.is_none_or(|seen| now - seen >= Self::BELIEF) {
                self.strangers.insert(pid, now);
            }
        }
        // A fork of it that is about to become a step shows its name for a moment.
        let ours: Vec<u32> = found.iter().map(|process| process.pid).collect();
        found.retain(|process| !ours.contains(&process.parent));
        found
    }
}

/// Counts the processes of one program every few milliseconds, on a thread of its own.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Sample>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// The most that were seen at once.
    pub most: usize,
    pub looks: usize,
}

impl Sampler {
    const INTERVAL: Duration = Duration::from_millis(5);

    pub fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut census, mut sample) = (Census::of(path), Sample::default());
            while !stopped.load(Ordering::Relaxed) {
                sample.most = sample.most.max(census.take().len());
                sample.looks += 1;
                std::thread::sleep(Self::INTERVAL);
            }
            sample
        });
        Self { stop, thread: Some(thread) }
    }

    pub fn stop(mut self) -> Sample {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it is taken once").join().expect("the sampler's thread")
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Those processes and all that descend from them.
pub fn with_descendants(roots: &[u32]) -> Vec<u32> {
    let all: Vec<Process> = pids().into_iter().filter_map(Process::of).collect();
    let mut family = roots.to_vec();
    let mut index = 0;
    while index < family.len() {
        let parent = family[index];
        family.extend(all.iter().filter(|process| process.parent == parent).map(|process| process.pid));
        index += 1;
    }
    family
}

/// Processes whose current folder is in this one.
pub fn inside(folder: &Path) -> Vec<u32> {
    let is_inside = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    pids().into_iter().filter(is_inside).collect()
}

/// Kills processes that nobody waits for.
pub fn kill(pids: &[u32]) {
    for pid in pids {
        if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
            // One that has ended meanwhile is what was wanted.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}
