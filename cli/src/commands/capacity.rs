//! `roadstead capacity`: the cap, what is live, what waits.

use super::Session;
use crate::client::Call;
use crate::clock;
use crate::failure::Failure;
use crate::model::{self, Capacity};
use crate::table::{Kind, facts, table};
use crate::terminal::Palette;
use chrono::TimeDelta;

pub async fn run(session: &Session) -> Result<(), Failure> {
    let answer = session.client()?.document(Call::get(&["capacity"])).await?;
    let capacity: Capacity = model::read(&answer)?;
    session.output.document(&answer, |palette| shown(&capacity, palette))
}

fn shown(capacity: &Capacity, palette: Palette) -> String {
    let age = capacity.oldest_age_seconds.map(|seconds| clock::short(TimeDelta::milliseconds((seconds * 1e3) as i64)));
    let head = facts(
        &[
            ("live", format!("{} of {}", capacity.live, capacity.cap)),
            ("queued", capacity.queued.iter().map(|queued| queued.queued).sum::<i64>().to_string()),
            ("oldest", age.unwrap_or_default()),
            ("finished", format!("{:.1} a second", capacity.finished_per_second)),
        ],
        palette,
    );
    if capacity.queued.is_empty() {
        return head;
    }
    let columns = [("TENANT", Kind::Text), ("PRIORITY", Kind::Text), ("QUEUED", Kind::Text)];
    let rows: Vec<Vec<String>> = capacity
        .queued
        .iter()
        .map(|queued| vec![queued.tenant.clone(), queued.priority.clone(), queued.queued.to_string()])
        .collect();
    format!("{head}\n\n{}", table(&columns, &rows, palette))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_shown_by_tenant_and_priority() {
        let capacity = model::read(
            br#"{"cap":10,"live":3,"oldest_age_seconds":65.5,"finished_per_second":1.25,
                "queued":[{"tenant":"a","priority":"high","queued":2},{"tenant":"b","priority":"low","queued":40}]}"#,
        );
        assert_eq!(
            shown(&capacity.unwrap(), Palette::none()),
            "live      3 of 10\nqueued    42\noldest    1m 5s\nfinished  1.2 a second\n\n\
             TENANT  PRIORITY  QUEUED\na       high      2\nb       low       40"
        );
    }
}
