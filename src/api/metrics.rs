//! Metrics for Prometheus.
//!
//! Owns the answers of a listener for metrics, which serves only `/metrics`. Must not know
//! individual sessions or rooms, only counts. The invariant: the text is in the exposition format
//! 0.0.4, in which each family appears once and its samples are consecutive.

use std::fmt::{self, Display, Write};

use super::admin;
use super::call;
use super::error::{Code, Error};
use super::routes;
use crate::chat::Chat;
use crate::clock::Wall;
#[cfg(feature = "cluster")]
use crate::counters::StoreCounters;
use crate::counters::{CLOSE_CODES, Counters, Histogram};
use crate::http::{Method, Request, Response};

/// The sources of the numbers.
pub struct Metrics<'a> {
    /// When the process began to serve.
    pub started: Wall,
    pub counters: &'a Counters,
    pub chat: &'a Chat,
    /// Armed timers, those of the domain included.
    pub timers: usize,
    /// Bytes kept for clients in each account.
    pub memory: &'a [(&'static str, usize)],
    /// The limit on the sum of `memory` in bytes; `None` if there is none.
    pub memory_max: Option<usize>,
    /// Resident memory of the process in bytes, at most a second old; `None` if it is unknown.
    pub resident: Option<usize>,
    /// `None`: the server is alone.
    #[cfg(feature = "cluster")]
    pub store: Option<StoreCounters>,
}

