//! The driver acts: it does what the engine says and tells it what came of it. It decides nothing.
//!
//! The loop drains the engine, re-arms one timer, waits for one thing, and turns it into one input.
//! Nothing in the `select!` awaits, and no payload byte comes by here.

mod dials;
mod status;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures::StreamExt;
use libp2p::{PeerId, Swarm, swarm};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::{
    command::Command,
    journal::Journal,
    legs::{Ends, Legs, Opening, Purpose},
    vigil::{Vigil, still_leads},
};
use crate::{
    config::WhenDropped,
    engine::{
        Engine,
        input::{Action, Exchange, Input, OpenId, PingId},
    },
    event::Event,
    net::{
        behaviour::{Node, NodeEvent},
        boxed::Boxed,
        dcutr,
        listen::Listening,
        mapping::Mapper,
        relay_names, stun,
        translate::{Dialled, Translated, translate},
    },
    path::{ConnectionId, Path},
    status::Pong,
    stream::{Meter, Route, frame::Code, machine},
};

/// What a stream heard within this is worth more than a ping that was not answered: a timeout of one.
const HEARD_FRESH: Duration = Duration::from_secs(5);

pub(crate) struct Driver {
    swarm: Swarm<Boxed<Node>>,
    engine: Engine,
    journal: Option<Journal>,
    commands: mpsc::Receiver<Command>,
    /// Every program's handle is gone, and the node lives for its streams.
    lingers: bool,
    when_dropped: WhenDropped,
    events: broadcast::Sender<Arc<Event>>,
    /// Whom others are to find.
    sought: watch::Sender<BTreeSet<PeerId>>,
    legs: Legs,
    dialled: Dialled,
    mapper: Mapper,
    vigil: Vigil,
    stun: stun::Client,
    relay_names: relay_names::Client,
    started: Instant,
    /// Since when each is under way, and who waits.
    pings: HashMap<PingId, oneshot::Sender<Option<Pong>>>,
}

impl Driver {
    pub(crate) fn new(
        swarm: Swarm<Boxed<Node>>,
        (engine, journal): (Engine, Option<Journal>),
        commands: mpsc::Receiver<Command>,
        (events, sought): (broadcast::Sender<Arc<Event>>, watch::Sender<BTreeSet<PeerId>>),
        (stream_config, relayed_streams): (Arc<machine::Config>, bool),
        when_dropped: WhenDropped,
    ) -> Self {
        let permits = swarm.behaviour().guard.permits();
        Self {
            swarm,
            engine,
            journal,
            commands,
            lingers: false,
            when_dropped,
            events,
            sought,
            legs: Legs::new(stream_config, relayed_streams),
            dialled: HashMap::new(),
            mapper: Mapper::default(),
            vigil: Vigil::new(),
            stun: stun::Client::new(permits.clone()),
            relay_names: relay_names::Client::new(permits),
            started: Instant::now(),
            pings: HashMap::new(),
        }
    }

    pub(crate) async fn run(mut self, listening: Listening) {
        for address in listening.addresses {
            self.legs.tell(Input::Listening { address });
        }
        self.drain();
        for (address, cause) in listening.failed {
            self.legs.events.push_back(Event::ListenFailed { address, cause });
        }
        loop {
            self.drain();
            if self.engine.is_stopped() {
                return self.mapper.end().await;
            }
            let timeout = self.engine.poll_timeout();
            tokio::select! {
                event = self.swarm.select_next_some() => self.swarm_event(event),
                // When the last endpoint is gone this is ready for ever, so it is asked only until then.
                command = self.commands.recv(), if !self.engine.is_stopping() && !self.lingers => {
                    self.command(command);
                }
                Some((key, note)) = self.legs.notes.1.recv() => self.legs.note(key, note),
                Some((inbound, decision)) = self.legs.decisions.1.recv() => {
                    self.legs.decided(inbound, decision);
                }
                Some(connection) = self.legs.nearly_spent.1.recv() => {
                    self.legs.tell(Input::NearlySpent { connection });
                }
                () = self.legs.requests.answered() => {}
                input = self.mapper.news() => self.legs.tell(input),
                input = self.stun.heard() => self.legs.tell(input),
                input = self.relay_names.heard() => self.legs.tell(input),
                inputs = self.vigil.news() => self.noticed(inputs),
                () = sleep_until(timeout) => self.timeout(),
            }
        }
    }

