//! The 160-bit network of BitTorrent clients (BEP 5, with 42, 43 and 44), or a private one that speaks the same: over
//! UDP, each node keeps what is near to its id, and whoever looks for something asks nearer and nearer nodes.
//!
//! [`Mainline`] is a node of it. `start` makes one that also finds peers: each tells where it is in a signed value of
//! its key, so that whoever knows its id finds it.
//!
//! `machine` decides, and is pure; `driver` has the socket and the clock; `contact` is what a peer signs (and `records` as
//! pkarr does), and the crate's `plans` say when to look for whom. `message`, `bencode`, `id`, `item` are the protocol; `table`, `lookup`, `store`, `door` parts of
//! the machine.

mod bencode;
mod contact;
mod door;
mod driver;
mod face;
mod id;
mod item;
mod lookup;
mod machine;
mod message;
#[cfg(feature = "pkarr")]
mod records;
mod source;
mod store;
mod table;

pub(crate) use self::source::{Started, start};
pub use self::{
    door::Rate,
    face::{Config, Failed, Mainline, Network, PUBLIC_ROUTERS, StartError},
    id::{Id, NotAnId},
    item::{Item, ItemError, Mutable},
    machine::{Busy, MainlineEvent, RoutingTable},
    message::Node,
};
