//! Several whole servers over one model store, without processes, sockets or sleeps.
//!
//! | file | what it owns |
//! |---|---|
//! | `nodes` | the nodes, their connections to the store, and the store's clock |
//! | `meeting` | single situations |
//! | `storm` | people chat while the store, nodes and the network between them fail |
//! | `differential` | a cluster answers and tells what one server does |

pub mod differential;
mod meeting;
pub mod nodes;
mod storm;