    /// Tells the engine what happened and does what it wants, until nothing is left of either.
    fn drain(&mut self) {
        if self.lingers && self.legs.books.is_empty() {
            self.legs.tell(Input::Shutdown);
        }
        loop {
            while let Some(input) = self.legs.inputs.pop_front() {
                self.tell(input);
            }
            if self.engine.is_stopped() {
                self.legs.end_streams();
            }
            self.publish();
            match self.engine.poll_action() {
                Some(action) => {
                    if let Some(journal) = &mut self.journal {
                        journal.action(&action);
                    }
                    self.act(action);
                }
                None if self.legs.inputs.is_empty() => break,
                None => {}
            }
        }
    }

    fn tell(&mut self, input: Input) {
        let now = Instant::now();
        if let Some(journal) = &mut self.journal {
            journal.input(&input, now);
        }
        self.engine.handle(input, now);
    }

    fn timeout(&mut self) {
        let now = Instant::now();
        if let Some(journal) = &mut self.journal {
            journal.timeout(now);
        }
        self.engine.handle_timeout(now);
    }

    /// Tells the world. That the node has stopped is told last.
    fn publish(&mut self) {
        let (mut stopped, mut events) = (None, VecDeque::new());
        while let Some(event) = self.engine.poll_event() {
            if let Some(journal) = &mut self.journal {
                journal.event(&event);
            }
            match event {
                Event::Stopped {} => stopped = Some(event),
                event => events.push_back(event),
            }
        }
        if let Some(sought) = self.engine.poll_sought() {
            self.sought.send_replace(sought);
        }
        events.append(&mut self.legs.events);
        for event in events.into_iter().chain(stopped) {
            tracing::debug!(?event);
            if let Event::ClockDiffers { relay, seconds } = &event {
                tracing::warn!(
                    %relay, seconds,
                    "the relay's clock and this machine's differ: what expires by the clock does so at another time there"
                );
            }
            // Without a subscriber there is nobody to tell.
            let _ = self.events.send(Arc::new(event));
        }
    }

    fn pinged(&mut self, ping: PingId, answer: Option<(ConnectionId, Duration)>) {
        let Some(reply) = self.pings.remove(&ping) else { return };
        let pong = answer.and_then(|(id, took)| {
            let connection = self.engine.connection_status(id, Instant::now())?;
            Some(Pong { took, connection })
        });
        let _ = reply.send(pong);
    }

    /// What the vigil noticed. What began in the network that this host is in now is not to be disturbed.
    fn noticed(&mut self, inputs: Vec<Input>) {
        let network = self.vigil.network();
        for mut input in inputs {
            if let Input::NetworkChanged { begun } = &mut input {
                let here =
                    self.dialled.values().filter(|dialling| still_leads(dialling.network, network));
                begun.extend(here.map(|dialling| dialling.dial));
            }
            self.legs.tell(input);
        }
    }

