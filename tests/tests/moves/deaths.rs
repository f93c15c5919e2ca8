//! A session on a direct path, idle, whose peer's process is killed: its stream ends within seconds and not after its
//! patience. And what looks like a death at the relay and is none.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use libtest_mimic::Trial;
use punchline_tests::lab::{LabSpec, Nat, RouterSpec};
use punchline_tests::process::{Event, Program, ProgramError};
use punchline_tests::scene::{Cast, Scene, Transport};
use punchline_tests::trial::lab_trial;

use super::{CLIENT, MOVE_DEADLINE, SERVER, tell};

/// Over TCP and QUIC; the link to a relay is TCP in both cases.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for on in [Transport::Tcp, Transport::Quic] {
        let name = |claim: &str| format!("{claim}_over_{on}");
        trials.extend([
            lab_trial(&name("a_clients_stream_ends_soon_after_its_server_was_killed"), move || {
                killed(on, SERVER)
            }),
            lab_trial(&name("a_servers_stream_ends_soon_after_its_client_was_killed"), move || {
                killed(on, CLIENT)
            }),
            lab_trial(&name("a_peer_that_only_its_relay_lost_is_not_taken_for_dead"), move || {
                only_the_relay_lost(on)
            }),
            lab_trial(&name("a_peer_whose_nat_maps_anew_is_not_taken_for_dead"), move || maps_anew(on)),
        ]);
    }
    trials
}

/// A scene whose session is direct, and for which no circuit is open any more. Both ends hold a reservation at a relay
/// that they are linked to over TCP.
struct Settled {
    scene: Scene,
    cast: Cast,
    /// That relay, if it is not the one of the cast, over which QUIC finds its addresses.
    second: Option<Program>,
}

impl Settled {
    async fn new(transport: Transport) -> Result<Self> {
        let mut scene = Scene::prepare(&LabSpec::new([Nat::PortPreserving; 2]), transport).await?;
        let (second, address) = match transport {
            Transport::Tcp => (None, scene.relay_address()),
            Transport::Quic => {
                let (second, address) = scene.start_second_relay(Transport::Tcp).await?;
                (Some(second), address)
            }
        };
        let reserve = format!("{address}/p2p-circuit");
        let cast = Cast::start(&scene, &["--listen", &reserve]).await?;
        let settled = Self::settle(&cast, transport).await;
        cast.explain(settled)?;
        Ok(Self { scene, cast, second })
    }

    /// The relay with the links over TCP.
    fn relay(&self) -> &Program {
        self.second.as_ref().unwrap_or(&self.cast.relay)
    }

    fn explain<T>(&self, result: Result<T>) -> Result<T> {
        let second = self.second.as_ref().map(Program::report).unwrap_or_default();
        self.cast.explain(result).map_err(|error| anyhow!("{error:#}\nsecond {second}"))
    }

    async fn settle(cast: &Cast, transport: Transport) -> Result<()> {
        cast.client.wait_for("reservation_held", |_| true, MOVE_DEADLINE).await?;
        cast.both("stream_moved", |event| event.has("to", "direct"), MOVE_DEADLINE).await?;
        for program in [&cast.server, &cast.client] {
            let direct = |event: &&Event| event.has("path", "direct");
            let opened = |event: &Event| event.name() == "connection_opened";
            let (directly, relayed): (Vec<_>, Vec<_>) =
                program.events().into_iter().filter(opened).partition(|event| direct(&event));
            let over = |event: &Event| event.has("transport", &transport.to_string());
            ensure!(directly.iter().any(over), "not over {transport}: {directly:?}");
            for circuit in relayed {
                let same = |event: &Event| event.text("connection") == circuit.text("connection");
                program.wait_for("connection_closed", same, MOVE_DEADLINE).await?;
            }
        }
        Ok(())
    }
}

async fn killed(on: Transport, end: usize) -> Result<()> {
    let mut settled = Settled::new(on).await?;
    let Cast { server, client, .. } = &mut settled.cast;
    let (dying, other) = if end == SERVER { (server, &*client) } else { (client, &*server) };
    let mark = other.mark();
    let died = Instant::now();
    dying.kill().await?;
    let closed = other.wait_for_after(mark, "stream_closed", |_| true, MOVE_DEADLINE).await;
    let took = died.elapsed();
    tell(&format!("DEATH {on}: known after {} ms", took.as_millis()));
    let known = closed.map_err(Into::into).and_then(|closed| {
        ensure!(closed.has("cause", "path_lost") && took < known_within(on), "after {took:?}: {closed}");
        Ok(())
    });
    settled.explain(known)
}

/// One end after the other loses its relays, and nothing else.
async fn only_the_relay_lost(on: Transport) -> Result<()> {
    let settled = Settled::new(on).await?;
    let lives = lives_without_its_relay(&settled).await;
    settled.explain(lives)
}

async fn lives_without_its_relay(settled: &Settled) -> Result<()> {
    let Settled { scene: Scene { lab, .. }, cast, .. } = settled;
    for (end, program) in [(SERVER, &cast.server), (CLIENT, &cast.client)] {
        let (mark, seen) = (program.mark(), settled.relay().mark());
        for machine in [lab.relay(), lab.internet()] {
            lab.block(end, machine.address())?;
        }
        settled.relay().wait_for_after(seen, "reservation_ended", |_| true, LINK_DEADLINE).await?;
        stays(cast).await?;
        for machine in [lab.relay(), lab.internet()] {
            lab.unblock(end, machine.address())?;
        }
        program.wait_for_after(mark, "reservation_held", |_| true, LINK_DEADLINE).await?;
    }
    cast.one_session()
}

/// The direct path dies without a word, and so does the link to the relay: the relay resets what it does not know.
async fn maps_anew(on: Transport) -> Result<()> {
    let settled = Settled::new(on).await?;
    let lives = lives_behind_another_port(&settled).await;
    settled.explain(lives)
}

async fn lives_behind_another_port(settled: &Settled) -> Result<()> {
    let Settled { scene: Scene { lab, .. }, cast, .. } = settled;
    let marks = (cast.server.mark(), cast.client.mark());
    lab.set_router(SERVER, &RouterSpec::new(Nat::PORT_CHANGING))?;
    lab.flush_nat(SERVER)?;
    tokio::try_join!(
        cast.server.wait_for_after(marks.0, "stream_moved", |_| true, MOVE_DEADLINE),
        cast.client.wait_for_after(marks.1, "stream_moved", |_| true, MOVE_DEADLINE),
    )?;
    stays(cast).await
}

/// Both ends still have their stream when a dead peer's would long have ended.
async fn stays(cast: &Cast) -> Result<()> {
    let closed = cast.either("stream_closed", known_within(Transport::Quic)).await;
    ensure!(matches!(closed, Err(ProgramError::Deadline { .. })), "taken for dead: {closed:?}");
    cast.one_session()
}

/// How soon a peer's death is known. Over TCP its system says so at once, and the peer has 1.5 s to come back
/// (`Deadlines::absence`). Over QUIC its silence is noticed after 2.4 s (`design/decisions/0004-quic-timers.md`), then
/// the relay is asked, and then come these 1.5 s. Beside that, a second for a busy machine.
fn known_within(transport: Transport) -> Duration {
    Duration::from_millis(match transport {
        Transport::Tcp => 2_500,
        Transport::Quic => 4_900,
    })
}

/// A dead TCP link is given up after 18 s; a reservation is back within a few.
const LINK_DEADLINE: Duration = Duration::from_secs(30);
