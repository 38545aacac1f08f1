//! `roadstead-worker [healthcheck]`: reads the configuration, refuses a wrong one as a whole, and works until it is told to stop.

use anyhow::Context;
use roadstead_backend::config::{Reader, WorkerConfig};
use roadstead_backend::telemetry;
use roadstead_worker::{confine, health, run};
use slog::{error, info};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str =
    "usage: roadstead-worker [healthcheck]\n\nIt is configured by the environment; see docs/configuration.md.";
/// A wrong configuration or a wrong argument.
const UNUSABLE: u8 = 2;
/// Few things here need the processor; more threads would only wake each other.
const MAX_THREADS: usize = 4;

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
    let executable = config.executor_path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if !executable {
        let path = config.executor_path.display();
        eprintln!("roadstead-worker: EXECUTOR_PATH: there is no program at {path}");
        return ExitCode::from(UNUSABLE);
    }
    let (log, _guard) = telemetry::logger(&config.log, "roadstead-worker");
    info!(log, "starting"; "version" => env!("CARGO_PKG_VERSION"), "configuration" => slog::Serde(shown));
    let ended = confine::confine().context("can't set up this process").and_then(|()| {
        let runtime = runtime()?;
        let ended = runtime.block_on(run::run(config, log.clone()));
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

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("can't start threads")
}
