//! The lab, proven before it judges the product: mappings, filterings, simultaneous open, counters. And the runbook,
//! executed in it.

mod carriers;
mod families;
mod lines;
mod nats;
mod rehearsals;
mod sockets;

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use punchline_tests::lab::{Lab, LabError, LabSpec, Nat, RouterSpec, UnexpectedSyn};
use punchline_tests::process::Launch;
use punchline_tests::trial::{self, lab_trial};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

use sockets::{
    DATAGRAM, HOST_PORT, REFLECTOR_PORT, Reflector, SILENCE, SOON, ask_tcp, ask_udp, dial, is_refused,
    local, receive, udp,
};

fn main() -> ExitCode {
    let mut trials = nats::trials();
    trials.extend(lines::trials());
    trials.extend(carriers::trials());
    trials.extend(families::trials());
    trials.extend(rehearsals::trials());
    trials.extend([
        lab_trial("an_unexpected_syn_vanishes_at_a_dropping_router", syn_dropped),
        lab_trial("an_unexpected_syn_is_reset_at_a_resetting_router", syn_reset),
        lab_trial("simultaneous_open_crosses_two_dropping_routers", || {
            simultaneous_open([Nat::PortPreserving; 2], [HOST_PORT; 2])
        }),
        lab_trial("simultaneous_open_crosses_a_port_changing_router", || {
            simultaneous_open([Nat::PortPreserving, CHANGING], [HOST_PORT, CHANGED_PORT])
        }),
        lab_trial("simultaneous_open_fails_between_resetting_routers", simultaneous_open_reset),
        lab_trial("the_relay_counter_counts_what_the_relay_carries_and_nothing_else", counters),
        lab_trial("a_blocked_relay_is_silent_until_unblocked", blocked_relay),
        lab_trial("a_flushed_nat_forgets_whom_its_host_spoke_to", flushed),
        lab_trial("a_router_can_change_its_nat_while_the_lab_runs", changed),
        lab_trial("neighbours_reach_each_other_and_their_router_sends_nothing_back", neighbours),
        lab_trial("a_dropped_lab_leaves_nothing_behind", left_behind),
        lab_trial("a_lab_that_is_up_can_be_entered_and_taken_down", up_and_down),
        lab_trial("what_a_killed_test_process_left_behind_is_swept", swept),
    ]);
    trial::run(trials)
}

async fn syn_dropped() -> Result<()> {
    let lab = Lab::build(&LabSpec::new([Nat::PortPreserving]))?;
    let router = SocketAddrV4::new(lab.router(0).address(), HOST_PORT);
    let dialled = timeout(SILENCE, dial(lab.internet(), HOST_PORT, router)).await;
    ensure!(dialled.is_err(), "answered: {dialled:?}");
    Ok(())
}

async fn syn_reset() -> Result<()> {
    let lab = Lab::build(&LabSpec::new([Nat::PortPreserving]).unexpected_syn(UnexpectedSyn::Reset))?;
    let router = SocketAddrV4::new(lab.router(0).address(), HOST_PORT);
    let dialled = timeout(SOON, dial(lab.internet(), HOST_PORT, router)).await?;
    ensure!(is_refused(&dialled), "not refused: {dialled:?}");
    Ok(())
}

/// Hosts dial each other's public addresses from `HOST_PORT`; the first SYN dies at the far router.
async fn simultaneous_open(nats: [Nat; 2], ports: [u16; 2]) -> Result<()> {
    let lab = Lab::build(&LabSpec::new(nats))?;
    let [a, b] = [0, 1].map(|index| SocketAddrV4::new(lab.router(index).address(), ports[index]));
    let both =
        async { tokio::try_join!(dial(lab.host(0), HOST_PORT, b), dial(lab.host(1), HOST_PORT, a),) };
    let (from_a, from_b) = timeout(SOON, both).await??;
    ensure!(from_a.peer_addr()? == SocketAddr::V4(b));
    ensure!(from_b.peer_addr()? == SocketAddr::V4(a));
    Ok(())
}

async fn simultaneous_open_reset() -> Result<()> {
    let spec = LabSpec::new([Nat::PortPreserving; 2]).unexpected_syn(UnexpectedSyn::Reset);
    let lab = Lab::build(&spec)?;
    let [a, b] = [0, 1].map(|index| SocketAddrV4::new(lab.router(index).address(), HOST_PORT));
    let both = async { tokio::join!(dial(lab.host(0), HOST_PORT, b), dial(lab.host(1), HOST_PORT, a),) };
    let (from_a, from_b) = timeout(SOON, both).await?;
    ensure!(is_refused(&from_a) && is_refused(&from_b), "{from_a:?} {from_b:?}");
    Ok(())
}

