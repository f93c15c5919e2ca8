//! The main job on real NATs, with the shipped programs: from the relay to a direct path, and what
//! happens when there is none, when the relay dies, and when somebody asks to stop.

mod blocked;
mod stock;
mod stock_peer;

use std::net::UdpSocket;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use punchline_tests::lab::{self, Lab, LabSpec, Nat, RouterSpec, UnexpectedSyn};
use punchline_tests::matrix::{Cell, Expected, Outcome, Over, Run};
use punchline_tests::process::{Event, Launch, Program, ProgramError};
use punchline_tests::scene::{Cast, Scene, Transport, same_load};
use punchline_tests::trial::{self, lab_trial, tool_trial};

fn main() -> ExitCode {
    // The trials run this program once more, as a stock peer: one program fewer to link.
    if let Some(asked) = stock_peer::asked() {
        return stock_peer::run(asked);
    }
    let mut trials = vec![
        lab_trial("a_session_stays_on_the_relay_where_routers_reset_the_punch", reset_punch),
        lab_trial("why_says_that_both_nats_are_symmetric", symmetric_both),
        lab_trial("the_address_of_a_public_host_is_confirmed", public_address),
        lab_trial("no_address_behind_a_port_restricted_nat_is_confirmed", hidden_address),
        lab_trial(
            "an_address_behind_an_address_restricted_nat_lets_in_who_was_spoken_to",
            restricted_address,
        ),
        lab_trial("a_reservation_is_back_within_5_s_of_a_killed_relay", || {
            killed_relay(Transport::Tcp, None)
        }),
        lab_trial("a_reservation_is_back_within_5_s_of_a_relay_that_was_away_for_60_s", || {
            killed_relay(Transport::Quic, Some(OUTAGE))
        }),
        lab_trial("nodes_learn_from_their_relay_what_kind_of_nat_they_are_behind", nat_kinds),
        tool_trial("a_stun_server_of_others_tells_what_kind_of_nat_a_node_is_behind", no_coturn, coturn),
        lab_trial("every_program_with_a_live_session_exits_0_within_5_s_of_sigterm", sigterm),
    ];
    for transport in [Transport::Tcp, Transport::Quic] {
        let name = format!("two_hosts_behind_one_nat_without_hairpin_become_direct_over_{transport}");
        trials.push(lab_trial(&name, move || neighbours(transport)));
        for (sides, nats) in NATS {
            let name =
                format!("a_load_never_touches_the_relay_after_the_punch_over_{transport}_{sides}");
            trials.push(lab_trial(&name, move || punch(transport, nats)));
        }
    }
    for cell in CELLS {
        let Cell { server, client, over } = cell;
        let verb = match cell.expected() {
            Expected::Direct => "become_direct",
            Expected::Relayed => "stay_relayed_and_say_why",
        };
        let name = format!("server_{server}_and_client_{client}_{verb}_over_{over}");
        trials.push(lab_trial(&name, move || in_time(cell, LabSpec::new([server, client]))));
    }
    trials.push(lab_trial("a_server_behind_two_nats_becomes_direct", || {
        let cell = cell(Nat::PortPreserving, Nat::PortPreserving, Over::Both);
        let carrier = RouterSpec::new(Nat::PortPreserving);
        in_time(cell, LabSpec::new([Nat::PortPreserving; 2]).behind_carrier(0, carrier))
    }));
    trials.extend(blocked::trials());
    trials.extend(stock::trials());
    trial::run(trials)
}

/// What physics allows comes true, and soon.
async fn in_time(cell: Cell, spec: LabSpec) -> Result<()> {
    let Run { outcome, report, .. } = cell.run_in(&spec.delay(ONE_WAY)).await;
    let is_well = match &outcome {
        Outcome::Direct { took, .. } => *took < DIRECT_DEADLINE,
        Outcome::Relayed { reason, after } => {
            reason.contains("no hole punch is possible") && *after < VERDICT_DEADLINE
        }
        Outcome::Silent | Outcome::Broken { .. } => false,
    };
    ensure!(is_well && outcome.is(cell.expected()), "{cell}: {outcome:?}\n{report}");
    Ok(())
}

