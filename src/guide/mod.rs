//! The guide: the project's documentation, as pages of Markdown.
//!
//! A forge shows the files `src/guide/*.md` as they are. Here each is a module, so that `cargo doc`
//! shows them beside the code, and rustdoc compiles their Rust examples. Owns the list of pages;
//! must not hold any code. The invariant: every page is a module here, and links others by file
//! name and anchor, which the build script (`src/build/guide.rs`) rewrites and `tests/guide.rs` checks.
//!
//! | page | for |
//! |---|---|
//! | [`contract`] | what clients may rely on, in numbered clauses that code and tests cite |
//! | [`clients`] | writing a bot or another client, with the client module or with curl |
//! | [`operating`] | running the server: flags, proxies, TLS, systemd, restarts, metrics, logs |
//! | [`cluster`] | several servers on one store: balancers, the store's settings, faults, upgrades |
//! | [`security`] | what it promises against strangers, and by which limits |
//! | [`performance`] | how it is measured, what it costs, where time and memory go |
//! | [`changing`] | building, testing and changing it: the module map, and recipes |

#[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/contract.md"))]
pub mod contract {}

#[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/clients.md"))]
pub mod clients {}

#[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/operating.md"))]
pub mod operating {}

#[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/cluster.md"))]
pub mod cluster {}

#[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/security.md"))]
pub mod security {}

#[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/performance.md"))]
pub mod performance {}

#[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/changing.md"))]
pub mod changing {}
