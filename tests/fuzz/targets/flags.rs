//! Flags and environment variables: a value means the same in both. The server takes it exactly,
//! and only within its range. The error for any other value is one line.
//!
//! Owns a second parser of durations and sizes. Must not use `config::value`.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use disposable_chat::config::{Config, FLAGS, Flag, FlagKind, Listen, Task};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The input as a command line with one argument per line.
    let lines = data.split(|byte| *byte == b'\n');
    let args = lines.map(|line| OsString::from_vec(line.to_vec()));
    let typed = parse(args, |_| None);
    if let (Ok(Task::Serve(config)), true) = (typed, data.len() < 4096) {
        check(&config);
    }

    // The input as one value. Its first byte selects the flag.
    let Some((&first, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let flag = &FLAGS[usize::from(first) % FLAGS.len()];
    one_value(flag, text);
});

fn parse(
    args: impl Iterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Task, String> {
    let parsed = Config::parse(args, env).map_err(|error| error.to_string());
    if let Err(error) = &parsed {
        assert!(
            !error.is_empty() && !error.chars().any(char::is_control),
            "the error is not one line: {error:?}"
        );
    }
    parsed
}

fn one_value(flag: &Flag, text: &str) {
    let args = [flag.option().into(), text.into()];
    let by_flag = parse(args.into_iter(), |_| None);
    let joined = [format!("{}={text}", flag.option()).into()];
    assert_eq!(parse(joined.into_iter(), |_| None).is_ok(), by_flag.is_ok());
    // The variable of a list is split at commas, and its items are trimmed.
    let is_item = !flag.kind.is_list() || !text.contains(',') && text.trim() == text;
    if !text.is_empty() && is_item {
        let env = |name: &str| (name == flag.variable()).then(|| text.into());
        let by_variable = parse(std::iter::empty(), env);
        assert_eq!(by_variable.as_ref().ok(), by_flag.as_ref().ok());
    }
    let config = match by_flag {
        Ok(Task::Serve(config)) => Some(config),
        Ok(_) => panic!("a value is taken for a command"),
        Err(_) => None,
    };
    if let Some(config) = &config {
        check(config);
    }
    let mut expected = Config::default();
    let taken = match &flag.kind {
        FlagKind::Time(range, set) => exact(text, TIMES, false)
            .filter(|nanos| (range.start().as_nanos()..=range.end().as_nanos()).contains(nanos))
            .map(|nanos| set(&mut expected, Duration::from_nanos(nanos as u64))),
        FlagKind::Size(range, set) => exact(text, SIZES, true)
            .and_then(|bytes| usize::try_from(bytes).ok().filter(|bytes| range.contains(bytes)))
            .map(|bytes| set(&mut expected, bytes)),
        FlagKind::Count(range, set) => exact(text, &[("", 1)], false)
            .and_then(|count| u32::try_from(count).ok().filter(|count| range.contains(count)))
            .map(|count| set(&mut expected, count)),
        FlagKind::File(set) => match text {
            "none" => Some(set(&mut expected, None)),
            _ => (!text.is_empty()).then(|| set(&mut expected, Some(text.into()))),
        },
        FlagKind::Word(set) => is_word(text).then(|| set(&mut expected, text.to_owned())),
        FlagKind::Listen
        | FlagKind::MetricsListen
        | FlagKind::AdminListen
        | FlagKind::Proxies
        | FlagKind::Origins
        | FlagKind::Store
        | FlagKind::Level => return,
    };
    let taken = taken.filter(|()| expected.cluster_lease > expected.cluster_timeout);
    match config {
        Some(config) => assert_eq!((config, taken), (expected, Some(()))),
        // The server refuses numbers of about 40 digits, even if most of them are zeros.
        None => assert!(taken.is_none() || text.len() > 25, "refused"),
    }
}

fn is_word(text: &str) -> bool {
    let is_part =
        |byte: &u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b':');
    (1..=32).contains(&text.len()) && text.as_bytes().iter().all(is_part)
}

const TIMES: &[(&str, u128)] = &[
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("", 1_000_000_000),
];
const SIZES: &[(&str, u128)] = &[("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("", 1)];

/// The product of a decimal number and its unit. `None` if the text is no such product, or if the
/// product is not a whole number or beyond every range.
fn exact(text: &str, units: &[(&str, u128)], any_case: bool) -> Option<u128> {
    let lower = if any_case { text.to_ascii_lowercase() } else { text.to_owned() };
    let is_number = |number: &str| number.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    let (number, unit) = units.iter().find_map(|(suffix, unit)| {
        let number = lower.strip_suffix(suffix)?;
        is_number(number).then_some((number, *unit))
    })?;
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some(_) if unit == 1 => return None,
        Some(parts) => parts,
        None => (number, ""),
    };
    if whole.is_empty() || fraction.contains('.') {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let product = digits.checked_mul(unit)?;
    (product % scale == 0).then(|| product / scale)
}

/// Properties of every configuration.
fn check(config: &Config) {
    assert!(config.metrics_listen.len() < 4096);
    for listen in config.listeners() {
        assert_eq!(listen.to_string().parse::<Listen>().as_ref(), Ok(listen));
    }
    for cidr in &config.trusted_proxies {
        // An IPv4-mapped address counts as the IPv4 address, which no range of IPv6 contains.
        let is_mapped = cidr.address.to_canonical() != cidr.address;
        assert!(is_mapped || cidr.contains(cidr.address));
        let text = format!("{}/{}", cidr.address, cidr.prefix);
        assert_eq!(text.parse().as_ref(), Ok(cidr));
    }
    for origin in &config.cors_origins {
        assert!(origin == "null" || origin.contains("://") && origin.is_ascii());
    }
    let times = [config.session_ttl, config.room_ttl, config.header_timeout, config.ping_interval];
    assert!(times.iter().all(|time| *time >= Duration::from_millis(1)));
    assert!(config.outbox_bytes_max >= 64 << 10);
}
