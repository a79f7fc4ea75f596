//! Parsing one value of a flag or variable.
//!
//! Owns the forms of values. Must not know which flag a value belongs to, nor look up a host name.
//! The invariant: a parser accepts a value exactly or refuses it; it never rounds, wraps or trims.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;

use super::error::ValueError;

/// An address to accept connections on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    /// Port 0 picks a free port.
    Tcp(SocketAddr),
    /// The same, with TLS.
    #[cfg(feature = "tls")]
    Tls(SocketAddr),
    /// Both loopback addresses, where the machine has both, with one port.
    Localhost { port: u16, has_tls: bool },
    /// An absolute path.
    Unix(PathBuf),
    /// Another address, where each connection begins with a PROXY header. Never nested, never TLS.
    Proxied(Box<Listen>),
}

impl Listen {
    /// Whether connections use TLS.
    pub fn has_tls(&self) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Listen::Tls(_) => true,
            Listen::Localhost { has_tls, .. } => *has_tls,
            Listen::Tcp(_) | Listen::Unix(_) | Listen::Proxied(_) => false,
        }
    }

    /// Whether only this machine reaches the address, and its peers are known to be local.
    pub fn is_local(&self) -> bool {
        match self {
            Listen::Tcp(address) => address.ip().to_canonical().is_loopback(),
            #[cfg(feature = "tls")]
            Listen::Tls(address) => address.ip().to_canonical().is_loopback(),
            Listen::Localhost { .. } | Listen::Unix(_) => true,
            Listen::Proxied(_) => false,
        }
    }

    /// The most sockets that the address takes.
    pub fn sockets_max(&self) -> usize {
        match self {
            Listen::Localhost { .. } => 2,
            Listen::Proxied(listen) => listen.sockets_max(),
            _ => 1,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => address.fmt(f),
            Listen::Localhost { port, has_tls } => {
                write!(f, "{}localhost:{port}", if *has_tls { "tls:" } else { "" })
            }
            #[cfg(feature = "tls")]
            Listen::Tls(address) => write!(f, "tls:{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
            Listen::Proxied(listen) => write!(f, "proxy:{listen}"),
        }
    }
}

impl FromStr for Listen {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Listen, ValueError> {
        if let Some(behind) = text.strip_prefix("proxy:") {
            if behind.starts_with("tls:") {
                return Err(ValueError::ProxiedTls);
            }
            return match behind.parse()? {
                Listen::Proxied(_) => Err(ADDRESS),
                listen => Ok(Listen::Proxied(Box::new(listen))),
            };
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(Listen::Unix(path.into())),
                false => Err(ADDRESS),
            };
        }
        match text.strip_prefix("tls:") {
            #[cfg(feature = "tls")]
            Some(address) => tcp(address, Listen::Tls, true),
            #[cfg(not(feature = "tls"))]
            Some(_) => Err(ValueError::Feature("tls")),
            None => tcp(text, Listen::Tcp, false),
        }
    }
}

const ADDRESS: ValueError = ValueError::Form(
    "an address (127.0.0.1:8000, localhost:8000, [::1]:8000, unix:/run/chat, proxy:0.0.0.0:8000)",
);

fn tcp(text: &str, listen: fn(SocketAddr) -> Listen, has_tls: bool) -> Result<Listen, ValueError> {
    if let Ok(address) = text.parse() {
        return Ok(listen(address));
    }
    let (host, port_text) = text.rsplit_once(':').ok_or(ADDRESS)?;
    let port = port(port_text).map_err(|_| ADDRESS)?;
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(Listen::Localhost { port, has_tls });
    }
    let name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    let is_name = host.chars().all(name) && host.chars().any(char::is_alphabetic);
    Err(if is_name { ValueError::HostName } else { ADDRESS })
}

/// A range of addresses that begin with the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    /// Any address of the range. IPv4-mapped only if `prefix` is below 96, so that the range also
    /// contains other addresses.
    pub address: IpAddr,
    /// Number of leading bits that all addresses of the range share: at most 32 or 128.
    pub prefix: u8,
}

