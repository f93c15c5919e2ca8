//! The socket and the clock of a node. It decides nothing: the machine does.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, SocketAddrV4},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    net::UdpSocket,
    sync::{broadcast, mpsc, oneshot},
};

use super::{
    face::Failed,
    id::{Id, is_public},
    lookup::{LookupId, Then, Want},
    machine::{Machine, MainlineEvent, Outcome, RoutingTable},
    message::PACKET_BYTES_MAX,
    source::{Finding, Step},
};
use crate::plans::{KEPT_MAX, TELL_AGAIN};

/// Names of ways in are looked up again after this, while nobody is known.
const NAMES_AGAIN: Duration = Duration::from_secs(30);

/// A name that does not lead to an address within this is looked up again later.
const NAME_WITHIN: Duration = Duration::from_secs(10);

/// What is announced is said again after this, before others forget it.
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(25 * 60);

/// After an error of the system, such as a network that went down.
const PAUSE: Duration = Duration::from_millis(200);

/// A search that somebody wants.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) target: Id,
    pub(super) want: Want,
    pub(super) then: Then,
    pub(super) via: Option<SocketAddrV4>,
}

/// What is asked of a node.
#[derive(Debug)]
pub(super) enum Command {
    /// `keep`: do it again and again.
    Search {
        search: Box<Search>,
        keep: bool,
        reply: oneshot::Sender<Result<Outcome, Failed>>,
    },
    RoutingTable {
        reply: oneshot::Sender<RoutingTable>,
    },
    Stop {
        reply: oneshot::Sender<()>,
    },
}

/// Who waits for the end of a search.
enum Waits {
    Asker(oneshot::Sender<Result<Outcome, Failed>>),
    Finding(Step),
    Nobody,
}

pub(super) struct Driver {
    socket: UdpSocket,
    machine: Machine,
    ways_in: Vec<String>,
    found: (mpsc::Sender<Vec<SocketAddrV4>>, mpsc::Receiver<Vec<SocketAddrV4>>),
    names_at: Instant,
    commands: mpsc::Receiver<Command>,
    events: broadcast::Sender<MainlineEvent>,
    waiting: BTreeMap<LookupId, Waits>,
    kept: Vec<(Search, Instant)>,
    finding: Option<Finding>,
}

impl Driver {
    pub(super) fn new(
        socket: UdpSocket,
        machine: Machine,
        ways_in: Vec<String>,
        commands: mpsc::Receiver<Command>,
        events: broadcast::Sender<MainlineEvent>,
    ) -> Self {
        let (waiting, kept, finding) = (BTreeMap::new(), Vec::new(), None);
        let (found, names_at) = (mpsc::channel(1), Instant::now());
        Self { socket, machine, ways_in, found, names_at, commands, events, waiting, kept, finding }
    }

    pub(super) fn finds_for(mut self, finding: Finding) -> Self {
        self.finding = Some(finding);
        self
    }

