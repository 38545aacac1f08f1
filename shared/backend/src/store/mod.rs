//! PostgreSQL, the truth: one file a transition, each a conditional write and its timeline entry in one transaction.
//!
//! Invariants: a state is left only by a write conditional on (id, state, attempt) whose direction the state machine gave; zero rows is an
//! answer with a name, not an error; time is the database's (`now()`); nothing here knows Redis, HTTP or a launcher.

pub mod cancel;
pub mod capacity;
pub mod claim;
pub mod database;
pub mod explain;
pub mod finish;
pub mod follow;
pub mod heartbeat;
pub mod installation;
pub mod keys;
pub mod launch;
pub mod lease;
pub mod overdue;
pub mod promote;
pub mod query;
pub mod relay;
pub mod repeats;
pub mod retain;
pub mod settle;
pub mod start;
mod statement;
pub mod submit;
pub mod tenants;
pub mod uploads;
pub mod workflows;

pub use database::{Connection, Database};

use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// Why the store could not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// PostgreSQL is away, overloaded or starting: try again later. What was asked may or may not have been done.
    #[error("PostgreSQL is not available: {0}")]
    Unavailable(String),
    /// The statement itself failed.
    #[error("PostgreSQL refused a statement: {0}")]
    Refused(String),
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        match &error {
            DieselError::DatabaseError(
                DatabaseErrorKind::ClosedConnection
                | DatabaseErrorKind::UnableToSendCommand
                // A primary that became a standby, or was told to take no writes: it, or its successor, will again.
                | DatabaseErrorKind::ReadOnlyTransaction
                // Nothing of it was done, and asked again it goes through.
                | DatabaseErrorKind::SerializationFailure,
                _,
            )
            | DieselError::BrokenTransactionManager => Self::Unavailable(error.to_string()),
            DieselError::DatabaseError(_, info) if is_outage(info.message()) => Self::Unavailable(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// Diesel keeps few SQLSTATEs; these are PostgreSQL's words for classes 08, 53 and 57 (its `errcodes` appendix), the client's for a lost socket, and
/// PgBouncer's for a server that it has lost or can't have.
fn is_outage(message: &str) -> bool {
    [
        "connection closed",
        "error communicating with the server",
        "terminating connection",
        "the database system is",
        "too many clients",
        "remaining connection slots",
        "statement timeout",
        "canceling statement due to user request",
        "deadlock detected",
        "Broken pipe",
        "Connection reset",
        "Connection refused",
        "could not extend file",
        "No space left",
        "server conn crashed",
        "server login has been failing",
        "server_login_retry",
        "query_wait_timeout",
        "pgbouncer cannot connect to server",
        "no more connections allowed",
    ]
    .iter()
    .any(|words| message.contains(words))
}

impl StoreError {
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

pub type StoreResult<T> = Result<T, StoreError>;