impl Cidr {
    /// Whether `address` lies in the range. An IPv4-mapped IPv6 address counts as the IPv4 address,
    /// so no IPv6 range contains it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let shared_bits = match (self.address, address.to_canonical()) {
            (IpAddr::V4(one), IpAddr::V4(other)) => {
                (one.to_bits() ^ other.to_bits()).leading_zeros()
            }
            (IpAddr::V6(one), IpAddr::V6(other)) => {
                (one.to_bits() ^ other.to_bits()).leading_zeros()
            }
            _ => return false,
        };
        shared_bits >= u32::from(self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Cidr, ValueError> {
        const FORM: ValueError =
            ValueError::Form("an address or range (127.0.0.1, 10.0.0.0/8, fd00::/8)");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| FORM)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) => count(digits, &(0..=width)).map_err(|error| match error {
                ValueError::Form(_) => FORM,
                _ => ValueError::Range(format!("its prefix: 0 to {width}")),
            })?,
            None => width,
        } as u8;
        // ::ffff:10.0.0.0/104 is 10.0.0.0/8. A prefix shorter than 96 spans more than the mapped
        // addresses and stays IPv6.
        let (address, prefix) = match (address.to_canonical(), prefix.checked_sub(96)) {
            (v4 @ IpAddr::V4(_), Some(prefix)) if address.is_ipv6() => (v4, prefix),
            _ => (address, prefix),
        };
        Ok(Cidr { address, prefix })
    }
}

/// An origin in lower case: `scheme://host[:port]` as a browser serializes it (RFC 6454 §6.2),
/// `null`, which a page opened from a file sends, or `*`.
pub(super) fn origin(text: &str) -> Result<String, ValueError> {
    const FORM: ValueError = ValueError::Form(
        "an origin (https://chat.example, http://localhost:5173, null or *; no path, no final \
         slash, no default port)",
    );
    let origin = text.to_ascii_lowercase();
    if origin == "null" || origin == "*" {
        return Ok(origin);
    }
    let (scheme, rest) = origin.split_once(':').ok_or(FORM)?;
    let authority = rest.strip_prefix("//").ok_or(FORM)?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let (is_host, rest) = match authority.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((v6, rest)) => (v6.parse::<Ipv6Addr>().is_ok(), rest),
        None => {
            let (host, rest) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            (!host.is_empty() && host.chars().all(part), rest)
        }
    };
    let is_port = match (scheme, rest.strip_prefix(':')) {
        (_, None) => rest.is_empty(),
        ("http", Some("80")) | ("https", Some("443")) => false,
        (_, Some(digits)) => port(digits).is_ok(),
    };
    if is_scheme && is_host && is_port { Ok(origin) } else { Err(FORM) }
}

pub(super) fn level(text: &str) -> Result<LevelFilter, ValueError> {
    // Without `trace`: this crate logs nothing at that level.
    let mut levels = LevelFilter::iter().filter(|level| *level != LevelFilter::Trace);
    levels
        .find(|level| level.as_str().to_ascii_lowercase() == text)
        .ok_or(ValueError::Form("a log level (off, error, warn, info, debug)"))
}

/// Units in nanoseconds, largest first. The empty name is that of a number without a unit.
const TIMES: &[(&str, u128)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("", 1_000_000_000),
    ("ms", 1_000_000),
];
/// Units in bytes, largest first. Upper and lower case mean the same.
const SIZES: &[(&str, u128)] = &[("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10), ("", 1)];
/// For a number without a unit.
const ONES: &[(&str, u128)] = &[("", 1)];

pub(super) fn duration(
    text: &str,
    range: &RangeInclusive<Duration>,
) -> Result<Duration, ValueError> {
    let form = ValueError::Form("a duration (90, 90s, 2m, 24h)");
    let nanos = scaled(text, TIMES, |suffix, unit| suffix == unit).ok_or(form)?;
    let range = range.start().as_nanos()..=range.end().as_nanos();
    within(nanos, range, TIMES).map(|nanos| Duration::from_nanos(nanos as u64))
}

pub(super) fn size(text: &str, range: &RangeInclusive<usize>) -> Result<usize, ValueError> {
    let form = ValueError::Form("a size (65536, 64K, 64M, 2G)");
    let bytes = scaled(text, SIZES, str::eq_ignore_ascii_case).ok_or(form)?;
    let range = *range.start() as u128..=*range.end() as u128;
    within(bytes, range, SIZES).map(|bytes| bytes as usize)
}

pub(super) fn port(text: &str) -> Result<u16, ValueError> {
    match count(text, &(0..=65535)) {
        Ok(port) => Ok(port as u16),
        Err(_) => Err(ValueError::Form("a port (0 to 65535)")),
    }
}

/// A path, which need not exist, or `none`.
pub(super) fn file(text: &str) -> Result<Option<PathBuf>, ValueError> {
    match text {
        "" => Err(ValueError::Form("a file's path")),
        "none" => Ok(None),
        path => Ok(Some(path.into())),
    }
}

/// A word that is safe in the name of a key, and in a pattern for such names.
pub(super) fn word(text: &str) -> Result<String, ValueError> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':');
    match (1..=32).contains(&text.len()) && text.chars().all(is_part) {
        true => Ok(text.to_owned()),
        false => Err(ValueError::Form(
            "a name (1 to 32 letters, digits, hyphens, underscores and colons)",
        )),
    }
}

