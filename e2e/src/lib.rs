//! What the end-to-end scenarios are told with, beside the testkit: an API and a worker that are up, answers that are checked as the
//! contract words them, streams of events, and a look at processes from outside.
//!
//! Invariant: nothing here asks the system under test how it is doing where it can be seen from outside.

pub mod answers;
pub mod events;
pub mod processes;
pub mod programs;
pub mod scene;
pub mod submission;
