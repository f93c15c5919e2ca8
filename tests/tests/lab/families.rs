//! IPv6 in the lab, proven with plain sockets: firewalls that translate nothing, and NAT64.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::thread;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use punchline_tests::lab::{self, Families, Lab, LabSpec, Namespace, Nat, RouterSpec};
use punchline_tests::trial::{lab_trial, tool_trial};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::sockets::{DATAGRAM, HOST_PORT, REFLECTOR_PORT, SILENCE, SOON};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        lab_trial("over_ipv6_a_host_is_seen_at_its_own_address", untranslated),
        lab_trial("over_ipv6_a_router_lets_in_answers_alone", || uninvited(LabSpec::new([SYM; 2]))),
        lab_trial("over_ipv6_a_carrier_is_no_more_in_the_way_than_the_router", || {
            let carrier = RouterSpec::new(Nat::PortPreserving);
            uninvited(LabSpec::new([SYM; 2]).behind_carrier(0, carrier))
        }),
        lab_trial("over_ipv6_both_ends_sending_get_through", both_send),
        lab_trial("over_ipv6_anybody_gets_in_where_there_is_no_firewall", open),
        lab_trial("machines_have_the_families_that_were_asked_for", families),
        lab_trial("a_blocked_relay_is_silent_over_ipv6_too", blocked),
        lab_trial("a_host_can_get_another_ipv6_address", renumbered),
        tool_trial("a_host_with_ipv6_alone_reaches_ipv4_through_nat64", no_tayga, nat64),
    ]
}

async fn untranslated() -> Result<()> {
    let lab = dual(LabSpec::new([SYM]))?;
    let (host, relay) = (udp(lab.host(0), HOST_PORT)?, udp(lab.relay(), REFLECTOR_PORT)?);
    let own = at(lab.host(0), HOST_PORT)?;
    host.send_to(b"hello", relay.local_addr()?)?;
    let (_, seen) = receive(&relay)?.context("the way out is open")?;
    ensure!(seen == own, "{seen}");
    relay.send_to(b"the answer", seen)?;
    receive(&host)?.context("the answer is let in")?;

    let listener = listen(lab.relay(), REFLECTOR_PORT)?;
    let _open = timeout(SOON, dial(lab.host(0), HOST_PORT, at(lab.relay(), REFLECTOR_PORT)?)).await??;
    let (_, seen) = timeout(SOON, listener.accept()).await??;
    ensure!(seen == own, "{seen}");
    Ok(())
}

/// Not even those to whom it has sent get in from another port.
async fn uninvited(spec: LabSpec) -> Result<()> {
    let lab = dual(spec)?;
    let (host, relay) = (udp(lab.host(0), HOST_PORT)?, udp(lab.relay(), REFLECTOR_PORT)?);
    let own = at(lab.host(0), HOST_PORT)?;
    let _listener = listen(lab.host(0), HOST_PORT)?;
    host.send_to(b"hello", relay.local_addr()?)?;
    receive(&relay)?.context("the way out is open")?;
    for stranger in [lab.relay(), lab.internet(), lab.host(1)] {
        udp(stranger, HOST_PORT + 1)?.send_to(b"stranger", own)?;
        let dialled = timeout(SILENCE, dial(stranger, HOST_PORT + 1, own)).await;
        ensure!(dialled.is_err(), "{} was let in: {dialled:?}", stranger.name());
    }
    host.set_read_timeout(Some(SILENCE))?;
    ensure!(receive(&host)?.is_none(), "a stranger's datagram was let in");
    Ok(())
}

async fn both_send() -> Result<()> {
    let lab = dual(LabSpec::new([SYM; 2]))?;
    let hosts = [udp(lab.host(0), HOST_PORT)?, udp(lab.host(1), HOST_PORT)?];
    let [a, b] = [at(lab.host(0), HOST_PORT)?, at(lab.host(1), HOST_PORT)?];
    hosts[0].send_to(b"lost at the far router", b)?;
    hosts[1].send_to(b"let in", a)?;
    ensure!(receive(&hosts[0])?.context("both sent")?.0 == b"let in");
    hosts[0].send_to(b"answer", b)?;
    ensure!(receive(&hosts[1])?.context("both sent")?.0 == b"answer");
    ensure!(lab.direct_bytes(0, 1)? > 0 && lab.direct_bytes(1, 0)? > 0, "not counted");

    let both =
        async { tokio::try_join!(dial(lab.host(0), HOST_PORT, b), dial(lab.host(1), HOST_PORT, a)) };
    let (from_a, from_b) = timeout(SOON, both).await??;
    ensure!(from_a.peer_addr()? == b && from_b.peer_addr()? == a);
    Ok(())
}

async fn open() -> Result<()> {
    let lab = dual(LabSpec::new([Nat::Open]))?;
    let _listener = listen(lab.host(0), HOST_PORT)?;
    timeout(SOON, dial(lab.internet(), HOST_PORT, at(lab.host(0), HOST_PORT)?)).await??;
    Ok(())
}

async fn families() -> Result<()> {
    let spec = LabSpec::new([SYM; 3]).host_families(1, Families::Both).host_families(2, Families::V6);
    let lab = Lab::build(&spec)?;
    let found = [lab.host(0), lab.host(1), lab.host(2), lab.relay()]
        .map(|machine| (machine.has_v4(), machine.address_v6().is_some()));
    ensure!(found == [(true, false), (true, true), (false, true), (true, false)], "{found:?}");
    let v4 = |machine: &Namespace| machine.within(|| UdpSocket::bind((machine.address(), 0)));
    ensure!(v4(lab.host(1))?.is_ok() && v4(lab.host(2))?.is_err());
    Ok(())
}

