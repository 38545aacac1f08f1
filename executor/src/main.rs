//! `roadstead-executor`: runs one attempt of one workflow, and speaks HTTP with the API and the object store alone.
//!
//! It is started once per attempt, learns which from its bootstrap document or its arguments, and ends with a status that says how
//! far it came ([`exit::Exit`]). One thread does everything; others only read large files.

mod api;
mod arguments;
mod attempt;
mod bootstrap;
mod cgroup;
mod clock;
mod conclude;
mod confine;
mod environment;
mod exit;
mod finish;
mod halt;
mod heartbeat;
mod http;
mod input;
mod install;
mod lease;
mod random;
mod report;
mod run;
mod ship;
mod start;
mod token;
mod workspace;

use arguments::Errand;
use environment::Environment;
use exit::Exit;
use std::io::Write;
use std::process::ExitCode;

/// musl's own allocator maps a page for each size it is asked for, which a process that lives for a millisecond feels.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let exit = begin().unwrap_or_else(|error| Exit::Unusable(error.to_string()));
    if exit.status() != 0 {
        // Whoever listened may be gone.
        let _ = writeln!(std::io::stderr(), "roadstead-executor: {exit}");
    }
    ExitCode::from(exit.status())
}

fn begin() -> Result<Exit, Box<dyn std::error::Error>> {
    confine::confine()?;
    let bootstrap = match Errand::read()? {
        Errand::Bootstrapped => bootstrap::read()?,
        Errand::Attempt(placed) => placed.bootstrap()?,
        Errand::Install { folder, token } => {
            install::install(&folder, &token)?;
            return Ok(Exit::Installed);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exit = runtime.block_on(attempt::attempt(bootstrap, Environment::read()));
    // A reader of a file that is no longer wanted is not waited for.
    runtime.shutdown_background();
    Ok(exit)
}
