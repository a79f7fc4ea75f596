//! The documents of the API (OpenAPI and AsyncAPI) compared with the server: every route is documented, every response
//! is a documented one, and the tests provoke every documented response.
//!
//! `document` implements the parts of OpenAPI and JSON Schema that the documents use. `rest` and `socket` provoke the
//! responses and events. `generators` checks the names and examples that generators use, `files` how the documents and
//! the pages are sent, `page` how a browser shows the documents.

// These tests use only a part of each.
#[allow(dead_code)]
#[path = "../wire/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../clients/program.rs"]
mod program;
#[allow(dead_code)]
#[path = "../wire/server.rs"]
mod server;

mod document;

mod files;
mod generators;
mod page;
mod rest;
mod socket;
