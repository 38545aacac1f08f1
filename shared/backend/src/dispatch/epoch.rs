//! Whether Redis is still the one that was filled: the epoch key holds the server's run id of when it was.
//!
//! Missing: wiped, or new. Another run id: restarted or failed over, perhaps without the last second's writes. In both cases everything queued is
//! enqueued again; duplicates are harmless.

use super::{Dispatch, DispatchError};

/// What the epoch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Same,
    /// Queued rows must be enqueued again; then call [`Dispatch::begin_epoch`].
    Lost,
}

impl Dispatch {
    pub async fn health(&self) -> Result<Health, DispatchError> {
        let epoch: Option<String> = self.command(redis::cmd("GET").arg(self.keys.epoch())).await?;
        let run_id = self.run_id().await?;
        Ok(if epoch.as_deref() == Some(run_id.as_str()) { Health::Same } else { Health::Lost })
    }

    /// Notes that this Redis has been told everything that was queued. Call it after PostgreSQL forgot what it believed, and before the relay runs.
    pub async fn begin_epoch(&self) -> Result<(), DispatchError> {
        let run_id = self.run_id().await?;
        self.command(redis::cmd("SET").arg(self.keys.epoch()).arg(run_id)).await
    }

    async fn run_id(&self) -> Result<String, DispatchError> {
        let info: redis::InfoDict = self.command(redis::cmd("INFO").arg("server")).await?;
        Ok(info.get("run_id").unwrap_or_default())
    }
}
