//! Keeping the stack's processes alive, and ending them.
//!
//! A part that dies is started again, after a pause that grows while it keeps dying; that is told. Stopping is a signal, then
//! patience, then SIGKILL.

use super::error::DevError;
use super::launch::Launch;
use super::processes::{Ledger, Process, children, descendants};
use rustix::process::Signal;
use std::collections::{BTreeMap, HashSet};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A part that lived this long is taken to be well again.
const STEADY: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// A signal to all of us at once may end a part before we hear of it: by then its death is known to be the end's.
const GRACE: Duration = Duration::from_millis(100);

/// What the supervisor has to tell.
#[derive(Clone, Debug)]
pub enum Notice {
    Died { part: &'static str, how: String, pause: Duration },
    Restarted { part: &'static str, pid: u32 },
    NotRestarted { part: &'static str, why: String, pause: Duration },
}

/// How a part is asked to end.
#[derive(Clone, Copy)]
pub struct Ending {
    pub signal: Signal,
    pub patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Run,
    /// It may run, and is not started again.
    Last,
    Stop,
    Kill,
}

#[derive(Clone, Debug, Default)]
struct Status {
    pid: Option<u32>,
    deaths: u32,
    last_death: String,
}

struct Part {
    order: watch::Sender<Order>,
    status: watch::Receiver<Status>,
    log: std::path::PathBuf,
    task: JoinHandle<()>,
}

impl Part {
    /// Never lowers: a part that is being killed must not be asked politely again.
    fn raise(&self, to: Order) {
        self.order.send_if_modified(|order| {
            let is_raised = *order < to;
            *order = to.max(*order);
            is_raised
        });
    }
}

pub struct Supervisor {
    ledger: Arc<Ledger>,
    tell: Arc<dyn Fn(Notice) + Send + Sync>,
    parts: Mutex<BTreeMap<&'static str, Part>>,
}

impl Supervisor {
    pub fn new(ledger: Ledger, tell: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        Self { ledger: Arc::new(ledger), tell: Arc::new(tell), parts: Mutex::default() }
    }

    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Starts a part and keeps it running from now on.
    pub fn start(&self, name: &'static str, launch: Launch, ending: Ending) {
        let (order, orders) = watch::channel(Order::Run);
        let (status, statuses) = watch::channel(Status::default());
        let log = launch.log.clone();
        let keeper =
            Keeper { name, launch, ending, ledger: self.ledger.clone(), tell: self.tell.clone(), status, orders };
        let task = tokio::spawn(keeper.keep());
        self.parts().insert(name, Part { order, status: statuses, log, task });
    }

    /// Waits until `check` is content with the part. Fails as soon as the part dies, and when the time is over.
    pub async fn ready(
        &self,
        name: &str,
        within: Duration,
        check: impl AsyncFn() -> Result<(), String>,
    ) -> Result<(), DevError> {
        let found = self.parts().get(name).map(|part| (part.status.clone(), part.log.clone()));
        let not_ready = |why: String, log| Err(DevError::NotReady { part: name.to_owned(), why, log });
        let Some((status, log)) = found else { return not_ready("it was not started".to_owned(), "".into()) };
        let deadline = Instant::now() + within;
        loop {
            let Status { deaths, last_death, pid } = status.borrow().clone();
            if deaths > 0 {
                return not_ready(format!("it ended ({last_death})"), log);
            }
            let unready = match pid {
                None => "it is starting".to_owned(),
                Some(_) => match timeout(CHECK_TIMEOUT, check()).await {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(why)) => why,
                    Err(_) => "it does not answer".to_owned(),
                },
            };
            if Instant::now() >= deadline {
                return not_ready(format!("{unready} (waited {} s)", within.as_secs()), log);
            }
            sleep(POLL).await;
        }
    }

    pub fn pid(&self, name: &str) -> Option<u32> {
        self.parts().get(name).and_then(|part| part.status.borrow().pid)
    }

    /// From now on a part that dies stays dead, and nothing is told of it.
    pub fn restart_no_more(&self) {
        for part in self.parts().values() {
            part.raise(Order::Last);
        }
    }

    /// Ends a part and waits until it is gone. One that was never started is gone.
    pub async fn stop(&self, name: &str) {
        let part = self.parts().remove(name);
        if let Some(part) = part {
            part.raise(Order::Stop);
            let _ = part.task.await;
        }
    }

    /// [`Supervisor::stop`] for the worker, whose children are executors: each is asked to end, and finds the API to say so. Of an executor nothing is read:
    /// it hides from processes of the same user.
    pub async fn stop_with_executors(&self, name: &str) {
        let pid = self.pid(name);
        let ask_executors = async {
            let mut asked = HashSet::new();
            let Some(pid) = pid else { return std::future::pending().await };
            // Over and over: what was about to be started when the part was told is seen a moment later.
            loop {
                for process in children(pid) {
                    if asked.insert(process) {
                        process.signal(Signal::TERM);
                    }
                }
                sleep(POLL).await;
            }
        };
        tokio::select! { () = self.stop(name) => {}, () = ask_executors => {} }
    }

    /// Makes every end that is under way, and every later one, a SIGKILL.
    pub fn kill_all(&self) {
        for part in self.parts().values() {
            part.order.send_replace(Order::Kill);
        }
        for (_, process) in self.ledger.snapshot() {
            process.signal(Signal::KILL);
        }
    }

    /// Kills what is left of us but no part of ours: steps whose worker is gone, a command that was interrupted.
    pub async fn sweep(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            let left = descendants(&[std::process::id()], || self.pids_of_parts());
            let left: Vec<Process> = left.into_iter().filter(|process| process.is_alive()).collect();
            if left.is_empty() || Instant::now() >= deadline {
                self.ledger.reap_strangers();
                return;
            }
            for process in left {
                process.signal(Signal::KILL);
            }
            sleep(POLL).await;
        }
    }

    /// Those of the ledger, which knows a process from the moment on at which there is one.
    fn pids_of_parts(&self) -> HashSet<u32> {
        let entered = self.ledger.snapshot();
        let parts = self.parts();
        entered.iter().filter(|(name, _)| parts.contains_key(name.as_str())).map(|(_, process)| process.pid).collect()
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One part's task.
struct Keeper {
    name: &'static str,
    launch: Launch,
    ending: Ending,
    ledger: Arc<Ledger>,
    tell: Arc<dyn Fn(Notice) + Send + Sync>,
    status: watch::Sender<Status>,
    orders: watch::Receiver<Order>,
}

impl Keeper {
    async fn keep(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut is_restart = false;
        loop {
            let started = Instant::now();
            match spawn(&self.ledger, self.name, &self.launch).await {
                Ok(mut child) => {
                    let pid = child.id();
                    self.status.send_modify(|status| status.pid = pid);
                    if is_restart {
                        (self.tell)(Notice::Restarted { part: self.name, pid: pid.unwrap_or_default() });
                    }
                    let death = tokio::select! {
                        death = child.wait() => Some(death),
                        _ = self.orders.wait_for(|order| *order >= Order::Stop) => None,
                    };
                    let Some(death) = death else {
                        self.end(child).await;
                        return;
                    };
                    self.ledger.strike(self.name);
                    self.status.send_modify(|status| status.pid = None);
                    if self.is_last_within(GRACE).await {
                        return;
                    }
                    if started.elapsed() >= STEADY {
                        pause = FIRST_PAUSE;
                    }
                    self.died(death.map_or_else(|e| e.to_string(), |status| status.to_string()), pause);
                }
                Err(error) => self.not_started(&error, is_restart, pause),
            }
            is_restart = true;
            if self.is_last_within(pause).await {
                return;
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    async fn is_last_within(&mut self, wait: Duration) -> bool {
        timeout(wait, self.orders.wait_for(|order| *order > Order::Run)).await.is_ok()
    }

    fn died(&self, how: String, pause: Duration) {
        self.status.send_modify(|status| {
            status.deaths += 1;
            status.last_death.clone_from(&how);
        });
        (self.tell)(Notice::Died { part: self.name, how, pause });
    }

    fn not_started(&self, error: &DevError, is_restart: bool, pause: Duration) {
        self.status.send_modify(|status| {
            status.deaths += 1;
            status.last_death = error.to_string();
        });
        if is_restart {
            (self.tell)(Notice::NotRestarted { part: self.name, why: error.to_string(), pause });
        }
    }

    async fn end(mut self, mut child: Child) {
        if let Some(process) = child.id().and_then(Process::of) {
            let is_kill = *self.orders.borrow() == Order::Kill;
            process.signal(if is_kill { Signal::KILL } else { self.ending.signal });
            let patience = if is_kill { Duration::ZERO } else { self.ending.patience };
            tokio::select! {
                _ = child.wait() => {}
                () = sleep(patience) => process.signal(Signal::KILL),
                _ = self.orders.wait_for(|order| *order == Order::Kill) => process.signal(Signal::KILL),
            }
        }
        let _ = child.wait().await;
        self.ledger.strike(self.name);
    }
}

async fn spawn(ledger: &Ledger, name: &str, launch: &Launch) -> Result<Child, DevError> {
    let command = launch.command().map_err(DevError::io(format_args!("can't start {name}")))?;
    let mut child = ledger.enter(name, || Command::from(command).spawn(), Child::id)?;
    feed(&mut child, launch).await;
    Ok(child)
}

/// A process that has ended before it read everything says itself why.
async fn feed(child: &mut Child, launch: &Launch) {
    if let (Some(text), Some(mut stdin)) = (&launch.stdin, child.stdin.take()) {
        let _ = stdin.write_all(text.as_bytes()).await;
    }
}

/// Runs a command to its end and answers with what it wrote to standard output. When the wait is given up, so is the command.
pub async fn run_to_end(ledger: &Ledger, name: &str, launch: &Launch, within: Duration) -> Result<Vec<u8>, DevError> {
    let failed = |why: String| DevError::CommandFailed { what: name.to_owned(), why, log: launch.log.clone() };
    let mut command = Command::from(launch.command().map_err(DevError::io(format_args!("can't start {name}")))?);
    command.stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = ledger.enter(name, || command.spawn(), Child::id)?;
    feed(&mut child, launch).await;
    let outcome = timeout(within, child.wait_with_output()).await;
    ledger.strike(name);
    let output = outcome.map_err(|_| failed(format!("it took longer than {} s", within.as_secs())))?;
    let output = output.map_err(DevError::io(format_args!("can't run {name}")))?;
    if output.status.success() { Ok(output.stdout) } else { Err(failed(output.status.to_string())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use tokio::sync::mpsc;

    const TERM: Ending = Ending { signal: Signal::TERM, patience: Duration::from_secs(20) };

    fn shell(folder: &Path, script: &str) -> Launch {
        Launch::new("/bin/sh".into(), folder.to_owned(), folder.join("log")).arguments(["-c", script])
    }

    fn supervisor(folder: &Path) -> (Supervisor, mpsc::UnboundedReceiver<Notice>) {
        let (sender, notices) = mpsc::unbounded_channel();
        let (ledger, _) = Ledger::open(folder.join("processes.json"));
        (Supervisor::new(ledger, move |notice| drop(sender.send(notice))), notices)
    }

    async fn running(supervisor: &Supervisor, name: &str) -> Process {
        supervisor.ready(name, Duration::from_secs(20), async || Ok(())).await.unwrap();
        Process::of(supervisor.pid(name).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_part_that_dies_is_started_again_and_that_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (supervisor, mut notices) = supervisor(folder.path());
        supervisor.start("part", shell(folder.path(), "exec sleep 1000"), TERM);
        let first = running(&supervisor, "part").await;
        first.signal(Signal::KILL);
        assert!(matches!(notices.recv().await, Some(Notice::Died { part: "part", how, .. }) if how.contains('9')));
        let Some(Notice::Restarted { part: "part", pid }) = notices.recv().await else { panic!("not restarted") };
        assert_ne!(pid, first.pid);
        assert_eq!(supervisor.ledger().snapshot()["part"].pid, pid);
        supervisor.stop("part").await;
        assert!(Process::of(pid).is_none() && supervisor.ledger().snapshot().is_empty());
    }

    #[tokio::test]
    async fn a_part_that_does_not_listen_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let (supervisor, _notices) = supervisor(folder.path());
        let script = "trap '' TERM; echo deaf; exec sleep 1000";
        supervisor.start("deaf", shell(folder.path(), script), Ending { patience: Duration::from_millis(50), ..TERM });
        let log = folder.path().join("log");
        let is_deaf = async || {
            if std::fs::read_to_string(&log).is_ok_and(|text| text.contains("deaf")) {
                Ok(())
            } else {
                Err(String::new())
            }
        };
        supervisor.ready("deaf", Duration::from_secs(20), is_deaf).await.unwrap();
        let process = Process::of(supervisor.pid("deaf").unwrap()).unwrap();
        supervisor.stop("deaf").await;
        assert!(!process.is_alive());
    }

    #[tokio::test]
    async fn a_second_order_does_not_wait_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let (supervisor, _notices) = supervisor(folder.path());
        supervisor.start("part", shell(folder.path(), "trap '' TERM; exec sleep 1000"), TERM);
        let process = running(&supervisor, "part").await;
        supervisor.kill_all();
        let began = Instant::now();
        supervisor.stop("part").await;
        assert!(!process.is_alive() && began.elapsed() < TERM.patience);
    }

    #[tokio::test]
    async fn a_part_that_dies_at_the_end_is_not_started_again_and_not_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let (supervisor, mut notices) = supervisor(folder.path());
        for name in ["before", "after"] {
            supervisor.start(name, shell(folder.path(), "exec sleep 1000"), TERM);
        }
        let (before, after) = (running(&supervisor, "before").await, running(&supervisor, "after").await);
        before.signal(Signal::TERM);
        while supervisor.pid("before").is_some() {
            tokio::task::yield_now().await;
        }
        supervisor.restart_no_more();
        after.signal(Signal::TERM);
        while supervisor.pid("after").is_some() {
            tokio::task::yield_now().await;
        }
        supervisor.stop("before").await;
        supervisor.stop("after").await;
        drop(supervisor);
        assert!(notices.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_part_that_can_not_start_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (supervisor, _notices) = supervisor(folder.path());
        supervisor.start("broken", shell(folder.path(), "echo out of luck; exit 3"), TERM);
        let failure = supervisor.ready("broken", Duration::from_secs(1000), async || Err("not yet".to_owned())).await;
        let told = failure.unwrap_err().to_string();
        assert!(told.contains("exit status: 3") && told.contains("out of luck"), "{told}");
        supervisor.stop("broken").await;
    }

    #[tokio::test]
    async fn a_command_that_is_given_up_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (ledger, _) = Ledger::open(folder.path().join("processes.json"));
        let cat = Launch { stdin: Some("in".into()), ..shell(folder.path(), "cat") };
        let output = run_to_end(&ledger, "cat", &cat, TERM.patience);
        assert_eq!(output.await.unwrap(), b"in");
        let endless = shell(folder.path(), "exec sleep 1000");
        let given_up = run_to_end(&ledger, "endless", &endless, Duration::from_millis(50)).await;
        assert!(matches!(given_up, Err(DevError::CommandFailed { .. })));
        assert!(ledger.snapshot().is_empty());
    }
}
