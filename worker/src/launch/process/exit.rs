//! How an executor ended: its status, the last that it wrote to standard error, and what both mean.

use super::children::Orders;
use crate::launch::{End, StopCause};
use futures_util::FutureExt;
use roadstead_domain::execution::Reason;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;

/// What is kept of standard error.
const LAST_WORDS_BYTES: usize = 4096;

pub struct Exit {
    pub status: Status,
    pub last_words: String,
    /// It was told to end.
    pub stopped: Option<StopCause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// It left nothing behind, by its own word.
    pub fn is_clean(&self) -> bool {
        self.status == Status::Code(0)
    }

    /// It may have left a workspace. One that was refused the start has none: the folder of its attempt is then another executor's, which may run.
    pub fn may_leave_workspace(&self) -> bool {
        !self.is_clean() && !matches!(self.status, Status::Code(2..=5))
    }
}

impl From<ExitStatus> for Status {
    fn from(status: ExitStatus) -> Self {
        match status.code() {
            Some(code) => Self::Code(code),
            None => Self::Signal(status.signal().unwrap_or(0)),
        }
    }
}

/// Waits for the end; kills when told to.
pub async fn wait(child: &mut Child, orders: &mut Orders) -> Exit {
    let mut stderr = child.stderr.take();
    let (mut words, mut stopped) = (Tail::default(), None);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.map_or(Status::Signal(0), Status::from),
            told = &mut orders.stop, if stopped.is_none() => {
                // The sender is dropped only with its entry, after the end.
                stopped = told.ok();
                let _ = child.start_kill();
            }
            more = words.read(&mut stderr), if stderr.is_some() => if !more { stderr = None },
        }
    };
    // What was written before the end is there to be read; somebody else may hold the pipe, who is not waited for.
    while stderr.is_some() && words.read(&mut stderr).now_or_never() == Some(true) {}
    Exit { status, last_words: words.text(), stopped }
}

/// The last bytes of a stream.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    /// Reads on; `false`: there is no more.
    async fn read(&mut self, stream: &mut Option<impl AsyncRead + Unpin>) -> bool {
        let Some(stream) = stream else { return false };
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.0.extend_from_slice(&chunk[..n]);
                let surplus = self.0.len().saturating_sub(LAST_WORDS_BYTES);
                self.0.drain(..surplus);
                true
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).trim().to_owned()
    }
}

/// The executor's statuses, as its `exit` module gives them.
pub fn judge(status: Status, stopped: Option<StopCause>, last_words: &str) -> End {
    if let (Some(cause), Status::Signal(_)) = (stopped, status) {
        return End::Stopped(cause);
    }
    let not_started = |code| End::NotStarted { reason: Reason::new(code, tell(status, last_words)), retryable: true };
    match status {
        // It ended by itself; it was told to stop, and both are reported.
        Status::Code(0 | 9) => End::Reported,
        // What it was started with can't be used; or the start was refused, to a cancelled execution for instance.
        Status::Code(2 | 3) => not_started(Reason::CREATE_REJECTED),
        Status::Code(4) => not_started(Reason::START_TIMEOUT),
        Status::Code(5) => not_started(Reason::EXECUTOR_STOPPED),
        Status::Code(_) | Status::Signal(_) => End::Lost(Reason::new(Reason::EXECUTOR_LOST, tell(status, last_words))),
    }
}

fn tell(status: Status, last_words: &str) -> String {
    let how = match status {
        Status::Code(code) => format!("the executor ended with status {code}"),
        Status::Signal(signal) => format!("the executor was killed by signal {signal}"),
    };
    if last_words.is_empty() { how } else { format!("{how}: {last_words}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(status: Status, stopped: Option<StopCause>) -> String {
        match judge(status, stopped, "words") {
            End::Reported => "reported".to_owned(),
            End::NotStarted { reason, retryable } => format!("not started, {}, {retryable}", reason.code),
            End::Lost(reason) => format!("lost, {}", reason.code),
            End::Unseen(reason) => format!("unseen, {}", reason.code),
            End::Stopped(cause) => format!("{cause:?}"),
        }
    }

    #[test]
    fn every_status_of_the_executor_has_its_meaning() {
        let meanings = (0..=10).map(|n| code(Status::Code(n), None)).collect::<Vec<_>>();
        assert_eq!(
            meanings,
            [
                "reported",
                "lost, executor_lost",
                "not started, create_rejected, true",
                "not started, create_rejected, true",
                "not started, start_timeout, true",
                "not started, executor_stopped, true",
                "lost, executor_lost",
                "lost, executor_lost",
                "lost, executor_lost",
                "reported",
                "lost, executor_lost",
            ]
        );
        assert_eq!(code(Status::Signal(9), None), "lost, executor_lost");
    }

    #[test]
    fn a_stop_that_came_too_late_did_not_stop_it() {
        assert_eq!(code(Status::Signal(9), Some(StopCause::LeaseExpired)), "LeaseExpired");
        assert_eq!(code(Status::Code(0), Some(StopCause::LeaseExpired)), "reported");
    }

    #[test]
    fn the_reason_says_how_it_ended_and_what_it_said() {
        assert_eq!(tell(Status::Signal(9), ""), "the executor was killed by signal 9");
        assert_eq!(tell(Status::Code(7), "no route"), "the executor ended with status 7: no route");
    }

    #[tokio::test]
    async fn only_the_end_of_standard_error_is_kept() {
        let written = [&vec![b'a'; 10_000][..], b"the end \xff\n"].concat();
        let mut stream = Some(std::io::Cursor::new(written));
        let mut words = Tail::default();
        while words.read(&mut stream).await {}
        assert_eq!(words.0.len(), LAST_WORDS_BYTES);
        assert!(words.text().ends_with("the end \u{fffd}"));
    }
}
