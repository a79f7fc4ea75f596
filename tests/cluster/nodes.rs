//! Several servers on one store, behind a balancer, which a test may kill, stop and start again.
//!
//! `Deref` gives the balancer's entrance: what tests ask there reaches one node after the other. The
//! invariant: a node that has been killed is taken from the balancer, as a health check would do it,
//! and one that is stopped is not: nothing but its silence shows that.

use std::ops::Deref;
use std::process::Command;

use rustix::process::Signal;

use crate::balancer::Balancer;
use crate::server::front::{address, await_store, partitions};
use crate::server::{Address, Entrance, Server};
use crate::stores::Store;
use crate::successor::Successor;

pub struct Nodes {
    flags: Vec<String>,
    /// `None`: killed.
    nodes: Vec<Option<Server>>,
    balancer: Balancer,
    entrance: Entrance,
}

impl Nodes {
    /// Starts `count` nodes with these flags on a store that no other test uses, which is divided as
    /// `CHAT_PARTITIONS` says if they don't.
    pub fn start(count: usize, store: &Store, flags: &[&str]) -> Nodes {
        Nodes::start_at(count, store.url(), flags)
    }

    /// The same for a store with this URL.
    pub fn start_at(count: usize, url: String, flags: &[&str]) -> Nodes {
        let mut all: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        all.extend(["--cluster".to_owned(), url]);
        all.extend(partitions(flags));
        let balancer = Balancer::start(Vec::new());
        let entrance = Entrance { addresses: vec![Address::Tcp(balancer.address())] };
        let mut nodes = Nodes { flags: all, nodes: Vec::new(), balancer, entrance };
        for _ in 0..count {
            nodes.add();
        }
        nodes
    }

    /// Starts one more node.
    pub fn add(&mut self) {
        let node = self.new_node();
        self.nodes.push(Some(node));
        self.tell_balancer();
    }

    fn new_node(&self) -> Server {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let node = Server::start(&flags);
        await_store(&node);
        node
    }

    /// A node that runs, for what is asked of it alone.
    pub fn node(&self, number: usize) -> &Server {
        self.nodes[number].as_ref().expect("the node runs")
    }

    /// SIGKILL.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number] = None;
        self.tell_balancer();
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self, number: usize) {
        if let Some(mut node) = self.nodes[number].take() {
            self.tell_balancer();
            node.terminate();
            assert!(node.wait().success());
        }
    }

    /// A new process in the place of one that has ended.
    pub fn restart(&mut self, number: usize) {
        let node = self.new_node();
        self.nodes[number] = Some(node);
        self.tell_balancer();
    }

    /// The same, of another version.
    pub fn succeed(&mut self, number: usize, successor: &Successor) {
        let mut command = Command::new(successor.program());
        command.args(["--listen", "127.0.0.1:0"]).args(&self.flags);
        let node = Server::spawn(command, 1);
        await_store(&node);
        self.nodes[number] = Some(node);
        self.tell_balancer();
    }

    /// SIGSTOP.
    pub fn stop(&self, number: usize) {
        self.node(number).signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self, number: usize) {
        self.node(number).signal(Signal::CONT);
    }

    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    fn tell_balancer(&self) {
        self.balancer.set_nodes(self.nodes.iter().flatten().map(address).collect());
    }
}

impl Deref for Nodes {
    type Target = Entrance;

    fn deref(&self) -> &Entrance {
        &self.entrance
    }
}
