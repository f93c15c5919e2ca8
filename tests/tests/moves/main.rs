//! One session on real NATs whose stream moves while a load runs on it: the upgrade comes, the direct
//! path dies, the relay dies, a NAT forgets, a host gets another address. Both ends must have seen the
//! same bytes in the end, over the one session that they began with.
//!
//! Every trial prints the moves it saw, with their gaps.

mod deaths;
mod later;
mod relays;
mod switches;

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use punchline_tests::lab::{LabSpec, Nat, RouterSpec};
use punchline_tests::process::{Event, Mark, Program};
use punchline_tests::scene::{Cast, Scene, Transport, same_load};
use punchline_tests::trial::{self, lab_trial};

fn main() -> ExitCode {
    let mut trials = vec![
        lab_trial("a_load_goes_on_when_the_relay_dies_before_the_upgrade", || {
            story("relay_dies_before", Transport::Tcp, relay_dies_before)
        }),
        lab_trial("a_load_goes_on_when_the_relay_dies_during_the_upgrade", || {
            story("relay_dies_during", Transport::Tcp, relay_dies_during)
        }),
        lab_trial("a_load_does_not_notice_when_the_relay_dies_after_the_upgrade", || {
            story("relay_dies_after", Transport::Tcp, relay_dies_after)
        }),
    ];
    for on in [Transport::Tcp, Transport::Quic] {
        let name = |claim: &str| format!("{claim}_over_{on}");
        trials.extend([
            lab_trial(&name("a_load_goes_on_while_the_upgrade_happens"), move || {
                story("upgrade", on, upgrade)
            }),
            lab_trial(&name("a_load_is_back_on_the_relay_within_3_s_of_a_black_hole"), move || {
                story("black_hole", on, black_hole)
            }),
            lab_trial(&name("a_load_goes_on_when_both_nats_forget_their_mappings"), move || {
                story("nats_forget", on, nats_forget)
            }),
            lab_trial(&name("a_load_goes_on_within_3_s_when_the_clients_nat_maps_anew"), move || {
                story("client_nat_maps_anew", on, client_nat_maps_anew)
            }),
            lab_trial(&name("a_load_goes_on_within_3_s_when_the_servers_nat_maps_anew"), move || {
                story("server_nat_maps_anew", on, server_nat_maps_anew)
            }),
            lab_trial(&name("an_idle_stream_leaves_a_dead_path_within_3_s"), move || {
                leaves_while_idle(on)
            }),
            lab_trial(&name("a_load_goes_on_when_the_client_gets_another_address"), move || {
                story("client_renumbered", on, client_renumbered)
            }),
            lab_trial(&name("a_load_goes_on_when_the_server_gets_another_address"), move || {
                story("server_renumbered", on, server_renumbered)
            }),
        ]);
    }
    trials.extend(deaths::trials());
    trials.extend(later::trials());
    trials.extend(relays::trials());
    trials.extend(switches::trials());
    trial::run(trials)
}

/// A load that starts over the relay, what happens to it, and that it arrives whole in spite of it.
async fn story(
    name: &str,
    transport: Transport,
    plot: impl AsyncFnOnce(&Scene, &mut Cast) -> Result<()>,
) -> Result<()> {
    let scene = Scene::prepare(&LabSpec::new([Nat::PortPreserving; 2]), transport).await?;
    scene.lab.cut_direct(SERVER, CLIENT)?;
    let load = ["--load-mib", &LOAD_MIB.to_string(), "--load-until-direct"];
    let mut cast = Cast::start(&scene, &load).await?;
    let begun = begins_relayed(&scene, &cast).await;
    cast.explain(begun)?;
    let happened = plot(&scene, &mut cast).await;
    cast.explain(happened)?;
    let arrived = arrives(&cast).await;
    say(name, transport, &cast);
    cast.explain(arrived)
}

/// A session without anything to say on the only connection there is, whose path dies.
async fn leaves_while_idle(transport: Transport) -> Result<()> {
    let scene = Scene::prepare(&LabSpec::new([Nat::PortPreserving; 2]), transport).await?;
    let cast = Cast::start(&scene, &[]).await?;
    let left = dies_while_idle(&scene, &cast).await;
    cast.explain(left)
}

async fn dies_while_idle(scene: &Scene, cast: &Cast) -> Result<()> {
    cast.both("stream_moved", |event| event.has("to", "direct"), MOVE_DEADLINE).await?;
    let circuit = |event: &Event| event.has("path", "relayed");
    cast.both("connection_closed", circuit, MOVE_DEADLINE).await?;
    let marks = (cast.server.mark(), cast.client.mark());
    scene.lab.cut_direct(SERVER, CLIENT)?;
    leaves_within_3_s(cast, marks).await
}

