//! What a program says of its configuration when it starts.

use super::read::Slip;
use slog::{Logger, info, warn};
use std::collections::BTreeMap;

pub struct Summary {
    /// As they may be shown.
    pub(super) values: BTreeMap<&'static str, String>,
    pub(super) slips: Vec<Slip>,
}

impl Summary {
    pub fn log(&self, log: &Logger, version: &str) {
        info!(log, "starting"; "version" => version, "configuration" => slog::Serde(self.values.clone()));
        if !self.slips.is_empty() {
            let names: Vec<&str> = self.slips.iter().map(|slip| slip.name.as_str()).collect();
            warn!(log, "variables are not read, but have nearly the names of some that are"; "names" => names.join(", "));
        }
    }
}
