//! What real drivers told their engines, told again. `journals` holds what was recorded where the tests over sockets
//! and those in the lab ran (`CONTRIBUTING.md` says how to record anew).

use std::{collections::BTreeSet, fs, path::PathBuf};

use super::*;
use crate::{
    engine::{
        paths::connections::User,
        record::{Header, Line, Sum, count_from},
    },
    stream::StreamKey,
};

/// How long after the last input an engine may still wait for something.
const QUIET_AFTER: Duration = Duration::from_secs(24 * 3600);

struct Journal {
    name: String,
    header: Header,
    lines: Vec<Line>,
}

impl Journal {
    fn read(path: &std::path::Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let name = path.display().to_string();
        let mut lines = text.lines();
        let header = serde_json::from_str(lines.next().unwrap()).unwrap();
        let line =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
        Self { header, lines: lines.map(line).collect(), name }
    }

    fn recorded() -> Vec<Self> {
        count_from(Instant::now());
        let here = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/engine/tests/journals");
        let folder = std::env::var_os("JOURNALS").map_or_else(here, PathBuf::from);
        let mut paths: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }
}

/// An engine that is told what is in a journal.
struct Replay {
    engine: Engine,
    now: Instant,
    /// Streams that the program has.
    streams: BTreeSet<StreamKey>,
    connections: BTreeSet<ConnectionId>,
    /// Legs that carry streams.
    legs: BTreeSet<(ConnectionId, LegId)>,
    actions: Vec<Sum>,
    events: Vec<Sum>,
}

impl Replay {
    fn new(journal: &Journal) -> Self {
        let Header { local, seed, config } = journal.header.clone();
        let now = journal.lines.first().and_then(Line::at).unwrap_or_else(Instant::now);
        Self {
            engine: Engine::new(local, config, seed),
            now,
            streams: BTreeSet::new(),
            connections: BTreeSet::new(),
            legs: BTreeSet::new(),
            actions: vec![Sum::default()],
            events: vec![Sum::default()],
        }
    }

    fn tell(&mut self, input: Option<&Input>, now: Instant) {
        self.now = now;
        match input {
            None => self.engine.handle_timeout(now),
            Some(input) => {
                self.note(input);
                self.engine.handle(input.clone(), now);
            }
        }
        while let Some(action) = self.engine.poll_action() {
            add(&mut self.actions, &action);
        }
        while let Some(event) = self.engine.poll_event() {
            add(&mut self.events, &event);
        }
    }

    fn note(&mut self, input: &Input) {
        match input {
            Input::StreamOpened { key, .. } | Input::StreamAccepted { key, .. } => {
                self.streams.insert(*key);
            }
            Input::StreamClosed { key } => {
                self.streams.remove(key);
            }
            Input::ConnectionOpened(opened) => {
                self.connections.insert(opened.connection);
            }
            Input::ConnectionClosed { connection, .. } => {
                self.connections.remove(connection);
                self.legs.retain(|(on, _)| on != connection);
            }
            Input::LegStarted { connection, leg, .. } if self.connections.contains(connection) => {
                self.legs.insert((*connection, *leg));
            }
            Input::LegEnded { connection, leg } => {
                self.legs.remove(&(*connection, *leg));
            }
            _ => {}
        }
    }

    /// What must hold whenever the engine is asked.
    fn check(&self, whence: &str) {
        assert_eq!(self.engine.broken_invariant(), None, "{whence}");
        for key in &self.streams {
            assert!(
                self.engine.knows(*key),
                "{whence}: the program has {key:?}, the engine does not know it"
            );
        }
        for (connection, leg) in &self.legs {
            let kept = self.engine.connections.is_user(*connection, User::Leg(*leg));
            assert!(kept, "{whence}: {leg:?} is carried by {connection}, which counts as unused");
        }
        if !self.engine.opens.ids().is_empty() {
            assert!(self.engine.poll_timeout().is_some(), "{whence}: an open waits without a deadline");
        }
    }

