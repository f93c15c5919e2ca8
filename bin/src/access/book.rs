//! What stands in the ledger. Pure: the time is an argument, in Unix seconds.

use std::fmt;

use libp2p::PeerId;
use punchline_bridge::Service;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::capability::{Terms, TicketId};

/// Most tickets in a ledger. It is read whole and written whole, for every use of a single-use ticket.
pub const ENTRIES_MAX: usize = 1024;

/// How long a ticket that has expired is remembered, in seconds: streams that it opened may still run,
/// and are cut by revoking it.
const KEPT_AFTER_EXPIRY: u64 = 7 * 24 * 3600;

/// How long a revoked ticket is surely remembered, in seconds: until then every gate has seen it.
const KEPT_AFTER_REVOCATION: u64 = 60;

/// The format of the file.
const VERSION: u32 = 1;

/// The tickets of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Book {
    version: u32,
    tickets: Vec<Entry>,
}

/// One ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name.
    pub id: TicketId,
    /// What it opens.
    #[serde(deserialize_with = "service")]
    pub service: Service,
    /// When it was made, in Unix seconds.
    pub issued: u64,
    /// From when on it is void, in Unix seconds.
    pub expires: u64,
    /// It is void after one stream.
    pub once: bool,
    /// The use of a single-use ticket; others are not written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Use>,
    /// When it was revoked, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
    /// A program printed it, for those who are to reach this target; the ticket ends with the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub printed_for: Option<String>,
}

/// The one use of a single-use ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Use {
    /// Who used it.
    pub peer: PeerId,
    /// When, in Unix seconds.
    pub at: u64,
    /// Which use of all: what was put back and used anew is another one.
    pub id: UseId,
}

/// Names a use; random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UseId(u64);

/// Whether a ticket opens anything. The first of these that holds is the one that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It was revoked.
    Revoked,
    /// It was for one use, and was used.
    Used,
    /// Its time is over.
    Expired,
    /// It does.
    Valid,
}

/// Why the book is not as was wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// No room.
    #[error(
        "{ENTRIES_MAX} tickets stand already; revoke some (`punchline ticket list` shows them), or wait until one expires"
    )]
    Full,
    /// No such ticket.
    #[error("there is no ticket {id}; `punchline ticket list` shows those that there are")]
    Unknown {
        /// Which.
        id: TicketId,
    },
    /// The file is of another version.
    #[error("its version is {version}, and only {VERSION} is known here")]
    Version {
        /// Which.
        version: u32,
    },
    /// The file has too many tickets.
    #[error("it holds {count} tickets, and {ENTRIES_MAX} are the most")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A ticket is in it twice, so it is not known which entry holds.
    #[error("ticket {id} stands in it twice")]
    Twice {
        /// Which.
        id: TicketId,
    },
}

impl Default for Book {
    fn default() -> Self {
        Self { version: VERSION, tickets: Vec::new() }
    }
}

impl Book {
    /// Checks what a file said.
    pub(super) fn check(&self) -> Result<(), BookError> {
        let Self { version, tickets } = self;
        if *version != VERSION {
            return Err(BookError::Version { version: *version });
        }
        if tickets.len() > ENTRIES_MAX {
            return Err(BookError::TooMany { count: tickets.len() });
        }
        let mut seen = std::collections::HashSet::new();
        match tickets.iter().find(|entry| !seen.insert(entry.id)) {
            Some(entry) => Err(BookError::Twice { id: entry.id }),
            None => Ok(()),
        }
    }

    /// All tickets, in the order in which they were made.
    pub fn entries(&self) -> &[Entry] {
        &self.tickets
    }

    /// One ticket.
    pub fn entry(&self, id: TicketId) -> Option<&Entry> {
        self.tickets.iter().find(|entry| entry.id == id)
    }

    fn entry_mut(&mut self, id: TicketId) -> Option<&mut Entry> {
        self.tickets.iter_mut().find(|entry| entry.id == id)
    }

    /// Writes a new ticket down. Long expired ones are dropped; if there is no room then, the one of
    /// the expired or revoked that ends first: a ticket that is not in the book opens nothing either.
    ///
    /// # Errors
    /// If all that there is room for are still good, or used and not yet expired.
    pub fn issue(&mut self, terms: &Terms, now: u64) -> Result<(), BookError> {
        self.tickets.retain(|entry| !entry.is_long_expired(now));
        if self.tickets.len() >= ENTRIES_MAX {
            let dispensable = self.tickets.iter().enumerate().filter(|(_, e)| e.is_dispensable(now));
            let first = dispensable.min_by_key(|(_, entry)| entry.expires).ok_or(BookError::Full)?;
            let at = first.0;
            self.tickets.remove(at);
        }
        let Terms { id, service, expires, once } = terms.clone();
        self.tickets.push(Entry {
            id,
            service,
            issued: now,
            expires,
            once,
            used: None,
            revoked: None,
            printed_for: None,
        });
        Ok(())
    }