async fn punch(transport: Transport, nats: [Nat; 2]) -> Result<()> {
    let scene = Scene::prepare(&LabSpec::new(nats), transport).await?;
    let load = ["--load-mib", &LOAD_MIB.to_string(), "--load-after-direct"];
    let cast = Cast::start(&scene, &load).await?;
    cast.explain(load_goes_direct(&scene, &cast).await)
}

/// The router sends nothing back, so the public addresses lead nowhere: only those of the network do.
async fn neighbours(transport: Transport) -> Result<()> {
    let spec = LabSpec::new([Nat::PortPreserving]).with_neighbours();
    let scene = Scene::prepare(&spec, transport).await?;
    let load = ["--load-mib", &AT_HOME_MIB.to_string(), "--load-after-direct"];
    let cast = Cast::start_as_neighbours(&scene, &load).await?;
    cast.explain(load_stays_at_home(&scene, &cast).await)
}

async fn load_stays_at_home(scene: &Scene, cast: &Cast) -> Result<()> {
    let (ended, _) = cast.both("upgrade_succeeded", |_| true, PUNCH_DEADLINE).await?;
    ensure!(ended.number("took_ms").is_some_and(|took| took < AT_HOME_MS), "{ended}");
    cast.both("stream_moved", goes_direct, PUNCH_DEADLINE).await?;
    let at_relay = scene.lab.relay_link_bytes()?;
    let (arrived, sent) = cast.both("load_done", |_| true, LOAD_DEADLINE).await?;
    let at_relay = scene.lab.relay_link_bytes()? - at_relay;
    ensure!(is_direct(&arrived) && is_direct(&sent), "{arrived} {sent}");
    ensure!(same_load(&arrived, &sent, AT_HOME_MIB), "{arrived} {sent}");
    cast.one_session()?;
    ensure!(at_relay < RELAY_BYTES_MAX, "{at_relay} bytes at the relay during the load");
    Ok(())
}

async fn load_goes_direct(scene: &Scene, cast: &Cast) -> Result<()> {
    cast.both("session_ready", |_| true, PUNCH_DEADLINE).await?;
    cast.both("upgrade_succeeded", |_| true, PUNCH_DEADLINE).await?;
    cast.both("stream_moved", goes_direct, PUNCH_DEADLINE).await?;
    let at_relay = scene.lab.relay_link_bytes()?;

    let (arrived, sent) = cast.both("load_done", |_| true, LOAD_DEADLINE).await?;
    let at_relay = scene.lab.relay_link_bytes()? - at_relay;
    ensure!(is_direct(&arrived) && is_direct(&sent), "{arrived} {sent}");
    ensure!(same_load(&arrived, &sent, LOAD_MIB), "{arrived} {sent}");
    cast.one_session()?;
    ensure!(at_relay < RELAY_BYTES_MAX, "{at_relay} bytes at the relay during the load");
    for (near, far) in [(0, 1), (1, 0)] {
        let direct = scene.lab.direct_bytes(near, far)?;
        ensure!(direct >= LOAD_MIB * MIB, "only {direct} bytes on the direct path at router {near}");
    }
    Ok(())
}

async fn reset_punch() -> Result<()> {
    let spec = LabSpec::new([Nat::PortPreserving; 2]).unexpected_syn(UnexpectedSyn::Reset);
    let scene = Scene::prepare(&spec, Transport::Tcp).await?;
    let cast = Cast::start(&scene, &["--load-mib", "1"]).await?;
    cast.explain(load_stays_relayed(&scene, &cast).await)
}

async fn symmetric_both() -> Result<()> {
    let scene = Scene::prepare(&LabSpec::new([Nat::Symmetric; 2]), Transport::Tcp).await?;
    let cast = Cast::start(&scene, &[]).await?;
    cast.explain(both_say_why(&scene, &cast).await)
}

