//! Ending processes: a step's whole tree, and at the attempt's end everything that is left.
//!
//! A pid or group is signalled only while it can't have been given to somebody else: a step's main process is reaped after its group
//! was killed, and orphans are this process's own children (see `confine`) until it reaps them.

use super::descendants::{children_of_self, descendants};
use crate::clock;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process, kill_process_group, wait, waitid, waitpid,
};
use std::time::Duration;

/// Between two rounds of killing; the first rounds are closer.
const ROUND: Duration = Duration::from_millis(20);

/// How a main process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

/// Whether a main process ended. It stays a zombie, so that its group's number stays its own.
pub fn has_exited(pid: Pid) -> Option<Exit> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(pid), options) {
        Ok(status) => status.map(|status| match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or(0)),
        }),
        // It can't be anybody's but ours, so there is nothing left to wait for.
        Err(_) => Some(Exit::Signal(0)),
    }
}

/// Asks a running step's tree to end.
pub fn terminate_tree(main: Pid) {
    signal_tree(main, Signal::TERM);
}

/// Ends a running step's tree.
pub fn kill_tree(main: Pid) {
    signal_tree(main, Signal::KILL);
}

fn signal_tree(main: Pid, signal: Signal) {
    // Listed first: when the parents are gone their children are no longer found below `main`.
    let tree = descendants(main);
    let _ = kill_process_group(main, signal);
    for pid in tree {
        let _ = kill_process(pid, signal);
    }
}

/// Ends what is left of an ended step's group, and lets its number go.
pub fn bury(main: Pid) {
    let _ = kill_process_group(main, Signal::KILL);
    let _ = waitpid(Some(main), WaitOptions::NOHANG);
}

/// Reaps orphans that ended while steps are running; `mains` are left to whoever waits for them.
pub fn reap_orphans(is_main: impl Fn(Pid) -> bool) {
    for orphan in children_of_self().into_iter().filter(|pid| !is_main(*pid)) {
        let _ = waitpid(Some(orphan), WaitOptions::NOHANG);
    }
}

/// Ends everything that descends from this process, daemons included; answers whether nothing is left.
pub async fn sweep(within: Duration) -> bool {
    let until = clock::now() + within;
    let mut pause = Duration::from_millis(1);
    while !is_childless() {
        if clock::now() >= until {
            return false;
        }
        for pid in descendants(getpid()) {
            let _ = kill_process(pid, Signal::KILL);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ROUND);
    }
    true
}

/// Reaps every child that ended; answers whether there is no other.
fn is_childless() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}
