//! Free TCP ports on loopback.
//!
//! They are taken from below the range that the kernel gives to outgoing connections: a part that is started again needs its
//! port back, and nobody's connection must have it by then.

use super::error::DevError;
use std::net::{Ipv4Addr, TcpListener};

const FIRST: u16 = 10_240;
/// Below every common `ip_local_port_range`.
const LAST: u16 = 32_000;
const MAX_TRIES: usize = 500;

pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A free port that is none of `taken`, and now is.
pub fn free(taken: &mut Vec<u16>) -> Result<u16, DevError> {
    for _ in 0..MAX_TRIES {
        let port = rand::random_range(FIRST..=LAST);
        if !taken.contains(&port) && is_free(port) {
            taken.push(port);
            return Ok(port);
        }
    }
    Err(DevError::NoPort)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once_and_is_free() {
        let mut taken = Vec::new();
        let ports: Vec<u16> = (0..20).map(|_| free(&mut taken).unwrap()).collect();
        let distinct: std::collections::HashSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), ports.len());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }
}