    fn command(&mut self, command: Option<Command>) {
        let input = match command {
            Some(Command::Open { peer, service, ticket, patience, reply }) => {
                let open = OpenId(self.legs.id());
                self.legs.opens.insert(open, Opening { reply, ticket, patience });
                Input::Open { open, peer, service }
            }
            Some(Command::Hold { peer }) => Input::Hold { peer },
            Some(Command::LetGo { peer }) => Input::LetGo { peer },
            Some(Command::Learn { peer, addresses }) => {
                self.swarm.behaviour().guard.given(&addresses);
                Input::Learn { peer, addresses }
            }
            Some(Command::Hear { peer, addresses }) => Input::Hear { peer, addresses },
            Some(Command::Hint { peer, addresses, source }) => Input::Hint { peer, addresses, source },
            Some(Command::SoughtBy { sources, patience }) => Input::SoughtBy { sources, patience },
            Some(Command::Welcome { service, peers }) => Input::Welcome { service, peers },
            Some(Command::AllowUpgrades { allowed }) => Input::AllowUpgrades { allowed },
            Some(Command::KeepTo { ranges }) => {
                self.swarm.behaviour_mut().guard.keep_to(ranges.clone());
                Input::KeepTo { ranges }
            }
            Some(Command::Reserve { relay }) => {
                self.swarm.behaviour().guard.given_relay(&relay);
                Input::Reserve { relay }
            }
            Some(Command::ReserveAll(relays)) => {
                self.swarm.behaviour().guard.given_relays(&relays);
                Input::ReserveAll(relays)
            }
            Some(Command::Close { connection }) => Input::Close { connection },
            Some(Command::Serve { service, served, reply }) => {
                let _ = reply.send(self.legs.requests.serve(service, served));
                return;
            }
            Some(Command::CountUpgrades { reply }) => {
                let _ = reply.send(self.engine.upgrade_counts().collect());
                return;
            }
            Some(Command::Ping { peer, reply }) => {
                let ping = PingId(self.legs.id());
                // Whoever gave up does not wait any more.
                self.pings.retain(|_, reply| !reply.is_closed());
                self.pings.insert(ping, reply);
                Input::Ping { ping, peer }
            }
            Some(Command::Retry { peer, reply }) => self.retry(peer, reply),
            Some(Command::Status { reply }) => {
                let _ = reply.send(self.status());
                return;
            }
            None if self.when_dropped == WhenDropped::LastStreamEnds => {
                self.lingers = true;
                return;
            }
            Some(Command::Shutdown) | None => {
                // The peers should not wait for a path that nobody brings.
                for live in self.legs.books.all() {
                    live.handle.reset(Code::Shutdown);
                }
                Input::Shutdown
            }
        };
        self.legs.tell(input);
    }

    fn swarm_event(&mut self, event: swarm::SwarmEvent<NodeEvent>) {
        if self.redial_from_any_port(&event) {
            return;
        }
        let limits = self.swarm.behaviour().circuit.limits();
        match translate(event, &mut self.dialled, limits, SystemTime::now()) {
            Translated::Input(input) => {
                self.note_connection(&input);
                // Its pings wait behind what its streams send.
                let wrong = matches!(&input, Input::Unresponsive { connection }
                    if self.is_heard(*connection));
                if !wrong {
                    self.legs.tell(input);
                }
            }
            Translated::Substream(event) => {
                self.legs.substream_event(event, |key| self.engine.moves_to(key));
            }
            Translated::Event(event) => self.legs.events.push_back(event),
            Translated::AddressGone { ip, address } => {
                self.legs.inputs.extend(ip.into_iter().flat_map(|ip| self.vigil.expired(ip)));
                self.legs.tell(Input::ListeningEnded { address });
            }
            Translated::Nothing => {}
        }
    }

    /// Keeps what is known of live connections.
    fn note_connection(&mut self, input: &Input) {
        match input {
            Input::ConnectionOpened(opened) => {
                let (address, path) = (opened.address.clone(), opened.path);
                if path.is_direct() {
                    self.vigil.opened(opened.connection, &address);
                    if self.engine.is_relay(opened.peer) {
                        self.swarm.behaviour().circuit.watch(opened.peer);
                    }
                }
                let limit = opened.limit.and_then(|limit| limit.bytes);
                let tell = &self.legs.nearly_spent.0;
                let meter = limit.map(|limit| Meter::new(opened.connection, limit, tell.clone()));
                let pulse = self.swarm.behaviour().ping.pulse(opened.connection);
                let ends = Ends { path, address, pulse, meter };
                self.legs.ends.insert(opened.connection, ends);
            }
            Input::ConnectionClosed { connection, .. } => {
                self.vigil.closed(*connection);
                self.legs.connection_closed(*connection);
            }
            Input::Responsive { connection, .. }
            | Input::Asked { connection }
            | Input::Heard { connection, .. } => {
                if let Some(ends) = self.legs.ends.get(connection) {
                    ends.pulse.beat(Instant::now());
                }
            }
            _ => {}
        }
    }

