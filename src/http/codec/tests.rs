//! Requests split at every byte: what is accepted, what is refused, and how much memory is used.

use super::super::{Method, Version};
use super::*;
use crate::clock::SeededEntropy;

/// Small, so that a few lines of input reach each limit.
const LIMITS: HttpLimits =
    HttpLimits { head_bytes_max: 256, fields_max: 6, target_bytes_max: 64, body_bytes_max: 32 };

/// The result of all the input.
#[derive(PartialEq, Eq, Debug)]
struct Run {
    /// A summary of each request: method, path, ?query, @host, and all that differs from the
    /// default.
    requests: Vec<String>,
    end: End,
}

#[derive(PartialEq, Eq, Debug)]
enum End {
    In(Phase),
    Rejected(Reject),
}

const IDLE: End = End::In(Phase::Idle);

fn bad(sentence: &'static str) -> End {
    End::Rejected(Reject::BadRequest(sentence))
}

fn summary(request: &Request) -> String {
    let mut text = format!("{:?} {}", request.method(), request.path());
    if !request.query().is_empty() {
        text += &format!("?{}", request.query());
    }
    text += &format!(" @{}", request.host());
    if request.version() == Version::Http10 {
        text += " 1.0";
    }
    if request.keep_alive() != (request.version() == Version::Http11) {
        text += if request.keep_alive() { " keep-alive" } else { " close" };
    }
    if !request.body().is_empty() {
        text += &format!(" {:?}", String::from_utf8_lossy(request.body()));
    }
    text
}

/// Feeds the pieces one by one, as the event loop does. `Continue` is not recorded: it may depend on
/// the pieces, and has tests of its own.
fn run<'a>(limits: HttpLimits, pieces: impl Iterator<Item = &'a [u8]>) -> Run {
    let mut codec = Codec::new(limits);
    let mut requests = Vec::new();
    for mut piece in pieces {
        loop {
            let before = piece.len();
            match codec.feed(&mut piece) {
                Ok(Fed::Request(request)) => {
                    assert_eq!((codec.phase(), codec.bytes()), (Phase::Idle, 0));
                    assert!(piece.len() < before, "a request without input");
                    requests.push(summary(&request));
                }
                Ok(Fed::Partial | Fed::Continue) => {
                    assert!(piece.is_empty(), "input is left over");
                    break;
                }
                Err(reject) => {
                    assert!(piece.is_empty() && (codec.bytes() == 0 || codec.request().is_some()));
                    assert_eq!(codec.feed(&mut &b"GET"[..]).unwrap_err(), reject);
                    return Run { requests, end: End::Rejected(reject) };
                }
            }
        }
        // The head and the trailers, the index of the fields, the content.
        let max = limits
            .head_bytes_max
            .saturating_mul(2)
            .saturating_add(limits.fields_max.saturating_mul(8))
            .saturating_add(limits.body_bytes_max);
        assert!(codec.bytes() <= max, "{} bytes in use", codec.bytes());
        assert!(codec.phase() != Phase::Idle || codec.bytes() == 0);
    }
    Run { requests, end: End::In(codec.phase()) }
}

/// Checks the input in one piece, byte by byte, and split in two at every byte.
#[track_caller]
fn check(input: impl AsRef<[u8]>, requests: &[&str], end: End) {
    let input = input.as_ref();
    let text = String::from_utf8_lossy(input);
    let whole = run(LIMITS, std::iter::once(input));
    let requests = requests.iter().map(|text| text.to_string()).collect();
    assert_eq!(whole, Run { requests, end }, "{text:?}");
    assert_eq!(run(LIMITS, input.chunks(1)), whole, "{text:?} byte by byte");
    for at in 0..=input.len() {
        let (left, right) = input.split_at(at);
        let split = run(LIMITS, [left, right].into_iter());
        assert_eq!(split, whole, "{text:?} split at {at}");
    }
}

