//! What the functions run on: the stores that are installed, and a model of one.
//!
//! Owns the model's clock, which a test on a store need not mind. Must not know the functions. The
//! invariant: a read from the model finds its answer there, or the test fails at once.

use std::cell::{RefCell, RefMut};
use std::io::{self, Read, Write};
use std::rc::Rc;

use super::planted::planted;
use crate::resp::Client;
use crate::store::{ConnectionId, ModelStore, SelfPush};
use crate::stores::{Engine, Store};

/// Something that runs functions.
pub trait Ground {
    /// A connection with all rights.
    fn admin(&self) -> Client;

    /// A connection of the user that servers log in as.
    fn client(&self) -> Client;
}

impl Ground for Store {
    fn admin(&self) -> Client {
        Store::admin(self)
    }

    fn client(&self) -> Client {
        Store::client(self)
    }
}

/// Runs a test on the model, and on a store of each kind that is installed. A planted fault is to be
/// found by the model alone.
pub fn each(test: impl Fn(&dyn Ground)) {
    test(&Model::new(1));
    if planted().is_some() {
        return;
    }
    for engine in Engine::installed() {
        test(&Store::start(engine, &[]));
    }
}

/// A model of the store. Its connections are in the same thread.
pub struct Model(Rc<RefCell<Clocked>>);

/// The model and its time, which goes on with each command.
struct Clocked {
    store: ModelStore,
    micros: u64,
    /// All that it has sent.
    said: Vec<u8>,
}

/// 1 January 2026.
const START: u64 = 1_767_225_600_000_000;
/// How long a command takes, at least.
const STEP: u64 = 37;

impl Model {
    /// An empty one, like Redis 7.0.
    pub fn new(seed: u64) -> Model {
        let mut store = ModelStore::new(seed);
        store.set_self_push(SelfPush::BeforeReply);
        Model(Rc::new(RefCell::new(Clocked { store, micros: START, said: Vec::new() })))
    }

    /// The model itself, for its faults.
    pub fn store(&self) -> RefMut<'_, ModelStore> {
        RefMut::map(self.0.borrow_mut(), |clocked| &mut clocked.store)
    }

    /// All that it has sent, and all that it holds.
    pub fn outcome(&self) -> (Vec<u8>, String) {
        let clocked = self.0.borrow();
        (clocked.said.clone(), format!("{:#?}", clocked.store.dump()))
    }
}

impl Ground for Model {
    fn admin(&self) -> Client {
        let connection = self.0.borrow_mut().store.connect();
        Client::over(ModelStream { model: self.0.clone(), connection, unread: Vec::new() })
    }

    fn client(&self) -> Client {
        self.admin()
    }
}

/// A connection to the model.
struct ModelStream {
    model: Rc<RefCell<Clocked>>,
    connection: ConnectionId,
    unread: Vec<u8>,
}

impl Write for ModelStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let model = &mut *self.model.borrow_mut();
        model.micros += STEP;
        model.store.set_time(model.micros);
        model.store.receive(self.connection, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for ModelStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.unread.is_empty() {
            let model = &mut *self.model.borrow_mut();
            self.unread = model.store.take_output(self.connection);
            model.said.extend_from_slice(&self.unread);
        }
        assert!(!self.unread.is_empty(), "the model has answered");
        let count = self.unread.len().min(into.len());
        into[..count].copy_from_slice(&self.unread[..count]);
        self.unread.drain(..count);
        Ok(count)
    }
}