    /// Whether a stream has heard of the peer on this connection, or through this relay, just now.
    fn is_heard(&self, connection: ConnectionId) -> bool {
        let relay = self.engine.peer(connection).map(|relay| Path::Relayed { relay });
        let runs = |on: &Route| on.connection == connection || Some(on.path) == relay;
        let since = Instant::now().checked_sub(HEARD_FRESH);
        since.is_some_and(|since| self.legs.is_heard(since, runs))
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial { dial, peer, addresses } => self.dial(dial, peer, addresses),
            Action::DialCircuit { dial, peer, relay, link } => {
                self.dial_circuit(dial, peer, &relay, link);
            }
            Action::Reserve { request, relay, connection } => {
                self.swarm.behaviour_mut().circuit.reserve(request, &relay, connection);
            }
            Action::Release { connection } => self.swarm.behaviour_mut().circuit.release(connection),
            Action::AskPunch { exchange, peer, offer } => {
                self.say(peer, exchange, dcutr::Step::Ask(offer));
            }
            Action::AnswerPunch { exchange, peer, offer } => {
                self.say(peer, exchange, dcutr::Step::Answer(offer));
            }
            Action::SyncPunch { exchange, peer } => self.say(peer, exchange, dcutr::Step::Sync),
            Action::EndPunch { exchange, peer } => self.say(peer, exchange, dcutr::Step::End),
            Action::Punch { dial, peer, addresses, role } => self.punch(dial, peer, addresses, role),
            Action::OpenSubstream { open, peer, connection, service } => {
                self.legs.purposes.insert(open, Purpose::Open { service });
                self.swarm.behaviour_mut().substream.open(open, peer, connection);
            }
            Action::MoveStream { key, connection } => {
                let open = OpenId(self.legs.id());
                self.legs.purposes.insert(open, Purpose::Move { key, connection });
                self.swarm.behaviour_mut().substream.open(open, key.peer, connection);
            }
            Action::TakePulse { connection } => {
                let last = self.legs.ends.get(&connection).and_then(|ends| ends.pulse.last());
                self.legs.tell(Input::Pulse { connection, last });
            }
            Action::Say { peer, connection, word } => {
                self.swarm.behaviour_mut().control.say(peer, connection, word);
            }
            Action::Pinged { ping, answer } => self.pinged(ping, answer),
            Action::Acquainted { peers, familiar } => {
                self.swarm.behaviour_mut().door.acquainted(peers, familiar);
            }
            Action::TestAddress { test, peer, connection, address } => {
                self.swarm.behaviour_mut().autonat.test(test, peer, connection, address);
            }
            Action::Confirm { address, confirmed: true } => self.swarm.add_external_address(address),
            Action::Confirm { address, confirmed: false } => {
                self.swarm.remove_external_address(&address)
            }
            Action::MapPorts { listeners } => self.mapper.map(listeners),
            Action::AskStun(ask) => self.legs.inputs.extend(self.stun.ask(ask)),
            Action::ResolveRelays { name, given } => self.relay_names.resolve(name, given),
            Action::ResolveStun { run, server } => self.stun.resolve(run, server),
            Action::CloseStun { run } => self.stun.close(run),
            Action::Forsake { key } => self.legs.forsake(key),
            Action::FailOpen { open, error } => self.legs.open_failed(open, error),
            Action::Accept { inbound, .. } => self.legs.accept(inbound),
            Action::Ask { inbound } => self.legs.ask(inbound),
            Action::Refuse { inbound, refusal } => self.legs.refuse(inbound, refusal),
            Action::CloseConnection { connection, dead } => {
                if dead {
                    self.legs.leave(connection);
                }
                self.swarm.close_connection(connection.0);
            }
        }
    }

    fn say(&mut self, peer: PeerId, exchange: Exchange, step: dcutr::Step) {
        self.swarm.behaviour_mut().dcutr.say(peer, exchange, step);
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