    /// Writes down the ticket that a program prints for `target`, and gives its terms: those of the ticket that it printed
    /// before and did not take back, if there is one, until this one's end. What was printed for another target is revoked.
    ///
    /// # Errors
    /// As [`Book::issue`].
    pub fn print(&mut self, wanted: Terms, target: &str, now: u64) -> Result<Terms, BookError> {
        self.revoke_printed(&wanted.service, Some(target), now);
        let live = |entry: &&mut Entry| {
            entry.is_printed(&wanted.service) && entry.standing(now) == Standing::Valid
        };
        if let Some(entry) = self.tickets.iter_mut().find(live) {
            entry.expires = wanted.expires;
            return Ok(Terms { id: entry.id, ..wanted });
        }
        self.issue(&wanted, now)?;
        if let Some(entry) = self.entry_mut(wanted.id) {
            entry.printed_for = Some(target.to_owned());
        }
        Ok(wanted)
    }

    /// Revokes what was printed for a service, unless for the target `kept`. Which were good until then.
    pub fn revoke_printed(&mut self, service: &Service, kept: Option<&str>, now: u64) -> Vec<TicketId> {
        let printed = self.tickets.iter_mut().filter(|entry| entry.is_printed(service));
        let others = printed.filter(|entry| kept.is_none() || entry.printed_for.as_deref() != kept);
        let good = others.filter(|entry| entry.standing(now) == Standing::Valid);
        let revoked = good.map(|entry| {
            entry.revoked = Some(now);
            entry.id
        });
        revoked.collect()
    }

    /// Uses a single-use ticket up; `None` if it is not there, revoked or used already.
    pub fn burn(&mut self, id: TicketId, peer: PeerId, now: u64) -> Option<UseId> {
        let entry =
            self.entry_mut(id).filter(|entry| entry.revoked.is_none() && entry.used.is_none())?;
        let this = UseId(rand::random());
        entry.used = Some(Use { peer, at: now, id: this });
        Some(this)
    }

    /// Takes back a use: nothing came of it. Another use stays.
    pub fn put_back(&mut self, id: TicketId, this: UseId) {
        if let Some(entry) = self.entry_mut(id) {
            entry.used.take_if(|made| made.id == this);
        }
    }

    /// Revokes tickets: all of them, or none if one is not there. What was revoked stays as it is.
    ///
    /// # Errors
    /// If one is not there.
    pub fn revoke(&mut self, ids: &[TicketId], now: u64) -> Result<(), BookError> {
        if let Some(id) = ids.iter().find(|id| self.entry(**id).is_none()) {
            return Err(BookError::Unknown { id: *id });
        }
        for id in ids {
            if let Some(entry) = self.entry_mut(*id) {
                entry.revoked.get_or_insert(now);
            }
        }
        Ok(())
    }
}

impl Entry {
    /// How the ticket stands.
    pub fn standing(&self, now: u64) -> Standing {
        if self.revoked.is_some() {
            Standing::Revoked
        } else if self.used.is_some() {
            Standing::Used
        } else if self.expires <= now {
            Standing::Expired
        } else {
            Standing::Valid
        }
    }

    fn is_printed(&self, service: &Service) -> bool {
        self.printed_for.is_some() && self.service == *service
    }

    fn is_long_expired(&self, now: u64) -> bool {
        self.expires.saturating_add(KEPT_AFTER_EXPIRY) <= now
    }

    fn is_dispensable(&self, now: u64) -> bool {
        match self.revoked {
            Some(at) => at.saturating_add(KEPT_AFTER_REVOCATION) <= now,
            None => self.expires <= now,
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Revoked => "revoked",
            Self::Used => "used",
            Self::Expired => "expired",
            Self::Valid => "valid",
        })
    }
}

