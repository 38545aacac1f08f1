//! Random credentials and their hashes. What is stored is the hash; what is compared is the hash.

use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

/// 256 random bits of the operating system's, in hex.
///
/// # Panics
/// When the operating system has no randomness to give: nothing safe can be done then.
pub fn random_token() -> String {
    let mut bytes = [0_u8; 32];
    OsRng.try_fill_bytes(&mut bytes).expect("the operating system gives random bytes");
    hex::encode(bytes)
}

/// SHA-256. Tokens have 256 random bits, so no salt and no slow hash is needed.
pub fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}
