//! The operator's commands. They speak with the database, never with a running API.

pub mod healthcheck;
pub mod keys;
mod table;
pub mod tenants;

use anyhow::Context;
use roadstead_backend::config::AdminConfig;
use roadstead_backend::store::{Database, StoreError};
use roadstead_domain::ids::is_name;

fn tenant_name(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err("a tenant's name is 1 to 63 of a-z 0-9 -, with a letter or digit at both ends".to_owned())
}

fn database(config: &AdminConfig) -> Database {
    Database::new(&config.database)
}

/// What to do about a statement that failed.
fn explained<T>(result: Result<T, StoreError>) -> anyhow::Result<T> {
    let unmigrated = matches!(&result, Err(StoreError::Refused(why)) if why.contains("does not exist"));
    let result = result.map_err(anyhow::Error::from);
    if unmigrated { result.context("the schema is missing; run `roadstead-api migrate` first") } else { result }
}
