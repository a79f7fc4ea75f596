//! The answers of a listener for metrics.

use super::*;
use crate::api::metrics::{Metrics, answer};
use crate::counters::Counters;

fn ask(w: &World, line: &str, body: &str, counters: &Counters) -> Result<Response, Error> {
    let memory = [("connections", 10), ("rooms", 32)];
    let metrics = Metrics {
        started: w.now.wall,
        counters,
        chat: &w.chat,
        timers: 5,
        memory: &memory,
        memory_max: Some(1000),
        resident: Some(5000),
        #[cfg(feature = "cluster")]
        store: Some(crate::counters::StoreCounters { gaps: 3, is_up: true, ..Default::default() }),
    };
    let fields = "Content-Type: application/json\r\n";
    answer(&request_to("127.0.0.1:9100", line, fields, body), &metrics)
}

#[test]
fn a_listener_for_metrics_serves_only_metrics() {
    let w = World::new();
    let counters = Counters::default();
    for line in ["GET /metrics", "HEAD /metrics", "GET /metrics/?x", "GET /%6Detrics"] {
        let response = ask(&w, line, "", &counters).unwrap();
        assert_eq!(response.status, 200, "{line}");
        let form = "text/plain; version=0.0.4; charset=utf-8";
        assert_eq!(field(&response, "Content-Type"), Some(form));
    }
    for (line, code) in [
        ("GET /", Code::NotFound),
        ("GET /ping", Code::NotFound),
        ("POST /sessions", Code::NotFound),
        ("POST /metrics", Code::MethodNotAllowed),
        ("OPTIONS /metrics", Code::MethodNotAllowed),
    ] {
        let error = ask(&w, line, "", &counters).unwrap_err();
        assert_eq!(error.code, code, "{line}");
        let allow = (code == Code::MethodNotAllowed).then_some("GET, HEAD");
        assert_eq!(field(&error.response(), "Allow"), allow);
    }
    assert_eq!(ask(&w, "GET /metrics", "x", &counters).unwrap_err().code, Code::BadBody);
}

#[test]
fn the_text_is_in_the_exposition_format() {
    let mut w = World::new();
    let ana = w.session("ana");
    w.room(&ana);
    let mut counters =
        Counters { connections: 5, websockets: 2, received: 7, ..Counters::default() };
    counters.on_refused(Code::RateLimited.index());
    counters.on_closed(4409);
    counters.on_outbox_change(0, 300);
    counters.on_outbox_change(300, 100);
    for micros in [20, 600, 700, 3_000_000] {
        counters.ticks.observe(Duration::from_micros(micros));
    }
    let text = text(&ask(&w, "GET /metrics", "", &counters).unwrap());
    for line in [
        concat!("chat_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "process_start_time_seconds 1755611100.123456",
        "chat_connections{protocol=\"http\"} 3",
        "chat_connections{protocol=\"websocket\"} 2",
        "chat_sessions 1",
        "chat_rooms 1",
        "chat_members 1",
        "chat_messages_received_total 7",
        "chat_outbox_bytes 100",
        "chat_outbox_bytes_max 300",
        "chat_refused_total{code=\"rate_limited\"} 1",
        "chat_refused_total{code=\"bad_nonce\"} 0",
        "chat_closed_total{code=\"4409\"} 1",
        "chat_memory_account_bytes{account=\"rooms\"} 32",
        "chat_memory_bytes 42",
        "chat_memory_max_bytes 1000",
        "chat_memory_resident_bytes 5000",
        "chat_timers 5",
        "# TYPE chat_tick_duration_seconds histogram",
        "chat_tick_duration_seconds_bucket{le=\"0.000025\"} 1",
        "chat_tick_duration_seconds_bucket{le=\"0.001\"} 3",
        "chat_tick_duration_seconds_bucket{le=\"1\"} 3",
        "chat_tick_duration_seconds_bucket{le=\"+Inf\"} 4",
        "chat_tick_duration_seconds_sum 3.00132",
        "chat_tick_duration_seconds_count 4",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
    check_form(&text);
}

/// Each family has its two comment lines followed by its own samples, and occurs once.
fn check_form(text: &str) {
    let mut families = Vec::new();
    let mut kind = "";
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(!families.contains(&name) && help.ends_with('.'), "{line}");
            families.push(name);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').unwrap();
            assert_eq!(families.last(), Some(&name), "{line}");
            assert_eq!(of == "counter", name.ends_with("_total"), "{line}");
            kind = of;
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let name = name.split('{').next().unwrap();
            let family = families.last().unwrap();
            let suffix = name.strip_prefix(family).unwrap();
            assert!(suffix.is_empty() == (kind != "histogram"), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(text.ends_with('\n'));
}

#[cfg(feature = "cluster")]
#[test]
fn a_node_of_a_cluster_tells_about_its_store() {
    let (w, counters) = (World::new(), Counters::default());
    let response = ask(&w, "GET /metrics", "", &counters).unwrap();
    let text = String::from_utf8(response.text).unwrap();
    for line in ["chat_store_up 1", "chat_store_gaps_total 3", "chat_store_reply_seconds_count 0"] {
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }
}
