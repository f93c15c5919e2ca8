//! Lines that delay, vary, lose and hold up packets, as plain sockets see it.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use punchline_tests::lab::{Lab, LabSpec, Line, Nat};
use punchline_tests::trial::lab_trial;
use tokio::time::timeout;

use crate::sockets::{HOST_PORT, REFLECTOR_PORT, SILENCE, SOON, local, receive, udp};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        lab_trial("a_line_with_jitter_takes_now_more_and_now_less", jitter),
        lab_trial("a_line_that_loses_packets_loses_as_many_as_asked", loss),
        lab_trial("a_line_with_a_rate_takes_no_more_a_second", rate),
        lab_trial("a_line_with_a_rate_loses_what_its_queue_does_not_hold", queue),
        lab_trial("a_lab_with_lines_ends_although_a_program_runs_in_another", ends),
        lab_trial("a_delayed_line_carries_a_megabyte_unharmed", bulk),
    ];
    for delay in DELAYS {
        let name = format!("a_line_of_{delay}_ms_delays_each_packet_by_that_much");
        trials.push(lab_trial(&name, move || delayed(Duration::from_millis(delay))));
    }
    trials
}

async fn delayed(one_way: Duration) -> Result<()> {
    let lab = Lab::build(&LabSpec::new([Nat::PortPreserving; 2]).delay(one_way))?;
    let near = udp(lab.host(0), HOST_PORT)?;
    let far = udp(lab.host(1), HOST_PORT)?;
    let relay = udp(lab.relay(), REFLECTOR_PORT)?;
    let [a, b] = [0, 1].map(|index| SocketAddrV4::new(lab.router(index).address(), HOST_PORT));
    // Opens both routers, for each other and for nobody else.
    for _ in 0..2 {
        near.send_to(b"open", b)?;
        far.send_to(b"open", a)?;
        far.set_read_timeout(Some(SILENCE))?;
        receive(&far)?;
        near.set_read_timeout(Some(SILENCE))?;
        receive(&near)?;
    }
    for (to, address, packets) in [(&relay, local(&relay)?, 2), (&far, b, 4)] {
        let mut best = Duration::MAX;
        for _ in 0..TRIES {
            best = best.min(round_trip(&near, to, address)?);
        }
        let expected = packets * one_way;
        ensure!((expected..expected + SLACK).contains(&best), "{best:?} rather than {expected:?}");
    }
    Ok(())
}

async fn jitter() -> Result<()> {
    let (delay, jitter) = (Duration::from_millis(10), Duration::from_millis(20));
    let line = Line { delay, jitter, ..Line::default() };
    let lab = Lab::build(&LabSpec::new([Nat::PortPreserving]).line(line))?;
    let (host, relay) = (udp(lab.host(0), HOST_PORT)?, udp(lab.relay(), REFLECTOR_PORT)?);
    let mut times = Vec::new();
    for _ in 0..4 * TRIES {
        times.push(round_trip(&host, &relay, local(&relay)?)?);
    }
    times.sort_unstable();
    let spread = times[times.len() - 1] - times[0];
    ensure!(times[0] >= 2 * delay && spread > jitter / 2, "{times:?}");
    Ok(())
}

async fn loss() -> Result<()> {
    let line = Line { loss_permille: 200, ..Line::default() };
    let lab = Lab::build(&LabSpec::new([Nat::PortPreserving]).line(line))?;
    let (host, relay) = (udp(lab.host(0), HOST_PORT)?, udp(lab.relay(), REFLECTOR_PORT)?);
    let address = local(&relay)?;
    let mut arrived = 0;
    // A few at once, so that what is lost is not lost for want of buffers, however busy the machine is.
    relay.set_read_timeout(Some(REST))?;
    for _ in 0..DATAGRAMS / BURST {
        for _ in 0..BURST {
            host.send_to(b"there", address)?;
        }
        while receive(&relay)?.is_some() {
            arrived += 1;
        }
    }
    relay.set_read_timeout(Some(SILENCE))?;
    while receive(&relay)?.is_some() {
        arrived += 1;
    }
    // Four in five, give or take more than five standard deviations.
    ensure!((DATAGRAMS * 7 / 10..DATAGRAMS * 9 / 10).contains(&arrived), "{arrived} of {DATAGRAMS}");
    Ok(())
}

async fn rate() -> Result<()> {
    let delay = Duration::from_millis(5);
    let line = Line { delay, rate: NonZeroU64::new(RATE), ..Line::default() };
    let took = carries_a_megabyte(&LabSpec::new([Nat::PortPreserving]).line(line), 2 * delay)?;
    let least = Duration::from_secs_f64(MEGABYTE as f64 / RATE as f64);
    // Headers, and what was lost in the queue and sent again.
    ensure!((least..2 * least).contains(&took), "{took:?} rather than {least:?}");
    Ok(())
}

