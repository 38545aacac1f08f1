//! What a `roadstead dev` that was killed left running, ended before the next one starts.

use super::processes::{Process, descendants, working_below};
use rustix::process::Signal;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);

/// Ends them and answers with the names of those that were still there. The worker and its steps go first, at once: they are made for
/// that. The stores may finish what they are writing.
pub async fn end(left: BTreeMap<String, Process>, workspaces: &Path) -> Vec<String> {
    let alive: BTreeMap<String, Process> = left.into_iter().filter(|(_, process)| process.is_alive()).collect();
    let is_store = |name: &str| matches!(name, "postgres" | "redis");
    let roots: Vec<u32> = alive.iter().filter(|(name, _)| !is_store(name)).map(|(_, process)| process.pid).collect();
    let mut at_once = descendants(&roots, HashSet::new);
    at_once.extend(working_below(workspaces));
    at_once.extend(alive.iter().filter(|(name, _)| !is_store(name)).map(|(_, process)| *process));
    for process in &at_once {
        process.signal(Signal::KILL);
    }
    for (name, process) in alive.iter().filter(|(name, _)| is_store(name)) {
        process.signal(if name == "postgres" { Signal::INT } else { Signal::TERM });
    }
    let everything: Vec<Process> = at_once.into_iter().chain(alive.values().copied()).collect();
    let deadline = Instant::now() + PATIENCE;
    while everything.iter().any(|process| process.is_alive()) {
        if Instant::now() >= deadline {
            for process in &everything {
                process.signal(Signal::KILL);
            }
            break;
        }
        sleep(POLL).await;
    }
    alive.into_keys().collect()
}
