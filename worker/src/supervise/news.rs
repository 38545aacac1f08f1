//! What the launcher tells of its attempts, taken as it comes: many ends at once cost one statement, not one each.

use crate::launch::{End, Ended, News, Stage};
use crate::worker::Worker;
use futures_util::FutureExt;
use roadstead_backend::store::StoreResult;
use roadstead_backend::store::launch::{Waiting, note_waiting};
use roadstead_backend::store::settle::live;
use roadstead_domain::ids::AttemptId;
use slog::info;
use std::collections::HashSet;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Taken at once, so that a flood of news does not keep the first of it waiting.
const MAX_AT_ONCE: usize = 256;

/// Hears what is new until `stop`. The berths of what is gone go to the dispatcher to give back; other ends are settled.
pub async fn hear(worker: Arc<Worker>, stop: CancellationToken) {
    loop {
        let first = tokio::select! { () = stop.cancelled() => return, news = worker.launcher.observe() => news };
        let more = std::iter::from_fn(|| worker.launcher.observe().now_or_never());
        let (mut reported, mut waiting) = (Vec::new(), Vec::new());
        for news in std::iter::once(first).chain(more.take(MAX_AT_ONCE)) {
            match news {
                News::Ended(ended) if ended.end != End::Reported || ended.because.is_some() => worker.settle(ended),
                News::Ended(ended) if ended.stage == Stage::Gone => worker.freed.push(ended),
                News::Ended(ended) => reported.push(ended),
                News::Waiting { tenant, attempt, reason } => waiting.push(Waiting { tenant, attempt, reason }),
            }
        }
        if !reported.is_empty() {
            let_go(&worker, reported).await;
        }
        if !waiting.is_empty() {
            note(&worker, &waiting).await;
        }
    }
}

/// Lets go those whose report is recorded, which is nearly always all.
async fn let_go(worker: &Arc<Worker>, reported: Vec<Ended>) {
    let attempts: Vec<AttemptId> = reported.iter().map(|ended| ended.attempt).collect();
    let unrecorded: StoreResult<HashSet<AttemptId>> = async {
        let live = live(&mut *worker.database.get().await?, &attempts, &worker.observer()).await?;
        Ok(live.into_iter().map(|live| live.id).collect())
    }
    .await;
    for ended in reported {
        match &unrecorded {
            Ok(unrecorded) if !unrecorded.contains(&ended.attempt) => worker.launcher.let_go(ended.attempt),
            _ => worker.settle(ended),
        }
    }
}

async fn note(worker: &Worker, waiting: &[Waiting]) {
    let noted: StoreResult<()> = async { note_waiting(&mut *worker.database.get().await?, waiting).await }.await;
    if let Err(error) = noted {
        // Their ends will say it.
        info!(worker.log, "why attempts wait can't be noted"; "attempts" => waiting.len(), "error" => %error);
    }
}