async fn counters() -> Result<()> {
    let lab = Lab::build(&LabSpec::new([Nat::PortPreserving; 2]))?;
    let hosts = [udp(lab.host(0), HOST_PORT)?, udp(lab.host(1), HOST_PORT)?];
    let at_relay = udp(lab.relay(), REFLECTOR_PORT)?;
    let [a, b] = [0, 1].map(|index| SocketAddrV4::new(lab.router(index).address(), HOST_PORT));
    // Opens both filters: whichever datagram is first dies at the far router, the others arrive.
    for _ in 0..2 {
        hosts[0].send_to(b"open", b)?;
        hosts[1].send_to(b"open", a)?;
    }
    hosts.iter().try_for_each(drain)?;

    let before = (lab.relay_link_bytes()?, lab.direct_bytes(0, 1)?, lab.direct_bytes(1, 0)?);
    send_and_receive(&hosts[0], &at_relay, local(&at_relay)?)?;
    let with_relay = (lab.relay_link_bytes()?, lab.direct_bytes(0, 1)?);
    ensure!(
        (DATA..DATA + SLACK).contains(&(with_relay.0 - before.0)),
        "relay: {before:?} {with_relay:?}"
    );
    ensure!(with_relay.1 == before.1, "counted as direct: {before:?} {with_relay:?}");

    send_and_receive(&hosts[0], &hosts[1], b)?;
    let with_peer = (lab.relay_link_bytes()?, lab.direct_bytes(0, 1)?, lab.direct_bytes(1, 0)?);
    ensure!(with_peer.0 - with_relay.0 < SLACK, "at the relay: {with_relay:?} {with_peer:?}");
    ensure!(with_peer.1 - with_relay.1 == DATA, "direct: {with_relay:?} {with_peer:?}");
    ensure!(with_peer.2 - before.2 == DATA, "direct, far side: {before:?} {with_peer:?}");
    Ok(())
}

async fn blocked_relay() -> Result<()> {
    let lab = Lab::build(&LabSpec::new([Nat::PortPreserving]))?;
    let reflector = Reflector::start(lab.relay())?;
    let host = udp(lab.host(0), HOST_PORT)?;
    ask_udp(&host, reflector.address)?;
    lab.block_relay()?;
    host.set_read_timeout(Some(SILENCE))?;
    ensure!(ask_udp(&host, reflector.address).is_err(), "the relay answered");
    lab.unblock_relay()?;
    host.set_read_timeout(Some(SOON))?;
    ask_udp(&host, reflector.address)?;
    ask_tcp(lab.host(0), HOST_PORT, reflector.address).await?;
    reflector.done()
}

async fn flushed() -> Result<()> {
    for nat in Nat::ALL.into_iter().filter(|&nat| nat != Nat::Open) {
        forgets(nat).with_context(|| nat.name())?;
    }
    Ok(())
}

fn forgets(nat: Nat) -> Result<()> {
    let lab = Lab::build(&LabSpec::new([nat]))?;
    let host = udp(lab.host(0), HOST_PORT)?;
    let known = udp(lab.relay(), REFLECTOR_PORT)?;
    host.send_to(b"hello", local(&known)?)?;
    let (_, public) = receive(&known)?.context("the way out is open")?;
    known.send_to(b"in time", public)?;
    receive(&host)?.context("the answer is let in")?;
    lab.flush_nat(0)?;
    known.send_to(b"too late", public)?;
    host.set_read_timeout(Some(SILENCE))?;
    ensure!(receive(&host)?.is_none(), "the mapping is still there");
    Ok(())
}

async fn changed() -> Result<()> {
    let lab = Lab::build(&LabSpec::new([Nat::PortPreserving]))?;
    let reflector = Reflector::start(lab.relay())?;
    let host = udp(lab.host(0), HOST_PORT)?;
    ensure!(ask_udp(&host, reflector.address)?.port() == HOST_PORT);
    lab.set_router(0, &RouterSpec::new(CHANGING))?;
    lab.flush_nat(0)?;
    ensure!(ask_udp(&host, reflector.address)?.port() == CHANGED_PORT);
    ask_tcp(lab.host(0), HOST_PORT, reflector.address).await?;
    reflector.done()?;
    let refused = lab.set_router(0, &RouterSpec::new(Nat::Open));
    ensure!(matches!(refused, Err(LabError::OtherAddresses { .. })), "{refused:?}");
    Ok(())
}

