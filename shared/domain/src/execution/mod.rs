//! An execution: its states, what moves it between them, and what is told of it.

pub mod reason;
pub mod retry;
pub mod state;
pub mod timeline;
pub mod transition;

pub use reason::Reason;
pub use state::{Priority, State};
pub use transition::{Event, Next, next};
