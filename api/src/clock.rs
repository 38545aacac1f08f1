//! The wall clock: the one place of this program that reads it.

use chrono::{DateTime, SubsecRound, Utc};

/// Now, as exactly as PostgreSQL stores it.
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
