//! The way from nodes to a store, which a test may cut anywhere, block, or lead to another store.
//!
//! Owns the connections that pass. Must not know what they carry. The invariant: bytes pass in their
//! order and unchanged until the connection is cut; what is cut is cut for both sides.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use socket2::SockRef;

use crate::stores::{PASSWORD, USER};

/// What the kernel keeps of a direction. With its own megabytes, a node that reads nothing would have a
/// store that notices nothing.
const KERNEL_BYTES_MAX: usize = 16 * 1024;

/// A way that exists. It ends with this value.
pub struct Link {
    address: SocketAddr,
    wire: Arc<Wire>,
}

#[derive(Default)]
struct Wire {
    /// The socket of the store.
    target: Mutex<PathBuf>,
    /// The connections on the nodes' side.
    open: Mutex<Vec<TcpStream>>,
    /// The connection that passes the last of so many bytes is cut after it; 0: none is.
    left: AtomicU64,
    cuts: AtomicU64,
    /// A connection that has passed this on to the store passes nothing back any more.
    mute_after: Mutex<Vec<u8>>,
    has_ended: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Listens on a free port of 127.0.0.1.
    pub fn to(socket: &Path) -> Link {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        SockRef::from(&listener).set_send_buffer_size(KERNEL_BYTES_MAX).expect("a buffer size");
        let address = listener.local_addr().expect("an address");
        let wire = Arc::new(Wire { target: Mutex::new(socket.to_owned()), ..Wire::default() });
        let shared = Arc::clone(&wire);
        thread::spawn(move || {
            for node in listener.incoming().map_while(Result::ok) {
                if shared.has_ended.load(Ordering::Acquire) {
                    return;
                }
                // If there is no store, the node sees the end of its connection.
                let _ = serve(node, &shared);
            }
        });
        Link { address, wire }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// For `--cluster`: the store at the end of the first of these links that leads to a primary.
    pub fn url(links: &[&Link]) -> String {
        let all: Vec<String> = links.iter().map(|link| link.address.to_string()).collect();
        format!("redis://{USER}:{PASSWORD}@{}", all.join(","))
    }

    /// From now on new connections end there. Those that there are are cut.
    pub fn lead_to(&self, socket: &Path) {
        *locked(&self.wire.target) = socket.to_owned();
        self.cut();
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        for one in locked(&self.wire.open).drain(..) {
            let _ = one.shutdown(Shutdown::Both);
        }
    }

    /// Cuts a connection after so many bytes, those of all connections and both directions together.
    pub fn cut_after(&self, bytes: u64) {
        self.wire.left.store(bytes, Ordering::Release);
    }

    /// How often a connection was cut by [`Link::cut_after`].
    pub fn cuts(&self) -> u64 {
        self.wire.cuts.load(Ordering::Acquire)
    }

    /// A connection that carries this to the store carries nothing back from then on. Empty: ends that for
    /// new connections.
    pub fn mute_after(&self, text: &str) {
        *locked(&self.wire.mute_after) = text.as_bytes().to_vec();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.wire.has_ended.store(true, Ordering::Release);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(node: TcpStream, wire: &Arc<Wire>) -> io::Result<()> {
    let path = locked(&wire.target).clone();
    let store = UnixStream::connect(path)?;
    node.set_nodelay(true)?;
    locked(&wire.open).push(node.try_clone()?);
    let is_mute = Arc::new(AtomicBool::new(false));
    let (mut from_node, mut to_store) = (node.try_clone()?, store.try_clone()?);
    let (there, back) = (Arc::clone(wire), Arc::clone(wire));
    let (mutes, muted) = (Arc::clone(&is_mute), is_mute);
    thread::spawn(move || {
        let mut tail = Vec::new();
        let _ = pass_on(&mut from_node, &mut to_store, &there, |bytes| {
            let wanted = locked(&there.mute_after);
            tail.extend_from_slice(bytes);
            let is_there = |part: &[u8]| !wanted.is_empty() && part == wanted.as_slice();
            if tail.windows(wanted.len().max(1)).any(is_there) {
                mutes.store(true, Ordering::Release);
            }
            tail.drain(..tail.len().saturating_sub(wanted.len()));
            true
        });
        end(&from_node, &to_store);
    });
    thread::spawn(move || {
        let (mut from_store, mut to_node) = (store, node);
        let is_heard = |_: &[u8]| !muted.load(Ordering::Acquire);
        let _ = pass_on(&mut from_store, &mut to_node, &back, is_heard);
        end(&to_node, &from_store);
    });
    Ok(())
}

fn end(node: &TcpStream, store: &UnixStream) {
    let _ = node.shutdown(Shutdown::Both);
    let _ = store.shutdown(Shutdown::Both);
}

/// Passes on until either side ends or the connection is cut. What `passes` denies is swallowed.
fn pass_on(
    mut from: impl Read,
    mut to: impl Write,
    wire: &Wire,
    mut passes: impl FnMut(&[u8]) -> bool,
) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let count = count as u64;
        let left = wire.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
            Some(left.saturating_sub(count))
        });
        let left = left.unwrap_or_default();
        let is_cut = left > 0 && left <= count;
        let bytes = &buffer[..if is_cut { left } else { count } as usize];
        if passes(bytes) {
            to.write_all(bytes)?;
        }
        if is_cut {
            wire.cuts.fetch_add(1, Ordering::AcqRel);
            return Ok(());
        }
    }
}