async fn both_say_why(scene: &Scene, cast: &Cast) -> Result<()> {
    let ready = |event: &Event| event.text("peer").is_some();
    let (at_server, _) = cast.both("session_ready", ready, PUNCH_DEADLINE).await?;
    cast.both("upgrade_failed", |_| true, PUNCH_DEADLINE).await?;
    let client = at_server.text("peer").unwrap_or_default().to_owned();
    for (node, peer) in [("server", client.as_str()), ("client", scene.server_id.as_str())] {
        let story = scene.why(node, peer).await?;
        let first = &story["findings"][0];
        ensure!(story["path"] == "relayed" && first["fault"] == "symmetric_both", "{story:#}");
        let symmetric = "one port for each destination (symmetric)";
        let nats = [&story["here"]["nat"], &story["there"]["nat"]];
        ensure!(nats.iter().all(|nat| **nat == symmetric), "{story:#}");
        ensure!(story["here"]["public_addresses"][0].is_string(), "{story:#}");
    }
    Ok(())
}

async fn load_stays_relayed(scene: &Scene, cast: &Cast) -> Result<()> {
    let failed = cast.either("upgrade_failed", PUNCH_DEADLINE).await?;
    ensure!(failed.text("reason").is_some_and(|reason| !reason.is_empty()), "{failed}");
    let (arrived, sent) = cast.both("load_done", |_| true, LOAD_DEADLINE).await?;
    ensure!(arrived.has("path", "relayed") && sent.has("path", "relayed"), "{arrived} {sent}");
    ensure!(same_load(&arrived, &sent, 1), "{arrived} {sent}");
    cast.one_session()?;
    let at_relay = scene.lab.relay_link_bytes()?;
    ensure!(at_relay >= 2 * MIB, "only {at_relay} bytes at the relay, in and out");
    Ok(())
}

/// Starts a relay and a server behind this NAT, and hands them to `check`.
async fn confirmation(nat: Nat, check: impl AsyncFnOnce(&Program) -> Result<()>) -> Result<()> {
    let scene = Scene::prepare_over(&LabSpec::new([nat]), &[Transport::Tcp, Transport::Quic]).await?;
    let relay = scene.start_relay().await?;
    let server = scene.start_server().await?;
    let checked = check(&server).await;
    checked.with_context(|| format!("{}\n{}", relay.report(), server.report()))
}

async fn public_address() -> Result<()> {
    confirmation(Nat::Open, async |server| {
        let confirmed = server.wait_for("address_confirmed", |_| true, CONFIRM_DEADLINE).await?;
        ensure!(confirmed.has("lets_in", "anybody"), "{confirmed}");
        Ok(())
    })
    .await
}

async fn hidden_address() -> Result<()> {
    confirmation(Nat::PortPreserving, async |server| {
        server.wait_for("candidate_found", |_| true, CONFIRM_DEADLINE).await?;
        let confirmed = server.wait_for("address_confirmed", |_| true, CONFIRM_DEADLINE).await;
        ensure!(matches!(confirmed, Err(ProgramError::Deadline { .. })), "{confirmed:?}");
        Ok(())
    })
    .await
}

async fn restricted_address() -> Result<()> {
    confirmation(Nat::AddressRestricted, async |server| {
        let confirmed = server.wait_for("address_confirmed", |_| true, CONFIRM_DEADLINE).await?;
        ensure!(confirmed.has("lets_in", "who_was_spoken_to"), "{confirmed}");
        Ok(())
    })
    .await
}

async fn killed_relay(transport: Transport, outage: Option<Duration>) -> Result<()> {
    let scene = Scene::prepare(&LabSpec::new([Nat::PortPreserving; 2]), transport).await?;
    let mut relay = scene.start_relay().await?;
    let server = scene.start_server().await?;
    relay.kill().await?;
    let killed = server.mark();
    if let Some(outage) = outage {
        let held = server.wait_for_after(killed, "reservation_held", |_| true, outage).await;
        ensure!(matches!(held, Err(ProgramError::Deadline { .. })), "held where no relay is: {held:?}");
    }
    let _relay = scene.start_relay().await?;
    server.wait_for_after(killed, "reservation_held", |_| true, RESERVATION_DEADLINE).await?;
    Ok(())
}

/// One relay, by its word: whether strangers are let in takes a second address to tell.
async fn nat_kinds() -> Result<()> {
    let scene = Scene::prepare(&LabSpec::new(KINDS.map(|(nat, ..)| nat)), Transport::Quic).await?;
    let relay = scene.start_relay().await?;
    let address = scene.relay_address();
    let told = told(&scene.lab, ["--relay", &address], "address_dependent");
    told.await.with_context(|| relay.report())
}

