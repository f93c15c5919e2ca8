//! Decides.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::IpAddr,
    time::Instant,
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::{
    ADDRESSES_MAX, ADMITTED_MAX, Action, DIAL_DEADLINE, DIALS_MAX, Denial, FAILURES_MAX,
    FAILURES_WITHIN, Input, REACHED_LATELY, REST, RESTING_MAX, Settings, WAITING_MAX,
    groups::{self, Bucket, Crowd, Groups, ip_of},
};

/// Decides who enters the table.
pub struct Admission {
    settings: Settings,
    groups: Groups,
    pub(super) waiting: VecDeque<(PeerId, Vec<Multiaddr>)>,
    /// Until when a dial may take.
    pub(super) dialling: BTreeMap<PeerId, Instant>,
    /// Where those that are dialled said that they are.
    named: BTreeMap<PeerId, Vec<Multiaddr>>,
    /// Reached before they identified themselves.
    pub(super) proved: BTreeMap<PeerId, (Instant, Multiaddr)>,
    /// Not to be dialled before.
    pub(super) resting: BTreeMap<PeerId, Instant>,
    admitted: BTreeMap<PeerId, Member>,
    entered: u64,
    actions: VecDeque<Action>,
    denials: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Member {
    addresses: Vec<Multiaddr>,
    /// In which order they came.
    entered: u64,
    bucket: Bucket,
    /// When it was last reached.
    reached: Instant,
    failures: Vec<Instant>,
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("admitted", &self.admitted.len()).finish_non_exhaustive()
    }
}

impl Admission {
    /// An empty table.
    pub fn new(settings: Settings) -> Self {
        Self {
            groups: Groups::new(settings.local),
            settings,
            waiting: VecDeque::new(),
            dialling: BTreeMap::new(),
            named: BTreeMap::new(),
            proved: BTreeMap::new(),
            resting: BTreeMap::new(),
            admitted: BTreeMap::new(),
            entered: 0,
            actions: VecDeque::new(),
            denials: BTreeMap::new(),
        }
    }

    /// Takes what happened.
    pub fn handle(&mut self, input: Input, now: Instant) {
        let denied = match input {
            Input::Identified { peer, serves, addresses } => {
                self.identified(peer, serves, addresses, now)
            }
            Input::Reached { peer, address } => self.reached(peer, address, now),
            Input::Unreached { peer } => self.unreached(peer, now),
            Input::Left { peer } => {
                self.forget(peer);
                Ok(())
            }
            Input::Shunned { peer } => {
                self.waiting.retain(|(waiting, _)| *waiting != peer);
                self.dialling.remove(&peer);
                self.proved.remove(&peer);
                self.remove(peer);
                Ok(())
            }
        };
        if let Err(denial) = denied {
            *self.denials.entry(denial.name()).or_default() += 1;
        }
        self.dial(now);
        let dialling = &self.dialling;
        self.named.retain(|peer, _| dialling.contains_key(peer));
    }

    /// Dials that take too long have failed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let late: Vec<PeerId> =
            self.dialling.iter().filter(|(_, until)| **until <= now).map(|(peer, _)| *peer).collect();
        for peer in late {
            self.handle(Input::Unreached { peer }, now);
        }
        self.resting.retain(|_, until| *until > now);
        self.proved.retain(|_, (until, _)| *until > now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let proved = self.proved.values().map(|(until, _)| until);
        self.dialling.values().chain(self.resting.values()).chain(proved).min().copied()
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether a peer is in the table.
    pub fn is_admitted(&self, peer: &PeerId) -> bool {
        self.admitted.contains_key(peer)
    }

    /// Whether a peer that is dialled back said itself that it is at this address.
    pub fn was_named(&self, peer: &PeerId, address: &Multiaddr) -> bool {
        let plain = self.usable(address.clone(), *peer);
        let named = self.named.get(peer).filter(|_| self.dialling.contains_key(peer));
        named.is_some_and(|named| plain.is_some_and(|plain| named.contains(&plain)))
    }

    /// Peers in the table.
    pub fn count(&self) -> usize {
        self.admitted.len()
    }

    /// How often who was not let in, by the names of [`Denial::name`].
    pub fn denials(&self) -> &BTreeMap<&'static str, u64> {
        &self.denials
    }