/// A number of digits only; `str::parse` would also take a plus sign.
pub(super) fn count(text: &str, range: &RangeInclusive<u32>) -> Result<u32, ValueError> {
    let number = scaled(text, ONES, str::eq).ok_or(ValueError::Form("a whole number"))?;
    let range = (*range.start()).into()..=(*range.end()).into();
    within(number, range, ONES).map(|number| number as u32)
}

/// A number of digits only, in text that is not the value of a flag.
pub fn whole(text: &str) -> Option<u64> {
    scaled(text, ONES, str::eq).and_then(|number| u64::try_from(number).ok())
}

/// A number times its unit. `None`: the form is wrong, or the product is not a whole number. A
/// product that overflows is `u128::MAX`, which lies in no range.
fn scaled(text: &str, units: &[(&str, u128)], same: fn(&str, &str) -> bool) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (_, unit) = units.iter().find(|(name, _)| same(suffix, name))?;
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some(_) if *unit == 1 => return None,
        Some(parts) => parts,
        None => (number, ""),
    };
    if whole.is_empty() || fraction.contains('.') {
        return None;
    }
    // Only digits are left, so the only possible error is an overflow.
    let digits = format!("{whole}{fraction}").parse().unwrap_or(u128::MAX);
    let tenths = u32::try_from(fraction.len()).ok().and_then(|len| 10u128.checked_pow(len));
    match (digits.checked_mul(*unit), tenths) {
        (Some(product), Some(tenths)) if product % tenths == 0 => Some(product / tenths),
        (Some(_), Some(_)) => None,
        _ => Some(u128::MAX),
    }
}

fn within(
    number: u128,
    range: RangeInclusive<u128>,
    units: &[(&str, u128)],
) -> Result<u128, ValueError> {
    if range.contains(&number) {
        return Ok(number);
    }
    let (min, max) = (shown(*range.start(), units), shown(*range.end(), units));
    Err(ValueError::Range(format!("{min} to {max}")))
}

