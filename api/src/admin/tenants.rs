//! `tenants list|set`.

use super::{database, explained, show, table, tenant_name};
use clap::Subcommand;
use roadstead_backend::config::AdminConfig;
use roadstead_backend::dispatch::{Dispatch, DispatchError, Share};
use roadstead_backend::store::keys;
use roadstead_backend::store::tenants::{self, Change, Tenant};
use std::io::stdout;
use std::str::FromStr;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List all tenants and what they may use
    List,
    /// Make a tenant if there is none of that name, and change what is given; it is in force when the command returns
    Set {
        #[arg(value_parser = tenant_name)]
        name: String,
        /// The most attempts that may be live at a time; `none`: as many as the cap allows
        #[arg(long, value_name = "N|none", value_parser = limit::<i32>)]
        max_concurrent: Option<Limit<i32>>,
        /// Share of the turns when several tenants wait, from 1 to 100
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..=100))]
        weight: Option<i32>,
        /// The most executions that may wait at a time; `none`: MAX_QUEUED_PER_TENANT
        #[arg(long, value_name = "N|none", value_parser = limit::<i64>)]
        max_queued: Option<Limit<i64>>,
    },
}

/// A bound that is set, or `None`: removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit<T>(Option<T>);

fn limit<T: FromStr + Default + PartialOrd>(word: &str) -> Result<Limit<T>, &'static str> {
    match word.parse() {
        _ if word == "none" => Ok(Limit(None)),
        Ok(bound) if bound >= T::default() => Ok(Limit(Some(bound))),
        _ => Err("a whole number from 0, or `none`"),
    }
}

pub async fn run(command: Command, config: &AdminConfig) -> anyhow::Result<()> {
    let database = database(config);
    let mut connection = explained(database.get().await)?;
    let shown = match command {
        Command::List => explained(tenants::list(&mut connection).await)?,
        Command::Set { name, max_concurrent, weight, max_queued } => {
            let change = Change {
                weight,
                max_concurrent: max_concurrent.map(|limit| limit.0),
                max_queued: max_queued.map(|limit| limit.0),
            };
            let tenant = explained(tenants::set(&mut connection, &name, change).await)?;
            // So long a running API may go on believing what it read, and tell the ring so.
            tokio::time::sleep(keys::BELIEF).await;
            if tell_workers(config, &tenant).await.is_err() {
                eprintln!("Redis can't be reached: workers learn of it at their next reconciliation");
            }
            vec![tenant]
        }
    };
    let rows: Vec<Vec<String>> = shown.into_iter().map(row).collect();
    Ok(show(stdout(), &table::render(&["NAME", "WEIGHT", "MAX CONCURRENT", "MAX QUEUED"], &rows))?)
}

/// Their ring's share of it is otherwise that of the last submission.
async fn tell_workers(config: &AdminConfig, tenant: &Tenant) -> Result<(), DispatchError> {
    let share = Share { weight: tenant.weight, max_concurrent: tenant.max_concurrent };
    Dispatch::new(&config.redis)?.note_share(&tenant.name, share).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_or_none() {
        assert_eq!(limit::<i32>("0"), Ok(Limit(Some(0))));
        assert_eq!(limit::<i64>("5000000000"), Ok(Limit(Some(5_000_000_000))));
        assert_eq!(limit::<i32>("none"), Ok(Limit(None)));
        for wrong in ["-1", "", "None", "1.5", "5000000000"] {
            assert!(limit::<i32>(wrong).is_err(), "{wrong}");
        }
    }
}
