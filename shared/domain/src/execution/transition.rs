//! The state machine: one pure function. Whoever writes a state asks it first; whoever reads the diagram in
//! ARCHITECTURE.md reads what [`mermaid`] made of it.

use super::state::State;

/// What can happen to an execution. `retry` says whether an attempt is left and worth taking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// `run_at` was reached, or a backoff is over.
    Due,
    /// A worker took a berth for it.
    Claim,
    /// An executor was granted the attempt's one start.
    Start,
    /// Somebody asked for it to be cancelled.
    Cancel,
    /// The queue deadline passed before a start.
    QueueExpired,
    AttemptSucceeded,
    AttemptFailed {
        retry: bool,
    },
    /// The run deadline passed.
    AttemptTimedOut,
    /// The attempt ended because a cancel was asked for.
    AttemptCancelled,
    /// The attempt is over by a witness, without a report.
    AttemptLost {
        retry: bool,
    },
}

impl Event {
    pub const ALL: &'static [Self] = &[
        Self::Due,
        Self::Claim,
        Self::Start,
        Self::Cancel,
        Self::QueueExpired,
        Self::AttemptSucceeded,
        Self::AttemptFailed { retry: true },
        Self::AttemptFailed { retry: false },
        Self::AttemptTimedOut,
        Self::AttemptCancelled,
        Self::AttemptLost { retry: true },
        Self::AttemptLost { retry: false },
    ];

    /// The word for it in the diagram and in messages.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Claim => "claim",
            Self::Start => "start",
            Self::Cancel => "cancel",
            Self::QueueExpired => "queue expired",
            Self::AttemptSucceeded => "succeeded",
            Self::AttemptFailed { retry: true } => "failed, retry",
            Self::AttemptFailed { retry: false } => "failed",
            Self::AttemptTimedOut => "timed out",
            Self::AttemptCancelled => "cancelled",
            Self::AttemptLost { retry: true } => "lost, retry",
            Self::AttemptLost { retry: false } => "lost",
        }
    }
}

/// What an event does to a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Move there, in one conditional write.
    To(State),
    /// Nothing moves, and that is the right answer: the wish is noted (a cancel of live work) or was granted before.
    Noted,
    /// The event has no meaning here: it is stale or out of order, and changes nothing.
    Refused,
}

/// The transition function. Total: every pair has an answer, and a new variant does not compile without one.
pub const fn next(state: State, event: Event) -> Next {
    use Event as E;
    use Next::{Noted, Refused, To};
    use State as S;
    match (state, event) {
        (S::Scheduled, E::Due) => To(S::Queued),
        (S::Scheduled | S::Queued, E::Cancel) => To(S::Cancelled),
        (S::Scheduled | S::Queued, E::QueueExpired) => To(S::TimedOut),
        (S::Queued, E::Claim) => To(S::Launching),
        (S::Launching, E::Start) => To(S::Running),
        (S::Launching | S::Running | S::Cancelled, E::Cancel) => Noted,
        (S::Running, E::AttemptSucceeded) => To(S::Succeeded),
        (S::Running, E::AttemptTimedOut) => To(S::TimedOut),
        (S::Launching | S::Running, E::AttemptCancelled) => To(S::Cancelled),
        (S::Launching | S::Running, E::AttemptFailed { retry: true } | E::AttemptLost { retry: true }) => {
            To(S::Scheduled)
        }
        (S::Launching | S::Running, E::AttemptFailed { retry: false } | E::AttemptLost { retry: false }) => {
            To(S::Failed)
        }
        (
            S::Scheduled,
            E::Claim
            | E::Start
            | E::AttemptSucceeded
            | E::AttemptFailed { .. }
            | E::AttemptTimedOut
            | E::AttemptCancelled
            | E::AttemptLost { .. },
        )
        | (
            S::Queued,
            E::Due
            | E::Start
            | E::AttemptSucceeded
            | E::AttemptFailed { .. }
            | E::AttemptTimedOut
            | E::AttemptCancelled
            | E::AttemptLost { .. },
        )
        | (S::Launching, E::Due | E::Claim | E::QueueExpired | E::AttemptSucceeded | E::AttemptTimedOut)
        | (S::Running, E::Due | E::Claim | E::Start | E::QueueExpired)
        | (
            S::Succeeded | S::Failed | S::TimedOut,
            E::Due
            | E::Claim
            | E::Start
            | E::Cancel
            | E::QueueExpired
            | E::AttemptSucceeded
            | E::AttemptFailed { .. }
            | E::AttemptTimedOut
            | E::AttemptCancelled
            | E::AttemptLost { .. },
        )
        | (
            S::Cancelled,
            E::Due
            | E::Claim
            | E::Start
            | E::QueueExpired
            | E::AttemptSucceeded
            | E::AttemptFailed { .. }
            | E::AttemptTimedOut
            | E::AttemptCancelled
            | E::AttemptLost { .. },
        ) => Refused,
    }
}

/// The state diagram in Mermaid's notation, generated from [`next`].
pub fn mermaid() -> String {
    let mut lines = vec!["stateDiagram-v2".to_owned(), "    [*] --> scheduled".into(), "    [*] --> queued".into()];
    for &from in State::ALL {
        for &to in State::ALL {
            let labels: Vec<_> =
                Event::ALL.iter().filter(|&&e| next(from, e) == Next::To(to)).map(|e| e.label()).collect();
            if !labels.is_empty() {
                lines.push(format!("    {from} --> {to}: {}", labels.join(" / ")));
            }
        }
    }
    lines.extend(State::ALL.iter().filter(|s| s.is_terminal()).map(|s| format!("    {s} --> [*]")));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_as_it_was_decided() {
        let mut table = String::new();
        for &state in State::ALL {
            for &event in Event::ALL {
                let answer = match next(state, event) {
                    Next::To(to) => format!("-> {to}"),
                    Next::Noted => "noted".to_owned(),
                    Next::Refused => "refused".to_owned(),
                };
                table += &format!("{state:<10} {:<14} {answer}\n", event.label());
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn nothing_leaves_a_terminal_state() {
        for &state in State::ALL.iter().filter(|s| s.is_terminal()) {
            for &event in Event::ALL {
                assert!(!matches!(next(state, event), Next::To(_)), "{state} {event:?}");
            }
        }
    }

    #[test]
    fn every_state_can_end_and_every_non_terminal_state_is_reachable() {
        for &state in State::ALL.iter().filter(|s| !s.is_terminal()) {
            let mut seen = vec![state];
            let mut index = 0;
            while index < seen.len() {
                for &event in Event::ALL {
                    if let Next::To(to) = next(seen[index], event)
                        && !seen.contains(&to)
                    {
                        seen.push(to);
                    }
                }
                index += 1;
            }
            assert!(State::ALL.iter().filter(|s| s.is_terminal()).all(|s| seen.contains(s)), "{state}");
        }
    }

    #[test]
    fn the_diagram_in_the_architecture_is_the_code() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ARCHITECTURE.md");
        let text = std::fs::read_to_string(page).expect("ARCHITECTURE.md");
        let (begin, end) = ("<!-- generated: state diagram -->\n```mermaid\n", "```\n<!-- end -->");
        let start = text.find(begin).expect("the marker that begins the diagram") + begin.len();
        let stop = start + text[start..].find(end).expect("the marker that ends the diagram");
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(page, format!("{}{}{}", &text[..start], mermaid(), &text[stop..])).unwrap();
        } else {
            assert_eq!(&text[start..stop], mermaid(), "stale: run `make generate`");
        }
    }
}
