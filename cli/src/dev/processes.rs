//! Processes as `/proc` tells of them, and the ledger of those that we started.
//!
//! A process is its number and the time of its start: a number alone may be somebody else's by now, and nothing is ever
//! signalled by its number alone.

use super::error::DevError;
use super::folder::write_private;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

const EXECUTOR: &[u8] = b"roadstead-executor";
/// Every step has it in its environment.
const STEPS_VARIABLE: &[u8] = b"ROADSTEAD_EXECUTION_ID=";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    /// Clock ticks between the machine's start and the process's.
    start_ticks: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    is_zombie: bool,
    parent: u32,
    start_ticks: u64,
}

impl Process {
    /// The process that has this number now.
    pub fn of(pid: u32) -> Option<Self> {
        stat(pid).map(|Stat { start_ticks, .. }| Self { pid, start_ticks })
    }

    /// Whether it still runs; one that only waits to be reaped does not.
    pub fn is_alive(self) -> bool {
        self.stat().is_some_and(|stat| !stat.is_zombie)
    }

    /// Sends a signal, if the process is still the one that is meant.
    pub fn signal(self, signal: Signal) {
        if self.stat().is_some()
            && let Some(pid) = Pid::from_raw(self.pid as i32)
        {
            // It may have ended meanwhile, which is what most signals are for.
            let _ = kill_process(pid, signal);
        }
    }

    /// Whether it is an executor or a step, and not what somebody else does in the same folder.
    pub fn is_of_an_execution(self) -> bool {
        let program = fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap_or_default();
        // A program that was built again meanwhile is called `… (deleted)`.
        let is_executor = program.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(EXECUTOR));
        let environment = || fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        is_executor || environment().split(|byte| *byte == 0).any(|entry| entry.starts_with(STEPS_VARIABLE))
    }

    fn stat(self) -> Option<Stat> {
        stat(self.pid).filter(|stat| stat.start_ticks == self.start_ticks)
    }
}

/// Whether whoever started us wants us to outlive the terminal, as `nohup` does.
pub fn ignores_hang_up() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, Signal::HUP))
}

fn ignores(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal.as_raw() - 1) & 1 == 1
}

/// Makes us the parent of every process below us whose own parent ends, so that none gets out of sight.
pub fn adopt_orphans() -> Result<(), DevError> {
    let this = Some(rustix::process::getpid());
    rustix::process::set_child_subreaper(this).map_err(|e| DevError::io("can't adopt orphans")(e.into()))
}

/// Closes our memory, which holds the stack's credentials, to the workflows' steps: they run as the same user.
pub fn hide_memory() -> Result<(), DevError> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| DevError::io("can't hide memory")(e.into()))
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The program's name, in brackets, may hold anything; what is read here stands behind it.
fn parse_stat(text: &str) -> Option<Stat> {
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let is_zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Stat { is_zombie, parent, start_ticks })
}

fn all() -> Vec<(Process, Stat)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = stat(pid)?;
            Some((Process { pid, start_ticks: stat.start_ticks }, stat))
        })
        .collect()
}

/// Those that this process started, or that were left to it.
pub fn children(parent: u32) -> impl Iterator<Item = Process> {
    all().into_iter().filter(move |(_, stat)| stat.parent == parent).map(|(process, _)| process)
}

/// Everything below these processes, not they themselves, and nothing that `except` names or that is below it. The exceptions
/// are asked for after the processes were looked at: one that was started meanwhile is known to both or to the exceptions alone.
pub fn descendants(roots: &[u32], except: impl FnOnce() -> HashSet<u32>) -> Vec<Process> {
    let all = all();
    let except = except();
    let mut reached: HashSet<u32> = roots.iter().copied().collect();
    let mut found = Vec::new();
    loop {
        let fresh: Vec<Process> = all
            .iter()
            .filter(|(process, stat)| {
                reached.contains(&stat.parent) && !reached.contains(&process.pid) && !except.contains(&process.pid)
            })
            .map(|(process, _)| *process)
            .collect();
        if fresh.is_empty() {
            return found;
        }
        reached.extend(fresh.iter().map(|process| process.pid));
        found.extend(fresh);
    }
}

