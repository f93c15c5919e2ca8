//! The decision on each stream: before a byte of it reaches the target, and again and again while it runs.

use std::{
    collections::HashSet,
    fmt,
    path::PathBuf,
    sync::{Mutex, PoisonError, RwLock},
    time::SystemTime,
};

use libp2p::PeerId;
use punchline_bridge::{Service, error::Refusal};

use super::{
    allow::{self, AllowError},
    book::{Book, Standing, UseId},
    capability::{Capability, CapabilityError, TicketId, unix_seconds},
    ledger::{Ledger, LedgerError, Snapshot},
};
use crate::names::NamesFile;

/// Who may come in.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// These peers.
    pub allow: Vec<PeerId>,
    /// And those in this file: one peer a line, by its id or its name, `#` begins a comment.
    pub allow_file: Option<PathBuf>,
    /// What peers are called in it.
    pub names: NamesFile,
    /// Everybody who knows this node's peer id.
    pub allow_any: bool,
    /// And holders of tickets that this node has issued.
    pub tickets: bool,
}

/// Why there is no gate, or it could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The rules let nobody in.
    #[error(
        "nobody would be let in: say whom with --allow <peer id> or --allow-file, or let everybody in who knows this node's peer id, with --allow-any"
    )]
    Nobody,
    /// The allow file.
    #[error(transparent)]
    Allow(#[from] AllowError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Lets peers in, or not. Of one exposed service, or shared by several.
#[derive(Debug)]
pub struct Gate {
    rules: Rules,
    listed: RwLock<HashSet<PeerId>>,
    issuer: PeerId,
    ledger: Ledger,
    seen: Mutex<Option<Snapshot>>,
}

/// The peers that are to be let in by name.
#[derive(Debug)]
pub struct Listed(HashSet<PeerId>);

impl Listed {
    /// How many they are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// The right of one stream to run, for as long as it [stands](Gate::stands).
#[derive(Debug, PartialEq, Eq)]
pub struct Pass {
    peer: PeerId,
    ground: Ground,
}

/// Why a peer was let in.
#[derive(Debug, PartialEq, Eq)]
enum Ground {
    Anybody,
    Listed,
    Ticket { id: TicketId, expires: u64, burnt: Option<UseId> },
}

/// Why a peer was not let in. For our own eyes: the peer is told [`Denial::refusal`].
#[derive(Debug, thiserror::Error)]
pub enum Denial {
    /// It is not on the list, and has no ticket.
    #[error("the peer is not on the allow list and presented no ticket")]
    NotAllowed,
    /// What it presented is no ticket.
    #[error("the peer presented something that is no ticket: {0}")]
    Malformed(CapabilityError),
    /// Its ticket is not by us, whatever it says.
    #[error("the peer presented a ticket that this node has not signed")]
    Forged,
    /// Its ticket is for something else.
    #[error("ticket {id} is for `{service}`")]
    WrongService {
        /// Which ticket.
        id: TicketId,
        /// What it is for.
        service: Service,
    },
    /// The ticket's time is over.
    #[error("ticket {id} has expired")]
    Expired {
        /// Which ticket.
        id: TicketId,
    },
    /// The ticket was for one use.
    #[error("ticket {id} was for one use, and has been used")]
    Used {
        /// Which ticket.
        id: TicketId,
    },
    /// The ticket was revoked.
    #[error("ticket {id} was revoked")]
    Revoked {
        /// Which ticket.
        id: TicketId,
    },
    /// We signed the ticket, and the ledger does not know it: the ledger was moved away, which voids all.
    #[error("ticket {id} does not stand in the ledger")]
    Unknown {
        /// Which ticket.
        id: TicketId,
    },
    /// Whether the ticket is good cannot be told now.
    #[error("ticket {id} cannot be looked up: {cause}")]
    Ledger {
        /// Which ticket.
        id: TicketId,
        /// Why not.
        cause: LedgerError,
    },
}

impl Denial {
    /// What the peer is told. Whether a service exists is told to nobody but the holders of tickets
    /// for it.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::NotAllowed | Self::Malformed(_) | Self::Forged | Self::WrongService { .. } => {
                Refusal::NotServed
            }
            Self::Expired { .. } => Refusal::TicketExpired,
            Self::Used { .. } => Refusal::TicketUsed,
            Self::Revoked { .. } | Self::Unknown { .. } => Refusal::TicketRevoked,
            Self::Ledger { .. } => Refusal::Busy,
        }
    }
}

