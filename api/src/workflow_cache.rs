//! Definitions by name and version, in memory.
//!
//! Invariants: a version never changes, so it is kept as long as there is room; which one is the newest is believed for a second, and forgotten at once by
//! the process that stores a newer one. That a name is unknown is never remembered.

use roadstead_backend::store::{Database, StoreError, StoreResult, workflows};
use roadstead_domain::workflow::{Resources, Workflow};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;

/// Definitions kept, by their bytes.
const MAX_DEFINITION_BYTES: u64 = 16 << 20;
const MAX_NAMES: u64 = 10_000;
/// How long another process's newer version may go unnoticed.
const LATEST_BELIEF: Duration = Duration::from_secs(1);

/// One immutable version, as submissions and grants need it.
#[derive(Debug)]
pub struct CachedVersion {
    pub name: String,
    pub version: i32,
    pub timeout_seconds: Option<u32>,
    pub max_retries: Option<u32>,
    pub has_image: bool,
    pub resources: Resources,
    /// Canonical JSON.
    pub definition: Box<RawValue>,
}

type Name = (String, String);

/// Cloning shares it.
#[derive(Clone, Debug)]
pub struct WorkflowCache {
    versions: moka::sync::Cache<(Name, i32), Arc<CachedVersion>>,
    latest: moka::sync::Cache<Name, Arc<CachedVersion>>,
}

impl Default for WorkflowCache {
    fn default() -> Self {
        let weigh = |_: &_, version: &Arc<CachedVersion>| version.definition.get().len() as u32 + 256;
        Self {
            versions: moka::sync::Cache::builder().weigher(weigh).max_capacity(MAX_DEFINITION_BYTES).build(),
            latest: moka::sync::Cache::builder().max_capacity(MAX_NAMES).time_to_live(LATEST_BELIEF).build(),
        }
    }
}

impl WorkflowCache {
    /// The newest version; `None`: the tenant has no workflow of that name.
    pub async fn latest(
        &self,
        database: &Database,
        tenant: &str,
        name: &str,
    ) -> StoreResult<Option<Arc<CachedVersion>>> {
        let key = (tenant.to_owned(), name.to_owned());
        if let Some(known) = self.latest.get(&key) {
            return Ok(Some(known));
        }
        let Some(found) = read(database, tenant, name, None).await? else { return Ok(None) };
        self.versions.insert((key.clone(), found.version), Arc::clone(&found));
        self.latest.insert(key, Arc::clone(&found));
        Ok(Some(found))
    }

    pub async fn version(
        &self,
        database: &Database,
        tenant: &str,
        name: &str,
        version: i32,
    ) -> StoreResult<Option<Arc<CachedVersion>>> {
        let key = ((tenant.to_owned(), name.to_owned()), version);
        if let Some(known) = self.versions.get(&key) {
            return Ok(Some(known));
        }
        let found = read(database, tenant, name, Some(version)).await?;
        if let Some(found) = &found {
            self.versions.insert(key, Arc::clone(found));
        }
        Ok(found)
    }

    /// There is a newer version.
    pub fn forget_latest(&self, tenant: &str, name: &str) {
        self.latest.invalidate(&(tenant.to_owned(), name.to_owned()));
    }
}

async fn read(
    database: &Database,
    tenant: &str,
    name: &str,
    version: Option<i32>,
) -> StoreResult<Option<Arc<CachedVersion>>> {
    let Some(row) = database.run(async |connection| workflows::get(connection, tenant, name, version).await).await?
    else {
        return Ok(None);
    };
    let damaged =
        |error: serde_json::Error| StoreError::Refused(format!("the stored workflow {name} is not one: {error}"));
    let workflow: Workflow = serde_json::from_str(&row.definition).map_err(damaged)?;
    Ok(Some(Arc::new(CachedVersion {
        name: row.name,
        version: row.version,
        timeout_seconds: workflow.timeout_seconds,
        max_retries: workflow.max_retries,
        has_image: workflow.image.is_some(),
        resources: workflow.resources,
        definition: RawValue::from_string(row.definition).map_err(damaged)?,
    })))
}
