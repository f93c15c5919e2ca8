//! Stock kaspad nodes, unmodified, each with a sidecar: `expose` beside the one that is dialled,
//! `forward` beside the one that dials. They know nothing of punchline, and talk only through it.
//!
//! Here are the trials; `scene` is two nodes with their sidecars, `session` what the nodes have, `members` finds them in the namespace of their network, `world` what the sidecars
//! need, and `guide` whoever follows `design/kaspad.md` and `design/kaspad-network.md`.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use punchline_tests::kaspad::Kaspad;
use punchline_tests::lab::Lab;
use punchline_tests::process::{Event, Place};
use punchline_tests::scene::Transport;
use punchline_tests::trial::{self, kaspad_lab_trial, kaspad_trial};
use tokio::try_join;

use scene::{Scene, explain};
use session::{Session, Side, blocks_arrive};
use world::{DEADLINE, World, two_nats};

mod guide;
mod members;
mod scene;
mod session;
mod world;

fn main() -> ExitCode {
    let mut trials = vec![
        // The longest first: the others run beside it.
        kaspad_trial("a_session_outlives_the_ping_cycle", ping_cycle),
        kaspad_trial("nodes_without_a_tunnel_see_each_other_at_127_0_0_1", without_a_tunnel),
        kaspad_trial("two_nodes_on_loopback_shake_hands_and_exchange_blocks", on_loopback),
        kaspad_trial("two_far_nodes_come_from_two_addresses_that_they_keep", far_addresses),
        kaspad_trial(
            "a_permanent_peer_is_back_after_its_sidecar_was_killed_and_started_again",
            permanent_peer,
        ),
        kaspad_lab_trial(
            "the_guide_for_two_kaspad_nodes_is_followed_word_by_word",
            guide::is_followed_word_by_word,
        ),
        kaspad_lab_trial(
            "the_guide_for_kaspad_nodes_that_find_each_other_is_followed_word_by_word",
            guide::of_a_network_is_followed_word_by_word,
        ),
        kaspad_lab_trial(
            "two_kaspad_nodes_meet_in_the_namespace_of_their_network_and_nobody_is_told_where_the_other_is",
            members::meet,
        ),
    ];
    for transport in [Transport::Tcp, Transport::Quic] {
        for (miner, outage_max) in [(Side::Dialler, OUTAGE_MAX), (Side::Acceptor, NOTICED_MAX)] {
            let name = format!(
                "a_session_goes_direct_and_back_to_the_relay_over_{transport}_with_blocks_of_the_{miner}"
            );
            let trial = move || behind_nats(transport, miner, outage_max);
            trials.push(kaspad_lab_trial(&name, trial));
        }
    }
    trial::run(trials)
}

/// What the other trials see is punchline's doing only because this one sees something else.
async fn without_a_tunnel() -> Result<()> {
    let (dialler, acceptor) = try_join!(Kaspad::start(Place::Host), Kaspad::start(Place::Host))?;
    let played = async {
        let mut session = Session::dial(&dialler, acceptor.p2p(), &acceptor).await?;
        let source = session.source();
        ensure!(source.ip() == Ipv4Addr::LOCALHOST, "the dialler is seen at {source}");
        session.carries_blocks().await?;
        session.lives().await
    };
    explain(played.await, &[], &[&acceptor, &dialler])
}

async fn on_loopback() -> Result<()> {
    let scene = Scene::on_loopback().await?;
    let played = async {
        let mut session = scene.session().await?;
        session.carries_blocks().await?;
        session.lives().await
    };
    scene.explain(played.await)
}

async fn ping_cycle() -> Result<()> {
    let scene = Scene::on_loopback().await?;
    let played = async {
        let mut session = scene.session().await?;
        session.pings(PING_DEADLINE).await?;
        session.carries_blocks().await?;
        session.lives().await?;
        ensure!(session.age() >= PING_INTERVAL, "a ping after {:?}", session.age());
        Ok(())
    };
    scene.explain(played.await)
}

async fn far_addresses() -> Result<()> {
    let world = World::on_loopback().await?;
    let start = || Kaspad::start(Place::Host);
    let (acceptor, first, second) = try_join!(start(), start(), start())?;
    let expose = world.expose(Place::Host, "acceptor", &acceptor, &["first", "second"]).await?;
    let forward = |name| world.forward(Place::Host, name, "acceptor");
    let (mut to_first, to_second) = try_join!(forward("first"), forward("second"))?;
    let played = async {
        let (mut one, mut other) = try_join!(
            Session::dial(&first, to_first.local, &acceptor),
            Session::dial(&second, to_second.local, &acceptor),
        )?;
        for source in [one.source(), other.source()] {
            ensure!(is_its_own(source.ip()), "a far node is seen at {source}");
        }
        let at = one.source().ip();
        ensure!(at != other.source().ip(), "two far nodes are both seen at {at}");
        blocks_arrive(&first, &[&acceptor, &second]).await?;
        blocks_arrive(&second, &[&acceptor, &first]).await?;
        try_join!(one.lives(), other.lives())?;

        to_first.program.kill().await?;
        to_first = forward("first").await?;
        one.ends().await?;
        let again = Session::dial(&first, to_first.local, &acceptor).await?;
        ensure!(again.source().ip() == at, "seen at {} after {at}", again.source());
        again.carries_blocks().await
    };
    let played = played.await;
    let programs = [world.relay(), &expose, &to_first.program, &to_second.program];
    explain(played, &programs, &[&acceptor, &first, &second])
}

