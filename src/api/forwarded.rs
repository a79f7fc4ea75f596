//! The client address of a request, as forwarded by trusted proxies.
//!
//! Owns the reading of `X-Forwarded-For` and `Forwarded` (contract §12.20, §12.27), and the warning
//! about a peer that sends them and is not trusted. Must not know which limits are counted per
//! address. The invariant: only the fields of a trusted proxy are read, so a client cannot make its
//! requests count against another address; and a request that a proxy forwards always counts against
//! some address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use log::warn;

use crate::chat::Address;
use crate::config::Cidr;
use crate::http::{Request, eq_ignore_case, list_members};

/// The address that a request counts against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientAddress {
    /// `None` for a peer that is exempt from limits per address (contract §12.19).
    pub address: Option<Address>,
    /// Whether a trusted proxy forwarded the address. Otherwise it is the peer's own.
    pub is_forwarded: bool,
}

/// The address of all clients that a proxy forwards without naming their address: `unknown`, an
/// obfuscated name, a Unix socket. No client has it.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

const X_FORWARDED_FOR: &str = "X-Forwarded-For";
const FORWARDED: &str = "Forwarded";

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
pub fn client(
    request: &Request,
    peer: Option<IpAddr>,
    trusted: &[Cidr],
    untrusted: &mut UntrustedProxies,
) -> ClientAddress {
    // All lines are one list (RFC 9110 §5.3). Each proxy appends the address of its own peer.
    let [x_lines, lines] = [X_FORWARDED_FOR, FORWARDED].map(|field| {
        let lines: Vec<&[u8]> = request.fields(field).collect();
        if let Some(peer) = peer.filter(|peer| !lines.is_empty() && !is_trusted(*peer, trusted)) {
            untrusted.on_forwarded(peer, field);
        }
        lines
    });
    resolve(&x_lines, &lines, peer, trusted)
}

/// Goes through the list of a trusted peer's lines from its end to the last address that is no
/// trusted proxy. `x_lines`: of `X-Forwarded-For`. `lines`: of `Forwarded`, which count if the others
/// have no entry.
fn resolve(
    x_lines: &[&[u8]],
    lines: &[&[u8]],
    peer: Option<IpAddr>,
    trusted: &[Cidr],
) -> ClientAddress {
    let mut forwarded = None;
    if is_proxy(peer, trusted) {
        let x_entries = x_lines.iter().rev().flat_map(|line| list_members(line).rev());
        let entries = lines.iter().rev().flat_map(|line| Unquoted { left: Some(line), at: b',' });
        forwarded = last_untrusted(&mut x_entries.map(parse), trusted)
            .or_else(|| last_untrusted(&mut entries.map(parse_element), trusted));
    }
    match forwarded {
        Some(address) => ClientAddress { address: Some(Address::of(address)), is_forwarded: true },
        None => ClientAddress { address: peer.and_then(own_address), is_forwarded: false },
    }
}

/// The first of the addresses that is no trusted proxy, else the last of them. `None` among the
/// addresses is an empty entry, which does not count (RFC 9110 §5.6.1).
fn last_untrusted(
    addresses: &mut dyn Iterator<Item = Option<IpAddr>>,
    trusted: &[Cidr],
) -> Option<IpAddr> {
    let mut found = None;
    for address in addresses.flatten() {
        found = Some(address);
        if !is_trusted(address, trusted) {
            break;
        }
    }
    found
}

fn is_trusted(address: IpAddr, trusted: &[Cidr]) -> bool {
    trusted.iter().any(|range| range.contains(address))
}

/// `None` for loopback: a limit would only lock out the machine's owner.
fn own_address(peer: IpAddr) -> Option<Address> {
    (!peer.to_canonical().is_loopback()).then(|| Address::of(peer))
}

/// The address of a `Forwarded` element, which is the value of its parameter `for` (RFC 7239 §4). It
/// is [`UNKNOWN`] if there is no such parameter.
fn parse_element(element: &[u8]) -> Option<IpAddr> {
    if element.is_empty() {
        return None;
    }
    let mut parameters = Unquoted { left: Some(element), at: b';' };
    let node = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_at_checked(4)?;
        eq_ignore_case(name, b"for=").then_some(value)
    });
    Some(node.and_then(parse).unwrap_or(UNKNOWN))
}

