//! The command line: everything a person does with Roadstead from a shell, over the HTTP API alone, and `roadstead dev`,
//! which runs the whole stack on this machine.
//!
//! Standard output carries data and nothing else; messages go to standard error. [`dev`] is also what the tests build their
//! servers from. No command ever talks to PostgreSQL, Redis or S3 itself; only [`dev`] does, to see that they answer.

pub mod args;
mod artifact_file;
mod client;
mod clock;
mod commands;
pub mod dev;
mod environment;
mod failure;
mod follow;
mod input;
mod model;
mod output;
mod problem;
mod progress;
mod sse;
mod table;
mod terminal;

use args::Cli;
use commands::Session;
use environment::Environment;
use failure::Failure;
pub use terminal::complain;

/// Runs one command to its end and tells of its failure; the answer is the process's exit status.
pub async fn run(cli: Cli) -> u8 {
    let environment = Environment::read();
    let session = Session::new(&cli, &environment);
    let outcome = commands::run(cli.command, &session, &environment).await;
    let Err(failure) = outcome else { return 0 };
    let status = failure.exit_status();
    if !matches!(failure, Failure::OutputClosed) {
        complain(&failure.describe());
    }
    status
}