/// The number with the largest unit that divides it.
fn shown(number: u128, units: &[(&str, u128)]) -> String {
    match units.iter().find(|(_, unit)| number >= *unit && number % unit == 0) {
        Some((name, unit)) => format!("{}{name}", number / unit),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // contract §12.5
    #[test]
    fn listen_addresses_are_parsed_strictly() {
        let check = |text: &str, expected: Result<&str, ValueError>| {
            let listen = text.parse::<Listen>();
            let shown = listen.map(|listen| listen.to_string());
            assert_eq!(shown, expected.map(str::to_owned), "{text:?}");
        };
        check("0.0.0.0:80", Ok("0.0.0.0:80"));
        check("localhost:8000", Ok("localhost:8000"));
        check("LOCALHOST:0", Ok("localhost:0"));
        check("proxy:localhost:0", Ok("proxy:localhost:0"));
        check("[::]:8000", Ok("[::]:8000"));
        check("unix:/run/chat.sock", Ok("unix:/run/chat.sock"));
        check("proxy:[::1]:8000", Ok("proxy:[::1]:8000"));
        check("proxy:unix:/run/chat.sock", Ok("proxy:unix:/run/chat.sock"));
        #[cfg(feature = "tls")]
        check("tls:localhost:443", Ok("tls:localhost:443"));
        #[cfg(feature = "tls")]
        check("tls:chat.example:443", Err(ValueError::HostName));
        #[cfg(not(feature = "tls"))]
        check("tls:localhost:443", Err(ValueError::Feature("tls")));
        check("proxy:tls:[::]:443", Err(ValueError::ProxiedTls));
        for name in ["chat.example:80", "localhost.:80", "bücher:80", "db_1:80"] {
            check(name, Err(ValueError::HostName));
        }
        let wrong = "|unix:|unix:chat.sock|:80|*:80|localhost|localhost:|localhost:65536|1.2.3:80|\
                     127.0.0.1|::1:80:|[::1]|[localhost]:80|http://127.0.0.1:80|127.0.0.1:80 |\
                     proxy:|proxy:chat.sock|proxy:proxy:127.0.0.1:80|unix:proxy:/run/chat";
        for text in wrong.split('|') {
            let error = text.parse::<Listen>().unwrap_err();
            assert!(matches!(error, ValueError::Form(_)), "{text:?}: {error:?}");
        }
    }

    // contract §12.20
    #[test]
    fn a_range_contains_the_addresses_with_its_prefix() {
        let check = |range: &str, inside: &[&str], outside: &[&str]| {
            let cidr: Cidr = range.parse().unwrap();
            for address in inside {
                assert!(cidr.contains(address.parse().unwrap()), "{address} in {range}");
            }
            for address in outside {
                assert!(!cidr.contains(address.parse().unwrap()), "{address} not in {range}");
            }
        };
        check("10.9.9.9/8", &["10.0.0.0", "10.255.255.255", "::ffff:10.1.1.1"], &["11.0.0.0"]);
        check("192.0.2.7", &["192.0.2.7"], &["192.0.2.6", "::c000:207"]);
        check("192.0.2.7/31", &["192.0.2.6", "192.0.2.7"], &["192.0.2.5", "192.0.2.8"]);
        check("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::1"]);
        check("fd00::1/8", &["fd12::5"], &["fe00::", "253.0.0.0"]);
        check("::1", &["::1"], &["::2", "0.0.0.1"]);
        check("::/0", &["::", "ffff::"], &["1.2.3.4", "::ffff:1.2.3.4"]);
        check("::ffff:10.0.0.0/104", &["10.2.3.4", "::ffff:10.2.3.4"], &["11.0.0.0"]);
        check("::ffff:10.0.0.1", &["10.0.0.1"], &["10.0.0.2"]);
        check("::ffff:0.0.0.0/90", &["::fffe:0:0"], &["10.0.0.1"]);
        for text in ["", "x", "10.0.0", "10.0.0.0/8/8", "10.0.0.0/+8", "/8", "[::1]", "::1/1.5"] {
            let error = text.parse::<Cidr>().unwrap_err();
            assert!(matches!(error, ValueError::Form(_)), "{text:?}: {error:?}");
        }
        assert_eq!("::/129".parse::<Cidr>(), Err(ValueError::Range("its prefix: 0 to 128".into())));
    }

    #[test]
    fn origins_have_the_form_that_browsers_send() {
        for (text, stored) in [
            ("null", "null"),
            ("https://chat.example", "https://chat.example"),
            ("http://LOCALHOST:5173", "http://localhost:5173"),
            ("http://[::1]:8000", "http://[::1]:8000"),
            ("https://chat.example:80", "https://chat.example:80"),
            ("moz-extension://0a-1b", "moz-extension://0a-1b"),
        ] {
            assert_eq!(origin(text), Ok(stored.to_owned()));
        }
        let wrong = "|chat.example|://a|1s://a|https://|https://a/|https://a/b|https://a?b|http://a:|\
                     http://a:x|http://a:65536|http://a:80|https://a:443|http://u@a|http://[::1|\
                     http://[a]|http://[::1]x|https://bücher.example|http://a b|https://*.example";
        for text in wrong.split('|') {
            assert!(matches!(origin(text), Err(ValueError::Form(_))), "{text:?}");
        }
    }

    #[test]
    fn a_number_is_multiplied_by_its_unit() {
        let nanos = |text: &str| scaled(text, TIMES, str::eq);
        assert_eq!(nanos("0.5ms"), Some(500_000));
        assert_eq!(nanos("1.5d"), Some(129_600_000_000_000));
        assert_eq!(nanos("0.0000000001s"), None);
        assert_eq!(nanos(&format!("0.{}s", "0".repeat(50))), Some(u128::MAX));
        assert_eq!(nanos(&format!("{}s", "9".repeat(50))), Some(u128::MAX));
        assert_eq!(scaled("0.5k", SIZES, str::eq_ignore_ascii_case), Some(512));
        assert_eq!(scaled("1.0", SIZES, str::eq_ignore_ascii_case), None);
    }
}
