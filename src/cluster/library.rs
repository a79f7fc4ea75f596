//! The library of functions that decides in the store.
//!
//! Owns the library's name and the names of its functions. Must not know what they do: their source,
//! `functions.lua`, says that. The invariant: the name is a hash of the source, so that servers of two
//! versions call their own functions, side by side in one store.

use sha1::{Digest, Sha1};

/// The source of the functions.
pub const SOURCE: &str = include_str!("functions.lua");

/// Stands for the library's name in the source, which cannot contain its own hash.
const PLACEHOLDER: &str = "@LIB@";

/// Changes whenever servers of two versions cannot share a store.
pub const SCHEMA: &str = "1";

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

/// Defines the functions with the names that they have in the source.
macro_rules! functions {
    ($($variant:ident $name:literal)*) => {
        /// A function of the library.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Function {
            $(#[doc = concat!("`", $name, "` in `functions.lua`.")] $variant,)*
        }

        impl Function {
            /// All functions.
            pub const ALL: &'static [Function] = &[$(Function::$variant),*];

            /// The name in the source.
            pub fn name(self) -> &'static str {
                match self {
                    $(Function::$variant => $name,)*
                }
            }
        }
    };
}

functions! {
    Hello "hello"
    Beat "beat"
    Reap "reap"
    Bye "bye"
    Shed "shed"
    Announce "announce"
    Count "count"
    OpenSession "open_session"
    Touch "touch"
    Reserve "reserve"
    Own "own"
    Disown "disown"
    Forget "forget"
    Attach "attach"
    Detach "detach"
    Declare "declare"
    ChargeJoin "charge_join"
    EndSession "end_session"
    Gone "gone"
    OpenRoom "open_room"
    Guess "guess"
    Join "join"
    Look "look"
    Unwatch "unwatch"
    Enter "enter"
    Exit "exit"
    Leave "leave"
    Quit "quit"
    Post "post"
    Typing "typing"
    Alive "alive"
    Change "change"
    DeleteRoom "delete_room"
    DeleteMessage "delete_message"
    Remove "remove"
    Bans "bans"
    Lift "lift"
    Resync "resync"
    Listing "listing"
    Usage "usage"
    Members "members"
}

impl Function {
    /// Whether a call ends something that exists already, so that a lost one would leave something
    /// behind. Such calls may use the reserve of the queue.
    pub fn ends_something(self) -> bool {
        use Function::*;
        matches!(
            self,
            Beat | Reap
                | Bye
                | Forget
                | Disown
                | Detach
                | EndSession
                | Gone
                | Unwatch
                | Exit
                | Leave
                | Quit
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_are_those_that_the_source_registers() {
        let lines = SOURCE.lines().filter_map(|line| line.strip_prefix("register('"));
        let mut registered: Vec<_> = lines.filter_map(|line| line.split('\'').next()).collect();
        let mut known: Vec<_> = Function::ALL.iter().map(|function| function.name()).collect();
        registered.sort_unstable();
        known.sort_unstable();
        assert_eq!(registered, known);
    }

    #[test]
    fn the_name_is_a_hash_of_the_source() {
        let library = Library::of("#!lua name=@LIB@\nf('@LIB@_x')");
        assert_eq!(library.name(), "dc_e31455be");
        assert_eq!(library.source(), "#!lua name=dc_e31455be\nf('dc_e31455be_x')");
        assert_ne!(Library::of("@LIB@").name(), Library::of("@LIB@ ").name());
    }
}
