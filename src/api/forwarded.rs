//! The client address of a request, as forwarded by trusted proxies.
//!
//! Owns the reading of `X-Forwarded-For` (contract §12.20). Must not know which limits are counted
//! per address. The invariant: only the field of a trusted proxy is read, so a client cannot make
//! its requests count against another address.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::chat::Address;
use crate::config::Cidr;
use crate::http::{Request, list_members};

/// The address that a request counts against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientAddress {
    /// `None` for a peer that is exempt from limits per address (contract §12.19).
    pub address: Option<Address>,
    /// Whether a trusted proxy forwarded the address. Otherwise it is the peer's own.
    pub is_forwarded: bool,
}

/// The address that a connection from `peer` (`None`: a Unix socket) counts against once accepted.
/// `None` for exempt peers, and for trusted proxies, whose sockets count at their upgrade against
/// the forwarded address.
pub fn address_at_accept(peer: Option<IpAddr>, trusted: &[Cidr]) -> Option<Address> {
    let peer = peer?;
    if is_trusted(peer, trusted) { None } else { own_address(peer) }
}

/// Whether `peer` is a trusted proxy. A Unix socket (`None`) always is.
pub fn is_proxy(peer: Option<IpAddr>, trusted: &[Cidr]) -> bool {
    peer.is_none_or(|peer| is_trusted(peer, trusted))
}

/// The address that a request from `peer` (`None`: a Unix socket) counts against.
pub fn client(request: &Request, peer: Option<IpAddr>, trusted: &[Cidr]) -> ClientAddress {
    // All lines are one list (RFC 9110 §5.3). Each proxy appends the address of its own peer.
    let lines: Vec<&[u8]> = request.fields("X-Forwarded-For").collect();
    resolve(&lines, peer, trusted)
}

/// Goes through the list from its end to the last address that is not a trusted proxy. An entry
/// that is not an address ends the search, because no entry before it can be trusted.
fn resolve(lines: &[&[u8]], peer: Option<IpAddr>, trusted: &[Cidr]) -> ClientAddress {
    let mut forwarded = None;
    if is_proxy(peer, trusted) {
        let entries = lines.iter().rev().flat_map(|line| list_members(line).rev());
        for entry in entries.filter(|entry| !entry.is_empty()) {
            let Some(address) = parse(entry) else { break };
            forwarded = Some(address);
            if !is_trusted(address, trusted) {
                break;
            }
        }
    }
    match forwarded {
        Some(address) => ClientAddress { address: Some(Address::of(address)), is_forwarded: true },
        None => ClientAddress { address: peer.and_then(own_address), is_forwarded: false },
    }
}

fn is_trusted(address: IpAddr, trusted: &[Cidr]) -> bool {
    trusted.iter().any(|range| range.contains(address))
}

/// `None` for loopback: a limit would only lock out the machine's owner.
fn own_address(peer: IpAddr) -> Option<Address> {
    (!peer.to_canonical().is_loopback()).then(|| Address::of(peer))
}

/// Parses an address, with or without brackets, or with the port that some proxies append.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    let bracketed = text.strip_prefix('[')?.strip_suffix(']')?;
    bracketed.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// `peer` is an address, or `unix` for a Unix socket. `expected` is the address, or `-` for an
    /// exempt peer; a star after it means that it was forwarded.
    #[track_caller]
    fn check(peer: &str, lines: &[&str], expected: &str) {
        let trusted = ["10.0.0.0/8", "::1/128", "fd00::/8"].map(|range| range.parse().unwrap());
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        let found = resolve(&lines, (peer != "unix").then(|| ip(peer)), &trusted);
        let (address, is_forwarded) = match expected.strip_suffix('*') {
            Some(address) => (address, true),
            None => (expected, false),
        };
        let address = (address != "-").then(|| Address::of(ip(address)));
        assert_eq!(found, ClientAddress { address, is_forwarded }, "{peer} {lines:?}");
    }

    // contract §12.19 §12.20
    #[test]
    fn only_trusted_proxies_forward_an_address() {
        check("192.0.2.1", &[], "192.0.2.1");
        check("192.0.2.1", &["198.51.100.7"], "192.0.2.1");
        check("127.0.0.1", &["198.51.100.7"], "-");
        check("::ffff:127.0.0.1", &[], "-");
        check("10.1.2.3", &["198.51.100.7"], "198.51.100.7*");
        check("::ffff:10.1.2.3", &["198.51.100.7"], "198.51.100.7*");
        check("::1", &["198.51.100.7"], "198.51.100.7*");
        check("unix", &["198.51.100.7"], "198.51.100.7*");
        check("unix", &["127.0.0.1"], "127.0.0.1*");
    }

    // contract §12.20
    #[test]
    fn the_last_address_that_is_not_a_trusted_proxy_counts() {
        check("10.0.0.1", &["203.0.113.9, 198.51.100.7"], "198.51.100.7*");
        check("10.0.0.1", &["203.0.113.9, 198.51.100.7 ,10.0.0.2,\t10.0.0.3"], "198.51.100.7*");
        check("10.0.0.1", &["203.0.113.9", "198.51.100.7", "10.0.0.2"], "198.51.100.7*");
        check("10.0.0.1", &["203.0.113.9, 10.0.0.2", ", ,"], "203.0.113.9*");
        check("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3*");
        check("unix", &["fd00::1"], "fd00::1*");
    }

    #[test]
    fn entries_may_carry_ports() {
        for entry in ["1.2.3.4", "1.2.3.4:5", "::ffff:1.2.3.4", "[::ffff:1.2.3.4]:5"] {
            check("unix", &[entry], "1.2.3.4*");
        }
        for entry in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:5", "2001:db8::ffff:1"] {
            check("unix", &[entry], "2001:db8::*");
        }
    }

    #[test]
    fn an_entry_that_is_not_an_address_ends_the_search() {
        for entry in ["unknown", "_hidden", "1.2.3", "1.2.3.4:", "[1.2.3.4]", "1.2.3.4:99999", "é"]
        {
            check("10.0.0.1", &["198.51.100.7", entry], "10.0.0.1");
            check("10.0.0.1", &["198.51.100.7", entry, "10.0.0.2"], "10.0.0.2*");
            check("unix", &["198.51.100.7", entry], "-");
        }
        check("10.0.0.1", &[], "10.0.0.1");
    }

    // contract §12.18 §12.19
    #[test]
    fn connections_count_from_accept_except_those_of_proxies() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let direct = Address::of(ip("192.0.2.1"));
        assert_eq!(address_at_accept(Some(ip("192.0.2.1")), &trusted), Some(direct));
        for peer in ["10.0.0.1", "::ffff:10.0.0.1", "127.0.0.1", "::1"] {
            assert_eq!(address_at_accept(Some(ip(peer)), &trusted), None, "{peer}");
        }
        assert_eq!(address_at_accept(None, &trusted), None);
    }
}
