//! The states of an execution and the words for them, on the wire and in PostgreSQL alike.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A word that is not one of the expected ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not one of {expected}")]
pub struct UnknownWord {
    pub found: String,
    pub expected: String,
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$variant_meta])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    other => Err(UnknownWord {
                        found: other.chars().take(80).collect(),
                        expected: [$($word),+].join(", "),
                    }),
                }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where an execution stands.
    State {
        /// `run_at` is in the future, or a retry waits out its backoff.
        Scheduled = "scheduled",
        Queued = "queued",
        /// Claimed by a worker under (execution, attempt); the process or Job may or may not exist yet.
        Launching = "launching",
        /// The attempt's one start was granted.
        Running = "running",
        Succeeded = "succeeded",
        Failed = "failed",
        TimedOut = "timed_out",
        Cancelled = "cancelled",
    }
}

impl State {
    /// A terminal state is never left.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::TimedOut | Self::Cancelled)
    }

    /// A live attempt holds one of the `MAX_CONCURRENT_JOBS` berths.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Launching | Self::Running)
    }
}

words! {
    /// Order within one tenant; between tenants the fairness ring decides.
    Priority { High = "high", Normal = "normal", Low = "low" }
}

impl Priority {
    /// As stored: the smaller, the sooner.
    pub const fn rank(self) -> i16 {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }

    pub const fn from_rank(rank: i16) -> Self {
        match rank {
            0 => Self::High,
            2 => Self::Low,
            _ => Self::Normal,
        }
    }
}

/// Why an execution is as it is: a stable code for programs, a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub code: String,
    pub message: String,
}

impl Reason {
    /// The code that an executor reports when it was told to stop, by whom and why it does not know.
    pub const EXECUTOR_TERMINATED: &str = "executor_terminated";

    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}