    pub(super) async fn run(mut self) {
        let mut packet = vec![0; PACKET_BYTES_MAX + 1];
        loop {
            self.act();
            self.send().await;
            let timeout = self.timeout();
            tokio::select! {
                received = self.socket.recv_from(&mut packet) => match received {
                    Ok((length, SocketAddr::V4(from))) => self.machine.received(&packet[..length], from, Instant::now()),
                    Ok((_, SocketAddr::V6(_))) => {}
                    Err(error) => {
                        tracing::debug!(%error, "nothing can be heard from the 160-bit network");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                command = self.commands.recv() => match command {
                    Some(Command::Stop { reply }) => {
                        drop(self);
                        let _ = reply.send(());
                        return;
                    }
                    Some(command) => self.command(command),
                    None => return,
                },
                addresses = self.found.1.recv() => {
                    let addresses = addresses.unwrap_or_default();
                    self.machine.join_at(addresses, Instant::now());
                }
                ended = wishes(&mut self.finding) => if ended { return },
                () = tokio::time::sleep_until(timeout.into()) => {}
            }
            self.machine.handle_timeout(Instant::now());
        }
    }

    fn timeout(&self) -> Instant {
        let joined = self.machine.is_joined();
        let names = (!joined && !self.ways_in.is_empty()).then_some(self.names_at);
        let kept = self.kept.iter().map(|(_, at)| *at).min();
        // Before it knows anybody, there is nothing to look for or to tell.
        let finding = self.finding.as_ref().filter(|_| joined).and_then(Finding::poll_timeout);
        names
            .into_iter()
            .chain(kept)
            .chain(finding)
            .chain([self.machine.poll_timeout()])
            .min()
            .unwrap_or_else(Instant::now)
    }

    /// Does what the machine wants, and what is due.
    fn act(&mut self) {
        let now = Instant::now();
        if !self.machine.is_joined() && self.names_at <= now {
            self.names_at = now + NAMES_AGAIN;
            self.look_up_names();
        }
        self.keep(now);
        self.find(now);
        while let Some(event) = self.machine.poll_event() {
            tracing::trace!(?event, "the 160-bit network");
            let _ = self.events.send(event);
        }
        while let Some((id, outcome)) = self.machine.poll_outcome() {
            match self.waiting.remove(&id) {
                Some(Waits::Asker(reply)) => drop(reply.send(Ok(outcome))),
                Some(Waits::Finding(step)) => self.went_on(step, outcome, now),
                Some(Waits::Nobody) | None => {}
            }
        }
    }

    /// What cannot be sent is lost, as packets are.
    async fn send(&mut self) {
        while let Some((to, packet)) = self.machine.poll_send() {
            if let Err(error) = self.socket.send_to(&packet, to).await {
                tracing::debug!(%to, %error, "nothing can be said in the 160-bit network");
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Search { search, keep, reply } => {
                if keep && !self.is_kept(&search) && self.kept.len() >= KEPT_MAX {
                    return drop(reply.send(Err(Failed::full())));
                }
                if keep {
                    self.remember(*search.clone(), Instant::now());
                }
                match self.begin(*search) {
                    Ok(id) => drop(self.waiting.insert(id, Waits::Asker(reply))),
                    Err(failed) => drop(reply.send(Err(failed))),
                }
            }
            Command::RoutingTable { reply } => drop(reply.send(self.machine.routing_table())),
            // It ends the loop.
            Command::Stop { .. } => {}
        }
    }

    fn begin(&mut self, search: Search) -> Result<LookupId, Failed> {
        let Search { target, want, then, via } = search;
        Ok(self.machine.look_up(target, want, then, via, Instant::now())?)
    }

    fn is_kept(&self, search: &Search) -> bool {
        self.kept.iter().any(|(kept, _)| (kept.target, &kept.want) == (search.target, &search.want))
    }

    /// To be done again. A newer value takes the place of an older one.
    fn remember(&mut self, search: Search, now: Instant) {
        self.kept.retain(|(kept, _)| (kept.target, &kept.want) != (search.target, &search.want));
        let again = again(&search);
        self.kept.push((search, now + again));
    }

    fn keep(&mut self, now: Instant) {
        let due: Vec<Search> =
            self.kept.iter().filter(|(_, at)| *at <= now).map(|(search, _)| search.clone()).collect();
        for search in due {
            self.remember(search.clone(), now);
            if let Ok(id) = self.begin(search) {
                self.waiting.insert(id, Waits::Nobody);
            }
        }
    }

    /// Looks for who is sought, and tells where this node is.
    fn find(&mut self, now: Instant) {
        while self.machine.is_joined() {
            let Some((search, step)) = self.finding.as_mut().and_then(|finding| finding.next(now))
            else {
                return;
            };
            match self.begin(search) {
                Ok(id) => drop(self.waiting.insert(id, Waits::Finding(step))),
                Err(_) => return self.went_on(step, Outcome::Value(None), now),
            }
        }
    }

    fn went_on(&mut self, step: Step, outcome: Outcome, now: Instant) {
        let Some(finding) = &mut self.finding else { return };
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if let Some((search, step)) = finding.went_on(step, outcome, now, clock) {
            match self.begin(search) {
                Ok(id) => drop(self.waiting.insert(id, Waits::Finding(step))),
                Err(_) => self.finding.iter_mut().for_each(|finding| finding.failed(&step, now)),
            }
        }
    }

    fn look_up_names(&self) {
        let (names, found) = (self.ways_in.clone(), self.found.0.clone());
        tokio::spawn(async move {
            let mut addresses = Vec::new();
            for name in &names {
                match tokio::time::timeout(NAME_WITHIN, tokio::net::lookup_host(name)).await {
                    Ok(Ok(found)) => addresses.extend(found.filter_map(|address| match address {
                        SocketAddr::V4(address) => Some(address),
                        SocketAddr::V6(_) => None,
                    })),
                    Ok(Err(error)) => {
                        tracing::warn!(%name, %error, "a way into the 160-bit network is not found")
                    }
                    Err(_) => {
                        tracing::warn!(%name, "a way into the 160-bit network is not found: nobody answers")
                    }
                }
            }
            if names.len() > 1
                && let Some(network) = one_network(&addresses)
            {
                tracing::warn!(
                    "all ways into the 160-bit network are in {network}: who has that decides whom this node meets; name one elsewhere"
                );
            }
            let _ = found.send(addresses).await;
        });
    }
}

/// The network of the internet, a /16, that all of these are in, if they are in one.
fn one_network(addresses: &[SocketAddrV4]) -> Option<String> {
    let network = |address: &SocketAddrV4| <[u8; 2]>::try_from(&address.ip().octets()[..2]).ok();
    let (first, rest) = addresses.split_first()?;
    let [a, b] = network(first)?;
    let all_in = rest.iter().all(|address| network(address) == Some([a, b]));
    (all_in && is_public(*first.ip())).then(|| format!("{a}.{b}.0.0/16"))
}

fn again(search: &Search) -> Duration {
    match search.then {
        Then::Announce { .. } => ANNOUNCE_AGAIN,
        Then::Put { .. } | Then::Nothing => TELL_AGAIN,
    }
}

/// Takes what the rest of the program wants found and told. True when it wants nothing any more.
async fn wishes(finding: &mut Option<Finding>) -> bool {
    match finding {
        Some(finding) => !finding.wishes().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ways_in_of_one_network_are_told_apart_from_those_of_several_and_of_a_lab() {
        let all = |texts: &[&str]| -> Vec<SocketAddrV4> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let one = ["8.8.8.8:1", "8.8.4.4:2"];
        assert_eq!(one_network(&all(&one)).as_deref(), Some("8.8.0.0/16"));
        assert_eq!(one_network(&all(&["8.8.8.8:1", "9.9.9.9:1"])), None);
        assert_eq!(one_network(&all(&["192.168.0.1:1", "192.168.0.2:1"])), None);
        assert_eq!(one_network(&[]), None);
    }
}
