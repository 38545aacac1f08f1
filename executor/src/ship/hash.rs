//! SHA-256 as the protocol writes it, in hex.
//!
//! From the library that TLS brings along anyway: its assembly is as fast in a binary optimised for size as in any other.

use ring::digest::{Context, SHA256, digest};

/// The hash of content that comes piece by piece.
pub struct Hash(Context);

impl Hash {
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    pub fn finish(self) -> String {
        hex::encode(self.0.finish())
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}

/// The hash of what is in memory.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn pieces_and_whole_hash_alike_and_as_others_do() {
        let content: Vec<u8> = (0..1000_u32).flat_map(u32::to_le_bytes).collect();
        let mut hash = Hash::new();
        content.chunks(77).for_each(|piece| hash.update(piece));
        let expected = hex::encode(Sha256::digest(&content));
        assert_eq!(hash.finish(), expected);
        assert_eq!(sha256(&content), expected);
    }
}
