//! What the tests of the whole system are written with: real PostgreSQL, Redis and S3 servers, real `roadstead-api` and
//! `roadstead-worker` processes, and the few verbs that a scenario needs. Used by tests and benchmarks, never by a program.
//!
//! A test makes a [`Stack`]: its own database, Redis prefix and buckets on servers that all tests of a process share (or servers of its
//! own, which it may kill). It starts as many APIs and workers as it likes, each with its own settings, and ends them as it likes.
//!
//! Invariants: nothing outlives the test process, whether it passes, panics or is killed; every wait has a deadline and says what it
//! waited for; when a test fails, the ends of its processes' logs are shown.
//!
//! Everything here panics with an explanation instead of returning errors: to a test, each of them is a failure.

mod client;
mod namespace;
mod node;
mod process;
mod programs;
mod server;
mod services;
mod shared;
mod stack;
mod wait;
mod watchdog;

pub use client::{Answer, Client};
pub use namespace::JobsNamespace;
pub use node::{Play, PlayedNode, Seen};
pub use process::Process;
pub use programs::programs_folder;
pub use server::{Cli, Ran, Server};
pub use services::{Held, Postgres, Redis, S3};
pub use shared::{Servers, servers};
pub use stack::{ProgramBuilder, Stack, StackBuilder};
pub use wait::{PATIENCE, wait_for};