    /// Everything that the world outside has ends, and time passes.
    fn end(&mut self, whence: &str) {
        for connection in self.connections.clone() {
            self.tell(Some(&Input::ConnectionClosed { connection, cause: CloseCause::Peer }), self.now);
            self.check(whence);
        }
        for key in self.streams.clone() {
            self.tell(Some(&Input::StreamClosed { key }), self.now);
        }
        let end = self.now + QUIET_AFTER;
        // A node goes on looking for peers that it is to keep a connection to, and for its relays.
        for _ in 0..2_000 {
            let Some(next) = self.engine.poll_timeout().filter(|next| *next <= end) else { break };
            let next = next.max(self.now);
            self.tell(None, next);
            self.check(whence);
            if self.engine.is_stopped() {
                return;
            }
        }
        assert_eq!(self.engine.opens.ids(), [], "{whence}: an open waits for ever");
        assert_eq!(
            self.engine.connections.users().count(),
            0,
            "{whence}: a connection is used that is not there"
        );
    }
}

fn add(sums: &mut Vec<Sum>, said: &impl std::fmt::Debug) {
    let mut sum = *sums.last().unwrap();
    sum.add(said);
    sums.push(sum);
}

#[test]
fn what_real_drivers_said_breaks_no_invariant() {
    let journals = Journal::recorded();
    assert!(journals.len() >= 20, "only {} journals", journals.len());
    for journal in journals {
        let mut replay = Replay::new(&journal);
        for (number, line) in journal.lines.iter().enumerate() {
            replay.tell(line.input.as_ref(), line.at().unwrap());
            replay.check(&format!("{} line {}", journal.name, number + 2));
        }
    }
}

/// A driver may lose everything at any moment: then nothing is used, and nobody waits, for ever.
#[test]
fn wherever_what_real_drivers_said_breaks_off_nothing_is_left_behind() {
    for journal in Journal::recorded() {
        let step = (journal.lines.len() / 12).max(1);
        for cut in (0..journal.lines.len()).step_by(step) {
            let mut replay = Replay::new(&journal);
            for line in &journal.lines[..cut] {
                replay.tell(line.input.as_ref(), line.at().unwrap());
            }
            replay.end(&format!("{} up to line {}", journal.name, cut + 1));
        }
    }
}

#[test]
fn told_the_same_again_an_engine_does_the_same() {
    for journal in Journal::recorded() {
        let run = || {
            let mut replay = Replay::new(&journal);
            journal.lines.iter().for_each(|line| replay.tell(line.input.as_ref(), line.at().unwrap()));
            (replay.actions, replay.events)
        };
        assert!(run() == run(), "{}", journal.name);
    }
}

/// The same seed and the same inputs make the same run: not only of an engine that is told them twice, but of a
/// node on real sockets and of an engine that is told what it was told.
#[tokio::test]
async fn an_engine_that_is_told_what_a_node_was_told_does_what_the_node_did() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let config = |name: &str| Config {
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        journal: Some(path(name)),
        ..Config::default()
    };
    let service: Service = "echo".parse().unwrap();
    let key = libp2p::identity::Keypair::generate_ed25519;
    let (server, _events) = crate::Endpoint::start(config("server"), key()).await.unwrap();
    let (client, _events) = crate::Endpoint::start(config("client"), key()).await.unwrap();
    let mut incoming = server.incoming(service.clone()).await.unwrap();
    client.add_addresses(server.peer_id(), server.listening().to_vec()).await;
    let opened = tokio::spawn({
        let (client, peer) = (client.clone(), server.peer_id());
        async move { client.open(peer, service).await }
    });
    let stream = incoming.next().await.unwrap();
    drop((opened.await.unwrap().unwrap(), stream));
    client.shutdown().await;
    server.shutdown().await;
    for name in ["server", "client"] {
        let journal = Journal::read(&path(name));
        // From listening to the shutdown. A ping may come or not, and the leg may outlast its connection.
        assert!(journal.lines.len() > 5, "{name}");
        let mut replay = Replay::new(&journal);
        for line in &journal.lines {
            let so_far = |sums: &[Sum], said: Sum| sums.get(said.count as usize) == Some(&said);
            assert!(so_far(&replay.actions, line.actions), "{name}: other actions before {line:?}");
            assert!(so_far(&replay.events, line.events), "{name}: other events before {line:?}");
            replay.tell(line.input.as_ref(), line.at().unwrap());
        }
    }
}
