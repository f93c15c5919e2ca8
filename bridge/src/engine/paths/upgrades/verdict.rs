//! What an upgrade came to, and why it came to nothing, as far as this end knows.

use std::{
    mem::{Discriminant, discriminant},
    time::Duration,
};

use libp2p::Multiaddr;

use crate::{
    addr::policy::{MAPPED_MAX, without_peer},
    engine::input::{Offer, Role},
    error::{DialFailures, DialOutcome, Family, PunchVerdict, SeenOver, Tried, UpgradeFailure},
    nat::{NatKind, NatKinds},
};

/// Addresses whose latest outcome is kept: those of two rounds with all their candidates.
const TRIED_MAX: usize = 16;

/// How an upgrade went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Upgraded {
    pub(crate) took: Duration,
    pub(crate) attempts: u32,
    /// As what this end dialled the connection, if it was a dial of the upgrade.
    pub(crate) role: Option<Role>,
    /// What we offered to the peer, if that far.
    pub(crate) ours: Option<Offer>,
    /// What the peer said of itself.
    pub(crate) theirs: Claims,
}

/// An upgrade came to nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GaveUp {
    pub(crate) reason: UpgradeFailure,
    pub(crate) attempts: u32,
    /// What the peer said of its NAT.
    pub(crate) theirs: NatKind,
    pub(crate) tried: Vec<Tried>,
    /// Until the next round, if this end begins it.
    pub(crate) again: Option<Duration>,
    /// The same was not said before.
    pub(crate) is_news: bool,
}

/// How well a peer can be reached, as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) nat: NatKinds,
    /// Over IPv4 and over IPv6, whether it has an address that lets anybody in.
    open: [bool; 2],
    /// Those of its addresses that are mapped at its router; at most [`MAPPED_MAX`].
    mapped: Vec<Multiaddr>,
}

impl Claims {
    fn new(theirs: &Offer) -> Self {
        let mapped = theirs.mapped.iter().take(MAPPED_MAX).map(without_peer).collect();
        Self { nat: theirs.nat, open: [theirs.open, theirs.open_v6], mapped }
    }

    /// Whether the peer says that it lets anybody in over this family of addresses.
    pub(crate) fn is_open(&self, family: Family) -> bool {
        self.open[usize::from(family == Family::V6)]
    }

    /// Whether the peer says that this address is mapped.
    pub(crate) fn is_mapped(&self, address: &Multiaddr) -> bool {
        self.mapped.contains(&without_peer(address))
    }
}

/// Families of addresses over which no punch can succeed, each with the reason.
#[derive(Debug, Default)]
pub(crate) struct RuledOut {
    v4: Option<UpgradeFailure>,
    v6: Option<UpgradeFailure>,
}

impl RuledOut {
    pub(crate) fn is(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4.is_some(),
            Family::V6 => self.v6.is_some(),
        }
    }

    /// What to say where nothing can be dialled for it; none: nothing is ruled out.
    pub(crate) fn reason(self) -> Option<UpgradeFailure> {
        self.v4.or(self.v6)
    }
}

/// What the rounds brought to light.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What we offered in the latest exchange.
    pub(super) ours: Option<Offer>,
    /// No relay could tell us an address, since all are reached over WebSockets.
    pub(super) web_only: bool,
    /// Over what each end has public addresses, where they have nothing in common.
    pub(super) apart: Option<(SeenOver, SeenOver)>,
    /// What the peer said of itself.
    pub(super) theirs: Claims,
    /// Since the last verdict.
    failures: DialFailures,
    tried: Vec<Tried>,
    /// Why the latest round failed, if not for its dials.
    pub(super) reason: Option<UpgradeFailure>,
    /// What was said: the same is not said again and again. Bounded by the kinds of reasons.
    said: Vec<Kind>,
    latest: Option<UpgradeFailure>,
}

/// Reasons of one kind are said once; of what the peer says each verdict is a kind.
type Kind = (Discriminant<UpgradeFailure>, Option<PunchVerdict>);

fn kind(reason: &UpgradeFailure) -> Kind {
    let verdict = match reason {
        UpgradeFailure::AtPeer { verdict } => Some(*verdict),
        _ => None,
    };
    (discriminant(reason), verdict)
}

impl Findings {
    pub(super) fn offered(&mut self, ours: &Offer) {
        self.ours = Some(ours.clone());
    }

    /// The latest verdict.
    pub(super) fn latest(&self) -> Option<&UpgradeFailure> {
        self.latest.as_ref()
    }

    /// Whatever was said before, the next verdict is said again.
    pub(super) fn begin_anew(&mut self) {
        self.said.clear();
    }

    /// By family of addresses, why a punch cannot succeed: the NATs rule it out, and nobody has an address of that family
    /// that lets others in.
    pub(super) fn compare(&mut self, theirs: &Offer) -> RuledOut {
        self.theirs = Claims::new(theirs);
        let Some(offer) = &self.ours else { return RuledOut::default() };
        let of = |family| {
            let (ours, theirs_nat) = (offer.nat.of(family), theirs.nat.of(family));
            let open = offer.is_open(family) || theirs.is_open(family);
            let ruled_out = !open && ours.rules_out_punch(theirs_nat);
            ruled_out.then_some(UpgradeFailure::PortsChange { ours, theirs: theirs_nat })
        };
        RuledOut { v4: of(Family::V4), v6: of(Family::V6) }
    }

    pub(super) fn add(&mut self, tried: Vec<Tried>) {
        if tried.is_empty() {
            self.failures.count(DialOutcome::Other);
        }
        for one in tried {
            self.failures.count(one.outcome);
            self.tried.retain(|known| known.address != one.address);
            self.tried.push(one);
        }
        let surplus = self.tried.len().saturating_sub(TRIED_MAX);
        self.tried.drain(..surplus);
    }

    /// What the peer says counts where this end knows nothing better. That the peer ended the exchange is no reason: it
    /// did so for the one that it says.
    pub(super) fn peer_failed(&mut self, why: UpgradeFailure) {
        let unknown = matches!(self.reason, None | Some(UpgradeFailure::Exchange { .. }));
        let nothing = unknown && self.failures == DialFailures::default();
        if nothing || why.is_final() {
            self.reason = Some(why);
        }
    }

    pub(super) fn verdict(&mut self, attempts: u32, again: Option<Duration>) -> GaveUp {
        let failures = std::mem::take(&mut self.failures);
        let reason = self.reason.take().unwrap_or(UpgradeFailure::PunchFailed { failures });
        // Others end an exchange in which nothing is offered to them; and a dial alone is no punch.
        let for_want =
            matches!(reason, UpgradeFailure::Exchange { .. } | UpgradeFailure::PunchFailed { .. });
        let nothing_offered = self.ours.as_ref().is_some_and(|ours| ours.candidates.is_empty());
        let reason = match nothing_offered && for_want {
            true => UpgradeFailure::NoCandidateHere,
            false => reason,
        };
        let reason = match self.web_only && !reason.is_final() {
            true => UpgradeFailure::WebOnly,
            false => reason,
        };
        let reason = match (reason, self.apart) {
            (UpgradeFailure::PunchFailed { .. }, Some((ours, theirs))) => {
                UpgradeFailure::NothingInCommon { ours, theirs }
            }
            (reason, _) => reason,
        };
        self.latest = Some(reason.clone());
        let is_news = !self.said.contains(&kind(&reason));
        let tried = if is_news { std::mem::take(&mut self.tried) } else { Vec::new() };
        if is_news {
            self.said.push(kind(&reason));
        }
        GaveUp { reason, attempts, theirs: self.theirs.nat.main(), tried, again, is_news }
    }
}
