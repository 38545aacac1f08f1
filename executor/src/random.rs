//! Randomness, from the operating system.

use std::io;

/// The session token: 256 random bits of the operating system's, in hex.
pub fn session_token() -> io::Result<String> {
    let mut bits = [0_u8; 32];
    fill(&mut bits)?;
    Ok(hex::encode(bits))
}

/// Seed for the jitter of retries, so that executors that lost the API together don't come back together.
pub fn jitter_seed() -> u64 {
    let mut bits = [0_u8; 8];
    // Without random bits the pid still tells executors of one machine apart.
    fill(&mut bits).map_or_else(|_| u64::from(std::process::id()), |()| u64::from_ne_bytes(bits))
}

fn fill(bits: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bits.len() {
        filled += rustix::rand::getrandom(&mut bits[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_session_token_is_256_bits_and_never_the_same() {
        let (a, b) = (super::session_token().unwrap(), super::session_token().unwrap());
        assert_eq!(a.len(), 64);
        assert_ne!(a, b);
    }
}
