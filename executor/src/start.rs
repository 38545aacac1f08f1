//! The start: asks for the grant without which no user code runs.
//!
//! The same request is sent until it is answered or refused; a reply that was lost comes again, because the session token is the same.
//! The API may then count the lease from the request whose reply was lost, so a heartbeat renews it before anything runs.

use crate::api::retry::retry;
use crate::api::{Api, ApiError, REQUEST_TIMEOUT};
use crate::clock;
use roadstead_domain::attempt::protocol::{Heartbeat, StartGrant};
use std::time::Duration;
use tokio::time::Instant;

/// Past this the supervisor has long given this attempt up.
const PATIENCE: Duration = Duration::from_mins(2);

#[derive(Debug)]
pub struct Started {
    pub grant: StartGrant,
    /// When the request was sent that certainly renewed the lease.
    pub lease_from: Instant,
}

pub async fn start(api: &Api) -> Result<Started, ApiError> {
    let mut sent = clock::now();
    let mut tries = 0;
    let grant = retry(PATIENCE, ApiError::is_passing, || {
        sent = clock::now();
        tries += 1;
        api.start()
    })
    .await?;
    if tries > 1 {
        retry(PATIENCE, ApiError::is_passing, || {
            sent = clock::now();
            api.heartbeat(Heartbeat::default(), REQUEST_TIMEOUT)
        })
        .await?;
    }
    Ok(Started { grant, lease_from: sent })
}