/// The address that an entry names, if any, else [`UNKNOWN`]. `None`: the entry is empty. Quotes are
/// ignored, and so are brackets, the port that some proxies append, and the zone of a link-local
/// address.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    if entry.is_empty() {
        return None;
    }
    let quoted = entry.strip_prefix(b"\"").and_then(|entry| entry.strip_suffix(b"\""));
    let text = std::str::from_utf8(quoted.unwrap_or(entry)).unwrap_or_default();
    let (host, is_bracketed) = match text.strip_prefix('[') {
        Some(rest) => (rest.strip_suffix(']').unwrap_or_default(), true),
        None => (text, false),
    };
    let (host, is_zoned) = match host.split_once('%') {
        Some((host, _)) => (host, true),
        None => (host, false),
    };
    let address = host.parse::<IpAddr>().ok();
    let address = address.filter(|ip| ip.is_ipv6() || !(is_bracketed || is_zoned));
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    Some(address.or_else(with_port).unwrap_or(UNKNOWN))
}

/// The parts of a text between the bytes `at` that are outside quoted strings (RFC 9110 §5.6.4), from
/// the last to the first, without surrounding white space.
///
/// The text is read from its end, because only its end is from a trusted proxy. A quote that a client
/// leaves open at the front does not hide the proxy's entry.
struct Unquoted<'a> {
    left: Option<&'a [u8]>,
    at: u8,
}

impl<'a> Iterator for Unquoted<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.left.take()?;
        let mut is_quoted = false;
        for (place, byte) in text.iter().enumerate().rev() {
            if *byte == b'"' {
                let escapes = text[..place].iter().rev().take_while(|byte| **byte == b'\\');
                is_quoted ^= !is_quoted || escapes.count() % 2 == 0;
            } else if *byte == self.at && !is_quoted {
                self.left = Some(&text[..place]);
                return Some(text[place + 1..].trim_ascii());
            }
        }
        Some(text.trim_ascii())
    }
}

/// The peers that forward addresses without being trusted, each of which is warned of once.
#[derive(Default)]
pub struct UntrustedProxies {
    warned: Vec<IpAddr>,
}

/// Bound on the warnings, because any client can send the fields of a proxy. Loopback, where a proxy
/// that is not trusted switches off all limits per address, always has its warning.
const WARNINGS_MAX: usize = 16;

