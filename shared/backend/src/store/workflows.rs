//! Workflows and their immutable versions.

use super::statement::statement;
use super::{Connection, StoreError, StoreResult};
use chrono::{DateTime, Utc};
use diesel::sql_types::{Binary, Integer, Nullable, Text, Timestamptz};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::{AsyncConnection, RunQueryDsl};

#[derive(Clone, Debug, QueryableByName)]
pub struct Version {
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Integer)]
    pub version: i32,
    #[diesel(sql_type = Binary)]
    pub digest: Vec<u8>,
    /// Canonical JSON.
    #[diesel(sql_type = Text)]
    pub definition: String,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

const GET: &str = "
SELECT name, version, digest, definition, created_at FROM workflows
WHERE tenant = {} AND name = {} AND ({}::int IS NULL OR version = {}::int) ORDER BY version DESC LIMIT 1";

/// A version, or the newest.
pub async fn get(
    connection: &mut Connection,
    tenant: &str,
    name: &str,
    version: Option<i32>,
) -> StoreResult<Option<Version>> {
    Ok(statement(GET)
        .bind::<Text, _>(tenant.to_owned())
        .bind::<Text, _>(name.to_owned())
        .bind::<Nullable<Integer>, _>(version)
        .bind::<Nullable<Integer>, _>(version)
        .get_result(connection)
        .await
        .optional()?)
}

const LIST: &str = "
SELECT DISTINCT ON (name) name, version, digest, ''::text AS definition, created_at FROM workflows
WHERE tenant = {} AND name > {} ORDER BY name, version DESC LIMIT {}";

/// The newest version of each workflow after the name `after`, without definitions.
pub async fn list(connection: &mut Connection, tenant: &str, after: &str, limit: i64) -> StoreResult<Vec<Version>> {
    Ok(statement(LIST)
        .bind::<Text, _>(tenant.to_owned())
        .bind::<Text, _>(after.to_owned())
        .bind::<diesel::sql_types::BigInt, _>(limit)
        .load(connection)
        .await?)
}

/// The version that `put` stored or found.
#[derive(Clone, Debug)]
pub struct Put {
    pub version: Version,
    pub created: bool,
}

/// Stores a definition as the next version, unless it is the newest one already. `None`: the newest one, if any, does not permit it.
pub async fn put(
    connection: &mut Connection,
    tenant: &str,
    name: &str,
    digest: &[u8],
    definition: &str,
    permits: impl Fn(Option<&Version>) -> bool + Send + Sync,
) -> StoreResult<Option<Put>> {
    connection
        .transaction(async |connection| {
            // Serialises the versions of one workflow, also of one that has none yet.
            statement("SELECT pg_advisory_xact_lock(hashtextextended({} || '/' || {}, 0))")
                .bind::<Text, _>(tenant.to_owned())
                .bind::<Text, _>(name.to_owned())
                .execute(connection)
                .await?;
            let newest = get(connection, tenant, name, None).await?;
            if !permits(newest.as_ref()) {
                return Ok(None);
            }
            if let Some(version) = newest.as_ref().filter(|newest| newest.digest == digest) {
                return Ok::<_, StoreError>(Some(Put { version: version.clone(), created: false }));
            }
            let next = newest.map_or(1, |newest| newest.version + 1);
            let version = statement(
                "INSERT INTO workflows (tenant, name, version, digest, definition) VALUES ({}, {}, {}, {}, {})
                 RETURNING name, version, digest, definition, created_at",
            )
            .bind::<Text, _>(tenant.to_owned())
            .bind::<Text, _>(name.to_owned())
            .bind::<Integer, _>(next)
            .bind::<Binary, _>(digest.to_vec())
            .bind::<Text, _>(definition.to_owned())
            .get_result(connection)
            .await?;
            Ok(Some(Put { version, created: true }))
        })
        .await
}
