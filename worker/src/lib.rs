//! `roadstead-worker`: takes ids from the streams, claims them under the cap, launches what was claimed, and sees to everything that must happen
//! without anybody's asking for it.
//!
//! One execution walks through `dispatch` (take, claim), `launch` (a process of its own) and, when it does not end by its own report, `supervise`.
//! The worker never runs user code, never decides a state by itself (the store does), and may be killed at any moment.

pub mod backoff;
pub mod clock;
pub mod confine;
pub mod dispatch;
pub mod health;
pub mod identity;
pub mod launch;
pub mod run;
pub mod shutdown;
pub mod supervise;
#[cfg(test)]
mod testing;
pub mod trouble;
pub mod worker;
