//! A reliable byte stream that outlives the path under it.
//!
//! A [`Stream`] runs over one *leg* at a time: any pipe that is `AsyncRead + AsyncWrite`, such as a
//! substream of a connection. It moves between legs, and not one byte is lost, doubled or reordered.
//! `design/wire.md` specifies what is said on a leg. Nothing here knows peers, addresses or
//! connections.
//!
//! # Map, in reading order
//!
//! - [`frame`]: the wire format; [`machine`]: one end of a stream; [`budget`]: what bounds memory. These
//!   three do no I/O, read no clock and draw no random number;
//! - `pump`: moves frames between a machine and its legs; its [`Handle`] is for whoever brings the legs;
//! - [`Stream`]: what the program reads and writes; [`Facts`]: what is known of a stream while it lives;
//! - [`first_frame`]: what an acceptor reads before it knows which stream a leg is for;
//! - [`over`]: a stream over a single pipe.

#![forbid(unsafe_code)]

pub mod budget;
mod facts;
mod first;
pub mod frame;
mod id;
pub mod machine;
pub mod over;
mod pulse;
mod pump;
mod route;
pub mod service;
mod stream;

pub use self::{
    facts::{Direction, Facts, MOVES_REMEMBERED_MAX, MoveRecord},
    first::{FirstError, first_frame},
    id::StreamId,
    pulse::Pulse,
    pump::{Ask, Handle, Note, Notes, Pipe},
    route::Route,
    service::{SERVICE_NAME_BYTES_MAX, Service, ServiceError},
    stream::Stream,
};
