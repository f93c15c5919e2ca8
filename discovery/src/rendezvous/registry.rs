//! Who is in which namespace, at a meeting point. Pure: `now` is an argument.
//!
//! Identities are free, and anybody may say that it is in any namespace: so all is bounded, by peer, by the address that it
//! came from, and in all.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use super::message::{NAMESPACE_BYTES_MAX, Refusal, Registration, Request, Response, Signed};

/// Registrations in all: with 2 KiB each, 20 MiB.
pub(super) const REGISTRATIONS_MAX: usize = 10_000;

/// Of one peer.
pub(super) const PER_PEER_MAX: usize = 32;

/// From one address, or one /64 of IPv6.
pub(super) const PER_PLACE_MAX: usize = 256;

/// In one answer: with all that they may hold, below the longest message.
pub(super) const ANSWERED_MAX: usize = 100;

/// How long one lasts: at least and if nothing is said (the specification's), and at most.
const LASTS: (Duration, Duration) = (Duration::from_secs(2 * 3600), Duration::from_secs(72 * 3600));

/// Between two looks at what is over.
const SWEEP: Duration = Duration::from_secs(60);

/// From where somebody came.
type Place = Option<IpAddr>;

#[derive(Debug)]
struct Entry {
    signed: Vec<u8>,
    place: Place,
    /// Rises with each registration.
    number: u64,
    until: Instant,
}

/// All registrations.
#[derive(Debug)]
pub(super) struct Registry {
    entries: HashMap<String, HashMap<PeerId, Entry>>,
    count: usize,
    by_peer: HashMap<PeerId, usize>,
    by_place: HashMap<Place, usize>,
    number: u64,
    /// Tells cookies of this process from those of an earlier one.
    epoch: u16,
    sweep_at: Instant,
}

