//! What a `roadstead dev` that was killed left running, ended before the next one starts.

use super::processes::{Process, descendants, working_below};
use rustix::process::Signal;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);

/// Ends them and answers with what was still there: the parts' names, and how many others. The worker and its steps go first, at once: they are made for
/// that. The stores may finish what they are writing.
pub async fn end(left: BTreeMap<String, Process>, workspaces: &Path) -> Vec<String> {
    let alive: BTreeMap<String, Process> = left.into_iter().filter(|(_, process)| process.is_alive()).collect();
    let is_store = |name: &str| matches!(name, "postgres" | "redis");
    // Somebody may have a shell in a workspace, to look at what is there.
    let mut at_once: HashSet<Process> =
        working_below(workspaces).into_iter().filter(|process| process.is_of_an_execution()).collect();
    at_once.extend(alive.iter().filter(|(name, _)| !is_store(name)).map(|(_, process)| *process));
    let roots: Vec<u32> = at_once.iter().map(|process| process.pid).collect();
    at_once.extend(descendants(&roots, HashSet::new));
    for process in &at_once {
        process.signal(Signal::KILL);
    }
    for (name, process) in alive.iter().filter(|(name, _)| is_store(name)) {
        process.signal(if name == "postgres" { Signal::INT } else { Signal::TERM });
    }
    let parts: HashSet<Process> = alive.values().copied().collect();
    let more = at_once.difference(&parts).count();
    let everything: Vec<Process> = at_once.union(&parts).copied().collect();
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
    let more = (more > 0).then(|| format!("{more} more process{}", if more == 1 { "" } else { "es" }));
    alive.into_keys().chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn sleeper(program: &Path, folder: &Path, variable: &str) -> (Child, Process) {
        let child = Command::new(program).arg("1000").current_dir(folder).env(variable, "x").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        (child, process)
    }

    #[tokio::test]
    async fn what_executions_left_is_ended_and_a_strangers_shell_in_a_workspace_is_not() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (sleep, executor) = (Path::new("/bin/sleep"), elsewhere.path().join("roadstead-executor"));
        std::fs::copy(sleep, &executor).unwrap();
        let mut ours = [sleeper(sleep, root.path(), "ROADSTEAD_EXECUTION_ID"), sleeper(&executor, root.path(), "PATH")];
        let mut others =
            [sleeper(sleep, root.path(), "ROADSTEAD_URL"), sleeper(sleep, elsewhere.path(), "ROADSTEAD_EXECUTION_ID")];
        let ended = end(BTreeMap::new(), &root.path().canonicalize().unwrap()).await;
        assert_eq!(ended, ["2 more processes"]);
        assert!(ours.iter().all(|(_, process)| !process.is_alive()));
        assert!(others.iter().all(|(_, process)| process.is_alive()));
        for (child, _) in ours.iter_mut().chain(&mut others) {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }
}
