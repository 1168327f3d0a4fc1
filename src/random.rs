//! Numbers that nobody else has and nobody can guess. The standard library keys its hashers with the system's random bytes:
//! no crate is needed for it.

use std::hash::{BuildHasher, Hasher, RandomState};

fn number() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// From 0 to 1.
pub(crate) fn fraction() -> f64 {
    number() as f64 / u64::MAX as f64
}

/// A word of 32 digits.
pub(crate) fn word() -> String {
    format!("{:016x}{:016x}", number(), number())
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_are_alike() {
        let words: std::collections::HashSet<_> = (0..1000).map(|_| super::word()).collect();
        assert!(words.len() == 1000 && words.iter().all(|w| w.len() == 32));
    }
}
