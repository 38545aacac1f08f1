//! The names of all keys. The scripts are given the prefix and make stream names in the same way: `{prefix}:q:<tenant>:<rank>`.

use super::Stream;

/// One installation's keys: one hash tag, so that a cluster keeps them in one slot.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: format!("{{{prefix}}}:") }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn bell(&self) -> String {
        format!("{}bell", self.prefix)
    }

    pub(super) fn relay_bell(&self) -> String {
        format!("{}relay", self.prefix)
    }

    pub(super) fn epoch(&self) -> String {
        format!("{}epoch", self.prefix)
    }

    pub(super) fn overflow(&self) -> String {
        format!("{}overflow", self.prefix)
    }

    pub(super) fn member(stream: &Stream) -> String {
        format!("{}:{}", stream.tenant, stream.priority.rank())
    }

    pub(super) fn stream_of_member(&self, member: &str) -> String {
        format!("{}q:{member}", self.prefix)
    }
}
