//! The program `roadstead`: reads the arguments, runs one command, turns its outcome into an exit status.

use clap::Parser;
use roadstead_cli::args::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Two TLS providers in one tree would panic at the first connection; this names the one that is meant.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return give_up("a TLS provider is installed already");
    }
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return give_up(&format!("can't start: {error}")),
    };
    let status = runtime.block_on(roadstead_cli::run(cli));
    // A thread that is blocked on a read of a terminal must not keep a finished command alive.
    runtime.shutdown_background();
    ExitCode::from(status)
}

fn give_up(why: &str) -> ExitCode {
    roadstead_cli::complain(why);
    ExitCode::FAILURE
}