async fn begins_relayed(scene: &Scene, cast: &Cast) -> Result<()> {
    let relayed = |event: &Event| event.has("path", "relayed");
    cast.both("session_ready", relayed, START_DEADLINE).await?;
    until(|| Ok(scene.lab.relay_link_bytes()? > BEGUN_BYTES)).await
}

async fn arrives(cast: &Cast) -> Result<()> {
    let (arrived, sent) = cast.both("load_done", |_| true, LOAD_DEADLINE).await?;
    ensure!(same_load(&arrived, &sent, LOAD_MIB), "{arrived} {sent}");
    cast.one_session()
}

/// The direct path becomes possible, and the load moves to it.
async fn goes_direct(scene: &Scene, cast: &Cast) -> Result<()> {
    scene.lab.mend_direct(SERVER, CLIENT)?;
    cast.both("stream_moved", |event| event.has("to", "direct"), MOVE_DEADLINE).await?;
    let before = scene.lab.direct_bytes(SERVER, CLIENT)?;
    until(|| Ok(scene.lab.direct_bytes(SERVER, CLIENT)? > before + BEGUN_BYTES)).await?;
    still_loads(cast)
}

/// What is to happen to a load must happen while there is one.
fn still_loads(cast: &Cast) -> Result<()> {
    let done = |program: &Program| program.events().iter().any(|event| event.name() == "load_done");
    ensure!(!done(&cast.client), "the load was over too soon");
    Ok(())
}

async fn upgrade(scene: &Scene, cast: &mut Cast) -> Result<()> {
    goes_direct(scene, cast).await
}

async fn black_hole(scene: &Scene, cast: &mut Cast) -> Result<()> {
    goes_direct(scene, cast).await?;
    let marks = (cast.server.mark(), cast.client.mark());
    scene.lab.cut_direct(SERVER, CLIENT)?;
    let back = |event: &Event| event.has("from", "direct") && event.has("to", "relayed");
    let moved = tokio::try_join!(
        cast.server.wait_for_after(marks.0, "stream_moved", back, MOVE_DEADLINE),
        cast.client.wait_for_after(marks.1, "stream_moved", back, MOVE_DEADLINE),
    )?;
    ensure!(gap_ms(&moved.0) < DEATH_GAP_MS && gap_ms(&moved.1) < DEATH_GAP_MS, "{moved:?}");
    scene.lab.mend_direct(SERVER, CLIENT)?;
    Ok(())
}

async fn relay_dies_before(scene: &Scene, cast: &mut Cast) -> Result<()> {
    let marks = (cast.server.mark(), cast.client.mark());
    cast.relay.kill().await?;
    cast.relay = scene.start_relay().await?;
    let again = |event: &Event| event.has("from", "relayed") && event.has("to", "relayed");
    tokio::try_join!(
        cast.server.wait_for_after(marks.0, "stream_moved", again, MOVE_DEADLINE),
        cast.client.wait_for_after(marks.1, "stream_moved", again, MOVE_DEADLINE),
    )?;
    scene.lab.mend_direct(SERVER, CLIENT)?;
    Ok(())
}

async fn relay_dies_during(scene: &Scene, cast: &mut Cast) -> Result<()> {
    scene.lab.mend_direct(SERVER, CLIENT)?;
    cast.either("upgrade_succeeded", MOVE_DEADLINE).await?;
    cast.relay.kill().await?;
    cast.both("stream_moved", |event| event.has("to", "direct"), MOVE_DEADLINE).await?;
    Ok(())
}

async fn relay_dies_after(scene: &Scene, cast: &mut Cast) -> Result<()> {
    goes_direct(scene, cast).await?;
    let count = |cast: &Cast| moves(&cast.server).len() + moves(&cast.client).len();
    let before = count(cast);
    cast.relay.kill().await?;
    arrives(cast).await?;
    ensure!(count(cast) == before, "the stream moved, although its path lives");
    Ok(())
}

async fn nats_forget(scene: &Scene, cast: &mut Cast) -> Result<()> {
    goes_direct(scene, cast).await?;
    scene.lab.flush_nat(SERVER)?;
    scene.lab.flush_nat(CLIENT)?;
    Ok(())
}

async fn client_nat_maps_anew(scene: &Scene, cast: &mut Cast) -> Result<()> {
    maps_anew(scene, cast, CLIENT).await
}

async fn server_nat_maps_anew(scene: &Scene, cast: &mut Cast) -> Result<()> {
    maps_anew(scene, cast, SERVER).await
}

/// The direct path dies without a word, and over QUIC the link to the relay with it.
async fn maps_anew(scene: &Scene, cast: &Cast, router: usize) -> Result<()> {
    goes_direct(scene, cast).await?;
    scene.lab.set_router(router, &RouterSpec::new(Nat::PORT_CHANGING))?;
    let marks = (cast.server.mark(), cast.client.mark());
    scene.lab.flush_nat(router)?;
    let died = Instant::now();
    leaves_within_3_s(cast, marks).await?;
    direct_again(cast, marks, died).await
}

