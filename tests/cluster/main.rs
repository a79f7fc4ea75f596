//! Black-box tests of a cluster: real stores, started by the tests, and on them the functions of
//! `src/cluster/functions.lua`, and servers.
//!
//! `stores` starts and ends Redis and Valkey; `resp` speaks RESP3 to them, without the server's code;
//! `nodes` starts servers on one store, and `balancer` sends each request and socket to the next of them;
//! `link` is a way to a store that breaks, `successor` a server of the next version, and `people` write and
//! read whatever breaks.
//! `front` puts all of these below the tests of `tests/wire`.
//! A test runs on each store that is installed. Without any it reports that it is skipped; with
//! `REQUIRE_ALL=1` it fails. The functions also run on a model of the store, in `tests/store`.
//!
//! Tests must pass on a busy machine: they wait for conditions, with a deadline. They do not wait for
//! the store's clock, but move what is stored into the past.

// These tests use only a part of these.
#[allow(dead_code)]
#[path = "../wire/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../wire/server.rs"]
mod server;

#[allow(dead_code)]
#[path = "../clients/program.rs"]
mod program;
#[path = "../attacks/proxied.rs"]
#[allow(dead_code)]
mod proxied;
#[path = "../clients/proxy.rs"]
mod proxy;

use server::front::{balancer, resp, stores};

// A model of the store, for the functions.
#[path = "../store/mod.rs"]
mod store;

mod link;
mod nodes;
mod people;
mod successor;

mod attacks;
mod away;
mod chaos;
mod faults;
mod functions;
mod guide;
mod loaded;
mod names;
mod operators;
mod splitting;
mod start;
#[cfg(feature = "tls")]
mod tls;