async fn neighbours() -> Result<()> {
    let lab = Lab::build(&LabSpec::new([Nat::PortPreserving]).with_neighbours())?;
    let (host, neighbour) = (udp(lab.host(0), HOST_PORT)?, udp(lab.neighbour(0), HOST_PORT)?);
    host.send_to(b"next door", local(&neighbour)?)?;
    let (said, from) = receive(&neighbour)?.context("the network is one")?;
    ensure!(said == b"next door" && from == local(&host)?, "{from}");

    // The neighbour has a mapping: its public address is known, and leads nowhere from inside.
    let known = udp(lab.relay(), REFLECTOR_PORT)?;
    neighbour.send_to(b"hello", local(&known)?)?;
    let (_, public) = receive(&known)?.context("the way out is open")?;
    ensure!(*public.ip() == lab.router(0).address(), "{public}");
    host.send_to(b"round the corner", public)?;
    neighbour.set_read_timeout(Some(SILENCE))?;
    ensure!(receive(&neighbour)?.is_none(), "the router sent it back");
    Ok(())
}

async fn left_behind() -> Result<()> {
    let lab = Lab::build(&LabSpec::new([Nat::PortPreserving]))?;
    let script = r#"echo '{"event":"up"}'; exec sleep 60"#;
    let mut idle = Launch::program(lab.host(0), "sh").args(["-c", script]).spawn()?;
    idle.wait_for("up", |_| true, SOON).await?;
    let door = Path::new("/run/netns").join(lab.host(0).name());
    ensure!(door.exists());
    drop(lab);
    ensure!(!door.exists());
    let status = idle.wait(SOON).await?;
    ensure!(!status.success(), "ended by itself: {status}");
    Ok(())
}

async fn up_and_down() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("state");
    let lab = |args: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_lab"));
        command.args(args).arg("--state").arg(&state).kill_on_drop(true);
        command
    };
    let mut up = lab(&["up", "full", "sym", "--delay", "5"]).stdout(Stdio::piped()).spawn()?;
    let mut told = BufReader::new(up.stdout.take().context("it is piped")?).lines();
    let mut lines = Vec::new();
    while lines.len() < MACHINES {
        lines.push(told.next_line().await?.with_context(|| format!("it ends after {lines:?}"))?);
    }
    let namespace =
        |machine: &str| lines.iter().find(|line| line.starts_with(machine))?.split_whitespace().nth(5);
    let door = Path::new("/run/netns").join(namespace("router-b ").context("router-b is not told of")?);
    ensure!(door.exists(), "{lines:?}");
    let second = lab(&["up", "full"]).output().await?;
    ensure!(String::from_utf8_lossy(&second.stderr).contains("`lab down`"), "{second:?}");

    let script = "ip -4 -br addr show eth0; punchline --version";
    let mut shell =
        lab(&["shell", "b"]).stdin(Stdio::piped()).stdout(Stdio::piped()).env("SHELL", "sh").spawn()?;
    shell.stdin.take().context("it is piped")?.write_all(script.as_bytes()).await?;
    let inside = shell.wait_with_output().await?;
    let printed = String::from_utf8_lossy(&inside.stdout);
    ensure!(printed.contains("192.168.2.2") && printed.contains("punchline "), "{inside:?}");

    ensure!(lab(&["down"]).status().await?.success());
    // It goes on telling until it is read to its end.
    while told.next_line().await?.is_some() {}
    ensure!(up.wait().await?.success() && !door.exists() && !state.exists());
    Ok(())
}

async fn swept() -> Result<()> {
    let mut gone = Command::new("true").spawn()?;
    gone.wait()?;
    let orphan = format!("punchline-{}-0-host0", gone.id());
    let add = ["netns", "add", orphan.as_str()];
    ensure!(Command::new("ip").args(add).status()?.success());
    Lab::build(&LabSpec::default())?;
    ensure!(!Path::new("/run/netns").join(&orphan).exists());
    Ok(())
}

/// Sends `DATA` bytes of IP packets, one after the other arrived.
fn send_and_receive(from: &UdpSocket, to: &UdpSocket, address: SocketAddrV4) -> Result<()> {
    for _ in 0..DATAGRAMS {
        from.send_to(&[0; DATAGRAM - HEADERS], address)?;
        receive(to)?.context("a datagram was lost")?;
    }
    Ok(())
}

/// Receives until silence.
fn drain(socket: &UdpSocket) -> Result<()> {
    socket.set_read_timeout(Some(SILENCE))?;
    while receive(socket)?.is_some() {}
    Ok(socket.set_read_timeout(Some(SOON))?)
}

const CHANGED_PORT: u16 = 35_000;
const CHANGING: Nat = Nat::PortChanging { first: CHANGED_PORT, count: 1 };

/// Of a lab with two hosts: them, their routers, the relay and the internet.
const MACHINES: usize = 6;

const DATAGRAMS: usize = 1_000;
/// IPv4 and UDP.
const HEADERS: usize = 28;
const DATA: u64 = (DATAGRAMS * DATAGRAM) as u64;
/// Ethernet headers of the datagrams (14 bytes each), and ARP.
const SLACK: u64 = 14 * DATAGRAMS as u64 + 2_000;
