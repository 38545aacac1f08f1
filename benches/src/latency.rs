//! From the moment a client sends a submission to the moment the step's process runs, on an idle system.

use crate::clock::now_nanos;
use crate::report::{Figure, Report, median, quantile};
use crate::stack::Stack;
use anyhow::{Context, anyhow};

const SAMPLES: usize = 200;

/// What the step does: the clock, first of all.
pub fn stamp() -> anyhow::Result<()> {
    let now = now_nanos();
    let path = std::env::var_os("ROADSTEAD_RESULT").ok_or_else(|| anyhow!("not in a step"))?;
    Ok(std::fs::write(path, format!("\"{now}\""))?)
}

pub async fn measure(stack: &Stack, report: &mut Report) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let spec = serde_json::json!({ "spec": { "steps": [{ "id": "stamp", "command": [program, "stamp"] }] } });
    let mut milliseconds = Vec::with_capacity(SAMPLES);
    for sample in 0..SAMPLES + 5 {
        let sent = now_nanos();
        let execution = stack.post("/v1/executions", &spec).await?;
        let id = execution["id"].as_str().context("an id")?;
        let done = stack.get(&format!("/v1/executions/{id}?wait=30s")).await?;
        let started: i128 = done["result"].as_str().with_context(|| done.to_string())?.parse()?;
        // The first few warm caches and connections.
        if sample >= 5 {
            milliseconds.push((started - sent) as f64 / 1e6);
        }
    }
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        report.add(Figure {
            name: format!("submit → step's process runs, idle, {name}"),
            value: quantile(&milliseconds, share),
            unit: "ms",
            note: format!("{SAMPLES} one after another; median {:.2} ms", median(&milliseconds)),
            ..Figure::default()
        });
    }
    Ok(())
}
