//! Addresses of machines, as texts.

use std::{borrow::Cow, net::IpAddr};

/// This machine itself: what goes there passes nobody. An IPv6 address may stand in brackets.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// As a host stands before a port.
pub(crate) fn bracketed(host: &str) -> Cow<'_, str> {
    if host.contains(':') { format!("[{host}]").into() } else { host.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_this_machine() {
        for host in ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "h", "localhost.example", "128.0.0.1", "::2", "[::1", "0.0.0.0", "127.1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
