//! Launching: from a claimed attempt to a process of its own, and back to the news that it is gone.
//!
//! A launcher knows no database and no queue. It starts what it is told to start, tells what ended and how that looked from the outside, and
//! ends what it is told to end. Whether an end means success, a retry or nothing is decided elsewhere.

pub mod process;

use futures_util::future::BoxFuture;
use roadstead_domain::execution::Reason;
use roadstead_domain::ids::AttemptId;
use std::time::Duration;
use tokio::sync::watch;

/// What a launched attempt proves itself with.
#[derive(Clone)]
pub struct Credential {
    pub token: String,
    /// What is stored of it.
    pub hash: Vec<u8>,
}

/// An attempt to launch.
#[derive(Clone, Debug)]
pub struct LaunchOrder {
    pub tenant: String,
    pub attempt: AttemptId,
    /// For launchers that want one.
    pub credential: Option<Credential>,
    /// The run deadline, which the executor keeps by itself.
    pub timeout: Duration,
}

/// Nothing was started.
#[derive(Clone, Debug)]
pub struct LaunchFailure {
    pub reason: Reason,
    /// Whether another attempt might do better.
    pub retryable: bool,
}

/// An attempt whose process or pod is gone, with everything that it started.
#[derive(Clone, Debug)]
pub struct Ended {
    pub tenant: String,
    pub attempt: AttemptId,
    pub end: End,
}

/// How an end looked from the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By the executor's word the attempt's end is known: to the API, or from `outcome.json`.
    Reported,
    /// It ended before a start was granted: no user code ran.
    NotStarted { reason: Reason, retryable: bool },
    /// It ended without a word.
    Lost(Reason),
    /// It was ended by [`Launcher::stop`].
    Stopped(StopCause),
}

/// Why an attempt that did not end by itself was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// No start was granted in time.
    StartTimeout,
    /// Its executor did not renew the lease.
    LeaseExpired,
    /// Its executor should have ended it at the run deadline.
    RunTimeout,
    /// It was settled without this launcher, or it has reported its end and hangs.
    Over,
}

/// Starts attempts and sees them end.
pub trait Launcher: Send + Sync {
    /// As the metrics' label.
    fn name(&self) -> &'static str;

    /// Whether its attempts prove themselves by a credential of the order's.
    fn wants_credential(&self) -> bool;

    /// Starts an attempt. When this answers, the process or Job exists, or nothing does.
    fn launch(&self, order: LaunchOrder) -> BoxFuture<'_, Result<(), LaunchFailure>>;

    /// Waits for the next end that was not told yet. Each end is told once. Dropping the future loses none.
    fn observe(&self) -> BoxFuture<'_, Ended>;

    /// Ends an attempt that this launcher holds; its end is observed as any other.
    fn stop(&self, attempt: AttemptId, cause: StopCause);

    /// Ends what a dead launcher's executor left running of an attempt, as far as it can be found from here; `false`: something of it does not end.
    fn end_strays(&self, attempt: AttemptId) -> BoxFuture<'_, bool>;

    /// The attempts that are alive here, or whose end was not told yet.
    fn held(&self) -> Vec<AttemptId>;

    fn holds(&self, attempt: AttemptId) -> bool {
        self.held().contains(&attempt)
    }

    /// How many attempts are alive here.
    fn live(&self) -> watch::Receiver<usize>;
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<credential>")
    }
}