    fn identified(
        &mut self,
        peer: PeerId,
        serves: bool,
        addresses: Vec<Multiaddr>,
        now: Instant,
    ) -> Result<(), Denial> {
        if peer == self.settings.local {
            return Ok(());
        }
        if !serves {
            self.waiting.retain(|(waiting, _)| *waiting != peer);
            return if self.remove(peer) { Err(Denial::NoServer) } else { Ok(()) };
        }
        let busy = self.dialling.contains_key(&peer)
            || self.waiting.iter().any(|(waiting, _)| *waiting == peer);
        if busy || self.admitted.contains_key(&peer) {
            return Ok(());
        }
        if let Some((_, address)) = self.proved.remove(&peer) {
            return self.admit(peer, address, now);
        }
        if self.resting.get(&peer).is_some_and(|until| *until > now) {
            return Err(Denial::Rests);
        }
        let dialled = addresses.into_iter().filter_map(|address| self.usable(address, peer));
        let dialled: Vec<Multiaddr> = dialled.take(ADDRESSES_MAX).collect();
        if dialled.is_empty() {
            return Err(Denial::NoAddress);
        }
        // All of its addresses may be in crowds: then there is no need to dial.
        let crowds = dialled.iter().map(|address| self.crowd(peer, address));
        if let Some(crowd) = crowds.reduce(Option::and).flatten() {
            return Err(crowd.into());
        }
        if !self.has_room(peer, now) {
            return Err(Denial::Bucket);
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(Denial::Busy);
        }
        self.waiting.push_back((peer, dialled));
        Ok(())
    }

    fn reached(&mut self, peer: PeerId, address: Multiaddr, now: Instant) -> Result<(), Denial> {
        let asked = self.dialling.remove(&peer).is_some();
        self.resting.remove(&peer);
        let Some(address) = self.usable(address, peer) else {
            return if asked { Err(Denial::NoAddress) } else { Ok(()) };
        };
        if let Some(member) = self.admitted.get_mut(&peer) {
            member.failures.clear();
            member.reached = now;
            let known = member.addresses.contains(&address) || member.addresses.len() >= ADDRESSES_MAX;
            return if known { Ok(()) } else { self.admit(peer, address, now) };
        }
        let before = self.waiting.len();
        self.waiting.retain(|(waiting, _)| *waiting != peer);
        if asked || self.waiting.len() < before {
            return self.admit(peer, address, now);
        }
        if self.proved.len() >= WAITING_MAX {
            let oldest = self.proved.iter().min_by_key(|(_, (until, _))| *until).map(|(peer, _)| *peer);
            oldest.map(|oldest| self.proved.remove(&oldest));
        }
        self.proved.insert(peer, (now + REST, address));
        Ok(())
    }

    fn unreached(&mut self, peer: PeerId, now: Instant) -> Result<(), Denial> {
        if let Some(member) = self.admitted.get_mut(&peer) {
            member.failures.retain(|at| now.saturating_duration_since(*at) < FAILURES_WITHIN);
            member.failures.push(now);
            if member.failures.len() >= FAILURES_MAX {
                self.remove(peer);
            }
            return Ok(());
        }
        if self.dialling.remove(&peer).is_none() {
            return Ok(());
        }
        self.rest(peer, now);
        Err(Denial::Unreached)
    }

    /// Whether a peer may enter its bucket: that is not full, or one of those in it was not reached for long, which the library
    /// looks after before the other takes its place.
    fn has_room(&self, peer: PeerId, now: Instant) -> bool {
        if self.settings.trusted.contains(&peer) || self.admitted.contains_key(&peer) {
            return true;
        }
        let bucket = self.groups.bucket(&peer);
        let members = || self.admitted.values().filter(|member| member.bucket == bucket);
        let is_stale = |member: &Member| now.saturating_duration_since(member.reached) >= REACHED_LATELY;
        members().count() < self.settings.bucket_size || members().any(is_stale)
    }