impl Gate {
    /// Reads the allow file and the ledger (if tickets are taken) for the node `issuer`.
    ///
    /// # Errors
    /// If nobody could come in, or a file cannot be used. A ledger that does not exist yet is empty.
    pub fn open(rules: Rules, issuer: PeerId, ledger: PathBuf) -> Result<Self, AccessError> {
        let Rules { allow, allow_file, allow_any, tickets, names: _ } = &rules;
        if allow.is_empty() && allow_file.is_none() && !allow_any && !tickets {
            return Err(AccessError::Nobody);
        }
        let listed = RwLock::new(listed(&rules)?);
        let ledger = Ledger::at(ledger);
        let seen = if *tickets { Some(ledger.snapshot()?) } else { None };
        Ok(Self { rules, listed, issuer, ledger, seen: Mutex::new(seen) })
    }

    /// Decides on a stream of `peer` for `service`, which presents `ticket` (empty: none). If tickets
    /// are taken and one is presented, it alone decides; else the list. A single-use ticket is used up
    /// when this returns: that writes to the disk, which blocks for milliseconds and at most 2 s.
    ///
    /// # Errors
    /// If the peer may not come in.
    pub fn admit(
        &self,
        peer: PeerId,
        service: &Service,
        ticket: &[u8],
        now: SystemTime,
    ) -> Result<Pass, Denial> {
        let ground = if self.rules.tickets && !ticket.is_empty() {
            self.honour(peer, service, ticket, unix_seconds(now))?
        } else if self.rules.allow_any {
            Ground::Anybody
        } else if self.is_listed(peer) {
            Ground::Listed
        } else {
            return Err(Denial::NotAllowed);
        };
        Ok(Pass { peer, ground })
    }

    /// Undoes the use of a single-use ticket: the target could not be reached. Blocks as
    /// [`Gate::admit`] does.
    pub fn put_back(&self, pass: &Pass) {
        let Ground::Ticket { id, burnt: Some(this), .. } = pass.ground else { return };
        if let Err(error) = self.ledger.change(|book| book.put_back(id, this)) {
            tracing::warn!(%id, %error, "a single-use ticket stays used though its target was not reached");
        }
    }

