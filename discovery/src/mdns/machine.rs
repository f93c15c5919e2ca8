//! When to ask and when to answer, and what of the answers to believe. Pure: `now` and the seed are arguments.
//!
//! A *LAN* is a network of this host on which this node listens. Only private IPv4 networks are LANs: hosts of public
//! ones are strangers to each other, whose providers take such talk for a scan.
//!
//! What is said on a LAN is believed only as far as the system vouches for it: the packet comes from an address of that
//! network, and only addresses of that network are taken from it. What comes from an address of this host comes from
//! this host, and only addresses of this host are taken from that.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use rand::{RngExt as _, SeedableRng as _, distr::Alphanumeric, rngs::StdRng};

use super::message::{self, Message, Said};
use crate::hint::{Hint, Source};

/// Networks that are used at once: a host of containers has dozens.
const LANS_MAX: usize = 32;

/// For how long others are to remember what we say.
const LASTS: Duration = Duration::from_secs(120);

/// The first wait between two questions, which doubles, and the longest. Whoever starts while somebody asks is heard
/// by its own announcement; the longest renews what would expire.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(60));

/// Between two answers on one LAN. However many ask, nobody hears more. RFC 6762 (6) wants a second, and this where
/// somebody waits for the answer, as whoever asks here does: it may have begun right after the last one.
const ANSWER_PAUSE: Duration = Duration::from_millis(250);

/// From an announcement to its repetition (RFC 6762, 8.3).
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(1);

/// An answer waits so many milliseconds, so that not all answer at once (RFC 6762, 6).
const ANSWER_DELAY_MS: std::ops::Range<u64> = 20..120;

/// Packets that are read in a second; what comes beyond that is not looked at. Some hundred nodes that start at once
/// stay below it.
const PACKETS_PER_SECOND: u32 = 512;

/// Letters of the name under which we answer.
const LABEL_LENGTH: usize = 32;

/// What is to be sent to all on a LAN.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Send {
    /// Our address there.
    pub(super) lan: Ipv4Addr,
    pub(super) packet: Vec<u8>,
}

#[derive(Debug)]
struct Lan {
    net: Ipv4Net,
    answered: Option<Instant>,
    /// When the next answer is due, and whether one more follows.
    due: Option<Instant>,
    again: bool,
}

#[derive(Debug)]
pub(super) struct Machine {
    local: PeerId,
    /// The name under which we answer. It means nothing and changes with each process.
    label: String,
    /// What the system has, by our address.
    nets: BTreeMap<Ipv4Addr, Ipv4Net>,
    /// Those of them that are used.
    lans: BTreeMap<Ipv4Addr, Lan>,
    /// Where this node listens.
    listening: Vec<Multiaddr>,
    /// When to ask next, and how long to wait after that; none if nobody is sought.
    asking: Option<(Instant, Duration)>,
    /// The second in which packets are counted, and how many came.
    window: Option<(Instant, u32)>,
    random: StdRng,
}

impl Machine {
    pub(super) fn new(local: PeerId, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let label = (0..LABEL_LENGTH).map(|_| char::from(random.sample(Alphanumeric))).collect();
        let (nets, lans, listening) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self { local, label, nets, lans, listening, asking: None, window: None, random }
    }

    /// The system has these addresses of networks from now on, and no others.
    pub(super) fn networks(&mut self, nets: impl Iterator<Item = Ipv4Net>, now: Instant) {
        self.nets = nets.filter(|net| net.addr().is_private()).map(|net| (net.addr(), net)).collect();
        self.choose_lans(now);
    }

    /// This node listens here from now on, and nowhere else.
    pub(super) fn listening(&mut self, addresses: Vec<Multiaddr>, now: Instant) {
        if self.listening == addresses {
            return;
        }
        self.listening = addresses;
        for lan in self.lans.values_mut() {
            lan.announce(now);
        }
        self.choose_lans(now);
    }

    /// Somebody is sought who was not before.
    pub(super) fn seek(&mut self, now: Instant) {
        self.asking = Some((now, ASK_AGAIN.0));
    }

    /// Nobody is sought any more.
    pub(super) fn rest(&mut self) {
        self.asking = None;
    }

    /// Our addresses on the LANs that are used.
    pub(super) fn lans(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.lans.keys().copied()
    }

    /// Takes what came from somewhere. Returns what it says.
    pub(super) fn received(&mut self, packet: &[u8], from: SocketAddr, now: Instant) -> Vec<Hint> {
        let Some(from) = self.on_lan(from).filter(|_| self.is_read(now)) else { return Vec::new() };
        match message::read(packet) {
            Some(Message::Question) => {
                self.asked(from, now);
                Vec::new()
            }
            Some(Message::Answer(said)) => {
                said.into_iter().filter_map(|said| self.hint(said, from)).collect()
            }
            None => Vec::new(),
        }
    }