async fn blocked() -> Result<()> {
    let lab = dual(LabSpec::new([SYM]))?;
    let (host, relay) = (udp(lab.host(0), HOST_PORT)?, udp(lab.relay(), REFLECTOR_PORT)?);
    relay.set_read_timeout(Some(SILENCE))?;
    lab.block_relay()?;
    host.send_to(b"blocked", relay.local_addr()?)?;
    ensure!(receive(&relay)?.is_none(), "it heard something");
    lab.unblock_relay()?;
    host.send_to(b"unblocked", relay.local_addr()?)?;
    receive(&relay)?.context("the way is free")?;
    Ok(())
}

async fn renumbered() -> Result<()> {
    let lab = dual(LabSpec::new([SYM]))?;
    let (address, relay) =
        (Ipv6Addr::new(0x2600, 0, 0, 1, 0, 0, 0, 0x99), udp(lab.relay(), REFLECTOR_PORT)?);
    lab.renumber_v6(0, address)?;
    let host = lab.host(0).within(|| UdpSocket::bind((address, HOST_PORT)))??;
    host.send_to(b"hello", relay.local_addr()?)?;
    let (_, seen) = receive(&relay)?.context("the way out is open")?;
    ensure!(seen == SocketAddr::from((address, HOST_PORT)), "{seen}");
    ensure!(udp(lab.host(0), HOST_PORT + 1).is_err(), "it still has the first address");
    Ok(())
}

async fn nat64() -> Result<()> {
    let router = RouterSpec {
        families: Families::V6,
        nat64: Some(lab::WELL_KNOWN_PREFIX),
        ..RouterSpec::new(Nat::PortPreserving)
    };
    let lab = Lab::build(&LabSpec { routers: vec![router], ..LabSpec::default() })?;
    let [a, b, c, d] = lab.relay().address().octets();
    let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    let relay = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, word(a, b), word(c, d));
    let by_tcp = lab.relay().within(|| TcpListener::bind((lab.relay().address(), REFLECTOR_PORT)))??;
    let answering = thread::spawn(move || -> io::Result<()> {
        let (mut stream, asker) = by_tcp.accept()?;
        stream.write_all(asker.ip().to_string().as_bytes())
    });
    let stream = timeout(SOON, dial(lab.host(0), HOST_PORT, (relay, REFLECTOR_PORT).into())).await??;
    let mut stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let mut seen = String::new();
    stream.read_to_string(&mut seen)?;
    ensure!(seen.parse::<IpAddr>()? == lab.router(0).address(), "{seen}");
    answering.join().map_err(|_| anyhow::anyhow!("the answering thread panicked"))??;

    let (host, at_relay) = (
        udp(lab.host(0), HOST_PORT)?,
        lab.relay().within(|| UdpSocket::bind((lab.relay().address(), REFLECTOR_PORT)))??,
    );
    at_relay.set_read_timeout(Some(SOON))?;
    host.send_to(b"hello", (relay, REFLECTOR_PORT))?;
    let (_, seen) = receive(&at_relay)?.context("the way out is open")?;
    ensure!(seen.ip() == lab.router(0).address(), "{seen}");
    at_relay.send_to(b"the answer", seen)?;
    ensure!(receive(&host)?.context("the answer is let in")?.1 == (relay, REFLECTOR_PORT).into());
    Ok(())
}

fn no_tayga() -> Option<String> {
    match lab::capability() {
        Err(missing) => Some(missing.to_string()),
        Ok(()) => (!lab::has_nat64()).then(|| "there is no tayga: install tayga".to_owned()),
    }
}

fn dual(spec: LabSpec) -> Result<Lab> {
    Ok(Lab::build(&spec.families(Families::Both))?)
}

fn at(machine: &Namespace, port: u16) -> Result<SocketAddr> {
    Ok((machine.address_v6().context("it has an IPv6 address")?, port).into())
}

fn udp(machine: &Namespace, port: u16) -> Result<UdpSocket> {
    let address = at(machine, port)?;
    let socket = machine.within(|| UdpSocket::bind(address))??;
    socket.set_read_timeout(Some(SOON))?;
    Ok(socket)
}

fn receive(socket: &UdpSocket) -> Result<Option<(Vec<u8>, SocketAddr)>> {
    let mut datagram = vec![0; DATAGRAM];
    // A child that ends meanwhile interrupts a wait that has a limit.
    let received = loop {
        match socket.recv_from(&mut datagram) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => break received,
        }
    };
    match received {
        Ok((length, from)) => {
            datagram.truncate(length);
            Ok(Some((datagram, from)))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn dial(from: &Namespace, port: u16, to: SocketAddr) -> Result<TcpStream> {
    Ok(tcp(from, port)?.connect(to).await?)
}

fn listen(on: &Namespace, port: u16) -> Result<tokio::net::TcpListener> {
    Ok(tcp(on, port)?.listen(BACKLOG)?)
}

fn tcp(machine: &Namespace, port: u16) -> Result<TcpSocket> {
    let bind = || {
        let socket = TcpSocket::new_v6()?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind((Ipv6Addr::UNSPECIFIED, port).into())?;
        io::Result::Ok(socket)
    };
    Ok(machine.within(bind)??)
}

/// What stands between IPv4 and these hosts does not matter over IPv6.
const SYM: Nat = Nat::Symmetric;
const BACKLOG: u32 = 8;