    /// Reads the allow file again; [`relist`](Gate::relist) makes it hold.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn reread(&self) -> Result<Listed, AccessError> {
        Ok(Listed(listed(&self.rules)?))
    }

    /// Lets these peers in by name from now on, and no others.
    pub fn relist(&self, Listed(listed): Listed) {
        *self.listed.write().unwrap_or_else(PoisonError::into_inner) = listed;
    }

    /// Reads the allow file again.
    ///
    /// # Errors
    /// If it cannot be used. The list is what it was then.
    pub fn reload(&self) -> Result<(), AccessError> {
        self.relist(self.reread()?);
        Ok(())
    }

    /// Whether a stream that was let in may run on: not if its peer is no longer listed, or its ticket
    /// was revoked. That a ticket expires does not end the streams that it opened. Cheap: one look at
    /// the ledger's metadata at most. A ledger that cannot be read ends them, since it may revoke them.
    pub fn stands(&self, pass: &Pass) -> bool {
        self.stands_at(pass, unix_seconds(SystemTime::now()))
    }

    pub(super) fn stands_at(&self, pass: &Pass, now: u64) -> bool {
        let (id, expires) = match pass.ground {
            Ground::Anybody => return true,
            Ground::Listed => return self.is_listed(pass.peer),
            Ground::Ticket { id, expires, .. } => (id, expires),
        };
        let entry = self.with_book(|book| book.entry(id).map(|entry| entry.revoked.is_some()));
        match entry {
            Ok(Some(revoked)) => !revoked,
            // The ledger drops what has expired, not what was revoked a moment ago.
            Ok(None) => expires <= now,
            Err(error) => {
                tracing::warn!(%id, %error, "a stream is cut: whether its ticket was revoked is unknown");
                false
            }
        }
    }

    /// The peers that it lets in by name.
    pub fn listed(&self) -> Vec<PeerId> {
        self.listed.read().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    fn is_listed(&self, peer: PeerId) -> bool {
        self.listed.read().unwrap_or_else(PoisonError::into_inner).contains(&peer)
    }

    /// Checks a ticket, in the order in which its holder may learn: nothing but for whom we signed.
    fn honour(
        &self,
        peer: PeerId,
        service: &Service,
        ticket: &[u8],
        now: u64,
    ) -> Result<Ground, Denial> {
        let capability = Capability::from_bytes(ticket).map_err(|error| match error {
            CapabilityError::Signature => Denial::Forged,
            error => Denial::Malformed(error),
        })?;
        if capability.issuer() != self.issuer {
            return Err(Denial::Forged);
        }
        let terms = capability.terms();
        let id = terms.id;
        if terms.service != *service {
            return Err(Denial::WrongService { id, service: terms.service.clone() });
        }
        if terms.expires <= now {
            return Err(Denial::Expired { id });
        }
        let unreadable = |cause| Denial::Ledger { id, cause };
        let look = |book: &Book| book.entry(id).map(|entry| entry.standing(now));
        let mut standing = self.with_book(look).map_err(unreadable)?;
        let mut burnt = None;
        // Only a good one is worth the lock, under which it is looked at again: another may have come first.
        if terms.once && standing == Some(Standing::Valid) {
            let burn = |book: &mut Book| (look(book), book.burn(id, peer, now));
            (standing, burnt) = self.ledger.change(burn).map_err(unreadable)?;
        }
        match standing {
            None => Err(Denial::Unknown { id }),
            Some(Standing::Revoked) => Err(Denial::Revoked { id }),
            Some(Standing::Used) => Err(Denial::Used { id }),
            Some(Standing::Expired) => Err(Denial::Expired { id }),
            Some(Standing::Valid) => Ok(Ground::Ticket { id, expires: terms.expires, burnt }),
        }
    }

    /// Looks into the ledger as it is now; it is read only if it has changed.
    fn with_book<T>(&self, look: impl FnOnce(&Book) -> T) -> Result<T, LedgerError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = match seen.take_if(|snapshot| self.ledger.is_current(snapshot)) {
            Some(current) => current,
            None => self.ledger.snapshot()?,
        };
        Ok(look(&seen.insert(snapshot).book))
    }
}

impl Pass {
    /// Who was let in.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// By which ticket, if by one.
    pub fn ticket(&self) -> Option<TicketId> {
        match self.ground {
            Ground::Ticket { id, .. } => Some(id),
            Ground::Anybody | Ground::Listed => None,
        }
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ground {
            Ground::Anybody => f.write_str("anybody is allowed"),
            Ground::Listed => f.write_str("on the allow list"),
            Ground::Ticket { id, .. } => write!(f, "ticket {id}"),
        }
    }
}

fn listed(rules: &Rules) -> Result<HashSet<PeerId>, AllowError> {
    let mut peers = match &rules.allow_file {
        Some(path) => allow::read(path, &rules.names)?,
        None => HashSet::new(),
    };
    peers.extend(&rules.allow);
    Ok(peers)
}
