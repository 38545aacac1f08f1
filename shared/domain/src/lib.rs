//! The domain: what an execution, a workflow and an attempt are, without any I/O.
//!
//! Everything here is pure and compiles into the executor too, so nothing here may know a database,
//! a queue, an object store, a clock or a socket.

pub mod attempt;
pub mod decode;
pub mod document;
pub mod duration;
pub mod execution;
pub mod ids;
pub mod json;
pub mod workflow;