/// Each kind of NAT as the node behind it tells it. `open`: what is said of one that lets anybody in.
async fn told(lab: &Lab, observers: [&str; 2], open: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut nodes = Vec::new();
    for index in 0..lab.hosts() {
        let identity = folder.path().join(format!("identity-{index}"));
        let launch = Launch::punchline(lab.host(index), "server")?
            .args(["--network", "simnet", "--listen", "/ip4/0.0.0.0/udp/0/quic-v1"])
            .args(["--port-mapping", "off", "--identity"])
            .args([identity.as_os_str()])
            .args(observers);
        nodes.push(launch.spawn()?);
    }
    for (index, (node, (nat, mapping, filtering))) in nodes.iter().zip(KINDS).enumerate() {
        let found = node.wait_for("nat_found", is_whole, PUNCH_DEADLINE).await?;
        let address = lab.seen_address(index).to_string();
        let filtering = if filtering == ANYBODY { open } else { filtering };
        let expected =
            [("mapping", mapping), ("filtering", filtering), ("public_address", address.as_str())];
        ensure!(expected.iter().all(|(field, value)| found.has(field, value)), "{nat}: {found}");
    }
    Ok(())
}

/// Said of mapping and filtering both.
fn is_whole(found: &Event) -> bool {
    found.text("mapping").is_some() && found.text("filtering").is_some()
}

fn no_coturn() -> Option<String> {
    if let Err(missing) = lab::capability() {
        return Some(missing.to_string());
    }
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join(TURNSERVER).is_file());
    (!found).then(|| format!("there is no {TURNSERVER}: install coturn"))
}

async fn coturn() -> Result<()> {
    let lab = Lab::build(&LabSpec::new(KINDS.map(|(nat, ..)| nat)))?;
    let folder = tempfile::tempdir()?;
    let server = start_coturn(&lab, folder.path()).await?;
    let stun = format!("stun:{}:3478", lab.internet().address());
    let told = told(&lab, ["--stun-server", &stun], ANYBODY);
    told.await.with_context(|| server.report())
}

