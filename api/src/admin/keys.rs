//! `keys create|list|revoke`.
//!
//! Invariant: a key is printed once, alone on standard output, and only its hash is kept.

use super::{database, explained, print, show, table, tenant_name};
use crate::auth::KEY_PREFIX;
use crate::clock;
use anyhow::Context;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::{Subcommand, ValueEnum};
use roadstead_backend::config::AdminConfig;
use roadstead_backend::secrets;
use roadstead_backend::store::keys;
use std::io::stdout;
use std::time::Duration;

/// Of the key, enough to tell keys apart by.
const SHOWN_PREFIX_BYTES: usize = KEY_PREFIX.len() + 8;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a key and print it, once, on standard output; makes the tenant if there is none of that name
    Create {
        #[arg(long, value_parser = tenant_name)]
        tenant: String,
        #[arg(long, value_enum, default_value = "submit")]
        role: Role,
        /// For how long it is good, as in `12h` or `30d`; for ever if not given
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        expires_in: Option<Duration>,
    },
    /// List all keys, without the keys themselves
    List,
    /// Revoke a key; it is in force everywhere when the command returns
    Revoke {
        /// The key's id, its prefix as it is listed, or the key itself
        #[arg(value_name = "ID|PREFIX|KEY")]
        key: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Role {
    /// Read everything of the tenant's
    Read,
    /// Read, submit, cancel, retry, and change workflows
    Submit,
    /// As submit, and see the capacity of all tenants
    Admin,
}

impl Role {
    const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Admin => "admin",
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    roadstead_domain::duration::parse(text).ok_or_else(|| "must be a duration as in `30d` or `12h`".to_owned())
}

pub async fn run(command: Command, config: &AdminConfig) -> anyhow::Result<()> {
    match command {
        Command::Create { tenant, role, expires_in } => create(config, &tenant, role, expires_in).await,
        Command::List => list(config).await,
        Command::Revoke { key } => revoke(config, &key).await,
    }
}

async fn create(config: &AdminConfig, tenant: &str, role: Role, expires_in: Option<Duration>) -> anyhow::Result<()> {
    let expires_at = match expires_in {
        Some(span) => {
            let expires_at = TimeDelta::from_std(span).ok().and_then(|span| clock::now().checked_add_signed(span));
            Some(expires_at.ok_or_else(|| anyhow::anyhow!("--expires-in is too long"))?)
        }
        None => None,
    };
    let key = format!("{KEY_PREFIX}{}", secrets::random_token());
    let prefix = &key[..SHOWN_PREFIX_BYTES];
    let database = database(config);
    let mut connection = explained(database.get().await)?;
    let created = keys::create(&mut connection, tenant, role.word(), prefix, &secrets::hash(&key), expires_at).await;
    let id = explained(created)?;
    print(stdout(), &format!("{key}\n")).with_context(|| {
        format!("the key could not be printed, but is in force: `roadstead-api keys revoke {id}` ends that")
    })?;
    let until = expires_at.map_or_else(|| "never".to_owned(), moment);
    eprintln!("id {id}, tenant {tenant}, role {}, expires {until}; it can't be shown again", role.word());
    Ok(())
}

async fn list(config: &AdminConfig) -> anyhow::Result<()> {
    let database = database(config);
    let listed = explained(keys::list(&mut *explained(database.get().await)?).await)?;
    let optional = |at: Option<DateTime<Utc>>| at.map_or_else(|| "-".to_owned(), moment);
    let rows: Vec<Vec<String>> = listed
        .into_iter()
        .map(|key| {
            let (created, expires, revoked) =
                (moment(key.created_at), optional(key.expires_at), optional(key.revoked_at));
            vec![key.id.to_string(), key.tenant, key.role, key.prefix, created, expires, revoked]
        })
        .collect();
    let head = ["ID", "TENANT", "ROLE", "PREFIX", "CREATED", "EXPIRES", "REVOKED"];
    Ok(show(stdout(), &table::render(&head, &rows))?)
}

async fn revoke(config: &AdminConfig, key: &str) -> anyhow::Result<()> {
    let database = database(config);
    let revoked = keys::revoke(&mut *explained(database.get().await)?, key, &secrets::hash(key)).await;
    let revoked = explained(revoked)?;
    // What was given may be a key, which is told to nobody.
    anyhow::ensure!(revoked > 0, "no such key is in force; `roadstead-api keys list` shows ids and prefixes");
    // So long a running API may go on believing what it read.
    tokio::time::sleep(keys::BELIEF).await;
    eprintln!("revoked: {revoked}");
    Ok(())
}

fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
