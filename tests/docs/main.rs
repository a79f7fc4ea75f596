//! The documents of the API, held against the server that serves them: every route is documented, every answer
//! that the wire can be made to give is one of the documented ones, and every documented one can be provoked.
//!
//! `judge` knows OpenAPI and JSON Schema as far as our documents use them, and no more; `rest` and `socket`
//! provoke the answers; `files` looks at how the documents and the page are sent, `page` at what a browser makes
//! of them.

// What the other tests start and speak with; these need only some of it.
#[allow(dead_code)]
#[path = "../wire/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../clients/program.rs"]
mod program;
#[allow(dead_code)]
#[path = "../wire/server.rs"]
mod server;

mod judge;

mod files;
mod page;
mod rest;
mod socket;
