//! The batch route: 1,000 executions an answer.

use crate::report::{Figure, Report, median};
use crate::rounds::{Round, Work};
use crate::stack::Stack;
use crate::{control, load};
use std::time::Duration;

const ROUNDS: usize = 3;

pub async fn measure(stack: &Stack, report: &mut Report, span: Duration) -> anyhow::Result<()> {
    stack.pause_worker().await?;
    // Inputs differ, as people's do.
    let one = |n: usize| serde_json::json!({ "spec": crate::stack::noop()["spec"], "input": format!("{n:0width$}", width = control::PAYLOAD_BYTES - 2) });
    let body = serde_json::json!({ "executions": (0..1_000).map(one).collect::<Vec<_>>() }).to_string();
    let address = stack.ready.api_url.trim_start_matches("http://").to_owned();
    let (mut rounds, mut controls) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        stack.reset().await?;
        // A tenant of its own, whose quota knows nothing of the rounds before.
        let key = stack.key(&format!("batch-{round}")).await?;
        controls.push(control::unnest_inserts(stack, span).await?);
        let (before, after) = load::post("/v1/executions/batch", &key, &body);
        let request = before + &after;
        let round = Round::of(stack.front(), async || {
            let load = load::run(&address, 4, span, move |_, _, asked| asked.extend_from_slice(request.as_bytes()))?;
            Ok(Work { operations: load.answered as f64 * 1_000.0, per_second: load.per_second() * 1_000.0 })
        });
        rounds.push(round.await?);
    }
    stack.reset().await?;
    stack.resume_worker()?;
    let middle = Round::median(&rounds);
    report.add(Figure {
        name: "accepted, 1,000 a request".into(),
        value: middle.per_second,
        unit: "rows/s",
        control: Some(("raw UNNEST of 1,000 rows".into(), median(&controls))),
        cpu_micros: middle.micros,
        ..Figure::default()
    });
    Ok(())
}
