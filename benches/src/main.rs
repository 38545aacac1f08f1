//! Benchmarks of the whole product: `make bench`.
//!
//! Each figure stands beside a control measured in the same run on the same machine, and beside every rate stands the CPU time per operation of
//! each process, which is the steadier figure where machines are shared. Nothing here is a test: nothing fails on a number.

mod accept;
mod backlog;
mod batch;
mod clock;
mod cluster;
mod control;
mod cpu;
mod drain;
mod executor;
mod footprint;
mod latency;
mod load;
mod report;
mod rounds;
mod stack;

use clap::{Parser, Subcommand, ValueEnum};
use report::Report;
use stack::Stack;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Measures Roadstead against controls of the same run")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// What to measure; everything when not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Subject>,
    /// Folder of the programs under test.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Where the figures are written as JSON.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// Length of each measured stretch.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
}

#[derive(Subcommand)]
enum Command {
    /// A step of the latency workflow: writes the clock's nanoseconds as its result.
    #[command(hide = true)]
    Stamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    Footprint,
    Latency,
    Accept,
    Batch,
    Drain,
    Backlog,
    Executor,
    /// Needs `KUBECONFIG`, and is measured only when it is asked for.
    Cluster,
}

const CAP: u32 = 16;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(Command::Stamp) = arguments.command {
        return latency::stamp();
    }
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was installed before"))?;
    let mut report = Report::default();
    let stack = Stack::start(&arguments.programs, CAP).await?;
    let measured = measure(&stack, &arguments, &mut report).await;
    stack.stop().await?;
    report.write(&arguments.json)?;
    print!("{}", report.table());
    measured
}

async fn measure(stack: &Stack, arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    let wanted = |subject| arguments.only.is_empty() || arguments.only.contains(&subject);
    let span = Duration::from_secs(arguments.seconds);
    if wanted(Subject::Footprint) {
        footprint::measure(stack, report).await?;
    }
    if wanted(Subject::Latency) {
        latency::measure(stack, report).await?;
    }
    if wanted(Subject::Accept) {
        accept::measure(stack, report, span).await?;
    }
    if wanted(Subject::Batch) {
        batch::measure(stack, report, span).await?;
    }
    if wanted(Subject::Drain) {
        drain::measure(stack, report).await?;
    }
    if wanted(Subject::Backlog) {
        backlog::measure(stack, report, span).await?;
    }
    if wanted(Subject::Executor) {
        executor::measure(stack, report).await?;
    }
    if arguments.only.contains(&Subject::Cluster) {
        cluster::measure(stack, report).await?;
    }
    Ok(())
}
