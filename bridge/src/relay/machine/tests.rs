//! The machine in a small world with virtual time.

#![allow(clippy::unwrap_used)]

mod circuits;
mod connections;
mod leaving;
mod reservations;
mod status;
mod walk;

use std::net::IpAddr;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A relay and its clients.
struct World {
    machine: Machine,
    now: Instant,
    connections: usize,
    asks: u64,
    actions: Vec<Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Client {
    connection: ConnectionId,
    peer: PeerId,
}

impl World {
    fn new(config: &RelayConfig) -> Self {
        Self {
            machine: Machine::new(config),
            now: Instant::now(),
            connections: 0,
            asks: 0,
            actions: Vec::new(),
        }
    }

    fn id(&mut self) -> ConnectionId {
        self.connections += 1;
        ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(self.connections))
    }

    fn handle(&mut self, input: Input) {
        self.machine.handle(input, self.now);
        while let Some(action) = self.machine.poll_action() {
            self.actions.push(action);
        }
    }

    fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
        }
        self.now = end;
        while let Some(action) = self.machine.poll_action() {
            self.actions.push(action);
        }
    }

    fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.machine.poll_event()).collect()
    }

    /// A connection, if it is let in.
    fn try_connect(&mut self, peer: PeerId, ip: &str) -> Result<Client, Limited> {
        let place = Place::of(ip.parse::<IpAddr>().unwrap());
        let connection = self.id();
        self.machine.knock(connection, place, self.now)?;
        self.machine.handshake_over(connection);
        self.machine.admits(peer, place, self.now)?;
        self.handle(Input::Opened { connection, peer, place });
        Ok(Client { connection, peer })
    }

    fn client_as(&mut self, peer: PeerId, ip: &str) -> Client {
        self.try_connect(peer, ip).unwrap()
    }

    fn client(&mut self, ip: &str) -> Client {
        self.client_as(PeerId::random(), ip)
    }

    /// A node of ours that speaks the control protocol.
    fn node_as(&mut self, peer: PeerId, ip: &str) -> Client {
        let client = self.client_as(peer, ip);
        let Client { connection, .. } = client;
        self.handle(Input::Identified { connection, ours: true, hears: true });
        client
    }

    fn ask(&mut self) -> AskId {
        self.asks += 1;
        AskId(self.asks)
    }

    /// What a client is told at once.
    fn told(&mut self, ask: AskId) -> Result<(), Refusal> {
        let told = self.actions.iter().find_map(|action| match action {
            Action::Grant { ask: granted } if *granted == ask => Some(Ok(())),
            Action::Refuse { ask: refused, refusal } if *refused == ask => Some(Err(*refusal)),
            _ => None,
        });
        told.unwrap()
    }

    fn reserve(&mut self, client: Client) -> Result<(), Refusal> {
        let ask = self.ask();
        self.handle(Input::Reserve { ask, connection: client.connection });
        self.told(ask)
    }

    /// A peer that circuits lead to.
    fn server(&mut self, ip: &str) -> Client {
        let client = self.client(ip);
        self.reserve(client).unwrap();
        client
    }

    fn connect(&mut self, client: Client, destination: PeerId) -> AskId {
        let ask = self.ask();
        self.handle(Input::Connect { ask, connection: client.connection, destination });
        ask
    }

    fn refusal(&self, ask: AskId) -> Option<Refusal> {
        self.actions.iter().find_map(|action| match action {
            Action::Refuse { ask: refused, refusal } if *refused == ask => Some(*refusal),
            _ => None,
        })
    }

    fn whose(&self, ask: AskId) -> Option<LimitOwner> {
        Some(self.refusal(ask)?.limited?.whose)
    }

    /// Whether the destination was asked about a circuit.
    fn is_asked(&self, ask: AskId) -> bool {
        let asked =
            |action: &Action| matches!(action, Action::AskDestination { ask: a, .. } if *a == ask);
        self.actions.iter().any(asked)
    }

    /// The destination accepts.
    fn accept(&mut self, ask: AskId) {
        self.handle(Input::Answered { ask, answer: Answer::Accepted });
    }

    /// A circuit that is forwarded.
    fn circuit(&mut self, client: Client, destination: PeerId) -> AskId {
        let ask = self.connect(client, destination);
        self.accept(ask);
        assert!(self.actions.contains(&Action::Forward { ask }), "{:?}", self.refusal(ask));
        ask
    }

    fn end(&mut self, ask: AskId) {
        self.handle(Input::Ended { ask, cause: None, bytes: 0 });
    }

    fn close(&mut self, client: Client) {
        self.handle(Input::Closed { connection: client.connection, closed: true });
    }
}

/// An address of its own network for each number.
fn elsewhere(number: usize) -> String {
    format!("{}.{}.{}.1", 20 + number / 65_536, number / 256 % 256, number % 256)
}

fn limited(refusal: Result<(), Refusal>) -> Limited {
    refusal.unwrap_err().limited.unwrap()
}
