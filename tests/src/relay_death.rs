//! A session over one of two relays, which dies: how long until it goes on over the other.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::lab::{LabSpec, Nat};
use crate::process::{Event, Program, ProgramError};
use crate::scene::{Cast, START_DEADLINE, Scene, Transport};

/// How a relay dies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Death {
    /// Its process is killed: its system ends TCP connections at once, and answers QUIC's packets with an error.
    Killed,
    /// Its process hangs: nothing is ended, and nothing answered.
    Halted,
    /// Its cable is pulled: both routers forward nothing to it or from it.
    Cut,
}

/// What the session does meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Talk {
    /// Next to nothing, and that for longer than an unused connection is kept.
    Idle,
    /// The client sends as fast as it can.
    Load,
}

/// How a session got elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere {
    /// From the relay's death until both ends had said that the stream runs over the other relay.
    pub took: Duration,
    /// How long nothing could flow, as the ends tell; the longer of the two.
    pub gap: Duration,
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ms, gap {} ms", self.took.as_millis(), self.gap.as_millis())
    }
}

/// Sets a scene of two NATs that cannot be passed and two relays, lets the relay die that the session runs over, and
/// waits until it runs over the other one.
///
/// # Errors
///
/// If it does not, with what the programs printed.
pub async fn relay_dies(transport: Transport, death: Death, talk: Talk) -> Result<Elsewhere> {
    let mut scene = Scene::prepare(&LabSpec::new([Nat::PortPreserving; 2]), transport).await?;
    scene.lab.cut_direct(SERVER, CLIENT)?;
    let relay = scene.start_relay().await?;
    let (mut second, second_address) = scene.start_second_relay(transport).await?;
    let server = scene.start_server().await?;
    let load = ["--load-mib", LOAD_MIB];
    let client = scene.start_client(if talk == Talk::Load { &load } else { &[] })?;
    let mut cast = Cast { relay, server, client };
    let elsewhere = goes_elsewhere(&scene, &mut cast, &mut second, &second_address, death, talk).await;
    let elsewhere = cast.explain(elsewhere);
    elsewhere.map_err(|error| anyhow!("{error:#}\nsecond {}", second.report()))
}

async fn goes_elsewhere(
    scene: &Scene,
    cast: &mut Cast,
    second: &mut Program,
    second_address: &str,
    death: Death,
    talk: Talk,
) -> Result<Elsewhere> {
    let relayed = |event: &Event| event.has("path", "relayed");
    cast.both("session_ready", relayed, START_DEADLINE).await?;
    settle(cast, second, talk).await?;
    let active = active(&cast.client).context("the stream runs over no relay")?;
    ensure!(Some(&active) == self::active(&cast.server).as_ref(), "the ends differ about the relay");
    let marks = (cast.server.mark(), cast.client.mark());
    let is_second = second_address.ends_with(&active);
    let died = Instant::now();
    let dying = if is_second { second } else { &mut cast.relay };
    match death {
        Death::Killed => dying.kill().await?,
        Death::Halted => dying.halt()?,
        Death::Cut => {
            let machine = if is_second { scene.lab.internet() } else { scene.lab.relay() };
            [SERVER, CLIENT].iter().try_for_each(|end| scene.lab.block(*end, machine.address()))?;
        }
    }
    let other = |event: &Event| event.text("relay").is_some_and(|relay| relay != active);
    let moved = tokio::try_join!(
        cast.server.wait_for_after(marks.0, "stream_moved", other, MOVE_DEADLINE),
        cast.client.wait_for_after(marks.1, "stream_moved", other, MOVE_DEADLINE),
    )?;
    let took = died.elapsed();
    let gap = |moved: &Event| moved.fields()["gap_ms"].as_f64().unwrap_or(f64::INFINITY);
    let gap = Duration::try_from_secs_f64(gap(&moved.0).max(gap(&moved.1)) / 1000.0)?;
    cast.one_session()?;
    Ok(Elsewhere { took, gap })
}

/// A session with nothing to say has what it needs for good only when nothing unused is closed any more; one with a load
/// has it while the load runs.
async fn settle(cast: &Cast, second: &Program, talk: Talk) -> Result<()> {
    for program in [&cast.server, &cast.client] {
        program
            .wait_for("connection_opened", |event| event.has("path", "relayed"), START_DEADLINE)
            .await?;
    }
    match talk {
        Talk::Load => {
            let forwards = |event: &Event| event.number("forwarded_bytes") > Some(BEGUN_BYTES);
            let forwards = |relay| Program::wait_for(relay, "relay_traffic", forwards, START_DEADLINE);
            tokio::select! {
                forwarded = forwards(&cast.relay) => forwarded.map(drop)?,
                forwarded = forwards(second) => forwarded.map(drop)?,
            }
            Ok(())
        }
        Talk::Idle => {
            let closed = cast.either("connection_closed", UNUSED_IS_CLOSED).await;
            ensure!(matches!(closed, Err(ProgramError::Deadline { .. })), "no spare: {closed:?}");
            Ok(())
        }
    }
}

/// The relay that a program's stream runs over, by its own words.
fn active(program: &Program) -> Option<String> {
    let events = program.events();
    let placed = |event: &&Event| matches!(event.name(), "stream_opened" | "stream_moved");
    events.iter().rfind(placed)?.text("relay").map(str::to_owned)
}

/// Router and host.
const SERVER: usize = 0;
const CLIENT: usize = 1;

/// More than is sent before it is over.
const LOAD_MIB: &str = "65536";

/// So many bytes through a relay are a load and no handshake.
const BEGUN_BYTES: u64 = 8 * 1024 * 1024;

/// Longer than an unused relayed connection is kept (`Deadlines::relayed_grace`, 10 s).
const UNUSED_IS_CLOSED: Duration = Duration::from_secs(13);

/// A stream's patience, and half of it for the busy machine.
const MOVE_DEADLINE: Duration = Duration::from_secs(90);
