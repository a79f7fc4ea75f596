//! The tests of `tests/wire` that can't run through a balancer, each with the reason. All others must
//! pass through it, on any number of nodes; `tests/wire` checks that each of these names is a test.

/// What a test gets instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One node with a store, and no balancer: the test is about one connection, or one process.
    Node,
    /// The server that it starts in a way of its own, without a store: the test is about what a node
    /// does not have, or has for itself alone.
    Alone,
}

use Scope::{Alone, Node};

/// The reasons, where several tests share one.
const MEMORY: &str = "--max-memory and what is counted and resident are per server";
const STATE: &str = "--state is refused with --cluster: the store is the state";
const LISTENERS: &str = "it gives the server listeners of its own";
const CONNECTIONS: &str = "--max-connections and --address-connections are per server";
const ONE_CONNECTION: &str = "a balancer waits for a whole head, and keeps idle connections itself";
const ONE_PROCESS: &str = "it looks at one process: memory, descriptors, stderr, wake-ups";
const COUNTED: &str = "it waits for the number of connections of one server";
const SIGNALS: &str = "it ends one process by a signal, and looks at its connections";

/// By module (`metrics::`) or by name.
pub const EXCEPTIONS: &[(&str, Scope, &str)] = &[
    ("admin::", Alone, "the admin listener is one server's, and so are announcements' recipients"),
    ("balanced::", Alone, LISTENERS),
    ("ceiling::", Alone, MEMORY),
    (
        "conventions::an_unreadable_head_is_refused_to_any_origin_unless_origins_are_restricted",
        Node,
        ONE_CONNECTION,
    ),
    (
        "conventions::health_counts_sessions_rooms_and_connections",
        Node,
        "connections and uptime are per server",
    ),
    ("conventions::the_origin_is_echoed_on_responses_that_end_the_connection", Node, CONNECTIONS),
    (
        "deleting::a_chat_just_before_the_deletion_is_delivered",
        Node,
        "bob's server may hear of both at once, and then drops the chat, which it has not begun to send",
    ),
    (
        "event_streams::a_forwarded_stream_counts_for_its_address_as_long_as_it_lasts",
        Node,
        CONNECTIONS,
    ),
    (
        "event_streams::a_stream_ends_with_the_reason_and_tells_an_event_source_whether_to_come_back",
        Node,
        SIGNALS,
    ),
    (
        "event_streams::a_stream_that_is_not_read_is_closed_as_a_slow_reader",
        Alone,
        "it reads metrics, which are per server",
    ),
    ("event_streams::a_stream_that_waits_is_refused_when_the_server_ends", Node, SIGNALS),
    (
        "event_streams::a_stream_whose_peer_acknowledges_nothing_is_broken",
        Alone,
        "a balancer acknowledges what its client does not",
    ),
    ("fairness::", Alone, "it measures the ticks of one server by its metrics"),
    ("flags::", Alone, "flags, files and stderr are one process's"),
    (
        "forgetting::",
        Alone,
        "it finds in the memory of one process first what must be gone from there later",
    ),
    ("framing::a_closed_connection_no_longer_counts", Node, COUNTED),
    ("framing::a_connection_that_sends_nothing_is_closed_without_a_response", Node, ONE_CONNECTION),
    ("framing::a_head_that_takes_longer_than_header_timeout_is_408", Node, ONE_CONNECTION),
    (
        "framing::a_peer_that_keeps_sending_after_a_refusal_is_dropped_after_linger_timeout",
        Node,
        ONE_CONNECTION,
    ),
    ("framing::an_idle_connection_is_closed_without_a_response", Node, ONE_CONNECTION),
    ("framing::http_timeouts_do_not_apply_to_sockets", Node, ONE_CONNECTION),
    ("handover::", Alone, STATE),
    ("idle::", Node, ONE_PROCESS),
    ("limits::a_full_server_answers_503_until_connections_end", Node, CONNECTIONS),
    (
        "limits::a_session_that_comes_and_goes_too_often_is_closed_with_4429",
        Node,
        "the end of a socket at one server and a new one at another may cross",
    ),
    ("limits::a_silent_connection_over_the_limit_gives_way_to_the_next", Node, CONNECTIONS),
    (
        "limits::a_silent_connection_over_the_limit_is_dropped_after_linger_timeout",
        Node,
        CONNECTIONS,
    ),
    (
        "limits::a_silent_connection_over_the_limit_of_an_address_gives_way_to_the_next",
        Alone,
        CONNECTIONS,
    ),
    ("limits::address_connections_limits_the_connections_of_a_direct_peer", Alone, CONNECTIONS),
    ("limits::an_ipv6_address_counts_by_its_64_bit_network", Node, CONNECTIONS),
    (
        "limits::behind_a_proxy_address_connections_limits_the_sockets_of_each_address",
        Node,
        CONNECTIONS,
    ),
    ("limits::by_default_the_descriptor_limit_limits_connections", Alone, CONNECTIONS),
    ("limits::running_out_of_descriptors_pauses_accepting_and_nothing_else", Alone, CONNECTIONS),
    ("memory::", Alone, MEMORY),
    ("metrics::", Alone, "/metrics is per server"),
    ("moderation::bans_survive_a_restart_and_the_state_file_has_no_address", Alone, STATE),
    ("operator::", Alone, "warnings, listeners and signals are one process's"),
    ("owners::a_restart_keeps_the_rules", Alone, STATE),
    ("pauses::", Alone, "it stops one process, whose sockets must be open within a ping timeout"),
    ("posting::a_post_takes_the_name_of_a_holder_without_an_open_socket", Node, COUNTED),
    ("presence::a_user_in_the_grace_period_is_listed", Node, COUNTED),
    ("private::a_password_is_never_logged_or_shown", Node, ONE_PROCESS),
    ("private::loopback_and_unix_peers_share_one_limit_on_guesses", Alone, LISTENERS),
    ("resident::", Alone, MEMORY),
    ("restarts::", Alone, STATE),
    ("shutdown::", Alone, SIGNALS),
    (
        "slow_readers::a_reader_that_does_not_read_on_in_time_sees_a_broken_connection",
        Alone,
        COUNTED,
    ),
    (
        "slow_readers::readers_that_lag_behind_in_one_room_share_what_they_have_not_read",
        Alone,
        MEMORY,
    ),
    ("socket::a_holder_without_an_open_socket_loses_the_name_at_once", Node, COUNTED),
    ("socket::a_reset_socket_does_not_leave_while_another_of_its_session_is_open", Node, COUNTED),
    ("systemd::", Alone, "a supervisor watches one process"),
    ("ugly::misbehaving_peers_disturb_no_member_and_leave_nothing_behind", Node, ONE_PROCESS),
    ("under_way::", Alone, MEMORY),
];

/// The entry of a test; one with its name wins over one with its module.
pub fn scope_of(test: &str) -> Option<Scope> {
    let by_name = EXCEPTIONS.iter().find(|(name, _, _)| *name == test);
    let is_module = |name: &str| name.ends_with("::") && test.starts_with(name);
    let entry = by_name.or_else(|| EXCEPTIONS.iter().find(|(name, _, _)| is_module(name)));
    entry.map(|(_, scope, _)| *scope)
}
