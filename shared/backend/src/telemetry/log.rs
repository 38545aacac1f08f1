//! The program's log, on standard error: one JSON object a line for collectors, or text for people.
//!
//! Invariant: who logs never waits. Records pass the filter, then a bounded channel to a thread of the log's own; what does not fit is dropped, and how
//! much that was is logged. What the libraries say by the `log` crate comes along, as if it were said here.

use super::filter::Filter;
use crate::config::LogConfig;
use slog::{Drain, FnValue, Level, Logger, PushFnValue, Record, RecordLocation, RecordStatic, o};
use slog_async::{Async, AsyncGuard, OverflowStrategy};
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// Records between the program and the log's thread.
const CHANNEL_RECORDS: usize = 8192;

/// What most records fit into.
const RECORD_BYTES: usize = 8192;

/// Writes what was logged before it goes. Held to the end of `main`.
#[must_use = "what is logged after the guard has gone is lost"]
pub struct Guard {
    _flushes_when_dropped: AsyncGuard,
}

/// The program's logger; every record says which program it is of.
pub fn logger(config: &LogConfig, program: &'static str) -> (Logger, Guard) {
    // The configuration was checked when it was read.
    let filter = Filter::parse(&config.filter).unwrap_or_else(|_| Filter::parse("info").expect("`info` is a level"));
    let (channel, guard) = if config.json {
        channel(json(io::stderr()))
    } else {
        // Colours only if standard error is a terminal.
        let decorator = slog_term::TermDecorator::new().stderr().build();
        channel(std::sync::Mutex::new(slog_term::FullFormat::new(decorator).use_utc_timestamp().build()).ignore_res())
    };
    let logger = Logger::root(filter.clone().before(channel).ignore_res(), o!("program" => program));
    forward_libraries(logger.clone(), filter);
    (logger, Guard { _flushes_when_dropped: guard })
}

fn channel<D>(drain: D) -> (Async, AsyncGuard)
where
    D: Drain<Ok = (), Err = slog::Never> + Send + RefUnwindSafe + UnwindSafe + 'static,
{
    Async::new(drain)
        .chan_size(CHANNEL_RECORDS)
        .overflow_strategy(OverflowStrategy::DropAndReport)
        .thread_name("log".to_owned())
        .build_with_guard()
}

fn json<W: io::Write + Send + RefUnwindSafe + UnwindSafe + 'static>(
    out: W,
) -> impl Drain<Ok = (), Err = slog::Never> + Send + RefUnwindSafe + UnwindSafe {
    // One write a record: serde writes in crumbs, and other processes may write to the same place.
    let drain = slog_json::Json::new(io::BufWriter::with_capacity(RECORD_BYTES, out))
        .set_flush(true)
        .add_key_value(o!(
            "ts" => FnValue(|_: &Record| chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true)),
            "level" => FnValue(|record: &Record| word(record.level())),
            "module" => FnValue(|record: &Record| record.module()),
            "msg" => PushFnValue(|record: &Record, serializer| serializer.emit(record.msg())),
        ))
        .build();
    std::sync::Mutex::new(drain).ignore_res()
}

/// As `RUST_LOG` spells it.
fn word(level: Level) -> &'static str {
    match level {
        Level::Critical => "critical",
        Level::Error => "error",
        Level::Warning => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// The `log` crate has one receiver per process: the first logger.
fn forward_libraries(logger: Logger, filter: Filter) {
    if ::log::set_boxed_logger(Box::new(Libraries { logger, filter })).is_ok() {
        ::log::set_max_level(::log::LevelFilter::Debug);
    }
}

struct Libraries {
    logger: Logger,
    filter: Filter,
}

impl ::log::Log for Libraries {
    fn enabled(&self, metadata: &::log::Metadata) -> bool {
        self.filter.accepts(metadata.target(), level(metadata.level()))
    }

    fn log(&self, record: &::log::Record) {
        let (level, module) = (level(record.level()), record.module_path_static().unwrap_or("library"));
        if self.filter.accepts(module, level) {
            let location = RecordLocation {
                file: record.file_static().unwrap_or(""),
                line: record.line().unwrap_or(0),
                column: 0,
                function: "",
                module,
            };
            let fixed = RecordStatic { location: &location, tag: "", level };
            self.logger.log(&Record::new(&fixed, record.args(), slog::b!()));
        }
    }

    fn flush(&self) {}
}

fn level(level: ::log::Level) -> Level {
    match level {
        ::log::Level::Error => Level::Error,
        ::log::Level::Warn => Level::Warning,
        ::log::Level::Info => Level::Info,
        ::log::Level::Debug => Level::Debug,
        ::log::Level::Trace => Level::Trace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn lines(&self) -> Vec<serde_json::Value> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }
    }

    fn logging_to(written: &Written, filter: &str) -> (Logger, AsyncGuard) {
        let (channel, guard) = channel(json(written.clone()));
        (Logger::root(Filter::parse(filter).unwrap().before(channel).ignore_res(), o!("program" => "test")), guard)
    }

    #[test]
    fn a_record_is_a_line_of_json_and_is_written_before_the_guard_goes() {
        let written = Written::default();
        let (logger, guard) = logging_to(&written, "info");
        slog::warn!(logger, "it is \"late\"\n"; "lag_seconds" => 3);
        slog::debug!(logger, "not wanted");
        drop(guard);
        let lines = written.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let wanted = [("level", "warn"), ("msg", "it is \"late\"\n"), ("program", "test"), ("module", module_path!())];
        for (key, value) in wanted {
            assert_eq!(lines[0][key], value);
        }
        assert_eq!(lines[0]["lag_seconds"], 3);
    }

    #[test]
    fn logging_after_the_guard_has_gone_harms_nobody() {
        let (logger, guard) = logging_to(&Written::default(), "info");
        drop(guard);
        slog::info!(logger, "too late");
    }

    #[test]
    fn what_libraries_log_passes_the_same_filter() {
        let written = Written::default();
        let (logger, guard) = logging_to(&written, "trace");
        let libraries = Libraries { logger, filter: Filter::parse("off,actix_server=info").unwrap() };
        for (module, level) in [
            ("actix_server::worker", ::log::Level::Info),
            ("actix_server", ::log::Level::Debug),
            ("hyper", ::log::Level::Error),
        ] {
            let record = ::log::Record::builder()
                .level(level)
                .module_path_static(Some(module))
                .args(format_args!("said"))
                .build();
            ::log::Log::log(&libraries, &record);
        }
        drop(libraries);
        drop(guard);
        let lines = written.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!((&lines[0]["module"], &lines[0]["level"]), (&"actix_server::worker".into(), &"info".into()));
    }

    #[test]
    fn what_overflows_is_counted_and_said() {
        let written = Written::default();
        let (logger, guard) = {
            // The log's thread is held back by the lock, so that the channel fills.
            let held = Arc::clone(&written.0);
            let _held = held.lock().unwrap();
            let (logger, guard) = logging_to(&written, "info");
            for _ in 0..CHANNEL_RECORDS * 2 {
                slog::info!(logger, "again");
            }
            (logger, guard)
        };
        let reported =
            |written: &Written| written.lines().iter().any(|line| line["msg"].as_str().unwrap().contains("dropped"));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !reported(&written) {
            assert!(std::time::Instant::now() < deadline, "nobody said that records were dropped");
            slog::info!(logger, "now there is room");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        drop(guard);
    }
}