async fn queue() -> Result<()> {
    let line = Line { rate: NonZeroU64::new(SLOW), ..Line::default() };
    let lab = Lab::build(&LabSpec::new([Nat::PortPreserving]).line(line))?;
    let (host, relay) = (udp(lab.host(0), HOST_PORT)?, udp(lab.relay(), REFLECTOR_PORT)?);
    let address = local(&relay)?;
    let start = Instant::now();
    for _ in 0..DATAGRAMS {
        host.send_to(&[0; 1_000], address)?;
    }
    let burst = start.elapsed();
    relay.set_read_timeout(Some(SILENCE))?;
    let (mut arrived, mut last) = (0, start);
    while receive(&relay)?.is_some() {
        (arrived, last) = (arrived + 1, Instant::now());
    }
    // 32 KiB of them are 31 with their headers, and some go while the others come.
    let most = 35 + burst.as_millis() / 10;
    ensure!((25..=most).contains(&arrived), "{arrived} in a burst of {burst:?}");
    let took = last - start;
    ensure!(took >= Duration::from_millis(10) * u32::try_from(arrived)?, "{arrived} in {took:?}");
    Ok(())
}

async fn bulk() -> Result<()> {
    let delay = Duration::from_millis(20);
    carries_a_megabyte(&LabSpec::new([Nat::PortPreserving]).delay(delay), 2 * delay).map(drop)
}

/// From host 0 to the relay, over TCP, unharmed; how long it took.
fn carries_a_megabyte(spec: &LabSpec, round_trip: Duration) -> Result<Duration> {
    let lab = Lab::build(spec)?;
    let address = SocketAddrV4::new(lab.relay().address(), REFLECTOR_PORT);
    let listener = lab.relay().within(|| TcpListener::bind(address))??;
    let sent: Vec<u8> = (0..MEGABYTE).map(|index| index.to_le_bytes()[1]).collect();
    let expected = sent.clone();
    let start = Instant::now();
    let mut host = lab.host(0).within(|| TcpStream::connect(address))??;
    let handshake = start.elapsed();
    ensure!(handshake >= round_trip, "{handshake:?}");
    let sending = thread::spawn(move || host.write_all(&sent));
    let (mut at_relay, _) = listener.accept()?;
    at_relay.set_read_timeout(Some(SOON))?;
    let mut arrived = Vec::new();
    at_relay.read_to_end(&mut arrived)?;
    let took = start.elapsed();
    ensure!(arrived == expected, "{} bytes", arrived.len());
    match sending.join() {
        Ok(sent) => sent?,
        Err(_) => bail!("the sender panicked"),
    }
    Ok(took)
}

async fn ends() -> Result<()> {
    let spec = LabSpec::new([Nat::PortPreserving]).delay(Duration::from_millis(20));
    let (lab, other) = (Lab::build(&spec)?, Lab::build(&spec)?);
    let mut idle = other.host(0).command("sleep").arg("60").spawn()?;
    let (ended, end) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        drop(lab);
        ended.send(())
    });
    let ended = timeout(SOON, end).await;
    idle.kill()?;
    idle.wait()?;
    Ok(ended??)
}

/// There, and back from the far end itself.
fn round_trip(
    near: &std::net::UdpSocket,
    far: &std::net::UdpSocket,
    address: SocketAddrV4,
) -> Result<Duration> {
    let start = Instant::now();
    near.send_to(b"there", address)?;
    let (_, from) = receive(far)?.context("lost on the way there")?;
    far.send_to(b"back", from)?;
    receive(near)?.context("lost on the way back")?;
    Ok(start.elapsed())
}

/// One way, in milliseconds: a room, a country, an ocean, half the world.
const DELAYS: [u64; 4] = [0, 20, 75, 150];
const TRIES: u32 = 5;
/// What a busy machine adds at its best of several tries.
const SLACK: Duration = Duration::from_millis(15);
const DATAGRAMS: usize = 1_000;

/// Of these, so many are sent at once, and then whatever comes within so long is received.
const BURST: usize = 25;
const REST: Duration = Duration::from_millis(50);

const MEGABYTE: u32 = 1 << 20;
/// 4 Mbit/s, a slow home.
const RATE: u64 = 500_000;
/// A datagram of a thousand bytes in 10 ms.
const SLOW: u64 = 100_000;
