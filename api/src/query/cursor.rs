//! Opaque keyset cursors: where a listing goes on.
//!
//! A cursor names the last row that was given and carries a checksum over the tenant, the listing, its filters and that row. One that was altered,
//! cut, or taken to another listing, other filters or another tenant is refused. The checksum is no secret and needs none: whoever computed one could only
//! place a cursor within a listing that is already narrowed to the own tenant.

use crate::problem::{Kind, Problem};
use sha2::{Digest, Sha256};

const CHECK_BYTES: usize = 8;
/// A workflow's name is the longest position.
const MAX_POSITION_BYTES: usize = 64;

/// The listing that a cursor belongs to.
#[derive(Clone, Debug)]
pub struct Listing(Sha256);

impl Listing {
    pub fn new(name: &str, tenant: &str, filters: &[&str]) -> Self {
        let mut digest = Sha256::new();
        for part in ["roadstead cursor 1", name, tenant].iter().chain(filters) {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self(digest)
    }

    pub fn cursor(&self, position: &[u8]) -> String {
        hex::encode([position, &self.check(position)].concat())
    }

    pub fn position(&self, cursor: &str) -> Result<Vec<u8>, Problem> {
        let refused =
            || Problem::new(Kind::InvalidCursor, "the cursor was not given by this listing with these filters");
        if cursor.len() > 2 * (MAX_POSITION_BYTES + CHECK_BYTES) {
            return Err(refused());
        }
        let bytes = hex::decode(cursor).map_err(|_| refused())?;
        let (position, _) = bytes.split_at_checked(bytes.len().saturating_sub(CHECK_BYTES)).ok_or_else(refused)?;
        // Compared as text: another spelling of the same bytes is an altered cursor too.
        if self.cursor(position) == cursor { Ok(position.to_vec()) } else { Err(refused()) }
    }

    fn check(&self, position: &[u8]) -> [u8; CHECK_BYTES] {
        let digest = self.0.clone().chain_update(position).finalize();
        std::array::from_fn(|n| digest[n])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(tenant: &str, filters: &[&str]) -> Listing {
        Listing::new("executions", tenant, filters)
    }

    #[test]
    fn a_cursor_leads_back_to_its_position() {
        let executions = listing("acme", &["failed", ""]);
        for position in [&b""[..], b"word-count", &[0xff; 16]] {
            assert_eq!(executions.position(&executions.cursor(position)).unwrap(), position);
        }
    }

    #[test]
    fn a_cursor_that_was_tampered_with_is_refused() {
        let executions = listing("acme", &[]);
        let cursor = executions.cursor(&[7; 16]);
        for at in 0..cursor.len() {
            for other in ["0", "1", "f", "A", "-", "é"] {
                let mut altered = cursor.clone();
                altered.replace_range(at..=at, other);
                assert_eq!(executions.position(&altered).is_ok(), altered == cursor, "{altered}");
            }
            assert!(executions.position(&cursor[..at]).is_err());
        }
        assert!(executions.position(&cursor.to_uppercase()).is_err() || cursor == cursor.to_uppercase());
        assert!(executions.position(&"0".repeat(100_000)).is_err());
    }

    #[test]
    fn a_cursor_of_another_listing_is_refused() {
        let cursor = listing("acme", &["a", "b"]).cursor(&[7; 16]);
        for other in [listing("acme", &["ab", ""]), listing("acme", &[]), listing("other", &["a", "b"])] {
            assert!(other.position(&cursor).is_err());
        }
        assert!(Listing::new("workflows", "acme", &["a", "b"]).position(&cursor).is_err());
    }
}
