//! Several nodes and a balancer in the place of one server, for tests that know only one.
//!
//! With `CHAT_NODES=3`, `Server::start` of `tests/wire/server.rs` starts three nodes on one store and
//! gives the test the address of a balancer, which sends each request and each socket to the next of
//! them. The rest of the handle (signals, stderr, measurements) is that of the first node, which is why
//! some tests can't run so: `exceptions` lists them. `CHAT_NODES=0` puts the balancer in front of one
//! server without a store, which shows what the balancer itself changes.
//!
//! ```sh
//! CHAT_NODES=3 cargo test --features cluster --test wire
//! ```
//!
//! `CHAT_STORE=valkey` runs the same on Valkey, and `CHAT_PARTITIONS=4` with that number of partitions,
//! in `tests/cluster` too. The nodes of each test have a prefix of their own, in the one store of the
//! process, which starts with the first test and ends with the last.

#[path = "balancer.rs"]
pub mod balancer;
#[path = "exceptions.rs"]
pub mod exceptions;
#[allow(dead_code, reason = "only `tests/cluster` talks to stores")]
#[path = "resp.rs"]
pub mod resp;
#[allow(dead_code, reason = "only `tests/cluster` breaks stores")]
#[path = "stores.rs"]
pub mod stores;

use std::env;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::{Address, Server, command};
use balancer::Balancer;
use exceptions::{Scope, scope_of};
use stores::{Engine, Store};

/// What stands beside the first node. It ends with the handle of the test.
pub struct Front {
    _balancer: Option<Balancer>,
    _others: Vec<Server>,
    _store: Option<Arc<Store>>,
}

/// The nodes that the environment asks for; `None`: one server, as always.
fn nodes_wanted() -> Option<usize> {
    let nodes = env::var("CHAT_NODES").ok()?;
    Some(nodes.parse().unwrap_or_else(|_| panic!("CHAT_NODES={nodes}: not a number")))
}

/// The flags that divide the store of nodes with `flags`, if the environment asks for it.
pub fn partitions(flags: &[&str]) -> Vec<String> {
    // Partitions know each other's sessions and rooms of a second ago, so that a maximum is exact in one alone.
    const ALONE: [&str; 3] = ["--cluster-partitions", "--max-sessions", "--max-rooms"];
    match env::var("CHAT_PARTITIONS") {
        Ok(count) if !flags.iter().any(|flag| ALONE.contains(flag)) => {
            vec!["--cluster-partitions".to_owned(), count]
        }
        _ => Vec::new(),
    }
}

/// Nodes in the place of one server with these flags; `None`: that server itself.
pub fn start(flags: &[&str], environment: &[(&str, &str)]) -> Option<Server> {
    let nodes = nodes_wanted()?;
    let scope = scope_of(&running_test());
    if scope == Some(Scope::Alone) || (scope.is_some() && nodes == 0) {
        return None;
    }
    let store = (nodes > 0).then(shared_store);
    let cluster = match &store {
        Some(store) => [new_group(store), partitions(flags)].concat(),
        None => Vec::new(),
    };
    let count = if scope.is_some() { 1 } else { nodes.max(1) };
    let mut servers: Vec<Server> = (0..count)
        .map(|_| {
            let mut all = vec!["--listen", "127.0.0.1:0"];
            all.extend_from_slice(flags);
            all.extend(cluster.iter().map(String::as_str));
            Server::spawn_as_asked(command(&all, environment), 1)
        })
        .collect();
    if store.is_some() {
        servers.iter().for_each(await_store);
    }
    let balancer = scope.is_none().then(|| Balancer::start(servers.iter().map(address).collect()));
    let mut first = servers.remove(0);
    if let Some(balancer) = &balancer {
        first.entrance.addresses = vec![Address::Tcp(balancer.address())];
    }
    first.front = Some(Front { _balancer: balancer, _others: servers, _store: store });
    Some(first)
}

/// The address of a node's only listener.
pub fn address(node: &Server) -> SocketAddr {
    match node.address() {
        Address::Tcp(address) => *address,
        Address::Unix(path) => panic!("{} is no address for a balancer", path.display()),
    }
}

/// Waits until a node has reached its store: before, it answers 503.
pub fn await_store(node: &Server) {
    let address = address(node);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut stream = TcpStream::connect(address).expect("the node listens");
        let request = b"GET /health HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
        let mut answer = String::new();
        let asked = stream
            .write_all(request)
            .and_then(|()| stream.shutdown(Shutdown::Write)) // So that the node frees it at once.
            .and_then(|()| stream.read_to_string(&mut answer));
        if asked.is_ok() && answer.contains(r#""store":"up""#) {
            // Some tests allow one connection. The node keeps this one until it has seen its end.
            #[cfg(target_os = "linux")]
            {
                let open = node.descriptors();
                drop(stream);
                let soon = Instant::now() + Duration::from_millis(200);
                while node.descriptors() >= open && Instant::now() < soon {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            return;
        }
        assert!(Instant::now() < deadline, "the node does not reach its store: {answer}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Asserts that a test that starts its server in a way of its own is known to do so.
pub fn starts_alone() {
    if nodes_wanted().is_some() {
        let test = running_test();
        let is_known = scope_of(&test) == Some(Scope::Alone);
        assert!(is_known, "tests/cluster/exceptions.rs does not say that {test} starts alone");
    }
}

/// The flags of nodes that share nothing with those of other tests on the store.
fn new_group(store: &Store) -> Vec<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("dc-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    ["--cluster".to_owned(), store.url(), "--cluster-prefix".to_owned(), prefix].into()
}

/// The store of all tests that run at the moment.
fn shared_store() -> Arc<Store> {
    static STORE: Mutex<Weak<Store>> = Mutex::new(Weak::new());
    let mut shared = STORE.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let is_valkey = env::var("CHAT_STORE").is_ok_and(|name| name == "valkey");
        let engine = if is_valkey { Engine::Valkey } else { Engine::Redis };
        let store = Arc::new(Store::start(engine, &[]));
        // Its user has the prefix `dc` alone.
        store.admin().must(&["ACL", "SETUSER", stores::USER, "~dc-*", "&dc-*"]);
        *shared = Arc::downgrade(&store);
        store
    })
}

/// The name of the test that calls. The test harness names its threads so, if it has more than one.
fn running_test() -> String {
    let name = thread::current().name().unwrap_or_default().to_owned();
    assert!(name.contains("::"), "CHAT_NODES needs two test threads or more, and no other threads");
    name
}
