//! `tenants list|set`.

use super::{database, explained, table, tenant_name};
use clap::Subcommand;
use roadstead_backend::config::AdminConfig;
use roadstead_backend::store::tenants::{self, Tenant};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List all tenants and what they may use
    List,
    /// Make a tenant if there is none of that name, and change what is given
    Set {
        #[arg(value_parser = tenant_name)]
        name: String,
        /// The most attempts that may be live at a time
        #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
        max_concurrent: Option<i32>,
        /// Share of the turns when several tenants wait, from 1 to 100
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..=100))]
        weight: Option<i32>,
        /// The most executions that may wait at a time
        #[arg(long, value_parser = clap::value_parser!(i64).range(0..))]
        max_queued: Option<i64>,
    },
}

pub async fn run(command: Command, config: &AdminConfig) -> anyhow::Result<()> {
    let database = database(config);
    let mut connection = explained(database.get().await)?;
    let shown = match command {
        Command::List => explained(tenants::list(&mut connection).await)?,
        Command::Set { name, max_concurrent, weight, max_queued } => {
            vec![explained(tenants::set(&mut connection, &name, weight, max_concurrent, max_queued).await)?]
        }
    };
    let rows: Vec<Vec<String>> = shown.into_iter().map(row).collect();
    print!("{}", table::render(&["NAME", "WEIGHT", "MAX CONCURRENT", "MAX QUEUED"], &rows));
    Ok(())
}

fn row(tenant: Tenant) -> Vec<String> {
    let optional = |bound: Option<String>| bound.unwrap_or_else(|| "-".to_owned());
    vec![
        tenant.name,
        tenant.weight.to_string(),
        optional(tenant.max_concurrent.map(|n| n.to_string())),
        optional(tenant.max_queued.map(|n| n.to_string())),
    ]
}