fn service<'de, D: Deserializer<'de>>(from: D) -> Result<Service, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn terms(expires: u64) -> Terms {
        Terms { id: TicketId::random(), service: "kaspad".parse().unwrap(), expires, once: true }
    }

    fn full(expires: u64) -> Book {
        let mut book = Book::default();
        (0..ENTRIES_MAX).for_each(|_| book.issue(&terms(expires), NOW).unwrap());
        book
    }

    #[test]
    fn a_full_book_takes_no_more_until_a_ticket_is_dispensable() {
        let later = NOW + KEPT_AFTER_REVOCATION;
        let mut book = full(NOW + 3600);
        assert_eq!(book.issue(&terms(NOW + 1), NOW), Err(BookError::Full));
        let [used, revoked] = [book.entries()[7].id, book.entries()[9].id];
        book.burn(used, PeerId::random(), NOW).unwrap();
        assert_eq!(book.issue(&terms(NOW + 1), NOW), Err(BookError::Full), "a used one is remembered");
        book.revoke(&[revoked], NOW).unwrap();
        assert_eq!(
            book.issue(&terms(NOW + 1), later - 1),
            Err(BookError::Full),
            "nobody may have seen it"
        );
        book.issue(&terms(NOW + 7200), later).unwrap();
        assert!(book.entry(revoked).is_none() && book.entry(used).is_some());
        assert_eq!(book.entries().len(), ENTRIES_MAX);
    }

    #[test]
    fn the_expired_make_room_and_the_one_that_ended_first_goes_first() {
        let mut book = full(NOW + 3600);
        let first = book.entries()[5].id;
        book.tickets[5].expires = NOW + 10;
        book.tickets[6].expires = NOW + 20;
        book.issue(&terms(NOW + 7200), NOW + 30).unwrap();
        assert!(book.entry(first).is_none());
        assert_eq!(book.entries().len(), ENTRIES_MAX);
    }

    #[test]
    fn what_expired_long_ago_is_dropped() {
        let mut book = full(NOW + 1);
        book.issue(&terms(u64::MAX), NOW + KEPT_AFTER_EXPIRY).unwrap();
        assert_eq!(book.entries().len(), ENTRIES_MAX, "one made room");
        book.issue(&terms(u64::MAX), NOW + 1 + KEPT_AFTER_EXPIRY).unwrap();
        assert_eq!(book.entries().len(), 2);
    }

    #[test]
    fn a_ticket_burns_once_and_only_its_own_use_is_put_back() {
        let (mut book, peer) = (Book::default(), PeerId::random());
        let terms = terms(NOW + 1);
        book.issue(&terms, NOW).unwrap();
        let first = book.burn(terms.id, peer, NOW).unwrap();
        assert_eq!(book.burn(terms.id, peer, NOW), None);
        book.put_back(terms.id, first);
        let second = book.burn(terms.id, peer, NOW).unwrap();
        book.put_back(terms.id, first);
        assert_eq!(book.entry(terms.id).unwrap().used, Some(Use { peer, at: NOW, id: second }));
    }

    #[test]
    fn revoking_is_for_all_or_none_and_the_first_time_stands() {
        let mut book = Book::default();
        let [a, b] = [terms(NOW), terms(NOW)];
        book.issue(&a, NOW).unwrap();
        assert_eq!(book.revoke(&[a.id, b.id], NOW), Err(BookError::Unknown { id: b.id }));
        assert_eq!(book.entry(a.id).unwrap().revoked, None);
        book.revoke(&[a.id], NOW + 1).unwrap();
        book.revoke(&[a.id], NOW + 2).unwrap();
        assert_eq!(book.entry(a.id).unwrap().revoked, Some(NOW + 1));
        assert_eq!(book.burn(a.id, PeerId::random(), NOW), None);
    }

    #[test]
    fn a_ticket_stands_as_the_worst_that_became_of_it() {
        let mut book = Book::default();
        let terms = terms(NOW + 10);
        book.issue(&terms, NOW).unwrap();
        let standing = |book: &Book, now| book.entry(terms.id).unwrap().standing(now);
        assert_eq!(standing(&book, NOW + 9), Standing::Valid);
        assert_eq!(standing(&book, NOW + 10), Standing::Expired);
        book.burn(terms.id, PeerId::random(), NOW).unwrap();
        assert_eq!(standing(&book, NOW + 10), Standing::Used);
        book.revoke(&[terms.id], NOW).unwrap();
        assert_eq!(standing(&book, NOW), Standing::Revoked);
    }

    #[test]
    fn a_program_that_starts_again_prints_the_ticket_that_it_did_not_take_back() {
        let (mut book, first) = (Book::default(), terms(NOW + 3600));
        assert_eq!(book.print(first.clone(), "127.0.0.1:8000", NOW), Ok(first.clone()));
        for start in 1..2 * ENTRIES_MAX as u64 {
            let again = book.print(terms(NOW + 3600 + start), "127.0.0.1:8000", NOW + start).unwrap();
            assert_eq!((again.id, again.expires), (first.id, NOW + 3600 + start));
        }
        assert_eq!(book.entries().len(), 1, "crashes do not fill it");
        assert_eq!(book.revoke_printed(&first.service, None, NOW), [first.id]);
        let then = book.print(terms(NOW + 3600), "127.0.0.1:8000", NOW).unwrap();
        assert_ne!(then.id, first.id, "what was taken back is gone");
    }

    #[test]
    fn a_ticket_that_was_printed_for_another_target_is_void_and_one_that_a_person_made_is_not() {
        let (mut book, made, printed) = (Book::default(), terms(NOW + 60), terms(NOW + 60));
        book.issue(&made, NOW).unwrap();
        book.print(printed.clone(), "127.0.0.1:8000", NOW).unwrap();
        let other = book.print(terms(NOW + 60), "127.0.0.1:9000", NOW).unwrap();
        let standing = |book: &Book, id| book.entry(id).unwrap().standing(NOW);
        assert_eq!(standing(&book, printed.id), Standing::Revoked);
        assert_eq!(standing(&book, other.id), Standing::Valid);
        assert_eq!(book.revoke_printed(&made.service, None, NOW), [other.id]);
        assert_eq!(standing(&book, made.id), Standing::Valid);
    }

    #[test]
    fn a_shorter_lifetime_holds_for_the_line_that_was_printed_before_too() {
        let (mut book, long) = (Book::default(), terms(NOW + 7 * 24 * 3600));
        book.print(long.clone(), "127.0.0.1:8000", NOW).unwrap();
        book.print(terms(NOW + 60), "127.0.0.1:8000", NOW).unwrap();
        assert_eq!(book.entry(long.id).unwrap().standing(NOW + 60), Standing::Expired);
    }
}
