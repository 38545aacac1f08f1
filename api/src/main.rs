//! `roadstead-api`: the command line. What it serves is in the library.

use clap::{Args, Parser, Subcommand};
use roadstead_api::admin::{healthcheck, keys, tenants};
use roadstead_api::run;
use roadstead_backend::config::{AdminConfig, ConfigErrors, Reader};
use std::process::ExitCode;

/// Roadstead's HTTP API. Without a command it serves.
///
/// Everything is configured by the environment, and by the file that ROADSTEAD_CONFIG names; docs/configuration.md lists the variables.
#[derive(Parser)]
#[command(name = "roadstead-api", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API (the default)
    Serve,
    /// Apply what is missing of the database's schema, and exit; several at once are safe
    Migrate,
    /// Create, list and revoke API keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// List tenants, and set what they may use
    #[command(subcommand)]
    Tenants(tenants::Command),
    /// Ask the API on this machine whether it is ready; exit status 0 if it is
    Healthcheck(Healthcheck),
}

#[derive(Args)]
struct Healthcheck {
    /// Ask only whether it is alive
    #[arg(long)]
    live: bool,
}

/// Requests are many small allocations, on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Its environment and memory hold the platform's credentials, and the process launcher's steps may run as the same user.
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    // In pages of 2 MiB the heap takes a dozen MiB more when there is nothing to do, and twice as much after a load, for no speed that could be measured.
    // A kernel that knows no such pages has nothing to forbid.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    if let Err(already) = rustls::crypto::ring::default_provider().install_default() {
        eprintln!("error: another TLS provider was installed before: {already:?}");
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    // Requests have threads of their own. What is done for many of them at once, the commits and the way to Redis, shares this one: of several each
    // would mostly wake the others.
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(dispatch(cli.command.unwrap_or(Command::Serve))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<ConfigErrors>() => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve => run::serve(Reader::from_environment()).await,
        Command::Migrate => run::migrate(&admin()?).await,
        Command::Keys(command) => keys::run(command, &admin()?).await,
        Command::Tenants(command) => tenants::run(command, &admin()?).await,
        Command::Healthcheck(Healthcheck { live }) => healthcheck::run(Reader::from_environment(), live).await,
    }
}

fn admin() -> Result<AdminConfig, ConfigErrors> {
    let mut reader = Reader::from_environment();
    let config = AdminConfig::read(&mut reader);
    reader.finish(config)
}