impl UntrustedProxies {
    /// A peer that is not trusted has sent `what`, in which proxies forward addresses.
    pub fn on_forwarded(&mut self, peer: IpAddr, what: &str) {
        let peer = peer.to_canonical();
        let is_loopback = peer.is_loopback();
        let is_known = |one: &IpAddr| *one == peer || (is_loopback && one.is_loopback());
        if self.warned.iter().any(is_known) || (self.warned.len() >= WARNINGS_MAX && !is_loopback) {
            return;
        }
        self.warned.push(peer);
        let effect = match is_loopback {
            true => "no limit per address applies to its clients",
            false => "its clients count as one address",
        };
        warn!(
            "{peer} sends {what} and is no trusted proxy, so {effect}; \
             if it is your proxy, add --trusted-proxy {peer}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// `peer` is an address, or `unix` for a Unix socket. `expected` is the address, `?` for the
    /// unknown one, or `-` for an exempt peer; a star after it means that it was forwarded.
    #[track_caller]
    fn check_both(peer: &str, x_lines: &[&str], lines: &[&str], expected: &str) {
        let trusted = ["10.0.0.0/8", "::1/128", "fd00::/8"].map(|range| range.parse().unwrap());
        let [x_lines, lines] = [x_lines, lines]
            .map(|lines| lines.iter().map(|line| line.as_bytes()).collect::<Vec<_>>());
        let found = resolve(&x_lines, &lines, (peer != "unix").then(|| ip(peer)), &trusted);
        let (address, is_forwarded) = match expected.strip_suffix('*') {
            Some(address) => (address, true),
            None => (expected, false),
        };
        let address = match address {
            "-" => None,
            "?" => Some(Address::of(UNKNOWN)),
            address => Some(Address::of(ip(address))),
        };
        assert_eq!(found, ClientAddress { address, is_forwarded }, "{peer} {x_lines:?} {lines:?}");
    }

    #[track_caller]
    fn check(peer: &str, x_lines: &[&str], expected: &str) {
        check_both(peer, x_lines, &[], expected);
    }

    // contract §12.19 §12.20
    #[test]
    fn only_trusted_proxies_forward_an_address() {
        check("192.0.2.1", &[], "192.0.2.1");
        check("192.0.2.1", &["198.51.100.7"], "192.0.2.1");
        check_both("192.0.2.1", &[], &["for=198.51.100.7"], "192.0.2.1");
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
    fn entries_may_have_ports_quotes_and_zones() {
        let four = ["1.2.3.4", "1.2.3.4:5", "::ffff:1.2.3.4", "[::ffff:1.2.3.4]:5", "\"1.2.3.4\""];
        for entry in four {
            check("unix", &[entry], "1.2.3.4*");
        }
        for entry in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:5", "\"[2001:db8::1]:5\""] {
            check("unix", &[entry], "2001:db8::*");
        }
        for entry in ["fe80::1%eth0", "[fe80::1%25eth0]", "\"fe80::1%eth0\""] {
            check("unix", &[entry], "fe80::*");
        }
    }

    // contract §12.27
    #[test]
    fn an_entry_that_is_no_address_is_the_unknown_address() {
        let odd = ["unknown", "_hidden", "unix:", "1.2.3", "1.2.3.4:", "[1.2.3.4]", "\"\"", "é"];
        for entry in odd.into_iter().chain(["1.2.3.4:99999", "1.2.3.4%eth0", "1.2.3.4\""]) {
            check("10.0.0.1", &["198.51.100.7", entry], "?*");
            check("10.0.0.1", &["198.51.100.7", entry, "10.0.0.2"], "?*");
            check("unix", &["198.51.100.7", entry], "?*");
        }
        check("10.0.0.1", &[], "10.0.0.1");
        check("unix", &["", ", ,"], "-");
    }

    // contract §12.26
    #[test]
    fn forwarded_counts_where_the_other_field_has_no_entry() {
        let check = |lines: &[&str], expected| check_both("10.0.0.1", &[], lines, expected);
        check(&["for=192.0.2.43"], "192.0.2.43*");
        check(
            &["proto=https; FOR=\"[2001:db8:cafe::17]:4711\";by=203.0.113.43"],
            "2001:db8:cafe::*",
        );
        check(&["for=203.0.113.9, for=192.0.2.43", "for=10.0.0.7;proto=http"], "192.0.2.43*");
        check(&["for=203.0.113.9, for=unknown"], "?*");
        check(&["for=203.0.113.9, for=\"_gazonk\""], "?*");
        check(&["proto=https"], "?*");
        check(&["for="], "?*");
        check(&["", " , "], "10.0.0.1");
        let both = |x_lines: &[&str], expected| {
            check_both("10.0.0.1", x_lines, &["for=203.0.113.9"], expected);
        };
        both(&["192.0.2.43"], "192.0.2.43*");
        both(&["unknown"], "?*");
        both(&[" "], "203.0.113.9*");
    }

    // A client chose the address of its requests, by a `Host` that its proxy repeated in quotes.
    #[test]
    fn what_is_quoted_in_forwarded_separates_nothing() {
        let check = |line: &str| check_both("10.0.0.1", &[], &[line], "192.0.2.43*");
        check("for=192.0.2.43;host=\"a,for=6.6.6.6\"");
        check("for=192.0.2.43;host=\"a;for=6.6.6.6\"");
        check("host=\"a\\\",for=6.6.6.6;b\";for=192.0.2.43");
        check("host=\"a\\\\\";for=192.0.2.43");
        check("for=\"6.6.6.6, for=192.0.2.43");
        check("for=6.6.6.6;host=\"\\, for=\"192.0.2.43\"");
    }

    // contract §12.28
    #[test]
    fn each_untrusted_proxy_is_warned_of_once_and_loopback_always() {
        let mut untrusted = UntrustedProxies::default();
        let mut warnings = |peer: &str| {
            let before = untrusted.warned.len();
            untrusted.on_forwarded(ip(peer), FORWARDED);
            untrusted.warned.len() - before
        };
        assert_eq!([warnings("192.0.2.1"), warnings("192.0.2.1")], [1, 0]);
        for last in 2..=100 {
            let is_warned = usize::from(last <= WARNINGS_MAX);
            assert_eq!(warnings(&format!("192.0.2.{last}")), is_warned, "{last}");
        }
        assert_eq!([warnings("::1"), warnings("127.0.0.9"), warnings("::1")], [1, 0, 0]);
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
