//! An execution: its states, what moves it between them, and what is told of it.

pub mod retry;
pub mod state;
pub mod timeline;
pub mod transition;

pub use state::{Priority, Reason, State};
pub use transition::{Event, Next, next};
