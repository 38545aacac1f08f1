//! The start: asks for the grant without which no user code runs.
//!
//! The same request is sent until it is answered or refused; a reply that was lost comes again, because the session token is the same.

use crate::api::retry::retry;
use crate::api::{Api, ApiError};
use crate::clock;
use roadstead_domain::attempt::protocol::StartGrant;
use std::time::Duration;
use tokio::time::Instant;

/// Past this the supervisor has long given this attempt up.
const PATIENCE: Duration = Duration::from_mins(2);

#[derive(Debug)]
pub struct Started {
    pub grant: StartGrant,
    /// When the first of the requests was sent: the API may count the lease from any of them.
    pub lease_from: Instant,
}

pub async fn start(api: &Api) -> Result<Started, ApiError> {
    let lease_from = clock::now();
    let grant = retry(PATIENCE, ApiError::is_passing, || api.start()).await?;
    Ok(Started { grant, lease_from })
}
