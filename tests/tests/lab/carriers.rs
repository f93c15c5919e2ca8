//! Routers behind a carrier's router, routers that let no UDP or no TCP out, or forget UDP soon, and routers that restart.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use punchline_tests::lab::{Egress, Lab, LabError, LabSpec, Nat, RouterSpec};
use punchline_tests::trial::lab_trial;
use tokio::time::timeout;

use crate::sockets::{
    HOST_PORT, REFLECTOR_PORT, Reflector, SILENCE, SOON, ask_tcp, ask_udp, dial, listen, local, receive,
    udp,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        lab_trial("behind_a_carrier_flows_leave_from_the_carriers_address", double),
        lab_trial("a_symmetric_carrier_makes_its_customers_symmetric", symmetric_carrier),
        lab_trial("homes_of_one_carrier_meet_by_their_public_addresses_if_it_has_hairpin", || {
            homes_of_one_carrier(true)
        }),
        lab_trial("homes_of_one_carrier_do_not_meet_by_their_public_addresses_without_hairpin", || {
            homes_of_one_carrier(false)
        }),
        lab_trial("a_host_with_a_global_address_cannot_be_behind_a_carrier", misplaced),
        lab_trial("a_router_without_udp_carries_tcp_alone", without_udp),
        lab_trial("a_router_without_tcp_carries_udp_alone", without_tcp),
        lab_trial("a_router_for_https_carries_port_443_alone", https),
        lab_trial("a_router_that_forgets_udp_soon_does_so", short_udp),
        lab_trial("a_rebooted_router_has_another_address_and_knows_no_flow", rebooted),
    ]
}

async fn double() -> Result<()> {
    for nat in [Nat::FullCone, Nat::PortPreserving] {
        let spec = LabSpec::new([nat]).behind_carrier(0, RouterSpec::new(nat));
        let lab = Lab::build(&spec)?;
        let public = SocketAddrV4::new(lab.carrier(0).address(), HOST_PORT);
        ensure!(lab.seen_address(0) == *public.ip());
        let host = udp(lab.host(0), HOST_PORT)?;
        for at in [lab.relay(), lab.internet()] {
            let reflector = Reflector::start(at)?;
            ensure!(ask_udp(&host, reflector.address)? == public);
            ensure!(ask_tcp(lab.host(0), HOST_PORT, reflector.address).await? == public);
            reflector.done()?;
        }
        udp(lab.internet(), REFLECTOR_PORT + 1)?.send_to(b"stranger", public)?;
        host.set_read_timeout(Some(SILENCE))?;
        let let_in = receive(&host)?.is_some();
        ensure!(let_in == (nat == Nat::FullCone), "{nat}: {let_in}");
    }
    Ok(())
}

async fn symmetric_carrier() -> Result<()> {
    let spec = LabSpec::new([Nat::PortPreserving]).behind_carrier(0, RouterSpec::new(Nat::Symmetric));
    let lab = Lab::build(&spec)?;
    let host = udp(lab.host(0), HOST_PORT)?;
    let mut seen = Vec::new();
    for at in [lab.relay(), lab.internet()] {
        let reflector = Reflector::start(at)?;
        seen.push(ask_udp(&host, reflector.address)?);
        ask_tcp(lab.host(0), HOST_PORT, reflector.address).await?;
        reflector.done()?;
    }
    ensure!(seen[0].ip() == seen[1].ip() && seen[0].port() != seen[1].port(), "{seen:?}");
    Ok(())
}

/// Both know each other's public addresses from the relay, and send there.
async fn homes_of_one_carrier(hairpin: bool) -> Result<()> {
    let carrier = RouterSpec { hairpin, ..RouterSpec::new(Nat::PortPreserving) };
    let lab = Lab::build(&LabSpec::new([Nat::PortPreserving; 2]).behind_one_carrier(carrier))?;
    let ports = [HOST_PORT, HOST_PORT + 1];
    let hosts = [udp(lab.host(0), ports[0])?, udp(lab.host(1), ports[1])?];
    let known = udp(lab.relay(), REFLECTOR_PORT)?;
    let mut public = Vec::new();
    for host in &hosts {
        host.send_to(b"hello", local(&known)?)?;
        public.push(receive(&known)?.context("the way out is open")?.1);
    }
    ensure!(public.iter().all(|seen| *seen.ip() == lab.carrier(0).address()), "{public:?}");

    // The first one opens the home router of its sender, or finds it open.
    for _ in 0..2 {
        hosts[0].send_to(b"to the neighbour", public[1])?;
        hosts[1].send_to(b"to the neighbour", public[0])?;
    }
    for (host, other) in [(&hosts[0], public[1]), (&hosts[1], public[0])] {
        host.set_read_timeout(Some(SILENCE))?;
        let from = receive(host)?.map(|(_, from)| from);
        ensure!(from == hairpin.then_some(other), "from {from:?}, {other} sent");
    }
    let [a, b] = [public[0], public[1]];
    let both =
        async { tokio::try_join!(dial(lab.host(0), a.port(), b), dial(lab.host(1), b.port(), a)) };
    // TCP has its own mappings, which the relay shows as well.
    let at_relay = listen(lab.relay(), REFLECTOR_PORT)?;
    let relay = SocketAddrV4::new(lab.relay().address(), REFLECTOR_PORT);
    let _open = timeout(SOON, async {
        tokio::try_join!(dial(lab.host(0), a.port(), relay), dial(lab.host(1), b.port(), relay))
    })
    .await??;
    let met = timeout(SOON, both).await.is_ok_and(|dialled| dialled.is_ok());
    drop(at_relay);
    ensure!(met == hairpin, "met over TCP: {met}");
    Ok(())
}

