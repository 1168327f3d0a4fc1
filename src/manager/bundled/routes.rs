//! Networks that a machine has already.

use std::net::Ipv4Addr;

/// Whether none of the networks `used` has an address in `net` with a mask of `bits`. A default route is no network.
pub(super) fn is_free(net: Ipv4Addr, bits: u32, used: &[(u32, u32)]) -> bool {
    let (net, mask) = (u32::from(net), !(u32::MAX >> bits));
    used.iter().all(|(n, m)| *m == 0 || (n & m & mask) != (net & m & mask))
}

/// Networks and masks of `/proc/net/route`.
pub(super) fn used(routes: &str) -> Vec<(u32, u32)> {
    let number = |hex: Option<&&str>| u32::from_str_radix(hex?, 16).ok().map(u32::swap_bytes);
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        Some((number(fields.get(1))?, number(fields.get(7))?))
    };
    routes.lines().skip(1).filter_map(line).collect()
}
