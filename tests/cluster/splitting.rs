//! The balancer of the tests: where a request and an answer end, whatever the pieces in which they come.

use crate::balancer::{Answer, Answering, RequestHead};

/// Splits `input` into requests, fed as two parts that are cut at every byte.
#[track_caller]
fn check(input: &str, expected: &[&str]) {
    for cut in 0..=input.len() {
        let (first, second) = input.as_bytes().split_at(cut);
        let (mut received, mut requests) = (Vec::new(), Vec::new());
        let mut current: Option<(RequestHead, Vec<u8>)> = None;
        for part in [first, second] {
            received.extend_from_slice(part);
            loop {
                if let Some((head, bytes)) = &mut current {
                    let content = head.content.as_mut().expect("it can be split");
                    let count = content.take(&received);
                    bytes.extend(received.drain(..count));
                    if !content.has_ended() {
                        break;
                    }
                    requests.push(String::from_utf8(bytes.clone()).unwrap());
                    current = None;
                }
                let Some(head) = RequestHead::split(&mut received) else { break };
                let bytes = head.bytes.clone();
                current = Some((head, bytes));
            }
        }
        assert_eq!(requests, expected, "cut at {cut}");
    }
}

#[test]
fn requests_are_split_by_their_length_and_by_their_chunks() {
    let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let long = "POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n\r\n\r\n";
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
        2;a=b\r\n\r\n\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nx: y\r\n\r\n";
    let empty = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let all = [plain, long, chunked, empty, plain];
    check(&all.concat(), &all);
}

#[test]
fn a_request_with_two_lengths_is_not_split() {
    let bytes = b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(RequestHead::split(&mut bytes.to_vec()).unwrap().content.is_none());
}

/// Feeds an answer, followed by a byte that is not part of it, in two parts cut at every byte.
#[track_caller]
fn check_answer(is_to_head: bool, input: &str, expected: Answer) {
    let bytes = format!("{input}x");
    for cut in 0..=input.len() {
        let mut answer = Answering::new(is_to_head);
        let (used, state) = answer.take(&bytes.as_bytes()[..cut]);
        assert_eq!(used, cut);
        if cut == input.len() {
            assert_eq!(state, expected);
            continue;
        }
        assert_eq!(state, Answer::Unfinished, "cut at {cut}");
        let (used, state) = answer.take(&bytes.as_bytes()[cut..]);
        assert_eq!((used, state), (input.len() - cut, expected));
    }
}

#[test]
fn an_answer_ends_with_its_content() {
    let goes_on = Answer::Done { closes: false };
    check_answer(false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", goes_on);
    check_answer(true, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", goes_on);
    check_answer(false, "HTTP/1.1 204 No Content\r\n\r\n", goes_on);
    let closes = Answer::Done { closes: true };
    let chunked = "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
        1\r\na\r\n0\r\n\r\n";
    check_answer(false, chunked, closes);
    let upgraded = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n";
    check_answer(false, upgraded, Answer::Upgraded);
    let after_interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\n\
        Content-Length: 0\r\n\r\n";
    check_answer(false, after_interim, goes_on);
}
