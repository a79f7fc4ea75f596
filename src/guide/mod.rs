//! The guide: the project's documentation, as pages of Markdown.
//!
//! A forge shows the files `src/guide/*.md` as they are. Here each is a module, so that `cargo doc`
//! shows them beside the code, and rustdoc compiles their Rust examples. Owns the list of pages;
//! must not hold any code. The invariant: every page is a module here, and links others by file
//! name and anchor, which the build script (`src/build/guide.rs`) rewrites and `tests/guide.rs` checks.
//! The programs in `step_by_step` are examples of the manifest, and not part of this crate.
//!
//! | page | for |
//! |---|---|
//! | [`contract`] | what clients may rely on, in numbered clauses that code and tests cite |
//! | [`step_by_step`] | learning how an event loop is written: five runnable programs, from an echo to chat rooms |
//! | [`architecture`] | modules, a tick, a message's path, memory; a reading order; what was rejected |
//! | [`traps`] | mistakes that such servers make, each with its test and a planted bug |
//! | [`clients`] | writing a bot or another client, with the client module or with curl |
//! | [`operating`] | running the server: flags, proxies, TLS, systemd, restarts, metrics, logs |
//! | [`cluster`] | several servers on one store: balancers, the store's settings, faults, upgrades |
//! | [`security`] | what it promises against strangers, and by which limits |
//! | [`performance`] | how it is measured, what it costs, where time and memory go |
//! | [`changelog`] | what is new, from the first commit on |
//! | [`changing`] | building, testing and changing it: recipes, words, commits |

#[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/contract.md"))]
pub mod contract {}

#[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/architecture.md"))]
pub mod architecture {}

#[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/traps.md"))]
pub mod traps {}

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

#[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/changelog.md"))]
pub mod changelog {}

#[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/changing.md"))]
pub mod changing {}

#[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/step_by_step.md"))]
pub mod step_by_step {
    #[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/step_by_step/step1_echo.md"))]
    #[cfg_attr(doc, doc = "## The code\n\n```rust,ignore", doc = include_str!("step_by_step/step1_echo.rs"), doc = "```")]
    pub mod step1_echo {}

    #[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/step_by_step/step2_backpressure.md"))]
    #[cfg_attr(doc, doc = "## The code\n\n```rust,ignore", doc = include_str!("step_by_step/step2_backpressure.rs"), doc = "```")]
    pub mod step2_backpressure {}

    #[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/step_by_step/step3_timers.md"))]
    #[cfg_attr(doc, doc = "## The code\n\n```rust,ignore", doc = include_str!("step_by_step/step3_timers.rs"), doc = "```")]
    pub mod step3_timers {}

    #[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/step_by_step/step4_http.md"))]
    #[cfg_attr(doc, doc = "## The code\n\n```rust,ignore", doc = include_str!("step_by_step/step4_http.rs"), doc = "```\n\n```rust,ignore", doc = include_str!("step_by_step/event_loop.rs"), doc = "```")]
    pub mod step4_http {}

    #[doc = include_str!(concat!(env!("OUT_DIR"), "/guide/step_by_step/step5_rooms.md"))]
    #[cfg_attr(doc, doc = "## The code\n\n```rust,ignore", doc = include_str!("step_by_step/step5_rooms.rs"), doc = "```")]
    pub mod step5_rooms {}
}
