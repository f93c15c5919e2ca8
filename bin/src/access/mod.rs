//! Who may use an exposed service: allow lists and tickets. The format is in `design/tickets.md`. And whom a node speaks
//! with at all, by address: [`ranges`].
//!
//! Reading order: [`Gate`] decides on each stream; [`Ticket`] is the string that people pass on, and
//! [`Capability`] what of it the gate sees; [`Ledger`] is the file that remembers which tickets were
//! issued, used and revoked, and [`Book`] what stands in it. No clock is read here, except by
//! [`Gate::stands`], and by the wait for the ledger's lock.

mod allow;
mod book;
mod capability;
pub(crate) mod file;
mod gate;
mod ledger;
mod nets;
mod ticket;

#[cfg(test)]
mod tests;

pub use self::{
    allow::{ALLOW_FILE_BYTES_MAX, ALLOW_MAX, AllowError},
    book::{Book, BookError, ENTRIES_MAX, Entry, Standing, Use, UseId},
    capability::{Capability, CapabilityError, Terms, TicketId, TicketIdError},
    file::FileFault,
    gate::{AccessError, Denial, Gate, Listed, Pass, Rules},
    ledger::{Ledger, LedgerError},
    nets::{NET_FILE_BYTES_MAX, NETS_MAX, NetsError, ranges},
    ticket::{AddressFault, IssueError, Routes, Ticket, TicketError},
};

pub(crate) use self::capability::unix_seconds;
