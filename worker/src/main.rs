//! `roadstead-worker [healthcheck]`: reads the configuration, refuses a wrong one as a whole, and works until it is told to stop.

use anyhow::Context;
use roadstead_backend::config::{Reader, WorkerConfig};
use roadstead_backend::telemetry;
use roadstead_worker::launch::Plan;
use roadstead_worker::{confine, health, run};
use slog::{error, info};
use std::collections::BTreeMap;
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
        [] => begin(work),
        ["healthcheck"] => begin(|config, _| healthcheck(&config)),
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

fn begin(act: impl FnOnce(WorkerConfig, BTreeMap<&'static str, String>) -> ExitCode) -> ExitCode {
    let mut reader = Reader::from_environment();
    let config = WorkerConfig::read(&mut reader);
    let shown = reader.redacted();
    match reader.finish(config) {
        Ok(config) => act(config, shown),
        Err(mistakes) => {
            eprintln!("roadstead-worker: {mistakes}");
            ExitCode::from(UNUSABLE)
        }
    }
}

fn work(config: WorkerConfig, shown: BTreeMap<&'static str, String>) -> ExitCode {
    let plan = match Plan::of(&config) {
        Ok(plan) => plan,
        Err(mistake) => {
            eprintln!("roadstead-worker: {mistake:#}");
            return ExitCode::from(UNUSABLE);
        }
    };
    let (log, _guard) = telemetry::logger(&config.log, "roadstead-worker");
    info!(log, "starting"; "version" => env!("CARGO_PKG_VERSION"), "configuration" => slog::Serde(shown));
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
    let checked = runtime().and_then(|runtime| runtime.block_on(health::check::healthcheck(config.host, config.port)));
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