/// Answers a request on a listener for metrics, or for the metrics on the operator's listener. The
/// answer has no CORS fields: pages must not read metrics.
pub fn answer(request: &Request, metrics: &Metrics<'_>) -> Result<Response, Error> {
    admin::check_sender(request)?;
    if !routes::is_path(request.path(), "/metrics") {
        return Err(Error::new(Code::NotFound, "This listener serves only /metrics."));
    }
    if !matches!(request.method(), Method::Get | Method::Head) {
        let error =
            Error::new(Code::MethodNotAllowed, "Metrics can only be read with GET or HEAD.");
        return Err(error.with("Allow", "GET, HEAD"));
    }
    admin::check_content_type(request)?;
    call::check_ignored_body(request)?;
    let mut response = Response::new(200)
        .with("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        .with("Cache-Control", "no-store");
    response.text = text(metrics).into_bytes();
    Ok(response)
}

fn text(metrics: &Metrics<'_>) -> String {
    let mut out = Exposition(String::with_capacity(8 * 1024));
    process(&mut out, metrics);
    connections(&mut out, metrics.counters);
    traffic(&mut out, metrics);
    ends(&mut out, metrics.counters);
    memory(&mut out, metrics);
    ticks(&mut out, &metrics.counters.ticks);
    #[cfg(feature = "cluster")]
    if let Some(counters) = &metrics.store {
        store(&mut out, counters);
    }
    out.0
}

#[cfg(feature = "cluster")]
fn store(out: &mut Exposition, counters: &StoreCounters) {
    let help = "1 while the cluster's store answers.";
    out.single("chat_store_up", "gauge", help, u8::from(counters.is_up));
    let help = "Calls that the store has not answered yet.";
    out.single("chat_store_calls", "gauge", help, counters.in_flight);
    let help = "Connections that the store has welcomed.";
    out.single("chat_store_connected_total", "counter", help, counters.connected);
    let help = "Times that a reply of the store began to be late.";
    out.single("chat_store_slow_total", "counter", help, counters.slow);
    let help = "Connections that the store has given up.";
    out.single("chat_store_fenced_total", "counter", help, counters.fenced);
    let help = "Times that the store has given up this server.";
    out.single("chat_store_leases_lost_total", "counter", help, counters.leases_lost);
    let help = "Messages that came without the one before them.";
    out.single("chat_store_gaps_total", "counter", help, counters.gaps);
    let help = "Rooms that were brought up to date, after the store was away or after a gap.";
    out.single("chat_store_resyncs_total", "counter", help, counters.resyncs);
    let help = "Rooms that could not be brought up to date.";
    out.single("chat_store_resyncs_failed_total", "counter", help, counters.resyncs_failed);
    out.histogram("chat_store_reply_seconds", "How long replies took.", &counters.latency);
}

fn process(out: &mut Exposition, metrics: &Metrics<'_>) {
    out.family("chat_build_info", "gauge", "1, with what was built.");
    out.sample("chat_build_info", Some(("version", env!("CARGO_PKG_VERSION"))), 1);
    let help = "When the process began to serve, in seconds since the Unix epoch.";
    out.single("process_start_time_seconds", "gauge", help, Seconds(metrics.started.micros()));
    out.single("chat_timers", "gauge", "Timers that are armed.", metrics.timers);
    let help = "Panics caught while handling one connection's input. Each is a bug.";
    out.single("chat_panics_total", "counter", help, metrics.counters.panics);
}

fn connections(out: &mut Exposition, counters: &Counters) {
    out.family("chat_connections", "gauge", "Connections, by what they speak.");
    let http = counters.connections.saturating_sub(counters.websockets);
    for (protocol, count) in [("http", http), ("websocket", counters.websockets)] {
        out.sample("chat_connections", Some(("protocol", protocol)), count);
    }
    out.single(
        "chat_connections_accepted_total",
        "counter",
        "Connections accepted.",
        counters.accepted,
    );
    let help = "Times accepting was paused for lack of descriptors or memory.";
    out.single("chat_accept_pauses_total", "counter", help, counters.accept_pauses);
    out.single("chat_bytes_received_total", "counter", "Bytes read.", counters.bytes_in);
    out.single("chat_bytes_sent_total", "counter", "Bytes written.", counters.bytes_out);
    let help = "Bytes queued for connections, shared ones once for each.";
    out.single("chat_outbox_bytes", "gauge", help, counters.outbox_bytes);
    let help = "The most that chat_outbox_bytes has been.";
    out.single("chat_outbox_bytes_max", "gauge", help, counters.outbox_bytes_max);
}

fn traffic(out: &mut Exposition, metrics: &Metrics<'_>) {
    let (chat, counters) = (metrics.chat, metrics.counters);
    out.single("chat_sessions", "gauge", "Sessions that have not ended.", chat.session_count());
    out.single("chat_rooms", "gauge", "Rooms that have not ended.", chat.room_count());
    let help = "Memberships: sessions that have joined a room, once for each room.";
    out.single("chat_members", "gauge", help, chat.member_count());
    let help = "Requests received, upgrades included.";
    out.single("chat_requests_total", "counter", help, counters.requests);
    let help = "Text messages received over WebSockets.";
    out.single("chat_messages_received_total", "counter", help, counters.received);
    let help = "Batches of frames queued for WebSockets.";
    out.single("chat_deliveries_total", "counter", help, counters.deliveries);
}

fn ends(out: &mut Exposition, counters: &Counters) {
    out.family("chat_refused_total", "counter", "Requests and events refused, by code.");
    for code in Code::ALL {
        let count = counters.refused.0.get(code.index()).copied().unwrap_or_default();
        out.sample("chat_refused_total", Some(("code", code.as_str())), count);
    }
    out.family("chat_closed_total", "counter", "WebSockets closed by the server, by code.");
    for (code, count) in CLOSE_CODES.iter().zip(counters.closed) {
        out.sample("chat_closed_total", Some(("code", &code.to_string())), count);
    }
    let help = "Connections that ended because their outbox was full.";
    out.single("chat_too_slow_total", "counter", help, counters.too_slow);
    let help = "Connections that ended by an error of the network.";
    out.single("chat_broken_total", "counter", help, counters.broken);
}

fn memory(out: &mut Exposition, metrics: &Metrics<'_>) {
    out.family("chat_memory_account_bytes", "gauge", "Bytes kept for clients, by account.");
    for (account, bytes) in metrics.memory {
        out.sample("chat_memory_account_bytes", Some(("account", account)), bytes);
    }
    let total: usize = metrics.memory.iter().map(|(_, bytes)| bytes).sum();
    out.single("chat_memory_bytes", "gauge", "Bytes kept for clients, in total.", total);
    if let Some(max) = metrics.memory_max {
        out.single("chat_memory_max_bytes", "gauge", "The ceiling on chat_memory_bytes.", max);
    }
    if let Some(bytes) = metrics.resident {
        let help = "Resident memory of the process, at most a second old.";
        out.single("chat_memory_resident_bytes", "gauge", help, bytes);
    }
    let help = "Messages forgotten because memory was short.";
    out.single("chat_messages_forgotten_total", "counter", help, metrics.counters.forgotten);
    let help = "Connections closed because memory was short.";
    out.single("chat_shed_total", "counter", help, metrics.counters.shed);
}

fn ticks(out: &mut Exposition, ticks: &Histogram) {
    let help = "How long turns of the loop took, without waiting.";
    out.histogram("chat_tick_duration_seconds", help, ticks);
}

/// Microseconds, displayed as the shortest decimal number of seconds. `f64` is not exact beyond 2⁵³,
/// and formatting it would add std's tables to the binary.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Text in the exposition format. Names, labels and help are literals of this file, so none needs
/// an escape.
struct Exposition(String);

impl Exposition {
    /// Begins a family. Its samples must follow directly.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, label: Option<(&str, &str)>, value: impl Display) {
        match label {
            Some((label, text)) => self.line(format_args!("{name}{{{label}=\"{text}\"}} {value}")),
            None => self.line(format_args!("{name} {value}")),
        }
    }

    /// Appends a family with one sample and no label.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, None, value);
    }

    /// Appends a histogram.
    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        let mut count = 0;
        for (index, in_bucket) in histogram.counts.iter().enumerate() {
            count += in_bucket; // Buckets are cumulative.
            let bound = Histogram::BOUNDS_MICROS.get(index);
            let le = bound.map_or("+Inf".into(), |micros| Seconds(*micros).to_string());
            self.sample(&bucket, Some(("le", &le)), count);
        }
        self.sample(&format!("{name}_sum"), None, Seconds(histogram.sum_micros));
        self.sample(&format!("{name}_count"), None, count);
    }

    fn line(&mut self, line: impl Display) {
        let _ = writeln!(self.0, "{line}"); // Writing to a String cannot fail.
    }
}
