//! `roadstead-worker [healthcheck]`: reads the configuration, refuses a wrong one as a whole, and works until it is told to stop.

use anyhow::Context;
use roadstead_backend::config::{Reader, Summary, WorkerConfig};
use roadstead_backend::telemetry;
use roadstead_worker::launch::Plan;
use roadstead_worker::{confine, health, run};
use slog::error;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str =
    "usage: roadstead-worker [healthcheck]\n\nIt is configured by the environment; see docs/configuration.md.";
/// A wrong configuration or a wrong argument.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("roadstead-worker: another TLS provider was installed before");
        return ExitCode::FAILURE;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => begin(Plan::of, work),
        ["healthcheck"] => begin(|_| Ok(()), |config, (), _| healthcheck(&config)),
        ["--version" | "-V"] => {
            println!("roadstead-worker {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["--help" | "-h" | "help"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(UNUSABLE)
        }
    }
}

/// What can't be prepared from the configuration is one of its mistakes.
fn begin<P>(
    prepare: impl FnOnce(&WorkerConfig) -> anyhow::Result<P>,
    act: impl FnOnce(WorkerConfig, P, &Summary) -> ExitCode,
) -> ExitCode {
    let mut reader = Reader::from_environment();
    let config = WorkerConfig::read(&mut reader);
    let prepared = prepare(&config);
    if let Err(mistake) = &prepared {
        reader.mistake(format!("{mistake:#}"));
    }
    let summary = reader.summary();
    match reader.finish(config).map_err(anyhow::Error::from).and_then(|config| Ok((config, prepared?))) {
        Ok((config, prepared)) => act(config, prepared, &summary),
        Err(mistakes) => {
            eprintln!("roadstead-worker: {mistakes}");
            ExitCode::from(UNUSABLE)
        }
    }
}

fn work(config: WorkerConfig, plan: Plan, summary: &Summary) -> ExitCode {
    let (log, _guard) = telemetry::logger(&config.log, "roadstead-worker");
    summary.log(&log, env!("CARGO_PKG_VERSION"));
    let ended = confine::confine().context("can't set up this process").and_then(|()| {
        let runtime = runtime()?;
        // As a task, so that it shares the one thread with all that it waits for.
        let life = runtime.spawn(run::run(config, plan, log.clone()));
        let ended = runtime.block_on(life).context("the worker's own task").flatten();
        // A database that does not answer any more is not waited for.
        runtime.shutdown_timeout(Duration::from_secs(1));
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!(log, "failed"; "error" => format!("{failure:#}"));
            ExitCode::FAILURE
        }
    }
}

fn healthcheck(config: &WorkerConfig) -> ExitCode {
    let port = config.port.unwrap_or(WorkerConfig::DEFAULT_PORT);
    let checked = runtime().and_then(|runtime| runtime.block_on(health::check::healthcheck(config.host, port)));
    match checked {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("roadstead-worker: {failure:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread for everything: what happens here is mostly waiting for others, and of several threads each would mostly wake the others.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("can't start threads")
}
