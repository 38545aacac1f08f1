//! The timeline of an execution: what is told of each thing that happened to it.
//!
//! Its first entry is the submission itself and is read from the execution's own row; the others are rows written in the
//! transaction of the transition that they tell of.

use super::state::words;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

words! {
    /// What happened.
    Kind {
        Submitted = "submitted",
        Queued = "queued",
        Claimed = "claimed",
        Launched = "launched",
        Started = "started",
        CancelRequested = "cancel_requested",
        /// An attempt is over and another one will follow.
        RetryScheduled = "retry_scheduled",
        Succeeded = "succeeded",
        Failed = "failed",
        TimedOut = "timed_out",
        Cancelled = "cancelled",
    }
}
use super::state::UnknownWord;

impl Kind {
    /// The kind that tells of entering a state.
    pub const fn entering(state: super::State) -> Self {
        use super::State as S;
        match state {
            S::Scheduled => Self::RetryScheduled,
            S::Queued => Self::Queued,
            S::Launching => Self::Claimed,
            S::Running => Self::Started,
            S::Succeeded => Self::Succeeded,
            S::Failed => Self::Failed,
            S::TimedOut => Self::TimedOut,
            S::Cancelled => Self::Cancelled,
        }
    }
}