/// A STUN server of others, with two addresses, on the lab's internet.
async fn start_coturn(lab: &Lab, folder: &Path) -> Result<Program> {
    let machine = lab.internet();
    machine.configure(&format!("addr add {SECOND_ADDRESS}/24 dev bridge\n"))?;
    let first = machine.address().to_string();
    let launch = Launch::program(machine, TURNSERVER)
        .args(["-n", "--stun-only", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout"])
        .args(["-L", &first, "-L", SECOND_ADDRESS])
        .args(["--pidfile".as_ref(), folder.join("pid").as_os_str()])
        .args(["--userdb".as_ref(), folder.join("users").as_os_str()]);
    let server = launch.spawn()?;
    let answers = machine.within(|| answers_stun((first.as_str(), 3478)))?;
    answers.with_context(|| server.report())?;
    Ok(server)
}

/// Asks until it answers.
fn answers_stun(server: (&str, u16)) -> std::io::Result<()> {
    let request = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let started = Instant::now();
    loop {
        socket.send_to(&request, server)?;
        match socket.recv_from(&mut [0; 1500]) {
            Ok(_) => return Ok(()),
            Err(error) if started.elapsed() > PUNCH_DEADLINE => return Err(error),
            Err(_) => {}
        }
    }
}

async fn sigterm() -> Result<()> {
    let scene = Scene::prepare(&LabSpec::new([Nat::PortPreserving; 2]), Transport::Tcp).await?;
    let mut cast = Cast::start(&scene, &[]).await?;
    let ready = cast.both("session_ready", |_| true, PUNCH_DEADLINE).await;
    cast.explain(ready.map_err(Into::into))?;
    // The server first: it has to end with the session still alive.
    for program in [&mut cast.server, &mut cast.client, &mut cast.relay] {
        stops(program).await?;
    }
    Ok(())
}

async fn stops(program: &mut Program) -> Result<()> {
    let status = program.terminate(EXIT_DEADLINE).await?;
    ensure!(status.code() == Some(0), "{status}\n{}", program.report());
    let last = program.events().pop().context("no event at all")?;
    ensure!(last.name() == "stopped", "the last event is {last}\n{}", program.report());
    Ok(())
}

fn is_direct(event: &Event) -> bool {
    event.has("path", "direct")
}

fn goes_direct(event: &Event) -> bool {
    event.has("from", "relayed") && event.has("to", "direct")
}

/// For a relay to dial back: it gives up after 6 s, and tells.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(15);

/// Server side, client side.
const NATS: [(&str, [Nat; 2]); 3] = [
    ("port_preserving", [Nat::PortPreserving; 2]),
    ("server_port_changing", [Nat::PORT_CHANGING, Nat::PortPreserving]),
    ("client_port_changing", [Nat::PortPreserving, Nat::PORT_CHANGING]),
];
/// How each kind of NAT maps, and how it filters.
const KINDS: [(Nat, &str, &str); 7] = [
    (Nat::FullCone, "endpoint_independent", ANYBODY),
    (Nat::AddressRestricted, "endpoint_independent", "address_dependent"),
    (Nat::PortPreserving, "endpoint_independent", "address_and_port_dependent"),
    (Nat::PORT_CHANGING, "endpoint_independent", "address_and_port_dependent"),
    (Nat::Symmetric, "destination_dependent", "address_and_port_dependent"),
    (Nat::Firewall, "none", "address_and_port_dependent"),
    (Nat::Open, "none", ANYBODY),
];
const ANYBODY: &str = "endpoint_independent";
/// The program of Debian's package coturn.
const TURNSERVER: &str = "turnserver";
const SECOND_ADDRESS: &str = "73.0.0.3";

/// Of the whole matrix (`lab matrix`): what was or may be hard.
const CELLS: [Cell; 9] = [
    cell(Nat::FullCone, Nat::Symmetric, Over::Both),
    cell(Nat::Symmetric, Nat::FullCone, Over::Both),
    cell(Nat::AddressRestricted, Nat::Symmetric, Over::Tcp),
    cell(Nat::Symmetric, Nat::AddressRestricted, Over::Tcp),
    cell(Nat::Symmetric, Nat::AddressRestricted, Over::Quic),
    cell(Nat::Symmetric, Nat::Symmetric, Over::Both),
    cell(Nat::PORT_CHANGING, Nat::PORT_CHANGING, Over::Tcp),
    cell(Nat::Firewall, Nat::PortPreserving, Over::Quic),
    cell(Nat::Symmetric, Nat::Open, Over::Both),
];

const fn cell(server: Nat, client: Nat, over: Over) -> Cell {
    Cell { server, client, over }
}

/// So that 50 ms pass between a question to the other end and the answer.
const ONE_WAY: Duration = Duration::from_micros(12_500);

/// Promised: how soon a pair whose NATs rule a punch out says so. Twice as much, for unoptimised programs on busy cores.
const VERDICT_DEADLINE: Duration = Duration::from_secs(4);
/// Time for a second and a third attempt. The rule is far less.
const DIRECT_DEADLINE: Duration = Duration::from_secs(5);

const MIB: u64 = 1024 * 1024;
const LOAD_MIB: u64 = 64;
/// What pings and renewed reservations may cost at the relay while the load runs elsewhere: a
/// thousandth of the load.
const RELAY_BYTES_MAX: u64 = 64 * 1024;

/// In one network nobody waits for dials that lead nowhere, which take 12 s.
const AT_HOME_MS: u64 = 5_000;
const AT_HOME_MIB: u64 = 8;

/// A punch without delay in the network takes milliseconds; retries after lost races take seconds.
const PUNCH_DEADLINE: Duration = Duration::from_secs(30);
/// The load, unoptimised, on two busy cores.
const LOAD_DEADLINE: Duration = Duration::from_secs(120);
/// Promised: how soon a relay that is back is used again.
const RESERVATION_DEADLINE: Duration = Duration::from_secs(5);
/// Promised: how soon a program that is asked to stop has stopped.
const EXIT_DEADLINE: Duration = Duration::from_secs(5);
/// Long enough for a backoff without limit to outgrow `RESERVATION_DEADLINE`.
const OUTAGE: Duration = Duration::from_secs(60);
