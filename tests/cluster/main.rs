//! Black-box tests of a cluster: real stores, started by the tests, and on them the functions of
//! `src/cluster/functions.lua`, and servers.
//!
//! `stores` starts and ends Redis and Valkey; `resp` speaks RESP3 to them, without the server's code.
//! A test runs on each store that is installed. Without any it reports that it is skipped; with
//! `REQUIRE_ALL=1` it fails.
//!
//! Tests must pass on a busy machine: they wait for conditions, with a deadline. They do not wait for
//! the store's clock, but move what is stored into the past.

mod resp;
mod stores;

mod functions;
