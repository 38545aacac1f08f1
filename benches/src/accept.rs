//! How fast submissions are accepted durably: one execution a request, 64 clients, everything real.

use crate::report::{Figure, Report, median, quantile};
use crate::rounds::Round;
use crate::stack::Stack;
use crate::{control, load};
use std::io::Write;
use std::time::Duration;

pub const CLIENTS: usize = 64;
const ROUNDS: usize = 3;

/// As many tenants as it takes for no stream to reach its window in one stretch, so that every submission is an `XADD`.
const TENANTS: usize = 16;

pub async fn keys(stack: &Stack) -> anyhow::Result<Vec<String>> {
    let mut keys = Vec::new();
    for n in 0..TENANTS {
        keys.push(stack.key(&format!("bench-{n}")).await?);
    }
    Ok(keys)
}

/// One stretch of load; every request has an idempotency key of its own.
pub fn stretch(stack: &Stack, keys: &[String], span: Duration) -> anyhow::Result<load::Load> {
    let address = stack.ready.api_url.trim_start_matches("http://").to_owned();
    let run = uuid::Uuid::new_v4().simple().to_string();
    let body = serde_json::json!({
        "spec": crate::stack::noop()["spec"],
        "input": { "text": "x".repeat(control::PAYLOAD_BYTES) },
    })
    .to_string();
    let requests: Vec<_> = keys.iter().map(|key| load::post("/v1/executions", key, &body)).collect();
    load::run(&address, CLIENTS, span, move |client, number, request| {
        let (before, after) = &requests[client % requests.len()];
        request.extend_from_slice(before.as_bytes());
        // To a vector nothing fails to be written.
        let _ = write!(request, "Idempotency-Key: {run}-{client}-{number}\r\n");
        request.extend_from_slice(after.as_bytes());
    })
}

pub async fn measure(stack: &Stack, report: &mut Report, span: Duration) -> anyhow::Result<()> {
    let keys = keys(stack).await?;
    stack.pause_worker().await?;
    let (mut rounds, mut controls, mut latencies, mut accepted) = (Vec::new(), Vec::new(), Vec::new(), 0);
    stretch(stack, &keys, Duration::from_secs(1))?;
    for _ in 0..ROUNDS {
        stack.reset().await?;
        controls.push(control::one_row_inserts(stack, span).await?);
        let round = Round::of(stack.front(), async || {
            let load = stretch(stack, &keys, span)?;
            accepted += load.answered;
            latencies.extend_from_slice(&load.latencies_ms);
            Ok(load.work())
        });
        rounds.push(round.await?);
    }
    let entries = stack.redis(&["INFO", "keyspace"]).await?;
    stack.reset().await?;
    stack.resume_worker()?;
    let middle = Round::median(&rounds);
    report.add(Figure {
        name: "accepted, one a request, 64 clients".into(),
        value: middle.per_second,
        unit: "/s",
        control: Some(("pgbench one-row INSERT".into(), median(&controls))),
        cpu_micros: middle.micros,
        note: format!(
            "p50 {:.1} ms, p99 {:.1} ms over {accepted}; {}",
            median(&latencies),
            quantile(&latencies, 0.99),
            entries.lines().last().unwrap_or_default().trim()
        ),
    });
    Ok(())
}
