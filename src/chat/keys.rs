//! Handles on the domain's entries.
//!
//! Owns the types of the handles. Must not know the entries: the other files of the domain import
//! this one, so it imports none of them, and an empty type (a tag) stands for each kind of entry.
//! The invariant: keys of different kinds are different types.

use crate::slots::Key;

/// A handle on a session.
pub type SessionKey = Key<SessionTag>;
/// A handle on a room.
pub type RoomKey = Key<RoomTag>;
/// A handle on a session's membership in a room.
pub(super) type MemberKey = Key<MemberTag>;
/// A handle on an attachment: a connection in a room, or one that waits to enter.
pub type AttachmentKey = Key<AttachmentTag>;
/// A handle on the usage of an address. Valid as long as the address holds something.
pub(super) type AddressKey = Key<AddressTag>;
/// A handle on a session's or a room's place in the order in which they give way.
pub(super) type IdleKey = Key<IdleTag>;
/// A handle on a connection. The domain only passes it back to its [`super::Sink`].
pub type ConnKey = Key<ConnTag>;
/// A handle on a share: what an address has in the history of one room.
pub(super) type ShareKey = Key<ShareTag>;

/// The kind of [`SessionKey`].
pub enum SessionTag {}
/// The kind of [`RoomKey`].
pub enum RoomTag {}
/// The kind of [`MemberKey`].
pub enum MemberTag {}
/// The kind of [`AttachmentKey`].
pub enum AttachmentTag {}
/// The kind of [`AddressKey`].
pub enum AddressTag {}
/// The kind of [`IdleKey`].
pub enum IdleTag {}
/// The kind of [`ConnKey`].
pub enum ConnTag {}
/// The kind of [`ShareKey`].
pub enum ShareTag {}
