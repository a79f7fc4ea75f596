//! Where a cluster's store is: the value of `--cluster`.
//!
//! Owns the forms of a URL, and of what may be shown of one. Must not read the file that may hold the
//! URL, nor look up a host name. The invariant: neither an error nor `Debug` shows a password.
//!
//! | form | |
//! |---|---|
//! | `redis://[user:password@]ADDRESS[,ADDRESS…][/database]` | candidates for one primary, in this order |
//! | `rediss://…?ca=/path` | the same with TLS; the file has the certificate authority, in PEM |
//! | `unix:/path[?db=0&user=…&pass=…]` | a Unix socket |
//! | `@/path` | a file whose first line is one of these |
//!
//! An address is an IP literal or `localhost`, and perhaps a port. In users, passwords and paths of
//! URLs, `%` and two hex digits stand for a byte (RFC 3986 §2.1).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::error::ValueError;
use super::value::{count, port};

/// The port of a store (IANA: `redis`).
const PORT: u16 = 6379;

/// Most addresses in a URL.
const ADDRESSES_MAX: usize = 16;

/// The largest number of a database.
const DATABASE_MAX: u32 = 1_000_000;

/// Where it is said where the store is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreSource {
    /// In the flag.
    Url(StoreUrl),
    /// In the first line of this file, which is read again before every attempt to connect.
    File(PathBuf),
}

/// Where the store is, and how to log in there.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    /// At least one. The first that is a primary is used.
    pub addresses: Vec<StoreAddress>,
    /// `None`: the user `default`.
    pub user: Option<String>,
    /// `None`: no login. A user has a password.
    pub password: Option<String>,
    /// The number of the database.
    pub database: u32,
    /// The certificate authority of a store with TLS; `None`: no TLS.
    pub ca: Option<PathBuf>,
}

/// One candidate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// An absolute path.
    Unix(PathBuf),
}

const FORM: ValueError = ValueError::Form(
    "a store (redis://127.0.0.1:6379, redis://user:password@[::1]/0, unix:/run/redis.sock, @/file)",
);

impl FromStr for StoreSource {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<StoreSource, ValueError> {
        match text.strip_prefix('@') {
            Some("") => Err(FORM),
            Some(path) => Ok(StoreSource::File(path.into())),
            None => text.parse().map(StoreSource::Url),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<StoreUrl, ValueError> {
        if let Some(rest) = text.strip_prefix("unix:") {
            return unix(rest);
        }
        if let Some(rest) = text.strip_prefix("redis://") {
            return if rest.contains('?') { Err(FORM) } else { tcp(rest, None) };
        }
        let rest = text.strip_prefix("rediss://").ok_or(FORM)?;
        if !cfg!(feature = "tls") {
            return Err(ValueError::Feature("tls"));
        }
        const CA: ValueError = ValueError::Form(
            "a store with TLS (rediss://127.0.0.1:6379?ca=/path): its certificate authority is needed",
        );
        let (rest, query) = rest.split_once('?').ok_or(CA)?;
        let ca = query.strip_prefix("ca=").filter(|path| path.starts_with('/')).ok_or(CA)?;
        tcp(rest, Some(decoded(ca)?.into()))
    }
}

/// `[user:password@]ADDRESS[,ADDRESS…][/database]`
fn tcp(text: &str, ca: Option<PathBuf>) -> Result<StoreUrl, ValueError> {
    let (authority, path) = text.split_once('/').unwrap_or((text, ""));
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (Some(login), hosts),
        None => (None, authority),
    };
    let mut addresses = Vec::new();
    for host in hosts.split(',') {
        address(host, &mut addresses)?;
    }
    if addresses.len() > ADDRESSES_MAX {
        return Err(ValueError::Form("a store with at most 16 addresses"));
    }
    let (user, password) = match login {
        Some(login) => {
            let (user, password) = login.split_once(':').ok_or(FORM)?;
            (optional(user)?, Some(decoded(password)?))
        }
        None => (None, None),
    };
    Ok(StoreUrl { addresses, user, password, database: database(path)?, ca })
}

/// `/path[?db=0&user=…&pass=…]`
fn unix(text: &str) -> Result<StoreUrl, ValueError> {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    if !path.starts_with('/') {
        return Err(FORM);
    }
    let addresses = vec![StoreAddress::Unix(decoded(path)?.into())];
    let mut url = StoreUrl { addresses, user: None, password: None, database: 0, ca: None };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').ok_or(FORM)? {
            ("db", value) => url.database = database(value)?,
            ("user", value) => url.user = optional(value)?,
            ("pass", value) => url.password = Some(decoded(value)?),
            _ => return Err(FORM),
        }
    }
    if url.user.is_some() && url.password.is_none() { Err(FORM) } else { Ok(url) }
}