/// Everything whose current folder is below this one.
pub fn working_below(folder: &Path) -> Vec<Process> {
    all()
        .into_iter()
        .filter(|(process, _)| {
            fs::read_link(format!("/proc/{}/cwd", process.pid)).is_ok_and(|cwd| cwd.starts_with(folder))
        })
        .map(|(process, _)| process)
        .collect()
}

/// The processes that we started and that have not ended, on disk too: who is killed can't clean up, but the next one can.
pub struct Ledger {
    path: PathBuf,
    entries: Mutex<BTreeMap<String, Process>>,
}

impl Ledger {
    /// An empty ledger, and what the one before left in the file.
    pub fn open(path: PathBuf) -> (Self, BTreeMap<String, Process>) {
        // One that can't be read was cut off by the end of the machine, which ended the processes too.
        let left = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        (Self { path, entries: Mutex::default() }, left)
    }

    /// Starts a process through `spawn` and enters it. Nobody reaps meanwhile.
    pub fn enter<C>(
        &self,
        name: &str,
        spawn: impl FnOnce() -> std::io::Result<C>,
        pid_of: impl FnOnce(&C) -> Option<u32>,
    ) -> Result<C, DevError> {
        let mut entries = self.entries();
        let child = spawn().map_err(DevError::io(format_args!("can't start {name}")))?;
        if let Some(process) = pid_of(&child).and_then(Process::of) {
            entries.insert(name.to_owned(), process);
            self.save(&entries)?;
        }
        Ok(child)
    }

    pub fn strike(&self, name: &str) {
        let mut entries = self.entries();
        entries.remove(name);
        // What stays in the file is checked against its start time before anything is done to it.
        let _ = self.save(&entries);
    }

    pub fn snapshot(&self) -> BTreeMap<String, Process> {
        self.entries().clone()
    }

    /// Takes the end of what others left to us (we are the subreaper) off the kernel's hands; never that of our own children.
    pub fn reap_strangers(&self) {
        let entries = self.entries();
        let own: HashSet<u32> = entries.values().map(|process| process.pid).collect();
        let us = std::process::id();
        for (process, stat) in all() {
            if stat.is_zombie
                && stat.parent == us
                && !own.contains(&process.pid)
                && let Some(pid) = Pid::from_raw(process.pid as i32)
            {
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Process>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, entries: &BTreeMap<String, Process>) -> Result<(), DevError> {
        let text = serde_json::to_vec(entries).map_err(|e| DevError::io(self.path.display())(e.into()))?;
        write_private(&self.path, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_the_stat_line_can_not_deceive() {
        let line = "7 (a) S 1) Z) R 42 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 123456 0 0";
        assert_eq!(parse_stat(line), Some(Stat { is_zombie: false, parent: 42, start_ticks: 123_456 }));
        assert_eq!(parse_stat(""), None);
        assert_eq!(parse_stat("7 (a) R"), None);
    }

    #[test]
    fn an_ignored_signal_is_known_by_its_bit() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        assert!(ignores(status, Signal::HUP) && ignores(status, Signal::PIPE));
        assert!(!ignores(status, Signal::INT) && !ignores("", Signal::HUP));
    }

    #[test]
    fn a_process_is_its_number_and_its_start() {
        let this = Process::of(std::process::id()).unwrap();
        assert!(this.is_alive());
        let other = Process { start_ticks: this.start_ticks + 1, ..this };
        assert!(!other.is_alive());
        // Would end this very test if the number alone were looked at.
        other.signal(Signal::KILL);
    }

    #[test]
    fn a_ledger_survives_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("processes.json");
        let (ledger, left) = Ledger::open(path.clone());
        assert!(left.is_empty());
        ledger.enter("this", || Ok(()), |()| Some(std::process::id())).unwrap();
        let (_, left) = Ledger::open(path);
        assert_eq!(left, ledger.snapshot());
        assert_eq!(left["this"].pid, std::process::id());
    }
}
