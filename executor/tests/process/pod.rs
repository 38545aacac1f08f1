//! The executor as a pod starts it: installed by an init container, told by arguments, proven by a token in a file, and as PID 1.

use crate::harness::{Executor, Scenario, runs, sh, wait_until};
use crate::peer::Fault;
use roadstead_domain::attempt::protocol::{Finish, Status};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

/// The user of a pod's containers.
const NONROOT: u32 = 65532;

fn executor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roadstead-executor")).args(arguments).output().unwrap()
}

/// The folder and the workspace that a pod's two containers share, as its `fsGroup` leaves them.
fn shared_folders(scenario: &Scenario) {
    for folder in [scenario.path("shared"), scenario.root()] {
        fs::create_dir(&folder).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&folder, None, Some(NONROOT)).unwrap();
        }
        fs::set_permissions(&folder, Permissions::from_mode(0o2777)).unwrap();
    }
    fs::set_permissions(scenario.dir.path(), Permissions::from_mode(0o755)).unwrap();
}

/// As `program` in a pod's container, after the token was laid.
fn start_attempt(scenario: &Scenario, mut command: Command) -> Executor {
    let token = scenario.path("shared/token");
    fs::write(&token, "launch-credential").unwrap();
    if rustix::process::geteuid().is_root() {
        chown(&token, Some(NONROOT), Some(NONROOT)).unwrap();
    }
    command.args(["attempt", "--execution", &scenario.id.to_string(), "--attempt", "1"]);
    command.args(["--api-url", &scenario.peer.url(), "--token"]).arg(&token);
    command.arg("--workspace-root").arg(scenario.root());
    scenario.start_told(&mut command)
}

/// PID 1 of a PID namespace, as in a container: of another user than root, and without any capability. None where that is not allowed.
fn as_first_process(program: &Path) -> Option<Command> {
    let namespaces = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let allowed =
        Command::new("unshare").args(namespaces).arg("true").output().is_ok_and(|tried| tried.status.success());
    if !allowed {
        eprintln!("not tried: this user may not make a PID namespace");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]);
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid=65532", "--regid=65532", "--clear-groups"]);
    }
    command.arg(program);
    Some(command)
}

fn installed(scenario: &Scenario) -> std::path::PathBuf {
    let (folder, token) = (scenario.path("shared"), scenario.path("projected"));
    fs::write(&token, "launch-credential").unwrap();
    let install = executor(&["install", folder.to_str().unwrap(), "--token", token.to_str().unwrap()]);
    assert!(install.status.success() && install.stderr.is_empty() && install.stdout.is_empty(), "{install:?}");
    folder.join("executor")
}

#[test]
fn an_init_container_lays_the_executor_and_the_token_and_may_do_it_again() {
    let scenario = Scenario::new("- {id: a, command: ['true']}", |_| {});
    shared_folders(&scenario);
    // A projected volume's files are links.
    fs::write(scenario.path("first"), "first\n").unwrap();
    symlink(scenario.path("first"), scenario.path("link")).unwrap();
    let folder = scenario.path("shared");
    let again = executor(&["install", folder.to_str().unwrap(), "--token", scenario.path("link").to_str().unwrap()]);
    assert!(again.status.success(), "{again:?}");
    assert_eq!(fs::read_to_string(folder.join("token")).unwrap(), "first");
    fs::set_permissions(folder.join("executor"), Permissions::from_mode(0o700)).unwrap();
    fs::write(folder.join("executor"), "half of it").unwrap();

    let program = installed(&scenario);
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode(&program), mode(&folder.join("token"))), (0o555, 0o600));
    assert_eq!(fs::read_to_string(folder.join("token")).unwrap(), "launch-credential");
    assert!(fs::read(&program).unwrap() == fs::read(env!("CARGO_BIN_EXE_roadstead-executor")).unwrap());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
}