/// Appends the addresses that one host means.
fn address(text: &str, addresses: &mut Vec<StoreAddress>) -> Result<(), ValueError> {
    let port = |rest: &str| match rest.strip_prefix(':') {
        Some(digits) => port(digits).ok().filter(|port| *port > 0).ok_or(FORM),
        None if rest.is_empty() => Ok(PORT),
        None => Err(FORM),
    };
    let mut push = |ip: IpAddr, port| addresses.push(StoreAddress::Tcp((ip, port).into()));
    if let Some((v6, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        push(IpAddr::V6(v6.parse().map_err(|_| FORM)?), port(rest)?);
        return Ok(());
    }
    let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
    if host.eq_ignore_ascii_case("localhost") {
        push(Ipv4Addr::LOCALHOST.into(), port(rest)?);
        push(Ipv6Addr::LOCALHOST.into(), port(rest)?);
        return Ok(());
    }
    match host.parse() {
        Ok(v4) => push(IpAddr::V4(v4), port(rest)?),
        Err(_) if host.chars().any(char::is_alphabetic) => return Err(ValueError::HostName),
        Err(_) => return Err(FORM),
    }
    Ok(())
}

fn database(text: &str) -> Result<u32, ValueError> {
    if text.is_empty() { Ok(0) } else { count(text, &(0..=DATABASE_MAX)).map_err(|_| FORM) }
}

fn optional(text: &str) -> Result<Option<String>, ValueError> {
    if text.is_empty() { Ok(None) } else { decoded(text).map(Some) }
}

/// The text that a part of a URL stands for. Nothing in a login may be a control character.
fn decoded(part: &str) -> Result<String, ValueError> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(match byte {
            b'%' => {
                let (digits, behind) = rest.split_at_checked(2).ok_or(FORM)?;
                rest = behind;
                let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(FORM);
                (digit(digits[0])? << 4 | digit(digits[1])?) as u8
            }
            byte => *byte,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| FORM)?;
    if text.chars().any(char::is_control) { Err(FORM) } else { Ok(text) }
}

/// A value of `--cluster`, valid or not, without what may be a user, a password or a query.
pub(super) fn redacted(text: &str) -> String {
    if text.starts_with('@') {
        return text.to_owned();
    }
    let (text, query) = match text.split_once('?') {
        Some((text, _)) => (text, "?…"),
        None => (text, ""),
    };
    // A password that is not encoded may hold slashes and more.
    match text.rsplit_once('@') {
        Some((login, rest)) => {
            let scheme = login.split_once("://").map(|(scheme, _)| scheme);
            let scheme = scheme.filter(|scheme| ["redis", "rediss"].contains(scheme));
            let scheme = scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default();
            format!("{scheme}…@{rest}{query}")
        }
        None => format!("{text}{query}"),
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreAddress::Tcp(address) => address.fmt(f),
            StoreAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Without the login.
impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StoreUrl { addresses, user, password, database, ca } = self;
        let login = (user.is_some() || password.is_some()).then_some("..");
        let mut shown = f.debug_struct("StoreUrl");
        shown.field("addresses", addresses).field("login", &login);
        shown.field("database", database).field("ca", ca).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a value means: addresses, user, password, database, CA.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = match text.parse::<StoreSource>() {
            Ok(StoreSource::Url(url)) => {
                let addresses: Vec<String> =
                    url.addresses.iter().map(|one| one.to_string()).collect();
                let optional = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
                let ca = url.ca.map(|path| path.display().to_string());
                format!(
                    "{} {} {} {} {}",
                    addresses.join(","),
                    optional(url.user),
                    optional(url.password),
                    url.database,
                    optional(ca)
                )
            }
            Ok(StoreSource::File(path)) => format!("file {}", path.display()),
            Err(ValueError::HostName) => "host name".to_owned(),
            Err(ValueError::Feature(name)) => format!("needs {name}"),
            Err(_) => "bad".to_owned(),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn a_url_says_where_the_store_is_and_how_to_log_in() {
        check("redis://127.0.0.1", "127.0.0.1:6379 - - 0 -");
        check("redis://127.0.0.1:7000/", "127.0.0.1:7000 - - 0 -");
        check("redis://[::1]:7000/12", "[::1]:7000 - - 12 -");
        check("redis://Localhost:7000", "127.0.0.1:7000,[::1]:7000 - - 0 -");
        check(
            "redis://10.0.0.1,10.0.0.2:7000,[fd00::1]",
            "10.0.0.1:6379,10.0.0.2:7000,[fd00::1]:6379 - - 0 -",
        );
        check("redis://chat:secret@127.0.0.1", "127.0.0.1:6379 chat secret 0 -");
        check("redis://:secret@127.0.0.1/1", "127.0.0.1:6379 - secret 1 -");
        check("redis://a%3Ab:p%40%2f%25%C3%BC:@127.0.0.1", "127.0.0.1:6379 a:b p@/%ü: 0 -");
        check("unix:/run/redis.sock", "unix:/run/redis.sock - - 0 -");
        check("unix:/run/a%20b?db=3&user=chat&pass=s%26t", "unix:/run/a b chat s&t 3 -");
        check("@/run/store", "file /run/store");
        check("@store", "file store");
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "redis:",
            "redis://",
            "redis:///",
            "http://127.0.0.1",
            "127.0.0.1:6379",
            "@",
            "redis://127.0.0.1:0",
            "redis://127.0.0.1:65536",
            "redis://127.0.0.1:",
            "redis://::1",
            "redis://[::1",
            "redis://[::1]6379",
            "redis://[127.0.0.1]",
            "redis://127.0.0.1,",
            "redis://127.0.0.1/x",
            "redis://127.0.0.1/0/1",
            "redis://127.0.0.1?db=1",
            "redis://127.0.0.1/1000001",
            "redis://chat@127.0.0.1",
            "redis://a:%4@127.0.0.1",
            "redis://a:%zz@127.0.0.1",
            "redis://a:%0a@127.0.0.1",
            "redis://a:%ff@127.0.0.1",
            "redis://a:b@",
            "unix:run",
            "unix:",
            "unix:/a?x=1",
            "unix:/a?db",
            "unix:/a?db=x",
            "unix:/a?user=chat",
            "redis://1.2.3",
        ] {
            check(bad, "bad");
        }
        for name in [
            "redis://store",
            "redis://store.example:6379",
            "redis://127.0.0.1,store",
            "redis://a:b@store",
        ] {
            check(name, "host name");
        }
        let many = |count| format!("redis://{}", vec!["127.0.0.1"; count].join(","));
        assert!(many(16).parse::<StoreUrl>().is_ok() && many(17).parse::<StoreUrl>().is_err());
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_store_with_tls_needs_its_authority() {
        check("rediss://127.0.0.1?ca=/etc/ca%20.pem", "127.0.0.1:6379 - - 0 /etc/ca .pem");
        check("rediss://a:b@[::1]:1/2?ca=/c", "[::1]:1 a b 2 /c");
        for bad in [
            "rediss://127.0.0.1",
            "rediss://127.0.0.1?ca=",
            "rediss://127.0.0.1?ca=c",
            "rediss://127.0.0.1?x=/c",
        ] {
            check(bad, "bad");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_store_with_tls_needs_the_feature() {
        check("rediss://127.0.0.1?ca=/c", "needs tls");
    }

    #[test]
    fn no_login_is_shown() {
        for (text, shown) in [
            ("redis://chat:secret@127.0.0.1/1", "redis://…@127.0.0.1/1"),
            ("redis://:sec/r@et@127.0.0.1", "redis://…@127.0.0.1"),
            ("redis:/chat:secret@127.0.0.1", "…@127.0.0.1"),
            ("secret://x:y@127.0.0.1", "…@127.0.0.1"),
            ("unix:/run/s?user=chat&pass=secret", "unix:/run/s?…"),
            ("redis://127.0.0.1", "redis://127.0.0.1"),
            ("@/run/secret@x", "@/run/secret@x"),
        ] {
            assert_eq!(redacted(text), shown);
        }
        let url: StoreUrl = "redis://chat:secret@127.0.0.1".parse().unwrap();
        let shown = "StoreUrl { addresses: [Tcp(127.0.0.1:6379)], login: Some(\"..\"), database: 0, ca: None }";
        assert_eq!(format!("{url:?}"), shown);
    }
}
