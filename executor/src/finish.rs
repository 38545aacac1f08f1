//! The end: tells the API how the attempt ended, and when it can't be reached leaves `outcome.json` as the second witness.
//!
//! Both say the same document, so it does not matter which of them is read.

use crate::api::retry::waits;
use crate::api::{Api, ApiError, REQUEST_TIMEOUT};
use crate::clock;
use crate::ship::put::{Content, Store};
use backon::BackoffBuilder;
use roadstead_domain::attempt::protocol::Finish;
use std::time::Duration;

/// Unanswered tries after which the second witness is written.
const TRIES_BEFORE_OUTCOME: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The API answered.
    Api,
    /// `outcome.json` is there.
    Outcome,
    /// The attempt is no longer current.
    Gone,
    Nobody,
}

/// Tries the API for `grace`, writing `outcome.json` on the way when the API stays silent. While neither can be told, `patience` is what there is to wait.
pub async fn finish(
    api: &Api,
    store: &Store,
    outcome_url: &str,
    finish: &Finish,
    grace: Duration,
    patience: Duration,
) -> Told {
    let began = clock::now();
    let timeout = REQUEST_TIMEOUT.min((grace / 3).max(Duration::from_secs(1)));
    let mut waits = waits(Duration::MAX).build();
    let mut outcome = OutcomeFile { store, url: outcome_url, finish, written: false };
    let mut tries = 0;
    loop {
        let refused = match api.finish(finish, timeout).await {
            Ok(()) => return Told::Api,
            Err(ApiError::Gone) => return Told::Gone,
            Err(ApiError::Refused { .. }) => true,
            Err(ApiError::Unavailable { .. }) => false,
        };
        tries += 1;
        let asked = clock::now();
        if refused || tries >= TRIES_BEFORE_OUTCOME || asked.duration_since(began) >= grace / 3 {
            outcome.write().await;
        }
        // The last try of the API begins when the time is used up, whatever else took it.
        let until = began + if outcome.written { grace } else { patience.max(grace) };
        if refused || asked >= until {
            return if outcome.written { Told::Outcome } else { Told::Nobody };
        }
        let wait = waits.next().unwrap_or_default();
        tokio::time::sleep_until((clock::now() + wait).min(until)).await;
    }
}

struct OutcomeFile<'a> {
    store: &'a Store,
    url: &'a str,
    finish: &'a Finish,
    written: bool,
}

impl OutcomeFile<'_> {
    /// One try, which keeps the API waiting for no longer than one of its own, unless it is there already.
    async fn write(&mut self) {
        if self.written {
            return;
        }
        if let Ok(document) = serde_json::to_vec(self.finish) {
            let content = Content::Memory(document.into());
            let put = tokio::time::timeout(REQUEST_TIMEOUT, self.store.put(self.url, &[], &content));
            self.written = matches!(put.await, Ok(Ok(_)));
        }
    }
}
