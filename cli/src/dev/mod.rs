//! `roadstead dev`: the whole stack on this machine, as separate processes, until Ctrl-C.
//!
//! Invariants: one run per data folder; nothing listens beyond loopback; secrets are in files and pipes that only their owner can
//! read; and no process is left behind, at whatever moment the end comes. One that is killed leaves a ledger, by which the next
//! one cleans up. [`postgres`], [`redis`] and [`s3`] also serve the tests.

mod account;
mod announce;
mod credentials;
pub mod error;
mod folder;
pub mod launch;
pub mod ports;
pub mod postgres;
pub mod processes;
pub mod programs;
pub mod redis;
pub mod s3;
pub mod s3_server;
mod sample;
mod signals;
mod stack;
mod stale;
pub mod supervise;

use crate::args::Format;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::output::{Output, Stream};
use crate::terminal::{Palette, complain, say, stderr_is_terminal};
use clap::{Args, ValueHint};
use error::DevError;
use folder::Folder;
use processes::Ledger;
use programs::Programs;
use signals::Signals;
use stack::Stack;
use std::path::PathBuf;
use supervise::Supervisor;
use tokio::time::Instant;

#[derive(Debug, Args)]
pub struct DevArgs {
    /// Where data, logs and credentials are kept.
    #[arg(long, value_name = "DIR", default_value = ".dev", value_hint = ValueHint::DirPath)]
    pub data_dir: PathBuf,
    /// The API's port; 0 for any free one [default: 8080, or any when it is taken].
    #[arg(long)]
    pub port: Option<u16>,
    /// How many executions may run at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_concurrent_jobs: Option<u32>,
    /// Don't run the sample workflow.
    #[arg(long)]
    pub no_sample: bool,
}

pub async fn run(args: DevArgs, output: Output, environment: &Environment) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let programs = Programs::find(environment)?;
    let folder = Folder::open(&args.data_dir)?;
    let (ledger, left) = Ledger::open(folder.ledger());
    let ended = stale::end(left, &folder.workspaces()).await;
    if !ended.is_empty() {
        say(&format!("ended what an earlier run had left: {}", ended.join(", ")));
    }
    let supervisor = Supervisor::new(ledger, move |notice| announce::notice(output.format, &notice));
    processes::adopt_orphans()?;
    processes::hide_memory()?;

    let outcome = tokio::select! {
        outcome = bring_up(&args, output, environment, &folder, &supervisor, programs) => outcome,
        () = signals.end_requested() => Ok(()),
        never = signals::reap_strangers(supervisor.ledger().clone()) => never,
    };
    if outcome.is_ok() {
        say("ending; Ctrl-C again to kill");
    }
    let mut stopping = std::pin::pin!(stack::stop(&supervisor));
    tokio::select! {
        () = &mut stopping => {}
        () = signals.end_requested() => {
            supervisor.kill_all();
            stopping.await;
        }
    }
    outcome
}

/// Starts everything, runs the sample, and never comes back by itself unless something fails.
async fn bring_up(
    args: &DevArgs,
    output: Output,
    environment: &Environment,
    folder: &Folder,
    supervisor: &Supervisor,
    programs: Programs,
) -> Result<(), Failure> {
    let began = Instant::now();
    let mut stack = Stack::plan(folder, supervisor, programs, args.port, args.max_concurrent_jobs)?;
    say(&format!("starting PostgreSQL, Redis, S3, the API and a worker in {}", folder.root().display()));
    let addresses = stack.start().await?;
    let environment_file = announce::shell_environment(&addresses, &programs::own_folder()?);
    folder::write_private(&folder.shell_environment(), environment_file.as_bytes())?;
    say(&format!("ready after {:.1} s", began.elapsed().as_secs_f64()));
    announce::ready(output, &addresses)?;
    let people = if output.format == Format::Table { output } else { on_stderr(output, environment) };
    let sample = if args.no_sample {
        None
    } else {
        // A sample that fails takes nothing down: the stack is there to find out why.
        sample::run(&addresses, people).await.map_err(|failure| complain(&failure.describe())).ok()
    };
    if output.format == Format::Table {
        announce::banner(output, &addresses, sample.as_deref(), &programs::own_folder()?, folder)?;
    }
    std::future::pending().await
}

/// Standard output is for programs: what people see goes beside it.
fn on_stderr(output: Output, environment: &Environment) -> Output {
    let is_terminal = stderr_is_terminal();
    Output { stream: Stream::Stderr, is_terminal, palette: Palette::of(is_terminal, environment), ..output }
}

impl From<DevError> for Failure {
    fn from(error: DevError) -> Self {
        match error {
            DevError::PortTaken { .. } => Self::Usage(error.to_string()),
            other => Self::Local(other.to_string()),
        }
    }
}