    fn admit(&mut self, peer: PeerId, address: Multiaddr, now: Instant) -> Result<(), Denial> {
        if let Some(crowd) = self.crowd(peer, &address) {
            return Err(crowd.into());
        }
        if !self.has_room(peer, now) {
            return Err(Denial::Bucket);
        }
        if self.admitted.len() >= ADMITTED_MAX && !self.admitted.contains_key(&peer) {
            return Err(Denial::Full);
        }
        self.entered += 1;
        let (entered, bucket, failures) = (self.entered, self.groups.bucket(&peer), Vec::new());
        let new = Member { addresses: Vec::new(), entered, bucket, reached: now, failures };
        let member = self.admitted.entry(peer).or_insert(new);
        member.addresses.push(address.clone());
        if let Some(ip) = self.counted(peer, &address) {
            self.groups.insert(peer, ip);
        }
        self.actions.push_back(Action::Admit { peer, address });
        self.thin_out();
        Ok(())
    }

    /// While the table was small anybody was let in. Now that it is not, one who came last of a crowd makes way.
    fn thin_out(&mut self) {
        if self.admitted.len() <= groups::TABLE_MIN {
            return;
        }
        let crowded = self.admitted.iter().filter(|(peer, _)| self.groups.is_surplus(peer));
        let last = crowded.max_by_key(|(_, member)| member.entered).map(|(peer, _)| *peer);
        last.map(|last| self.remove(last));
    }

    /// In what crowd a peer would be at this address.
    fn crowd(&self, peer: PeerId, address: &Multiaddr) -> Option<Crowd> {
        let ip = self.counted(peer, address)?;
        if self.admitted.len() < groups::TABLE_MIN { None } else { self.groups.crowd(&peer, ip) }
    }

    /// The IP address, if it is one of those that are counted.
    fn counted(&self, peer: PeerId, address: &Multiaddr) -> Option<IpAddr> {
        let ip = ip_of(address).filter(|ip| !(self.settings.exempt)(*ip))?;
        if self.settings.trusted.contains(&peer) { None } else { Some(ip) }
    }

    /// A direct address that may be dialled and handed on, without the peer's id at the end.
    fn usable(&self, mut address: Multiaddr, peer: PeerId) -> Option<Multiaddr> {
        if let Some(Protocol::P2p(named)) = address.iter().last() {
            if named != peer {
                return None;
            }
            address.pop();
        }
        if address.iter().any(|part| part == Protocol::P2pCircuit) {
            return None;
        }
        let trusted = self.settings.trusted.contains(&peer);
        // What a name leads to another time is not what was reached.
        let named = address.iter().any(|part| is_name(&part));
        let admitted = trusted || (!named && self.settings.addresses.admits(&address, peer));
        admitted.then_some(address)
    }

    fn dial(&mut self, now: Instant) {
        while self.dialling.len() < DIALS_MAX {
            let Some((peer, addresses)) = self.waiting.pop_front() else { return };
            self.dialling.insert(peer, now + DIAL_DEADLINE);
            self.named.insert(peer, addresses.clone());
            self.actions.push_back(Action::Dial { peer, addresses });
        }
    }

    fn remove(&mut self, peer: PeerId) -> bool {
        let was = self.forget(peer);
        if was {
            self.actions.push_back(Action::Remove { peer });
        }
        was
    }

    fn forget(&mut self, peer: PeerId) -> bool {
        self.groups.remove(&peer);
        self.admitted.remove(&peer).is_some()
    }

    fn rest(&mut self, peer: PeerId, now: Instant) {
        if self.resting.len() >= RESTING_MAX {
            let first = self.resting.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer);
            first.map(|first| self.resting.remove(&first));
        }
        self.resting.insert(peer, now + REST);
    }
}

fn is_name(part: &Protocol<'_>) -> bool {
    matches!(part, Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_))
}