/// Both ends are on a direct path again, after the one that died at `died`. Mostly it is the first that they move to.
async fn direct_again(cast: &Cast, marks: (Mark, Mark), died: Instant) -> Result<()> {
    let direct = |event: &Event| event.has("to", "direct");
    tokio::try_join!(
        cast.server.wait_for_after(marks.0, "stream_moved", direct, MOVE_DEADLINE),
        cast.client.wait_for_after(marks.1, "stream_moved", direct, MOVE_DEADLINE),
    )?;
    let took = died.elapsed();
    tell(&format!("DIRECT again after {} ms", took.as_millis()));
    ensure!(took < DIRECT_AGAIN, "direct again only after {took:?}");
    Ok(())
}

/// The path has just died. Gaps that the ends tell would not do: a stream that leaves without having
/// noticed anything itself tells of none.
async fn leaves_within_3_s(cast: &Cast, marks: (Mark, Mark)) -> Result<()> {
    let died = Instant::now();
    tokio::try_join!(
        cast.server.wait_for_after(marks.0, "stream_moved", |_| true, MOVE_DEADLINE),
        cast.client.wait_for_after(marks.1, "stream_moved", |_| true, MOVE_DEADLINE),
    )?;
    let took = died.elapsed();
    tell(&format!("GAPS elsewhere after {} ms", took.as_millis()));
    ensure!(took < DEATH_GAP, "the stream left a dead path after {took:?}");
    Ok(())
}

async fn client_renumbered(scene: &Scene, cast: &mut Cast) -> Result<()> {
    renumbered(scene, cast, CLIENT).await
}

async fn server_renumbered(scene: &Scene, cast: &mut Cast) -> Result<()> {
    renumbered(scene, cast, SERVER).await
}

async fn renumbered(scene: &Scene, cast: &Cast, host: usize) -> Result<()> {
    goes_direct(scene, cast).await?;
    let [a, b, c, d] = scene.lab.host(host).address().octets();
    let marks = (cast.server.mark(), cast.client.mark());
    let died = Instant::now();
    scene.lab.renumber(host, Ipv4Addr::new(a, b, c, d + 1))?;
    direct_again(cast, marks, died).await
}

/// Waits until the counters of the lab, which tell nobody when they change, say `what`.
async fn until(what: impl Fn() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    while !what()? {
        ensure!(started.elapsed() < MOVE_DEADLINE, "the load does not get going");
        looks.tick().await;
    }
    Ok(())
}

fn moves(program: &Program) -> Vec<Event> {
    program.events().into_iter().filter(|event| event.name() == "stream_moved").collect()
}

fn gap_ms(moved: &Event) -> f64 {
    moved.fields()["gap_ms"].as_f64().unwrap_or(f64::INFINITY)
}

fn say(name: &str, transport: Transport, cast: &Cast) {
    for (end, program) in [("server", &cast.server), ("client", &cast.client)] {
        let moves = moves(program);
        let seen = moves.iter().map(|moved| {
            let path = |field| moved.text(field).unwrap_or("?");
            let cause = moved.text("cause").map(|cause| format!(" ({cause})")).unwrap_or_default();
            format!("{}->{} {} ms{cause}", path("from"), path("to"), gap_ms(moved))
        });
        let seen = seen.collect::<Vec<_>>().join(", ");
        tell(&format!("GAPS {name} {transport} {end}: {seen}"));
    }
}

#[expect(clippy::print_stderr, reason = "gaps are what these trials measure")]
fn tell(gaps: &str) {
    eprintln!("{gaps}");
}

/// Router and host.
const SERVER: usize = 0;
const CLIENT: usize = 1;

/// On the direct path, beside what the relay carries until there is one. A second or more of an unoptimised
/// program: what happens to the path happens in the middle of it.
const LOAD_MIB: u64 = 48;
/// So many bytes on a path are a load and no handshake.
const BEGUN_BYTES: u64 = 2 * 1024 * 1024;
/// Promised: from a path's silent death to the stream's life on another.
const DEATH_GAP: Duration = Duration::from_secs(3);
const DEATH_GAP_MS: f64 = 3_000.0;

const LOOK_EVERY: Duration = Duration::from_millis(10);
const START_DEADLINE: Duration = Duration::from_secs(30);
/// Promised: how soon a session is direct again after a NAT or a host got another address.
const DIRECT_AGAIN: Duration = Duration::from_secs(10);
/// A stream's patience, and half of it for the busy machine.
const MOVE_DEADLINE: Duration = Duration::from_secs(90);
const LOAD_DEADLINE: Duration = Duration::from_secs(120);
