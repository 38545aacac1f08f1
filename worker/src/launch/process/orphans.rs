//! Ending what a dead executor left: its steps' processes, which the kernel gives to this process (see `confine`).
//!
//! Every child of this process that is no executor is such an orphan. A pid is signalled only while it can't be somebody else's: an orphan
//! stays this process's child until it is reaped here.

use super::children::Children;
use crate::clock;
use rustix::process::{Pid, Signal, WaitOptions, getpgid, getpgrp, getpid, kill_process, kill_process_group, waitpid};
use std::collections::HashSet;
use std::fs;
use std::time::Duration;

/// Between two rounds; killed processes need a moment to die.
const ROUND: Duration = Duration::from_millis(2);
const LONGEST_ROUND: Duration = Duration::from_millis(50);
/// A process may be born behind the back of one look at `/proc`, not of two.
const CLEAN_ROUNDS: u32 = 2;

/// Kills and reaps all orphans, round by round: a killed one's children are orphans in turn. Answers whether none is left.
pub async fn sweep(children: &Children, within: Duration) -> bool {
    let until = clock::now() + within;
    let (mut clean, mut pause) = (0, ROUND);
    while clean < CLEAN_ROUNDS {
        if children.while_none_starts(end_orphans) == 0 {
            clean += 1;
            continue;
        }
        clean = 0;
        if clock::now() >= until {
            return false;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_ROUND);
    }
    true
}

/// One round; answers how many there were.
fn end_orphans(executors: &HashSet<Pid>) -> usize {
    let orphans: Vec<Pid> = children_of(getpid()).into_iter().filter(|pid| !executors.contains(pid)).collect();
    for &orphan in &orphans {
        // A step's group dies as a whole: one process at a time, it might fork faster.
        if let Ok(group) = getpgid(Some(orphan))
            && group != getpgrp()
            && !executors.contains(&group)
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = kill_process(orphan, Signal::KILL);
        let _ = waitpid(Some(orphan), WaitOptions::NOHANG);
    }
    orphans.len()
}

/// Direct children, zombies included. Read from every process's status: not every kernel has lists of children.
fn children_of(parent: Pid) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?)?;
            let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
            (parent_in(&stat)? == parent).then_some(pid)
        })
        .collect()
}

/// The parent's pid is counted from behind the name, which may hold anything: blanks, brackets, bytes that are no text.
fn parent_in(stat: &[u8]) -> Option<Pid> {
    let behind_name = stat.rsplit(|byte| *byte == b')').next()?;
    Pid::from_raw(str::from_utf8(behind_name).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::{Command, Stdio};

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent_in(b"7 (a) R 1 (\xff) S 42 7 7 0"), Pid::from_raw(42));
        assert_eq!(parent_in(b"1 (init) S 0 1 1"), None);
        assert_eq!(parent_in(b"nonsense"), None);
    }

    #[test]
    fn a_child_is_found_whatever_it_calls_itself() {
        let mut child = Command::new("sh")
            .args(["-c", "printf '\\377' > /proc/$$/comm; echo; read never"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        assert!(fs::read_to_string(format!("/proc/{pid}/stat")).is_err(), "its name is no text");
        let found = children_of(getpid());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&pid), "{found:?}");
    }
}
