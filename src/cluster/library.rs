//! The library of functions that decides in the store.
//!
//! Owns the library's name and the names of its functions. Must not know what they do: their source,
//! `functions.lua`, says that. The invariant: the name is a hash of the source as it is loaded, so that
//! servers of two versions call their own functions, side by side in one store.

use sha1::{Digest, Sha1};

use crate::packed;

/// The source of the functions, without comments. An error names a line of it, which has the same number
/// in `functions.lua`.
pub fn source() -> String {
    let packed = packed::unpack(include_bytes!(concat!(env!("OUT_DIR"), "/functions.lua.gz")));
    String::from_utf8_lossy(&packed).into_owned()
}

/// Stands for the library's name in the source, which cannot contain its own hash.
const PLACEHOLDER: &str = "@LIB@";

/// Changes whenever servers of two versions cannot share a store.
pub(super) const SCHEMA: &str = "1";

/// A library, as it is loaded.
#[derive(Clone, Debug)]
pub struct Library {
    name: String,
    source: String,
}

impl Library {
    /// The library with this source, in which the placeholder stands for its name.
    pub fn of(source: &str) -> Library {
        let hash = Sha1::digest(source.as_bytes());
        let mut name = String::from("dc_");
        for byte in &hash[..4] {
            name.push_str(&format!("{byte:02x}"));
        }
        Library { source: source.replace(PLACEHOLDER, &name), name }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The source, as the store loads it.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// A function of the library. `functions.lua` says what it does, and what its arguments are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the names are those in the source")]
pub enum Function {
    Hello,
    Beat,
    Reap,
    Bye,
    Shed,
    Announce,
    Count,
    OpenSession,
    Touch,
    Reserve,
    Own,
    Disown,
    Forget,
    Attach,
    Detach,
    Declare,
    ChargeJoin,
    EndSession,
    Gone,
    OpenRoom,
    Guess,
    Join,
    Look,
    Unwatch,
    Enter,
    Exit,
    Leave,
    Quit,
    Post,
    Typing,
    Alive,
    Unask,
    Change,
    DeleteRoom,
    DeleteMessage,
    Remove,
    Bans,
    Lift,
    History,
    Resync,
    Listing,
    Usage,
    Members,
}

/// Every function with its name in the source, in the order of the enum.
pub(super) const FUNCTIONS: &[(Function, &str)] = &[
    (Function::Hello, "hello"),
    (Function::Beat, "beat"),
    (Function::Reap, "reap"),
    (Function::Bye, "bye"),
    (Function::Shed, "shed"),
    (Function::Announce, "announce"),
    (Function::Count, "count"),
    (Function::OpenSession, "open_session"),
    (Function::Touch, "touch"),
    (Function::Reserve, "reserve"),
    (Function::Own, "own"),
    (Function::Disown, "disown"),
    (Function::Forget, "forget"),
    (Function::Attach, "attach"),
    (Function::Detach, "detach"),
    (Function::Declare, "declare"),
    (Function::ChargeJoin, "charge_join"),
    (Function::EndSession, "end_session"),
    (Function::Gone, "gone"),
    (Function::OpenRoom, "open_room"),
    (Function::Guess, "guess"),
    (Function::Join, "join"),
    (Function::Look, "look"),
    (Function::Unwatch, "unwatch"),
    (Function::Enter, "enter"),
    (Function::Exit, "exit"),
    (Function::Leave, "leave"),
    (Function::Quit, "quit"),
    (Function::Post, "post"),
    (Function::Typing, "typing"),
    (Function::Alive, "alive"),
    (Function::Unask, "unask"),
    (Function::Change, "change"),
    (Function::DeleteRoom, "delete_room"),
    (Function::DeleteMessage, "delete_message"),
    (Function::Remove, "remove"),
    (Function::Bans, "bans"),
    (Function::Lift, "lift"),
    (Function::History, "history"),
    (Function::Resync, "resync"),
    (Function::Listing, "listing"),
    (Function::Usage, "usage"),
    (Function::Members, "members"),
];

impl Function {
    /// Whether calls may use the reserve of the queue: they end something, or keep a person whose name
    /// is wanted from being taken for dead.
    pub fn may_use_reserve(self) -> bool {
        self.ends_something() || self == Function::Alive
    }

    /// Whether a call ends something that exists already, so that a lost one would leave something
    /// behind.
    pub fn ends_something(self) -> bool {
        matches!(
            self,
            Function::Beat
                | Function::Reap
                | Function::Bye
                | Function::Forget
                | Function::Disown
                | Function::Detach
                | Function::EndSession
                | Function::Gone
                | Function::Unwatch
                | Function::Unask
                | Function::Exit
                | Function::Leave
                | Function::Quit
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_are_those_that_the_source_registers() {
        let source = source();
        let lines = source.lines().filter_map(|line| line.strip_prefix("register('"));
        let mut registered: Vec<_> = lines.filter_map(|line| line.split('\'').next()).collect();
        let mut known: Vec<_> = FUNCTIONS.iter().map(|(_, name)| *name).collect();
        registered.sort_unstable();
        known.sort_unstable();
        assert_eq!(registered, known);
        for (place, (function, _)) in FUNCTIONS.iter().enumerate() {
            assert_eq!(*function as usize, place);
        }
    }

    #[test]
    fn the_name_is_a_hash_of_the_source() {
        let library = Library::of("#!lua name=@LIB@\nf('@LIB@_x')");
        assert_eq!(library.name(), "dc_e31455be");
        assert_eq!(library.source(), "#!lua name=dc_e31455be\nf('dc_e31455be_x')");
        assert_ne!(Library::of("@LIB@").name(), Library::of("@LIB@ ").name());
    }
}
