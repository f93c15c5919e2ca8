//! A host behind a NAT, servers, and virtual time.

use super::*;

pub(super) const RELAY: &str = "73.0.0.2:3478";
pub(super) const SECOND: &str = "73.0.0.3:3478";
/// It says that everybody comes from 9.9.9.9.
pub(super) const LIAR: &str = "1.0.0.1:3478";
pub(super) const HOST: &str = "192.168.1.7";
pub(super) const ROUTER: &str = "73.0.0.11";

pub(super) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(super) fn connection(id: usize) -> ConnectionId {
    ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(id))
}

/// A server with two ports, or with two addresses as well.
#[derive(Clone)]
pub(super) struct StunHost {
    pub(super) main: SocketAddr,
    /// What it says of itself. Answers from another port leave from this port, those from another address from there.
    pub(super) other: Option<SocketAddr>,
    /// It answers what it is not asked for as if it were asked plainly.
    pub(super) ignores_changes: bool,
}

/// A host behind a NAT, and the servers.
pub(super) struct World {
    pub(super) nat: Nat,
    pub(super) now: Instant,
    pub(super) mapping: Mapping,
    pub(super) filtering: Filtering,
    pub(super) servers: Vec<StunHost>,
    pub(super) round_trip: Duration,
    /// What was sent to, by each run, which each leave from another port.
    pub(super) sent: Vec<(RunId, SocketAddr)>,
    pub(super) sends: usize,
    pub(super) on_the_way: Vec<(Instant, ProbeId, SocketAddr, SocketAddr, Option<SocketAddr>)>,
    pub(super) found: Vec<(Duration, Found)>,
    pub(super) began: Instant,
    pub(super) resolves: Vec<(RunId, StunServer)>,
    pub(super) closed: Vec<RunId>,
}

impl World {
    pub(super) fn new(mapping: Mapping, filtering: Filtering, named: &[&str]) -> Self {
        let named: Vec<StunServer> = named.iter().map(|text| text.parse().unwrap()).collect();
        let now = Instant::now();
        Self {
            nat: Nat::new(&named, GlobalScope::default()),
            now,
            began: now,
            mapping,
            filtering,
            servers: Vec::new(),
            round_trip: ms(40),
            sent: Vec::new(),
            sends: 0,
            on_the_way: Vec::new(),
            found: Vec::new(),
            resolves: Vec::new(),
            closed: Vec::new(),
        }
    }

    pub(super) fn with_server(mut self, main: &str, other: Option<&str>) -> Self {
        let other = other.map(at);
        self.servers.push(StunHost { main: at(main), other, ignores_changes: false });
        self
    }

    /// A relay becomes known by its word.
    pub(super) fn relay(&mut self, id: usize, main: &str) {
        let main = at(main);
        let dialled = format!("/ip4/{}/tcp/4001", main.ip()).parse().unwrap();
        self.nat.offered(connection(id), &dialled, main.port(), false, self.now);
        self.turn();
    }

    pub(super) fn mapped(&self, to: SocketAddr) -> SocketAddr {
        if to == at(LIAR) {
            return at("9.9.9.9:1");
        }
        let public = ROUTER.parse().unwrap();
        match self.mapping {
            Mapping::None => SocketAddr::new(HOST.parse().unwrap(), 40000),
            Mapping::EndpointIndependent => SocketAddr::new(public, 35000),
            Mapping::DestinationDependent => {
                let IpAddr::V4(ip) = to.ip() else { panic!("IPv4 only") };
                SocketAddr::new(public, 50000 + to.port() % 1000 + u16::from(ip.octets()[3]))
            }
        }
    }

    pub(super) fn lets_in(&self, run: RunId, from: SocketAddr) -> bool {
        let mut sent = self.sent.iter().filter(|(of, _)| *of == run).map(|(_, to)| *to);
        match self.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => sent.any(|to| to.ip() == from.ip()),
            Filtering::AddressAndPortDependent => sent.any(|to| to == from),
        }
    }

    /// Does what the machine wants done.
    pub(super) fn turn(&mut self) {
        for step in self.nat.poll(self.now) {
            match step {
                Step::Ask(ask) => self.send(ask),
                Step::Resolve { run, server } => self.resolves.push((run, server)),
                Step::Close(run) => self.closed.push(run),
            }
        }
        let after = self.now - self.began;
        let news = self.nat.news(&[HOST.parse().unwrap()]);
        self.found.extend(news.into_iter().map(|found| (after, found)));
    }

    pub(super) fn send(&mut self, ask: Ask) {
        let Ask { probe, run, to, answer_from } = ask;
        assert!(!self.closed.contains(&run), "its port is another one now");
        self.sends += 1;
        self.sent.push((run, to));
        let answers_at = |server: &&StunHost| {
            server.main == to
                || server.other.is_some_and(|other| {
                    other == to || SocketAddr::new(server.main.ip(), other.port()) == to
                })
        };
        let Some(server) = self.servers.iter().find(answers_at).cloned() else { return };
        let from = match (answer_from, server.other) {
            (AnswerFrom::Here, _) => Some(to),
            _ if server.ignores_changes => Some(to),
            (AnswerFrom::OtherPort, Some(other)) => Some(SocketAddr::new(to.ip(), other.port())),
            (AnswerFrom::OtherAddress, Some(other)) => Some(other),
            (_, None) => None,
        };
        let Some(from) = from else { return self.nat.refused(probe) };
        if self.lets_in(run, from) {
            let arrives = self.now + self.round_trip;
            self.on_the_way.push((arrives, probe, from, self.mapped(to), server.other));
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrives = self.on_the_way.iter().map(|(arrives, ..)| *arrives).min();
            let next = [self.nat.next_deadline(), arrives].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            let arrived = self.on_the_way.extract_if(.., |(arrives, ..)| *arrives <= next);
            for (_, probe, from, mapped, other) in arrived.collect::<Vec<_>>() {
                self.nat.answered(probe, from, mapped, other, self.now);
            }
            self.turn();
            let over = self.nat.next_deadline().is_some_and(|next| next <= self.now);
            assert!(!over, "a deadline that is over must not be named again");
        }
        self.now = end;
        self.turn();
    }

    pub(super) fn listening(&mut self) {
        self.nat.network_changed(self.now);
        self.turn();
    }

    /// The last thing that was said.
    pub(super) fn told(&self) -> Found {
        self.found.last().expect("something was found").1
    }
}
