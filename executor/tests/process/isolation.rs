//! What the submitted code can not do to the executor.

use crate::harness::{Scenario, sh};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Nobody's user id; the executor and its steps share one, which gives root's rights away.
const NOBODY: u32 = 65534;

#[test]
fn a_step_can_not_look_into_the_executor() {
    let script = "for what in environ mem maps fd/0 root/etc; do \
        cat /proc/$PPID/$what > /dev/null 2>&1 && echo \"read $what\"; done; ls /proc/$PPID/fd > /dev/null 2>&1 && echo 'listed fd'; \
        tr '\\0' ' ' < /proc/$PPID/cmdline; ulimit -c";
    let scenario = Scenario::new(&sh("a", script, ""), |_| {});
    // Where the user who is nobody may execute it.
    let binary = scenario.path("executor");
    fs::copy(env!("CARGO_BIN_EXE_roadstead-executor"), &binary).unwrap();
    let mut command = Command::new(&binary);
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(scenario.dir.path(), Permissions::from_mode(0o755)).unwrap();
        chown(scenario.dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    scenario.start_as(&mut command).ends_with(0);
    let printed = scenario.peer.state().printed().join("\n");
    assert_eq!(printed, format!("{} 0", binary.display()), "a program's name, and no core files");
}

#[test]
fn a_step_gains_no_rights_and_one_of_roots_can_not_look_into_the_platforms_processes() {
    let script = format!(
        "grep NoNewPrivs /proc/self/status | tr -d '[:blank:]'; cat /proc/{}/environ > /dev/null 2>&1 || echo closed",
        std::process::id()
    );
    let scenario = Scenario::new(&sh("a", &script, ""), |_| {});
    scenario.run();
    // A process of the same user who is not root must close itself: see `confine` in the servers.
    let closed = rustix::process::geteuid().is_root().then_some("closed");
    let expected: Vec<&str> = ["NoNewPrivs:1"].into_iter().chain(closed).collect();
    assert_eq!(scenario.peer.state().printed(), expected);
}