/// Whether a node that is seen at `address` can be told from the programs of this machine.
fn is_its_own(address: IpAddr) -> bool {
    address.is_loopback() && address != Ipv4Addr::LOCALHOST
}

/// As with `kaspad --addpeer`: nobody touches the nodes or the other sidecar.
async fn permanent_peer() -> Result<()> {
    let mut scene = Scene::on_loopback().await?;
    let played = async {
        let Scene { world, acceptor, dialler, expose, forward } = &mut scene;
        dialler.rpc().add_peer(forward.local, true).await?;
        let session = Session::between(dialler, forward.local, acceptor, DEADLINE).await?;
        session.carries_blocks().await?;
        expose.kill().await?;
        *expose = world.expose(Place::Host, "acceptor", acceptor, &["dialler"]).await?;
        session.ends().await?;
        let again = Session::between(dialler, forward.local, acceptor, RETRY_MAX).await?;
        again.carries_blocks().await
    };
    let played = played.await;
    scene.explain(played)
}

/// A session that begins on the relay, goes direct, and comes back when the direct path turns into a
/// black hole, at which time `miner` has blocks for the other.
async fn behind_nats(transport: Transport, miner: Side, outage_max: Duration) -> Result<()> {
    let lab = two_nats()?;
    lab.cut_direct(0, 1)?;
    let world = World::in_lab(&lab, transport).await?;
    let scene = Scene::start(world, lab.host(0).into(), lab.host(1).into()).await?;
    let played = async {
        let mut session = scene.session().await?;
        let relayed = |event: &Event| event.has("path", "relayed");
        scene.forward.program.wait_for("stream_opened", relayed, DEADLINE).await?;
        session.carries_blocks().await.context("relayed")?;
        goes_direct(&scene, &lab, &session).await.context("going direct")?;
        session.lives().await?;
        let outage = comes_back(&scene, &lab, &session, miner).await.context("coming back")?;
        say(&format!("{transport}: the blocks of the {miner} waited {outage:?} for the relay"));
        ensure!(outage < outage_max, "the outage lasted {outage:?}, not {outage_max:?} at most");
        session.lives().await
    };
    scene.explain(played.await)
}

/// Blocks are under way at the move, and again when it is over: then none of them on the relay.
async fn goes_direct(scene: &Scene, lab: &Lab, session: &Session<'_>) -> Result<()> {
    let marks = scene.marks();
    lab.mend_direct(0, 1)?;
    try_join!(scene.moved(marks, "direct"), session.carries_blocks())?;
    let before = (lab.relay_link_bytes()?, lab.direct_bytes(0, 1)?);
    session.carries_blocks().await?;
    let relay = lab.relay_link_bytes()? - before.0;
    let direct = lab.direct_bytes(0, 1)? - before.1;
    ensure!(direct > BLOCKS_BYTES_MIN, "{direct} bytes on the direct path");
    ensure!(relay < direct / 5, "{relay} bytes at the relay, {direct} on the direct path");
    Ok(())
}

/// Returns how long the blocks took that the black hole swallowed at first.
async fn comes_back(scene: &Scene, lab: &Lab, session: &Session<'_>, miner: Side) -> Result<Duration> {
    let marks = scene.marks();
    lab.cut_direct(0, 1)?;
    let cut = Instant::now();
    session.carries_blocks_of(miner).await?;
    let outage = cut.elapsed();
    scene.moved(marks, "relayed").await?;
    let before = lab.relay_link_bytes()?;
    session.carries_blocks().await?;
    let relay = lab.relay_link_bytes()? - before;
    ensure!(relay > BLOCKS_BYTES_MIN, "{relay} bytes at the relay");
    Ok(outage)
}

#[expect(clippy::print_stderr, reason = "outages are what these trials measure")]
fn say(measured: &str) {
    eprintln!("{measured}");
}

/// How long kaspad waits before its first ping.
const PING_INTERVAL: Duration = Duration::from_secs(120);

/// A ping of each node, and the handshakes before it.
const PING_DEADLINE: Duration = Duration::from_secs(150);

/// Kaspad looks after its permanent peers each 30 s; this is the second time.
const RETRY_MAX: Duration = Duration::from_secs(65);

/// The side that moves the stream notices within 3 s that its bytes are not acknowledged.
const OUTAGE_MAX: Duration = Duration::from_secs(6);

/// Where only the other side sends, it notices at the latest when a ping of its own is not answered.
const NOTICED_MAX: Duration = Duration::from_secs(25);

/// What [`Session::carries_blocks`] puts on the wire, at the very least: 50 blocks, none of which
/// has a header of less than 200 bytes, though they are compressed.
const BLOCKS_BYTES_MIN: u64 = 50 * 200;
