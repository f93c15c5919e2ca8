//! Every kind of NAT proves with plain sockets that it maps and filters as its name says.

use std::net::{SocketAddr, SocketAddrV4};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use punchline_tests::lab::{Filtering, Lab, LabSpec, Mapping, Nat};
use punchline_tests::trial::lab_trial;
use tokio::time::timeout;

use crate::sockets::{
    HOST_PORT, REFLECTOR_PORT, Reflector, SILENCE, SOON, ask_tcp, ask_udp, dial, listen, local, receive,
    udp,
};

pub(crate) fn trials() -> Vec<Trial> {
    let of = |nat: Nat| {
        [
            lab_trial(&format!("nat_{nat}_maps_as_its_kind_does"), move || mapping(nat)),
            lab_trial(&format!("nat_{nat}_lets_in_datagrams_as_its_kind_does"), move || datagrams(nat)),
            lab_trial(&format!("nat_{nat}_lets_in_connections_as_its_kind_does"), move || {
                connections(nat)
            }),
            lab_trial(&format!("nat_{nat}_before_its_host_has_sent_anything"), move || uninvited(nat)),
        ]
    };
    Nat::ALL.into_iter().flat_map(of).collect()
}

/// From where three destinations, two of them at one address, see one port.
async fn mapping(nat: Nat) -> Result<()> {
    let lab = Lab::build(&LabSpec::new([nat]))?;
    let host = udp(lab.host(0), HOST_PORT)?;
    let (mut by_udp, mut by_tcp) = (Vec::new(), Vec::new());
    for (at, port) in [
        (lab.relay(), REFLECTOR_PORT),
        (lab.relay(), REFLECTOR_PORT + 1),
        (lab.internet(), REFLECTOR_PORT),
    ] {
        let reflector = Reflector::start_at(at, port)?;
        by_udp.push(ask_udp(&host, reflector.address)?);
        by_tcp.push(ask_tcp(lab.host(0), HOST_PORT, reflector.address).await?);
        reflector.done()?;
    }
    for seen in [by_udp, by_tcp] {
        ensure!(seen.iter().all(|seen| *seen.ip() == lab.seen_address(0)), "{nat}: {seen:?}");
        let ports = [seen[0].port(), seen[1].port(), seen[2].port()];
        let expected = match (nat, nat.mapping()) {
            (_, Mapping::EndpointDependent) => {
                ports[0] != ports[1] && ports[0] != ports[2] && ports[1] != ports[2]
            }
            (Nat::PortChanging { first, count }, _) => {
                ports == [ports[0]; 3] && (first..first + count).contains(&ports[0])
            }
            _ => ports == [HOST_PORT; 3],
        };
        ensure!(expected, "{nat}: {seen:?}");
    }
    Ok(())
}

async fn datagrams(nat: Nat) -> Result<()> {
    let lab = Lab::build(&LabSpec::new([nat]))?;
    let host = udp(lab.host(0), HOST_PORT)?;
    let known = udp(lab.relay(), REFLECTOR_PORT)?;
    host.send_to(b"hello", local(&known)?)?;
    let (_, public) = receive(&known)?.context("the way out is open")?;

    udp(lab.internet(), REFLECTOR_PORT)?.send_to(STRANGER, public)?;
    udp(lab.relay(), REFLECTOR_PORT + 1)?.send_to(OTHER_PORT, public)?;
    known.send_to(KNOWN, public)?;
    // Order is kept on the way, so whatever was let in came before the datagram that may come.
    let mut arrived = Vec::new();
    while arrived.last().is_none_or(|last| last != KNOWN) {
        arrived.push(receive(&host)?.context("the answer is let in")?.0);
    }
    let expected: &[&[u8]] = match nat.filtering() {
        Filtering::EndpointIndependent => &[STRANGER, OTHER_PORT, KNOWN],
        Filtering::AddressDependent => &[OTHER_PORT, KNOWN],
        Filtering::AddressAndPortDependent => &[KNOWN],
    };
    let texts = || arrived.iter().map(|text| String::from_utf8_lossy(text)).collect::<Vec<_>>();
    ensure!(arrived == expected, "{nat} let in {:?}", texts());
    Ok(())
}

/// The host listens at the port from which it has dialled, as a libp2p node does.
async fn connections(nat: Nat) -> Result<()> {
    let lab = Lab::build(&LabSpec::new([nat]))?;
    let at_host = listen(lab.host(0), HOST_PORT)?;
    let at_relay = listen(lab.relay(), REFLECTOR_PORT)?;
    let known = SocketAddrV4::new(lab.relay().address(), REFLECTOR_PORT);
    let _open = timeout(SOON, dial(lab.host(0), HOST_PORT, known)).await??;
    let SocketAddr::V4(public) = at_relay.accept().await?.1 else { bail!("the lab is IPv4 only") };

    let filtering = nat.filtering();
    for (from, port, is_let_in) in [
        (lab.internet(), HOST_PORT, filtering == Filtering::EndpointIndependent),
        (lab.relay(), HOST_PORT, filtering <= Filtering::AddressDependent),
    ] {
        let dialled = timeout(SILENCE, dial(from, port, public)).await;
        match is_let_in {
            true => {
                let connected = dialled??;
                let (_, dialler) = timeout(SOON, at_host.accept()).await??;
                ensure!(dialler == connected.local_addr()?, "{nat}: {dialler}");
            }
            false => ensure!(dialled.is_err(), "{nat} let in {dialled:?}"),
        }
    }
    Ok(())
}

/// No port leads anywhere before something was sent from it, except where nothing is filtered nor translated.
async fn uninvited(nat: Nat) -> Result<()> {
    let lab = Lab::build(&LabSpec::new([nat]))?;
    let (host, stranger) = (udp(lab.host(0), HOST_PORT)?, udp(lab.internet(), HOST_PORT)?);
    let _at_host = listen(lab.host(0), HOST_PORT)?;
    let public = SocketAddrV4::new(lab.seen_address(0), HOST_PORT);
    stranger.send_to(STRANGER, public)?;
    let dialled = timeout(SILENCE, dial(lab.internet(), HOST_PORT, public)).await;
    host.set_read_timeout(Some(SILENCE))?;
    let arrived = receive(&host)?.is_some();
    match nat {
        Nat::Open => ensure!(arrived && matches!(dialled, Ok(Ok(_))), "{arrived} {dialled:?}"),
        _ => ensure!(!arrived && dialled.is_err(), "{nat} let in {arrived} {dialled:?}"),
    }
    Ok(())
}

const STRANGER: &[u8] = b"from another address";
const OTHER_PORT: &[u8] = b"from another port";
const KNOWN: &[u8] = b"the answer";