#[test]
fn what_can_not_be_installed_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token-of-the-pod");
    let refused = |to: &str, token: &Path| {
        let output = executor(&["install", to, "--token", token.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let here = folder.path().to_str().unwrap();
    assert!(refused(here, &token).contains("the token's file can't be read: No such file"));
    fs::write(&token, "hush hush").unwrap();
    assert!(refused(here, &token).contains("the token's file holds something else"));
    fs::write(&token, "hush").unwrap();
    assert!(refused("/nowhere", &token).contains("executor can't be laid into the folder: No such file"));
}

#[test]
fn wrong_arguments_are_refused_and_none_is_repeated() {
    let attempt = ["attempt", "--execution", "hush", "--attempt", "1", "--api-url", "http://hush"];
    let with = |more: &[&'static str]| [&attempt[..], more].concat();
    for arguments in [
        vec!["hush"],
        vec!["--token", "hush"],
        vec!["install"],
        vec!["install", "--token", "hush"],
        vec!["install", "/hush"],
        vec!["install", "/hush", "--token"],
        vec!["install", "/hush", "--token", "hush", "hush"],
        vec!["attempt"],
        with(&["--token", "hush"]),
        with(&["--token", "hush", "--workspace-root"]),
        with(&["--token", "hush", "--token", "hush", "--workspace-root", "/hush"]),
        with(&["--token=hush", "--workspace-root", "/hush"]),
        with(&["--token", "hush", "--workspace-root", "/hush", "hush", "hush"]),
        with(&["--token", "hush", "--workspace-root", "/hush"]),
    ] {
        let output = executor(&arguments);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(!said.contains("hush") && said.lines().count() == 1, "{arguments:?}: {said}");
    }
}

#[test]
fn a_token_is_gone_whatever_the_other_arguments_are_worth() {
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    for (execution, attempt, api_url, root, words) in [
        ("hush", "1", "http://x", "/tmp", "--execution is not a UUID"),
        (id, "one", "http://x", "/tmp", "--attempt is not a number"),
        (id, "0", "http://x", "/tmp", "the attempt's number is less than 1"),
        (id, "1", "ftp://x", "/tmp", "the attempt's API URL is neither http nor https"),
        (id, "1", "http://x", "tmp", "the attempt's workspace root is not an absolute path"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        fs::write(&token, "hush").unwrap();
        let token_argument = token.to_str().unwrap();
        let output = executor(&[
            "attempt",
            "--workspace-root",
            root,
            "--token",
            token_argument,
            "--api-url",
            api_url,
            "--attempt",
            attempt,
            "--execution",
            execution,
        ]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(said.contains(words) && !said.contains("hush"), "{said}");
        assert!(!token.exists());
    }
}

#[test]
fn a_token_is_removed_before_anybody_is_asked_and_no_step_finds_it() {
    let script = "cat {dir}/shared/token; grep -rqs launch[-]credential {dir}/shared /proc/*/environ /proc/*/cmdline && echo found; \
        test -w $ROADSTEAD_ARTIFACTS && echo done";
    let scenario = Scenario::new(&sh("a", script, ""), |_| {});
    shared_folders(&scenario);
    scenario.peer.fault("start", 1, Fault::Answer(503));
    let executor = start_attempt(&scenario, Command::new(env!("CARGO_BIN_EXE_roadstead-executor")));
    scenario.peer.wait_for("the first start", |state| (state.count("start") > 0).then_some(()));
    assert!(!scenario.path("shared/token").exists());
    executor.ends_with(0);
    assert_eq!(scenario.finish().outcome.status, Status::Succeeded);
    let printed = scenario.peer.state().printed();
    assert!(printed.iter().any(|line| line == "done") && !printed.iter().any(|line| line == "found"), "{printed:?}");
}

#[test]
fn a_token_that_can_not_be_removed_runs_nothing() {
    let refused = |scenario: &Scenario, program: Command, words: &str| {
        let said = start_attempt(scenario, program).ends_with(2);
        assert!(said.contains(words), "{said}");
        assert!(scenario.peer.state().requests.is_empty());
    };
    let program = || Command::new(env!("CARGO_BIN_EXE_roadstead-executor"));
    let scenario = Scenario::new("- {id: a, command: ['true']}", |_| {});
    shared_folders(&scenario);
    fs::write(scenario.path("shared/token"), "").unwrap();
    fs::hard_link(scenario.path("shared/token"), scenario.path("shared/another")).unwrap();
    refused(&scenario, program(), "it has another name, too");

    let scenario = Scenario::new("- {id: a, command: ['true']}", |_| {});
    shared_folders(&scenario);
    fs::write(scenario.path("elsewhere"), "").unwrap();
    symlink(scenario.path("elsewhere"), scenario.path("shared/token")).unwrap();
    refused(&scenario, program(), "the token's file can't be read");

    let scenario = Scenario::new("- {id: a, command: ['true']}", |_| {});
    shared_folders(&scenario);
    fs::write(scenario.path("shared/token"), "").unwrap();
    fs::set_permissions(scenario.path("shared"), Permissions::from_mode(0o555)).unwrap();
    let binary = scenario.path("executor");
    fs::copy(env!("CARGO_BIN_EXE_roadstead-executor"), &binary).unwrap();
    let mut command = Command::new(&binary);
    if rustix::process::geteuid().is_root() {
        command.uid(NONROOT).gid(NONROOT);
    }
    refused(&scenario, command, "can't be removed, so the workflow could find it");
}

#[test]
fn the_first_process_of_a_container_runs_an_attempt_and_reaps_what_others_left() {
    let script = "for i in 1 2 3 4 5; do (setsid true &); done; id -u; readlink /proc/self/root/proc/1/exe || echo closed; \
        grep CapBnd /proc/self/status | tr -d '[:blank:]'; echo $PPID > {dir}/attempts/ppid; \
        while [ ! -f {dir}/go ]; do sleep 0.01; done; cp $ROADSTEAD_INPUT $ROADSTEAD_RESULT; echo x > $ROADSTEAD_ARTIFACTS/x";
    let scenario = Scenario::new(&sh("a", script, ""), |_| {});
    shared_folders(&scenario);
    let Some(command) = as_first_process(&installed(&scenario)) else { return };
    let executor = start_attempt(&scenario, command);
    assert_eq!(scenario.pid_in("attempts/ppid"), 1);
    fs::remove_file(scenario.path("attempts/ppid")).unwrap();
    let first = child_of(executor.pid());
    let children = || fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
    wait_until("one child alone", || (children().split_whitespace().count() == 1).then_some(()));
    fs::write(scenario.path("go"), "").unwrap();
    executor.ends_with(0);
    assert_eq!(scenario.finish().outcome.status, Status::Succeeded);
    assert_eq!(scenario.finish().artifacts.len(), 1);
    let user = if rustix::process::geteuid().is_root() { NONROOT } else { rustix::process::geteuid().as_raw() };
    assert_eq!(
        scenario.peer.state().printed(),
        [user.to_string(), "closed".to_owned(), "CapBnd:0000000000000000".to_owned()]
    );
}

#[test]
fn the_first_process_of_a_container_stops_when_it_is_told_to_and_nothing_survives() {
    let script = "(setsid sh -c 'trap \"\" TERM; while :; do sleep 0.02; done' > /dev/null 2>&1 &); trap '' TERM; \
        echo ready; while :; do sleep 0.02; done";
    let scenario = Scenario::new(&sh("a", script, ""), |grant| grant.grace_seconds = 1);
    shared_folders(&scenario);
    scenario.peer.reply(false, true);
    let Some(command) = as_first_process(&installed(&scenario)) else { return };
    let executor = start_attempt(&scenario, command);
    scenario.peer.wait_for_line("ready");
    let first = child_of(executor.pid());
    kill_process(Pid::from_raw(first).unwrap(), Signal::TERM).unwrap();
    executor.ends_with(9);
    assert!(!runs(first));
    let outcome = scenario.finish().outcome;
    assert_eq!((outcome.status, outcome.retryable), (Status::Cancelled, true));
    assert_eq!(outcome.reason.unwrap().code, "executor_terminated");
}

#[test]
fn the_first_process_of_a_container_stops_before_its_start_is_granted() {
    let scenario = Scenario::new(&sh("a", "touch {dir}/attempts/ran", ""), |_| {});
    shared_folders(&scenario);
    scenario.peer.fault("start", 10_000, Fault::Lose);
    let Some(command) = as_first_process(&installed(&scenario)) else { return };
    let executor = start_attempt(&scenario, command);
    scenario.peer.wait_for("a start", |state| (state.count("start") > 1).then_some(()));
    kill_process(Pid::from_raw(child_of(executor.pid())).unwrap(), Signal::TERM).unwrap();
    executor.ends_with(5);
}

/// The one child, as this namespace numbers it.
fn child_of(pid: i32) -> i32 {
    wait_until("a child", || {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    })
}

/// Runs a step where the control group's files are those of `{dir}/cgroup`.
fn with_cgroup(script: &str, more: &str, files: &[(&str, &str)]) -> Option<Finish> {
    let scenario = Scenario::new(&sh("a", script, more), |_| {});
    let cgroup = scenario.path("cgroup");
    for (name, content) in files {
        fs::create_dir_all(cgroup.join(name).parent().unwrap()).unwrap();
        fs::write(cgroup.join(name), content).unwrap();
    }
    let mount = "mount --bind \"$1\" /sys/fs/cgroup && exec \"$2\"";
    let allowed =
        Command::new("unshare").args(["--mount", "mount", "--bind"]).arg(&cgroup).arg("/sys/fs/cgroup").output();
    if !allowed.is_ok_and(|tried| tried.status.success()) {
        eprintln!("not tried: this user may not make a mount namespace");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", mount, "sh"]).arg(&cgroup).arg(env!("CARGO_BIN_EXE_roadstead-executor"));
    scenario.start_as(&mut command).ends_with(0);
    Some(scenario.finish())
}

fn reason(finish: &Finish) -> (&str, &str, bool) {
    let reason = finish.outcome.reason.as_ref().unwrap();
    (&reason.code, &reason.message, finish.outcome.retryable)
}

#[test]
fn a_step_that_the_oom_killer_took_says_so_and_names_the_limit() {
    let new = [("memory.events", "oom 4\noom_kill 4\n"), ("memory.max", "536870912\n")];
    let old = [
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"),
        ("memory/memory.limit_in_bytes", "268435456\n"),
    ];
    let strikes = "echo oom_kill 5 > {dir}/cgroup/memory.events; kill -9 $$";
    let Some(finish) = with_cgroup(strikes, "retries: 1", &new) else { return };
    // The second try finds the count as the first one left it.
    assert_eq!(reason(&finish), ("step_failed", "step `a` was ended by signal 9", true));
    let finish = with_cgroup(strikes, "", &new).unwrap();
    let words = "step `a` was killed because memory ran out; the limit is 512 MiB";
    assert_eq!(reason(&finish), ("oom_killed", words, true));
    assert_eq!((finish.steps[0].signal, finish.steps[0].exit_code), (Some(9), None));

    // The shell lives and tells of its last command.
    let by_shell = "echo oom_kill 1 > {dir}/cgroup/memory/memory.oom_control; sh -c 'kill -9 $$'; exit $?";
    let finish = with_cgroup(by_shell, "", &old).unwrap();
    let words = "step `a` was killed because memory ran out; the limit is 256 MiB";
    assert_eq!(reason(&finish), ("oom_killed", words, true));
    assert_eq!((finish.steps[0].signal, finish.steps[0].exit_code), (None, Some(137)));

    let finish = with_cgroup("echo oom_kill 5 > {dir}/cgroup/memory.events; exit 1", "", &new).unwrap();
    assert_eq!(reason(&finish), ("step_failed", "step `a` ended with exit code 1", true));
    let finish = with_cgroup("kill -9 $$", "", &new).unwrap();
    assert_eq!(reason(&finish), ("step_failed", "step `a` was ended by signal 9", true));
    let stopped = "trap '' TERM; echo oom_kill 5 > {dir}/cgroup/memory.events; while :; do sleep 0.01; done";
    let finish = with_cgroup(stopped, "timeout_seconds: 1", &new).unwrap();
    assert_eq!(reason(&finish).0, "step_timeout", "the executor's own SIGKILL is not the OOM killer's");
}