impl Registry {
    /// `epoch`: any number, another one each time.
    pub(super) fn new(epoch: u16, now: Instant) -> Self {
        let (entries, by_peer, by_place) = Default::default();
        Self { entries, count: 0, by_peer, by_place, number: 0, epoch, sweep_at: now + SWEEP }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Answers a peer that came from `place`; none if there is no answer to what it says.
    pub(super) fn handle(
        &mut self,
        peer: PeerId,
        place: Option<IpAddr>,
        request: Request,
        now: Instant,
    ) -> Option<Response> {
        self.sweep(now);
        match request {
            Request::Register { namespace, signed, seconds } => {
                let place = place.map(group);
                Some(Response::Registered(self.register(peer, place, namespace, &signed, seconds, now)))
            }
            Request::Unregister { namespace } => {
                self.remove(&namespace, peer);
                None
            }
            Request::Discover { namespace, cookie, limit } => {
                Some(Response::Discovered(self.discover(&namespace, &cookie, limit, now)))
            }
        }
    }

    fn register(
        &mut self,
        peer: PeerId,
        place: Place,
        namespace: String,
        signed: &[u8],
        seconds: Option<u64>,
        now: Instant,
    ) -> Result<u64, Refusal> {
        if namespace.is_empty() || namespace.len() > NAMESPACE_BYTES_MAX {
            return Err(Refusal::Namespace);
        }
        let lasts = seconds.map_or(LASTS.0, Duration::from_secs);
        if !(LASTS.0..=LASTS.1).contains(&lasts) {
            return Err(Refusal::Time);
        }
        let signed = Signed::read(signed).ok_or(Refusal::Record)?;
        if signed.peer != peer {
            return Err(Refusal::Authority);
        }
        // Who says it again takes no other place than it has.
        self.remove(&namespace, peer);
        let has_room = self.count < REGISTRATIONS_MAX
            && count(&self.by_peer, &peer) < PER_PEER_MAX
            && count(&self.by_place, &place) < PER_PLACE_MAX;
        if !has_room {
            return Err(Refusal::Room);
        }
        self.number += 1;
        let entry = Entry { signed: signed.bytes, place, number: self.number, until: now + lasts };
        self.entries.entry(namespace).or_default().insert(peer, entry);
        self.count += 1;
        *self.by_peer.entry(peer).or_default() += 1;
        *self.by_place.entry(place).or_default() += 1;
        Ok(lasts.as_secs())
    }

    fn remove(&mut self, namespace: &str, peer: PeerId) {
        let Some(members) = self.entries.get_mut(namespace) else { return };
        let removed = members.remove(&peer);
        if members.is_empty() {
            self.entries.remove(namespace);
        }
        if let Some(entry) = removed {
            self.count -= 1;
            less(&mut self.by_peer, peer);
            less(&mut self.by_place, entry.place);
        }
    }

    /// Those that registered after the answer that the cookie is of, first come first.
    fn discover(
        &self,
        namespace: &str,
        cookie: &[u8],
        limit: Option<u64>,
        now: Instant,
    ) -> Result<(Vec<Registration>, Vec<u8>), Refusal> {
        // Who is here at all, nobody is told.
        if namespace.is_empty() || namespace.len() > NAMESPACE_BYTES_MAX {
            return Err(Refusal::Namespace);
        }
        let after = if cookie.is_empty() { 0 } else { self.number_of(cookie, namespace)? };
        let all = self.entries.get(namespace).into_iter().flat_map(HashMap::values);
        let new = all.filter(|entry| entry.number > after && entry.until > now);
        let mut found: Vec<&Entry> = new.collect();
        found.sort_by_key(|entry| entry.number);
        let limit = limit.map_or(ANSWERED_MAX, |limit| (limit as usize).clamp(1, ANSWERED_MAX));
        found.truncate(limit);
        let last = found.last().map_or(after, |entry| entry.number);
        let registration = |entry: &Entry| Registration {
            namespace: namespace.to_owned(),
            signed: entry.signed.clone(),
            seconds: (entry.until - now).as_secs(),
        };
        Ok((found.into_iter().map(registration).collect(), self.cookie(last, namespace)))
    }

    /// Eight bytes and the namespace, as stock nodes read it.
    fn cookie(&self, number: u64, namespace: &str) -> Vec<u8> {
        let id = u64::from(self.epoch) << 48 | number & NUMBER_MASK;
        [&id.to_be_bytes()[..], namespace.as_bytes()].concat()
    }

    fn number_of(&self, cookie: &[u8], namespace: &str) -> Result<u64, Refusal> {
        let (id, of) = cookie.split_first_chunk::<8>().ok_or(Refusal::Cookie)?;
        let id = u64::from_be_bytes(*id);
        let ours = id >> 48 == u64::from(self.epoch) && of == namespace.as_bytes();
        ours.then_some(id & NUMBER_MASK).ok_or(Refusal::Cookie)
    }

    fn sweep(&mut self, now: Instant) {
        if self.sweep_at > now {
            return;
        }
        self.sweep_at = now + SWEEP;
        let mut over = Vec::new();
        for (namespace, members) in &self.entries {
            let gone = members.iter().filter(|(_, entry)| entry.until <= now);
            over.extend(gone.map(|(peer, _)| (namespace.clone(), *peer)));
        }
        over.into_iter().for_each(|(namespace, peer)| self.remove(&namespace, peer));
    }
}

const NUMBER_MASK: u64 = (1 << 48) - 1;

fn count<K: Eq + Hash>(counts: &HashMap<K, usize>, key: &K) -> usize {
    counts.get(key).copied().unwrap_or_default()
}

fn less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let std::collections::hash_map::Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

/// Whoever has an address of IPv6 has all of its /64.
fn group(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => {
            let bits = u128::from(ip) >> 64 << 64;
            IpAddr::V6(bits.into())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use libp2p::{Multiaddr, core::PeerRecord, identity::Keypair};

    use super::*;

    const S: Duration = Duration::from_secs(1);

    struct Member {
        peer: PeerId,
        signed: Vec<u8>,
    }

    fn member() -> Member {
        let key = Keypair::generate_ed25519();
        let at: Multiaddr = "/ip4/203.0.113.7/tcp/4001".parse().unwrap();
        let signed = PeerRecord::new(&key, vec![at]).unwrap().into_signed_envelope();
        Member { peer: key.public().to_peer_id(), signed: signed.into_protobuf_encoding() }
    }

    fn place(number: usize) -> Place {
        Some(IpAddr::from((number as u32).to_be_bytes()))
    }

    struct World {
        registry: Registry,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            let now = Instant::now();
            Self { registry: Registry::new(7, now), now }
        }

        fn register(&mut self, member: &Member, from: Place, namespace: &str) -> Result<u64, Refusal> {
            self.register_for(member, from, namespace, None)
        }

        fn register_for(
            &mut self,
            member: &Member,
            from: Place,
            namespace: &str,
            seconds: Option<u64>,
        ) -> Result<u64, Refusal> {
            let (namespace, signed) = (namespace.to_owned(), member.signed.clone());
            let request = Request::Register { namespace, signed, seconds };
            match self.registry.handle(member.peer, from, request, self.now) {
                Some(Response::Registered(result)) => result,
                other => panic!("{other:?}"),
            }
        }

        fn discover(
            &mut self,
            namespace: &str,
            cookie: &[u8],
            limit: Option<u64>,
        ) -> Result<(Vec<PeerId>, Vec<u8>), Refusal> {
            let (namespace, cookie) = (namespace.to_owned(), cookie.to_vec());
            let request = Request::Discover { namespace, cookie, limit };
            match self.registry.handle(PeerId::random(), None, request, self.now) {
                Some(Response::Discovered(result)) => result.map(|(found, cookie)| {
                    (found.iter().map(|one| Signed::read(&one.signed).unwrap().peer).collect(), cookie)
                }),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn who_registered_is_found_until_its_time_is_over_or_it_says_that_it_left() {
        let (mut world, a, b) = (World::new(), member(), member());
        assert_eq!(world.register(&a, place(1), "n"), Ok(7200));
        assert_eq!(world.register_for(&b, place(1), "n", Some(8000)), Ok(8000));
        assert_eq!(world.register(&b, place(1), "other"), Ok(7200));
        assert_eq!(world.discover("n", &[], None).unwrap().0, [a.peer, b.peer]);
        world.now += 7201 * S;
        assert_eq!(world.discover("n", &[], None).unwrap().0, [b.peer]);
        assert_eq!(world.registry.len(), 1, "what is over is forgotten");
        let left = Request::Unregister { namespace: "n".into() };
        assert_eq!(world.registry.handle(b.peer, place(1), left, world.now), None);
        assert_eq!((world.discover("n", &[], None).unwrap().0, world.registry.len()), (vec![], 0));
    }

    #[test]
    fn with_a_cookie_only_what_is_new_is_told_a_few_at_a_time() {
        let mut world = World::new();
        let members: Vec<Member> = (0..5).map(|_| member()).collect();
        for member in &members {
            world.register(member, place(1), "n").unwrap();
        }
        let (first, cookie) = world.discover("n", &[], Some(3)).unwrap();
        let (rest, cookie) = world.discover("n", &cookie, Some(3)).unwrap();
        assert_eq!((first.len(), rest.len()), (3, 2));
        assert_eq!(world.discover("n", &cookie, None).unwrap().0, []);
        world.register(&members[0], place(1), "n").unwrap();
        assert_eq!(world.discover("n", &cookie, None).unwrap().0, [members[0].peer], "said again");
        for wrong in [&cookie[..4], &[0; 9], &World::new().registry.cookie(1, "other")] {
            assert_eq!(world.discover("n", wrong, None), Err(Refusal::Cookie));
        }
        world.registry.epoch = 8;
        assert_eq!(world.discover("n", &cookie, None), Err(Refusal::Cookie), "of an earlier process");
    }

    #[test]
    fn what_is_not_as_it_should_be_is_refused_with_the_reason() {
        let (mut world, a, b) = (World::new(), member(), member());
        let stolen = Member { peer: b.peer, signed: a.signed.clone() };
        assert_eq!(world.register(&stolen, None, "n"), Err(Refusal::Authority));
        let forged = Member { peer: a.peer, signed: a.signed[1..].to_vec() };
        assert_eq!(world.register(&forged, None, "n"), Err(Refusal::Record));
        for namespace in [String::new(), "n".repeat(NAMESPACE_BYTES_MAX + 1)] {
            assert_eq!(world.register(&a, None, &namespace), Err(Refusal::Namespace));
            assert_eq!(world.discover(&namespace, &[], None), Err(Refusal::Namespace));
        }
        for seconds in [0, 7199, 72 * 3600 + 1, u64::MAX] {
            assert_eq!(world.register_for(&a, None, "n", Some(seconds)), Err(Refusal::Time));
        }
        assert_eq!(world.registry.len(), 0);
    }

    #[test]
    fn one_peer_has_only_so_many_places_and_who_says_it_again_keeps_its_own() {
        let (mut world, a) = (World::new(), member());
        for number in 0..PER_PEER_MAX {
            assert!(world.register(&a, place(number), &format!("n{number}")).is_ok());
        }
        assert_eq!(world.register(&a, place(99), "one more"), Err(Refusal::Room));
        for _ in 0..3 {
            assert!(world.register(&a, place(0), "n0").is_ok());
        }
        assert_eq!(world.registry.len(), PER_PEER_MAX);
    }

    #[test]
    fn one_address_has_only_so_many_places_whatever_it_calls_itself() {
        let mut world = World::new();
        for _ in 0..PER_PLACE_MAX {
            assert!(world.register(&member(), place(1), "n").is_ok());
        }
        assert_eq!(world.register(&member(), place(1), "n"), Err(Refusal::Room));
        assert!(world.register(&member(), place(2), "n").is_ok());
        let six = |host: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host]));
        for host in 0..PER_PLACE_MAX as u16 {
            assert!(world.register(&member(), six(host), "n").is_ok());
        }
        assert_eq!(world.register(&member(), six(9999), "n"), Err(Refusal::Room), "one /64");
        let (found, _) = world.discover("n", &[], Some(u64::MAX)).unwrap();
        assert_eq!(found.len(), ANSWERED_MAX);
    }

    #[test]
    fn when_it_is_full_whoever_comes_is_refused_and_those_that_are_in_stay() {
        let mut world = World::new();
        let members: Vec<Member> = (0..REGISTRATIONS_MAX / PER_PEER_MAX + 1).map(|_| member()).collect();
        let mut refused = 0;
        for (at, member) in members.iter().enumerate() {
            for number in 0..PER_PEER_MAX {
                let result = world.register(member, place(at), &format!("n{number}"));
                refused += usize::from(result == Err(Refusal::Room));
            }
        }
        assert_eq!(world.registry.len(), REGISTRATIONS_MAX);
        assert_eq!(refused, members.len() * PER_PEER_MAX - REGISTRATIONS_MAX);
        assert!(world.register(&members[0], place(0), "n0").is_ok());
    }
}
