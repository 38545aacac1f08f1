//! `RUST_LOG`: which records are written, by the module that they come from.
//!
//! Stands before the channel to the log's own thread, so that what is not wanted costs next to nothing.

use slog::{Drain, FilterLevel, OwnedKVList, Record};
use std::str::FromStr;

/// Directives as in `info` or `warn,roadstead_backend::store=debug`. The longest module that fits a record decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// For what no module fits.
    base: FilterLevel,
    /// Longest first.
    modules: Vec<(String, FilterLevel)>,
}

impl Filter {
    /// The error says which directive is wrong.
    pub fn parse(directives: &str) -> Result<Self, String> {
        let mut filter = Self { base: FilterLevel::Info, modules: Vec::new() };
        for directive in directives.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            let wrong = || format!("has the directive `{directive}`, which is neither a level nor `module=level`");
            match directive.split_once('=') {
                Some((module, level)) if is_module(module) => {
                    filter.modules.push((module.to_owned(), FilterLevel::from_str(level).map_err(|()| wrong())?));
                }
                Some(_) => return Err(wrong()),
                None => filter.base = FilterLevel::from_str(directive).map_err(|()| wrong())?,
            }
        }
        filter.modules.sort_by_key(|(module, _)| std::cmp::Reverse(module.len()));
        Ok(filter)
    }

    pub(super) fn accepts(&self, module: &str, level: slog::Level) -> bool {
        let fits = |name: &str| module.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        let decisive = self.modules.iter().find(|(name, _)| fits(name)).map_or(self.base, |(_, level)| *level);
        decisive.accepts(level)
    }

    /// A drain that passes on what is accepted.
    pub(super) fn before<D>(self, drain: D) -> Filtered<D> {
        Filtered { filter: self, drain }
    }
}

fn is_module(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

pub struct Filtered<D> {
    filter: Filter,
    drain: D,
}

impl<D: Drain> Drain for Filtered<D> {
    type Ok = Option<D::Ok>;
    type Err = D::Err;

    fn log(&self, record: &Record, values: &OwnedKVList) -> Result<Self::Ok, Self::Err> {
        if self.filter.accepts(record.module(), record.level()) {
            self.drain.log(record, values).map(Some)
        } else {
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slog::Level::{Debug, Error, Info, Trace, Warning};

    #[test]
    fn a_level_alone_is_for_everything() {
        let filter = Filter::parse("warn").unwrap();
        assert!(filter.accepts("anything", Warning) && filter.accepts("anything", Error));
        assert!(!filter.accepts("anything", Info));
        assert_eq!(Filter::parse(""), Filter::parse("info"));
        assert!(!Filter::parse("off").unwrap().accepts("anything", slog::Level::Critical));
    }

    #[test]
    fn the_longest_module_that_fits_decides() {
        let filter = Filter::parse(
            "warn, roadstead_backend=info,roadstead_backend::store=debug,roadstead_backend::store::claim=off",
        )
        .unwrap();
        assert!(filter.accepts("roadstead_backend::store::submit", Debug));
        assert!(!filter.accepts("roadstead_backend::store::submit", Trace));
        assert!(!filter.accepts("roadstead_backend::store::claim", Error));
        assert!(filter.accepts("roadstead_backend::objects", Info));
        assert!(!filter.accepts("roadstead_api", Info));
    }

    #[test]
    fn a_module_ends_at_its_name() {
        let filter = Filter::parse("off,roadstead_backend::store=debug").unwrap();
        assert!(!filter.accepts("roadstead_backend::storefront", Error));
    }

    #[test]
    fn a_wrong_directive_is_named() {
        for wrong in ["loud", "info,a=loud", "a=b=info", "=info", "a=", "a/b", "a[span]=info"] {
            let error = Filter::parse(wrong).unwrap_err();
            assert!(error.contains(wrong.rsplit(',').next().unwrap()), "{error}");
        }
    }
}