async fn misplaced() -> Result<()> {
    let spec = LabSpec::new([Nat::Open]).behind_carrier(0, RouterSpec::new(Nat::Symmetric));
    let built = Lab::build(&spec);
    ensure!(matches!(built, Err(LabError::GlobalBehindCarrier { nat: Nat::Open })), "{built:?}");
    let mut spec = LabSpec::new([Nat::FullCone]);
    spec.routers[0].carrier = Some(0);
    let built = Lab::build(&spec);
    ensure!(matches!(built, Err(LabError::NoSuchCarrier { carrier: 0 })), "{built:?}");
    Ok(())
}

async fn without_udp() -> Result<()> {
    let lab = Lab::build(&with_egress(Egress::NoUdp))?;
    let reflector = Reflector::start(lab.relay())?;
    ensure!(!is_answered(&lab, reflector.address)?, "a datagram was answered");
    ask_tcp(lab.host(0), HOST_PORT, reflector.address).await?;
    reflector.done()
}

async fn without_tcp() -> Result<()> {
    let lab = Lab::build(&with_egress(Egress::NoTcp))?;
    let reflector = Reflector::start(lab.relay())?;
    let dialled = timeout(SILENCE, dial(lab.host(0), HOST_PORT, reflector.address)).await;
    ensure!(dialled.is_err(), "dialled: {dialled:?}");
    ensure!(is_answered(&lab, reflector.address)?, "no datagram was answered");
    Ok(())
}

async fn https() -> Result<()> {
    let lab = Lab::build(&with_egress(Egress::Https))?;
    let reflector = Reflector::start(lab.relay())?;
    ensure!(!is_answered(&lab, reflector.address)?, "a datagram was answered");
    let dialled = timeout(SILENCE, dial(lab.host(0), HOST_PORT, reflector.address)).await;
    ensure!(dialled.is_err(), "another port: {dialled:?}");
    let reflector = Reflector::start_at(lab.relay(), 443)?;
    ask_tcp(lab.host(0), HOST_PORT, reflector.address).await?;
    reflector.done()
}

fn with_egress(egress: Egress) -> LabSpec {
    let router = RouterSpec { egress, ..RouterSpec::new(Nat::PortPreserving) };
    LabSpec { routers: vec![router], ..LabSpec::default() }
}

fn is_answered(lab: &Lab, reflector: SocketAddrV4) -> Result<bool> {
    let host = udp(lab.host(0), HOST_PORT)?;
    host.set_read_timeout(Some(SILENCE))?;
    host.send_to(b"who am I?", reflector)?;
    Ok(receive(&host)?.is_some())
}

async fn short_udp() -> Result<()> {
    for nat in [Nat::PortPreserving, Nat::FullCone] {
        let udp_timeout = Some(Duration::from_secs(1));
        let router = RouterSpec { udp_timeout, ..RouterSpec::new(nat) };
        let lab = Lab::build(&LabSpec { routers: vec![router], ..LabSpec::default() })?;
        let host = udp(lab.host(0), HOST_PORT)?;
        let known = udp(lab.relay(), REFLECTOR_PORT)?;
        host.send_to(b"hello", local(&known)?)?;
        let (_, public) = receive(&known)?.context("the way out is open")?;
        known.send_to(b"in time", public)?;
        receive(&host)?.context("the answer is let in")?;
        // Nothing is to come: this waits for longer than the router remembers.
        host.set_read_timeout(Some(2 * SILENCE))?;
        ensure!(receive(&host)?.is_none());
        known.send_to(b"too late", public)?;
        host.set_read_timeout(Some(SILENCE))?;
        ensure!(receive(&host)?.is_none(), "{nat}: the mapping is still there");
    }
    Ok(())
}

async fn rebooted() -> Result<()> {
    let lab = Lab::build(&LabSpec::new([Nat::FullCone, Nat::PortPreserving]))?;
    let host = udp(lab.host(0), HOST_PORT)?;
    let far = udp(lab.host(1), HOST_PORT)?;
    let known = udp(lab.relay(), REFLECTOR_PORT)?;
    host.send_to(b"hello", local(&known)?)?;
    let (_, before) = receive(&known)?.context("the way out is open")?;
    lab.reboot_router(0, &RouterSpec::new(Nat::FullCone), lab.spare_address(0))?;
    known.send_to(b"too late", before)?;
    host.set_read_timeout(Some(SILENCE))?;
    ensure!(receive(&host)?.is_none(), "the old address is still there");

    host.send_to(b"hello again", local(&known)?)?;
    let (_, after) = receive(&known)?.context("the way out is open again")?;
    ensure!(after == SocketAddrV4::new(lab.spare_address(0), HOST_PORT), "{after}");
    let counted = lab.direct_bytes(1, 0)?;
    far.send_to(b"to where it is seen", after)?;
    host.set_read_timeout(Some(SOON))?;
    receive(&host)?.context("nothing came to the other address")?;
    ensure!(lab.direct_bytes(1, 0)? > counted, "not counted as direct");
    // And back again.
    lab.reboot_router(0, &RouterSpec::new(Nat::FullCone), lab.router(0).address())?;
    host.send_to(b"hello", local(&known)?)?;
    let (_, again) = receive(&known)?.context("the way out is open")?;
    ensure!(again == before, "{again}");
    Ok(())
}