/// The input is one request.
#[track_caller]
fn accept(input: impl AsRef<[u8]>, request: &str) {
    check(input, &[request], IDLE);
}

#[track_caller]
fn refuse(input: impl AsRef<[u8]>, sentence: &'static str) {
    check(input, &[], bad(sentence));
}

/// A GET with these field lines and `Host`.
fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// A POST with these field lines and `Host`, followed by `rest`.
fn post(fields: &str, rest: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{rest}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

#[test]
fn a_plain_request_is_read() {
    accept(get(""), "Get / @a");
    accept(get("Empty:\r\nX:\t a b\t\r\nObs: é\r\n"), "Get / @a");
    accept("get /a?b?c HTTP/1.1\r\nhOST:a:80\r\n\r\n", "Other /a?b?c @a:80");
    accept("M-SEARCH!#$ / HTTP/1.1\r\nHost: a\r\n\r\n", "Other / @a");
    accept("GET / HTTP/1.0\r\n\r\n", "Get / @ 1.0");
    accept("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "Get / @a 1.0");
}

#[test]
fn the_request_is_available_from_the_end_of_its_head_even_after_a_refusal() {
    for (fields, rest, known) in [
        ("Content-Length: 5\r\n", "abc", true),
        ("Content-Length: 99\r\n", "", true),
        ("Transfer-Encoding: chunked\r\n", "x", true),
        ("Transfer-Encoding: gzip\r\n", "", true),
        ("Host: b\r\n", "", false),
    ] {
        let mut codec = Codec::new(LIMITS);
        let _ = codec.feed(&mut post(fields, rest).as_bytes());
        assert_eq!(codec.request().is_some(), known, "{fields:?}");
        assert!(codec.request().is_none_or(|request| request.host() == "a"));
    }
}

#[test]
fn phases_follow_the_bytes() {
    for (input, phase) in [
        ("", Phase::Idle),
        ("\r", Phase::Head),
        ("\r\n", Phase::Head),
        ("G", Phase::Head),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r", Phase::Head),
        ("POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\n", Phase::Body),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", Phase::Body),
    ] {
        check(input, &[], End::In(phase));
    }
    check(get("") + "\r\n", &["Get / @a"], End::In(Phase::Head));
}

#[test]
fn pipelined_requests_are_separated() {
    let three = get("")
        + &post("Content-Length: 3\r\n", "abc")
        + "\r\n"
        + &chunked("2\r\nde\r\n0\r\n\r\n")
        + &get("Connection: close\r\n")
        + "GET /n";
    check(
        three,
        &["Get / @a", "Post / @a \"abc\"", "Post / @a \"de\"", "Get / @a close"],
        End::In(Phase::Head),
    );
}

#[test]
fn input_after_a_request_is_not_consumed() {
    let head = get("Upgrade: websocket\r\nConnection: Upgrade\r\n");
    let bytes = [head.as_bytes(), b"\x81\x85\0\n\r\xff"].concat();
    for at in 0..head.len() {
        let (mut left, mut right) = bytes.split_at(at);
        let mut codec = Codec::new(LIMITS);
        assert!(matches!(codec.feed(&mut left), Ok(Fed::Partial)));
        assert!(matches!(codec.feed(&mut right), Ok(Fed::Request(_))));
        assert_eq!(right, b"\x81\x85\0\n\r\xff");
    }
}

#[test]
fn a_few_empty_lines_before_a_request_are_ignored() {
    accept("\r\n".repeat(4) + &get(""), "Get / @a");
    refuse("\r\n".repeat(5) + &get(""), "Too many empty lines before the request.");
    refuse("\n", "A line feed does not follow a carriage return.");
    refuse("\rG", "A carriage return is not followed by a line feed.");
}

#[test]
fn a_target_has_one_of_three_forms() {
    for (line, request) in [
        ("GET /?", "Get / @a"),
        ("GET /a/../b;c?d=/?%zz", "Get /a/../b;c?d=/?%zz @a"),
        ("GET //b", "Get //b @a"),
        ("GET /{|}^\"<>\\", "Get /{|}^\"<>\\ @a"),
        ("OPTIONS *", "Options * @a"),
        ("OPTIONS /", "Options / @a"),
        ("GET http://b/c?d", "Get /c?d @b"),
        ("GET HTTPS://b:1?d", "Get /?d @b:1"),
        ("OPTIONS http://[::1]", "Options / @[::1]"),
    ] {
        accept(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"), request);
    }
}

#[test]
fn other_targets_are_refused() {
    const FORM: &str = "The request target is neither a path nor an http URI.";
    const AUTHORITY: &str = "The request target's authority is not a host and port.";
    const CONNECT: &str = "CONNECT is for proxies, and this server is not one.";
    for (line, sentence) in [
        ("GET *", FORM),
        ("OPTIONS **", FORM),
        ("GET a", FORM),
        ("GET a:80", FORM),
        ("GET ?a", FORM),
        ("GET ftp://a/", FORM),
        ("GET http:/a", FORM),
        ("GET http:///a", AUTHORITY),
        ("GET http://", AUTHORITY),
        ("GET http://u:p@a/", AUTHORITY),
        ("GET http://a:b/", AUTHORITY),
        ("CONNECT a:80", CONNECT),
        ("CONNECT /", CONNECT),
        ("GET /#a", "The request target has a fragment."),
        ("GET #", "The request target has a fragment."),
        ("GET /é", "The request target is not ASCII."),
    ] {
        refuse(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"), sentence);
    }
    // RFC 9112 §3.2.2: a request with an absolute target still needs Host.
    refuse("GET http://a/ HTTP/1.1\r\n\r\n", "The Host field is missing.");
}

#[test]
fn a_request_line_is_three_words_with_single_spaces() {
    const SPACES: &str = "The request line is not separated by single spaces.";
    const VERSION: &str = "The version is not one of HTTP/1.0 to HTTP/1.9.";
    const METHOD: &str = "The method is not a token.";
    const CONTROL: &str = "A line contains a control character.";
    for (line, sentence) in [
        ("GET  / HTTP/1.1", SPACES),
        ("GET /  HTTP/1.1", SPACES),
        ("GET / HTTP/1.1 ", SPACES),
        ("GET / a HTTP/1.1", SPACES),
        ("GET\t/ HTTP/1.1", SPACES),
        ("GET /\tHTTP/1.1", SPACES),
        ("GET / HTTP/1.1\t", SPACES),
        ("GET /\x0bHTTP/1.1", CONTROL),
        ("GET\0 / HTTP/1.1", CONTROL),
        ("\x16\x03\x01", CONTROL),
        (" GET / HTTP/1.1", SPACES),
        (" / HTTP/1.1", METHOD),
        ("G(T / HTTP/1.1", METHOD),
        ("G:T / HTTP/1.1", METHOD),
        ("GÉT / HTTP/1.1", METHOD),
        ("GET", "The request line has no target."),
        ("GET /", "The request line has no HTTP version."),
        ("GET ", "The request line has no HTTP version."),
        ("GET / ", VERSION),
        ("GET / http/1.1", VERSION),
        ("GET / HTTP/0.9", VERSION),
        ("GET / HTTP/1.x", VERSION),
        ("GET / HTTP/1.21", VERSION),
        ("GET / HTTP/1.:", VERSION),
        ("GET / HTTP/1.2HTTP/1.2", VERSION),
        ("GET / xHTTP/1.2", VERSION),
        ("GET / http/1.2", VERSION),
        ("GET / HTTP/2.0", VERSION),
        ("GET / HTTP/1", VERSION),
        ("GET / HTTP/1.", VERSION),
        ("GET / HTTP/1.10", VERSION),
        ("GET / HTTP/01.1", VERSION),
        ("GET / H", VERSION),
        ("PRI * HTTP/2.0", VERSION),
    ] {
        refuse(format!("{line}\r\nHost: a\r\n\r\n"), sentence);
    }
}

/// Regression: HTTP/1.2 was refused.
#[test]
fn a_higher_minor_version_is_answered_as_1_1() {
    for minor in 2..=9 {
        let head = |line, fields| format!("{line} HTTP/1.{minor}\r\n{fields}\r\n");
        accept(head("GET /?HTTP/1.2", "Host: a\r\n"), "Get /?HTTP/1.2 @a");
        accept(head("\r\nGET /HTTP/1.3", "Host: HTTP\r\n"), "Get /HTTP/1.3 @HTTP");
        refuse(head("GET /", ""), "The Host field is missing.");
    }
    let chunked =
        "POST / HTTP/1.2\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    accept(chunked, "Post / @a \"x\"");
}

#[test]
fn lines_end_in_crlf_and_nothing_else() {
    const BARE_LF: &str = "A line feed does not follow a carriage return.";
    const BARE_CR: &str = "A carriage return is not followed by a line feed.";
    refuse("GET / HTTP/1.1\nHost: a\r\n\r\n", BARE_LF);
    refuse("GET / HTTP/1.1\r\nHost: a\n\r\n", BARE_LF);
    refuse("GET / HTTP/1.1\r\nHost: a\r\n\n", BARE_LF);
    refuse("GET /\n", BARE_LF);
    refuse("GET\n", BARE_LF);
    refuse(get("A: b\nC: d\r\n"), BARE_LF);
    refuse("GET / HTTP/1.1\rHost: a\r\n\r\n", BARE_CR);
    refuse(get("A: b\rC: d\r\n"), BARE_CR);
    refuse(get("A: b\r\r\n"), BARE_CR);
    refuse(get("\rA: b\r\n"), BARE_CR);
    refuse(get("A\r: b\r\n"), BARE_CR);
}

#[test]
fn fields_are_a_token_a_colon_and_text() {
    const NAME: &str = "A field name is not a token with a colon right after it.";
    const CONTROL: &str = "A line contains a control character.";
    const FOLDED: &str = "A field is folded over several lines.";
    for (line, sentence) in [
        ("A : b", NAME),
        ("A\t: b", NAME),
        (": b", NAME),
        ("A", NAME),
        ("A b: c", NAME),
        ("A(: b", NAME),
        ("É: b", NAME),
        ("A: b\r\n c", FOLDED),
        ("A: b\r\n\tc", FOLDED),
        (" A: b", FOLDED),
        ("A: \0", CONTROL),
        ("A: b\x0bc", CONTROL),
        ("A: \x7f", CONTROL),
        ("A\x01: b", CONTROL),
        ("A: b\x1b[0m", CONTROL),
    ] {
        refuse(get(&format!("{line}\r\n")), sentence);
    }
    refuse("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "The first field line begins with white space.");
    refuse("GET / HTTP/1.1\r\n\r\n", "The Host field is missing.");
}

#[test]
fn host_is_present_once_and_well_formed() {
    const REPEATED: &str = "There is more than one Host field.";
    const MALFORMED: &str = "The Host field is not a host and port.";
    accept("GET / HTTP/1.1\r\nHost:\r\n\r\n", "Get / @");
    accept("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "Get / @[::1]:80");
    refuse(get("Host: a\r\n"), REPEATED);
    refuse(get("HOST:\r\n"), REPEATED);
    refuse("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", REPEATED);
    for host in ["u@a", "a/b", "a b", "a, b", "a:b", ":80", "http://a", "é", "[a", "a?"] {
        for version in ["1.0", "1.1"] {
            refuse(format!("GET / HTTP/{version}\r\nHost: {host}\r\n\r\n"), MALFORMED);
        }
    }
}

#[test]
fn persistence_depends_on_version_and_options() {
    accept(get("Connection: keep-alive\r\n"), "Get / @a");
    accept(get("Connection: x, Close\r\n"), "Get / @a close");
    accept(get("Connection: keep-alive\r\nConnection: close\r\n"), "Get / @a close");
    accept(get("Connection: closed\r\n"), "Get / @a");
    let http10 = |value| format!("GET / HTTP/1.0\r\nConnection: {value}\r\n\r\n");
    accept(http10("Keep-Alive"), "Get / @ 1.0 keep-alive");
    accept(http10("keep-alive, close"), "Get / @ 1.0");
    accept(http10("upgrade"), "Get / @ 1.0");
}

#[test]
fn a_length_is_one_decimal_number() {
    const DIGITS: &str = "Content-Length is not a decimal number.";
    const REPEATED: &str = "There is more than one Content-Length field.";
    accept(post("Content-Length: 3\r\n", "abc"), "Post / @a \"abc\"");
    accept(post("content-length:\t003 \r\n", "abc"), "Post / @a \"abc\"");
    accept(post("Content-Length: 0\r\n", ""), "Post / @a");
    accept(post("", ""), "Post / @a");
    accept("GET / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", "Get / @ 1.0 \"x\"");
    check(post("Content-Length: 3\r\n", "ab"), &[], End::In(Phase::Body));
    for value in ["5, 5", "5,", "+5", "-5", "5.0", "0x5", "5 5", "5;", "five", "5é", "'5'"] {
        refuse(post(&format!("Content-Length: {value}\r\n"), "abcde"), DIGITS);
    }
    refuse(post("Content-Length: \r\n", ""), "Content-Length is empty.");
    refuse(post("Content-Length: 5\r\nContent-Length: 5\r\n", "abcde"), REPEATED);
    refuse(post("Content-Length: 5\r\ncontent-length: 6\r\n", "abcdef"), REPEATED);
    refuse(
        post("Content-Length: 18446744073709551616\r\n", ""),
        "Content-Length is too large for a 64-bit number.",
    );
    check(
        post("Content-Length: 18446744073709551615\r\n", ""),
        &[],
        End::Rejected(Reject::BodyTooLarge),
    );
}

#[test]
fn the_only_transfer_coding_is_chunked_once() {
    const CODING: &str = "The transfer codings are no list that ends in its only \"chunked\".";
    accept(post("transfer-encoding: CHUNKED \r\n", "0\r\n\r\n"), "Post / @a");
    accept(get("TE: gzip, trailers\r\nTransfer_Encoding: x\r\n"), "Get / @a");
    // RFC 9112 §6.1: 501 for a coding that is not known, if the request has an end.
    for value in [
        "gzip, chunked",
        "GZIP;level=9 ,\tChunked",
        "x , y;a=b, chunked",
        "identity,chunked",
        "deflate\r\nTransfer-Encoding: chunked",
    ] {
        let request = post(&format!("Transfer-Encoding: {value}\r\n"), "0\r\n\r\n");
        check(request, &[], End::Rejected(Reject::UnknownCoding));
    }
    for value in [
        "chunked, chunked",
        "chunked, gzip, chunked",
        "chunked, identity",
        "gzip",
        "gzip, , chunked",
        "gzip, chunked,",
        "gz(ip, chunked",
        "gzip;a=\", chunked\"",
        "gzip, chunked;q=1",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: gzip",
        "chunked\r\nTransfer-Encoding:",
        "identity",
        "xchunked",
        "chunked,",
        ", chunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunk ed",
        "",
    ] {
        refuse(post(&format!("Transfer-Encoding: {value}\r\n"), "0\r\n\r\n"), CODING);
    }
    refuse(
        post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
        "A line contains a control character.",
    );
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ] {
        let sentence = "The request has both Content-Length and Transfer-Encoding.";
        refuse(post(fields, "0\r\n\r\n"), sentence);
    }
    refuse(
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 has no Transfer-Encoding.",
    );
}

#[test]
fn chunks_are_joined() {
    for (body, content) in [
        ("3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("1\r\na\r\n02\r\nbc\r\n0\r\n\r\n", "abc"),
        ("A\r\n0123456789\r\na\r\n0123456789\r\n000\r\n\r\n", "01234567890123456789"),
        ("4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n"),
        ("0000000000000001\r\na\r\n0\r\n\r\n", "a"),
        ("1;\r\na\r\n0;x\r\n\r\n", "a"),
        ("1 \t; a = \"b;c\"; é\r\na\r\n0\r\n\r\n", "a"),
        ("1\r\na\r\n0\r\nTrailer: x\r\nContent-Length: 9\r\n\r\n", "a"),
    ] {
        accept(chunked(body), &format!("Post / @a {content:?}"));
    }
}

#[test]
fn malformed_chunks_are_refused() {
    const SIZE: &str = "A chunk size is not a hexadecimal number.";
    const MISSING: &str = "A chunk size is missing.";
    const SPACE: &str = "White space after a chunk size is not followed by an extension.";
    const LINE: &str = "A chunk line does not end in CRLF.";
    const DATA: &str = "A chunk's data is not followed by CRLF.";
    const EXTENSION: &str = "A chunk extension contains a control character.";
    for (body, sentence) in [
        ("\r\n", MISSING),
        (";a\r\n", MISSING),
        (" 1\r\na", MISSING),
        ("+1\r\na", SIZE),
        ("-1\r\na", SIZE),
        ("0x1\r\na", SIZE),
        ("1g\r\na", SIZE),
        ("1_0\r\na", SIZE),
        ("1 \r\na", SPACE),
        ("1 1\r\na", SPACE),
        ("1\n", LINE),
        ("1\ra", LINE),
        ("1;a\n", LINE),
        ("1;a\ra", LINE),
        ("1;\0\r\na", EXTENSION),
        ("00000000000000001\r\na", "A chunk size has too many digits."),
        ("fffffffffffffffff\r\na", "A chunk size has too many digits."),
        ("1\r\nab\r\n", DATA),
        ("1\r\na\n", DATA),
        ("1\r\na\r\r\n", DATA),
        ("1\r\na0\r\n\r\n", DATA),
        ("0\r\n\n", "A line feed does not follow a carriage return."),
        ("0\r\nA: b\n\r\n", "A line feed does not follow a carriage return."),
        ("0\r\n\rX", "A carriage return is not followed by a line feed."),
        ("0\r\nA : b\r\n\r\n", "A field name is not a token with a colon right after it."),
        ("0\r\nA\r\n\r\n", "A field name is not a token with a colon right after it."),
        ("0\r\n A: b\r\n\r\n", "The first field line begins with white space."),
        ("0\r\nA: b\r\n c\r\n\r\n", "A field is folded over several lines."),
        ("0\r\nA: \0\r\n\r\n", "A line contains a control character."),
    ] {
        refuse(chunked(body), sentence);
    }
}

#[test]
fn a_request_at_a_limit_is_accepted_and_one_beyond_it_is_refused() {
    let target = |bytes: usize| {
        let path = format!("/{}", "a".repeat(bytes - 1));
        (format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"), format!("Get {path} @a"))
    };
    let (head, request) = target(64);
    accept(head, &request);
    check(target(65).0, &[], End::Rejected(Reject::TargetTooLong));

    let filled = |bytes: usize| {
        let rest = get("A: \r\n").len();
        get(&format!("A: {}\r\n", "b".repeat(bytes - rest)))
    };
    assert_eq!(filled(256).len(), 256);
    accept(filled(256), "Get / @a");
    check(filled(257), &[], End::Rejected(Reject::HeadersTooLarge));

    accept(get(&"A: b\r\n".repeat(5)), "Get / @a");
    check(get(&"A: b\r\n".repeat(6)), &[], End::Rejected(Reject::HeadersTooLarge));

    let content = "x".repeat(32);
    let request = format!("Post / @a {content:?}");
    accept(post("Content-Length: 32\r\n", &content), &request);
    check(post("Content-Length: 33\r\n", ""), &[], End::Rejected(Reject::BodyTooLarge));
    accept(chunked(&format!("20\r\n{content}\r\n0\r\n\r\n")), &request);
    accept(chunked(&("1\r\nx\r\n".repeat(32) + "0\r\n\r\n")), &request);
    for body in ["21\r\n", "20;a\r\n01234567890123456789012345678901\r\n1\r\n"] {
        check(chunked(body), &[], End::Rejected(Reject::BodyTooLarge));
    }
    let largest = chunked("ffffffffffffffff\r\n");
    check(largest, &[], End::Rejected(Reject::BodyTooLarge));

    accept(chunked(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(6))), "Post / @a");
    for trailers in ["A: b\r\n".repeat(7), format!("A: {}\r\n", "b".repeat(256))] {
        let body = format!("0\r\n{trailers}\r\n");
        check(chunked(&body), &[], End::Rejected(Reject::HeadersTooLarge));
    }
}

#[test]
fn limits_apply_before_a_line_is_complete() {
    let endless = |start: &str| format!("{start}{}", "a".repeat(300));
    check(endless("GET /"), &[], End::Rejected(Reject::TargetTooLong));
    check(endless("GET / HTTP/1.1\r\nA: "), &[], End::Rejected(Reject::HeadersTooLarge));
    check(endless(""), &[], End::Rejected(Reject::HeadersTooLarge));
    check(endless("GET / "), &[], End::Rejected(Reject::HeadersTooLarge));
    // The target's limit is reached first.
    check(endless(&endless("GET /")), &[], End::Rejected(Reject::TargetTooLong));
}

#[test]
fn the_limit_on_extensions_is_for_the_whole_body() {
    let body = |bytes: usize| {
        let half = "x".repeat(2047);
        format!("1;{half}\r\na\r\n1;{}\r\nb\r\n0\r\n\r\n", &half[..bytes - 2049])
    };
    let whole = |text: String| run(LIMITS, std::iter::once(text.as_bytes()));
    assert_eq!(whole(chunked(&body(4096))).requests, ["Post / @a \"ab\""]);
    let too_long = bad("The chunk extensions are too long.");
    assert_eq!(whole(chunked(&body(4096).replace("0\r\n", "0;\r\n"))).end, too_long);
    assert_eq!(whole(chunked(&format!("1{}", " ".repeat(4097)))).end, too_long);
}

#[test]
fn a_peer_that_waits_gets_one_continue() {
    for (fields, body) in [
        ("Expect: 100-continue\r\nContent-Length: 3\r\n", "abc"),
        ("Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ] {
        let head = post(fields, "");
        for at in 0..head.len() {
            let (mut left, mut right) = head.as_bytes().split_at(at);
            let mut codec = Codec::new(LIMITS);
            assert!(matches!(codec.feed(&mut left), Ok(Fed::Partial)));
            assert!(matches!(codec.feed(&mut right), Ok(Fed::Continue)));
            assert_eq!(codec.phase(), Phase::Body);
            assert!(matches!(codec.feed(&mut &b""[..]), Ok(Fed::Partial)));
            let Ok(Fed::Request(request)) = codec.feed(&mut body.as_bytes()) else {
                panic!("no request after {at}");
            };
            assert_eq!((request.method(), request.body()), (Method::Post, &b"abc"[..]));
        }
    }
}

#[test]
fn a_peer_that_does_not_wait_gets_no_continue() {
    let expect = "Expect: 100-continue\r\n";
    for (input, is_whole) in [
        // A part of the content has arrived already.
        (post(&format!("{expect}Content-Length: 3\r\n"), "a"), false),
        (post(&format!("{expect}Transfer-Encoding: chunked\r\n"), "3"), false),
        // There is no content.
        (post(expect, ""), true),
        (post(&format!("{expect}Content-Length: 0\r\n"), ""), true),
        // The expectation is another one.
        (post("Expect: 200-ok\r\nContent-Length: 1\r\n", ""), false),
        // RFC 9110 §10.1.1: HTTP/1.0 has no interim responses.
        (format!("POST / HTTP/1.0\r\n{expect}Content-Length: 1\r\n\r\n"), false),
    ] {
        match Codec::new(LIMITS).feed(&mut input.as_bytes()) {
            Ok(Fed::Request(_)) => assert!(is_whole, "{input:?}"),
            Ok(Fed::Partial) => assert!(!is_whole, "{input:?}"),
            other => panic!("{input:?}: {other:?}"),
        }
    }
    // Content that is too large is refused at once.
    check(
        post(&format!("{expect}Content-Length: 33\r\n"), ""),
        &[],
        End::Rejected(Reject::BodyTooLarge),
    );
}

#[test]
fn nothing_is_reserved_for_declared_bytes() {
    let limits = HttpLimits { body_bytes_max: usize::MAX, ..LIMITS };
    for head in [post("Content-Length: 999999999\r\n", "a"), chunked("3b9ac9ff\r\na")] {
        let mut codec = Codec::new(limits);
        assert!(matches!(codec.feed(&mut head.as_bytes()), Ok(Fed::Partial)));
        assert!(codec.bytes() < 512, "{} bytes in use", codec.bytes());
    }
}

#[test]
fn limits_beyond_the_ceilings_are_lowered() {
    let limits = HttpLimits { head_bytes_max: usize::MAX, fields_max: usize::MAX, ..LIMITS };
    let end = |input: String| run(limits, input.as_bytes().chunks(4096)).end;
    let filled =
        |bytes: usize| get(&format!("A: {}\r\n", "b".repeat(bytes - get("A: \r\n").len())));
    assert_eq!(end(filled(65535)), IDLE);
    assert_eq!(end(filled(65536)), End::Rejected(Reject::HeadersTooLarge));
    assert_eq!(end(get(&"A: b\r\n".repeat(127))), IDLE);
    assert_eq!(end(get(&"A: b\r\n".repeat(128))), End::Rejected(Reject::HeadersTooLarge));
}

/// Feeds mutated requests. `run` asserts the limits on memory; the result must not depend on how
/// the input is split.
#[test]
fn mutated_requests_never_panic_and_stay_within_the_limits() {
    let seeds = [
        get("Connection: x, close\r\n"),
        post("Content-Length: 3\r\n", "abc") + &get(""),
        chunked("3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nA: b\r\n\r\n") + &get("A: b\r\n"),
        "\r\nGET http://b/c?d HTTP/1.0\r\nHost: [::1]:80\r\n\r\n".to_owned(),
    ];
    let tricky = b"\r\n\r\n \t:;,0f+-#/*\0\x0b\x7f\x80\xff";
    let mut entropy = SeededEntropy::new(1);
    let mut below = |bound: usize| (entropy.next_u64() % bound.max(1) as u64) as usize;
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut input = seeds[below(seeds.len())].clone().into_bytes();
        for _ in 0..1 + below(3) {
            let at = below(input.len());
            match below(4) {
                0 => input[at] = tricky[below(tricky.len())],
                1 => input.insert(at, tricky[below(tricky.len())]),
                2 => drop(input.remove(at)),
                _ => {
                    let piece = input[at..input.len().min(at + 1 + below(20))].to_vec();
                    let to = below(input.len());
                    input.splice(to..to, piece);
                }
            }
        }
        let whole = run(LIMITS, std::iter::once(&input[..]));
        let pieces = run(LIMITS, input.chunks(1 + below(9)));
        assert_eq!(pieces, whole, "{:?}", String::from_utf8_lossy(&input));
        accepted += whole.requests.len();
    }
    assert!(accepted > 1000, "too few mutated requests are valid: {accepted}");
}
