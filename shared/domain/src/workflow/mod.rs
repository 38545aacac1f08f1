//! A workflow: what a person writes, checked, and the order its steps may run in.

pub mod dag;
pub mod quantity;
pub mod spec;
pub mod validate;

pub use spec::{Resources, Step, Workflow};
pub use validate::{decode, from_text};