    /// What is to be sent at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Send> {
        let mut sends = Vec::new();
        if let Some((_, wait)) = self.asking.filter(|(at, _)| *at <= now) {
            self.asking = Some((now + wait, (wait * 2).min(ASK_AGAIN.1)));
            let send = |lan: &Ipv4Addr| Some(Send { lan: *lan, packet: message::question()? });
            sends.extend(self.lans.keys().filter_map(send));
        }
        for (ip, lan) in &mut self.lans {
            if lan.due.is_none_or(|at| at > now) {
                continue;
            }
            lan.answered = Some(now);
            lan.due = std::mem::take(&mut lan.again).then(|| now + ANNOUNCE_AGAIN);
            let here: Vec<Multiaddr> =
                self.listening.iter().filter(|address| ip_of(address) == Some(*ip)).cloned().collect();
            let packet = message::answer(self.local, &self.label, &here, LASTS);
            sends.extend(packet.map(|packet| Send { lan: *ip, packet }));
        }
        sends
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let ask = self.asking.map(|(at, _)| at).filter(|_| !self.lans.is_empty());
        self.lans.values().filter_map(|lan| lan.due).chain(ask).min()
    }

    /// Uses the networks on which this node listens.
    fn choose_lans(&mut self, now: Instant) {
        let listens = |ip: &Ipv4Addr| self.listening.iter().any(|address| ip_of(address) == Some(*ip));
        let used: BTreeMap<_, _> =
            self.nets.iter().filter(|(ip, _)| listens(ip)).take(LANS_MAX).collect();
        self.lans.retain(|ip, lan| used.get(ip) == Some(&&lan.net));
        let mut new = false;
        for (ip, net) in used {
            self.lans.entry(*ip).or_insert_with(|| {
                new = true;
                let mut lan = Lan { net: *net, answered: None, due: None, again: false };
                lan.announce(now);
                lan
            });
        }
        if new && self.asking.is_some() {
            self.seek(now);
        }
    }

    /// Where a packet comes from, if that is on a LAN.
    fn on_lan(&self, from: SocketAddr) -> Option<Ipv4Addr> {
        let IpAddr::V4(ip) = from.ip() else { return None };
        self.lans.values().any(|lan| lan.net.contains(&ip)).then_some(ip)
    }

    /// Counts a packet. False if there were too many.
    fn is_read(&mut self, now: Instant) -> bool {
        let fresh = |(began, _): &(Instant, u32)| now.saturating_duration_since(*began).as_secs() < 1;
        let (began, count) = self.window.filter(fresh).unwrap_or((now, 0));
        self.window = Some((began, count.saturating_add(1)));
        count < PACKETS_PER_SECOND
    }

    /// Somebody asked on a LAN.
    fn asked(&mut self, from: Ipv4Addr, now: Instant) {
        let delay = Duration::from_millis(self.random.random_range(ANSWER_DELAY_MS));
        for lan in self.lans.values_mut().filter(|lan| lan.net.contains(&from)) {
            let pause = lan.answered.map(|at| at + ANSWER_PAUSE);
            let at = (now + delay).max(pause.unwrap_or(now));
            lan.due = Some(lan.due.map_or(at, |due| due.min(at)));
        }
    }

    /// What of an answer is believed.
    fn hint(&self, said: Said, from: Ipv4Addr) -> Option<Hint> {
        let Said { peer, mut addresses, lasts } = said;
        let ours = self.nets.contains_key(&from);
        let source = if ours { Source::ThisHost } else { Source::LocalNetwork };
        let lan = self.lans.values().find(|lan| lan.net.contains(&from))?;
        addresses.retain(|address| match ip_of(address) {
            Some(ip) if ours => self.nets.contains_key(&ip),
            Some(ip) => lan.net.contains(&ip) && !self.nets.contains_key(&ip),
            None => false,
        });
        let hint = Hint { peer, addresses, source, age: Duration::ZERO, lasts: Some(lasts) };
        (!hint.addresses.is_empty() && peer != self.local).then_some(hint)
    }
}

impl Lan {
    /// Says where we are, and once more a little later: a packet may be lost.
    fn announce(&mut self, now: Instant) {
        let pause = self.answered.map(|at| at + ANSWER_PAUSE);
        (self.due, self.again) = (Some(now.max(pause.unwrap_or(now))), true);
    }
}

/// The IPv4 address that an address begins with.
fn ip_of(address: &Multiaddr) -> Option<Ipv4Addr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
