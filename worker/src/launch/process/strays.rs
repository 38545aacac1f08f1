//! Ending what is left of an attempt whose executor and whose worker are both dead: then the kernel gave the steps' processes to somebody who does not
//! know them, and nobody would end them before the next attempt starts.
//!
//! They are known by what every step is given: its attempt in the environment, and a current folder in the attempt's workspace. Only what gave up both
//! is not found. Another user's processes, and another machine's, are not seen. A process is signalled through a descriptor that was opened before it
//! was looked at, so never a later one with its number.

use crate::clock;
use roadstead_domain::ids::AttemptId;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two rounds; killed processes need a moment to die.
const ROUND: Duration = Duration::from_millis(10);
/// A process may be born behind the back of one look at `/proc`, not of two.
const CLEAN_ROUNDS: u32 = 2;

/// Kills all that is found of the attempt, round by round; answers whether nothing is left.
pub async fn end(attempt: AttemptId, workspace: PathBuf, within: Duration) -> bool {
    let until = clock::now() + within;
    let mut clean = 0;
    while clean < CLEAN_ROUNDS {
        let workspace = workspace.clone();
        match tokio::task::spawn_blocking(move || end_found(attempt, &workspace)).await {
            Ok(0) => clean += 1,
            Ok(_) | Err(_) if clock::now() >= until => return false,
            Ok(_) | Err(_) => {
                clean = 0;
                tokio::time::sleep(ROUND).await;
            }
        }
    }
    true
}

/// One round; answers how many there were.
fn end_found(attempt: AttemptId, workspace: &Path) -> usize {
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let pids = processes.filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?));
    pids.filter(|pid| *pid != getpid() && end_if_of(attempt, workspace, *pid)).count()
}

fn end_if_of(attempt: AttemptId, workspace: &Path, pid: Pid) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    let is_in_workspace =
        || fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder.starts_with(workspace));
    // Both are empty for a process that has ended.
    let is_of_attempt = fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| names(&environment, attempt));
    let found = is_of_attempt || is_in_workspace();
    if found {
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
    found
}

/// Whether an environment is a step's of this attempt.
fn names(environment: &[u8], attempt: AttemptId) -> bool {
    let holds = |entry: String| environment.split(|byte| *byte == 0).any(|held| held == entry.as_bytes());
    holds(format!("ROADSTEAD_EXECUTION_ID={}", attempt.execution_id))
        && holds(format!("ROADSTEAD_ATTEMPT={}", attempt.attempt))
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_domain::ids::ExecutionId;
    use std::process::{Child, Command};

    fn sleeper(attempt: Option<AttemptId>, folder: &Path) -> Child {
        let mut command = Command::new("sleep");
        command.arg("60").current_dir(folder);
        if let Some(AttemptId { execution_id, attempt }) = attempt {
            command
                .env("ROADSTEAD_EXECUTION_ID", execution_id.to_string())
                .env("ROADSTEAD_ATTEMPT", attempt.to_string());
        }
        command.spawn().unwrap()
    }

    #[tokio::test]
    async fn what_is_left_of_an_attempt_ends_and_nothing_else() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = AttemptId { execution_id: ExecutionId::new(), attempt: 1 };
        let second = AttemptId { attempt: 2, ..first };
        let mut strays = [sleeper(Some(first), elsewhere.path()), sleeper(None, root.path())];
        let mut others = [sleeper(Some(second), elsewhere.path()), sleeper(None, elsewhere.path())];
        assert!(end(first, root.path().to_owned(), Duration::from_secs(10)).await);
        for stray in &mut strays {
            assert!(!stray.wait().unwrap().success());
        }
        for other in &mut others {
            assert_eq!(other.try_wait().unwrap(), None, "it is not this attempt's");
            other.kill().unwrap();
            other.wait().unwrap();
        }
    }
}
