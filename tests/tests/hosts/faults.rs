//! Faults, each set in a lab of its own: `punchline doctor` or `punchline why` names it, and blames nothing else. What they
//! say of each stands in `design/doctor.md`, word by word.

mod ward;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use punchline_tests::lab::{Egress, Families, LabSpec, Nat};
use punchline_tests::process::Place;
use punchline_tests::trial::{self, lab_trial, tool_trial};

use self::ward::{Tmpfs, WEB, Ward};
use crate::{
    dns::{self, NAME, Record},
    world::{NO_PEER, SOON},
};

/// A trial for each fault; what it claims is the fault's word in the document.
pub(crate) fn trials() -> Vec<Trial> {
    let claim = |fault: &str| format!("{fault}_is_named_and_nothing_else_is_blamed");
    vec![
        trial::trial("the_document_lists_the_faults_that_are_set_here", listed),
        lab_trial("without_a_fault_nothing_is_blamed", none),
        lab_trial(&claim("dns_dead"), dns_dead),
        lab_trial(&claim("udp_blocked"), udp_blocked),
        lab_trial(&claim("relay_down"), relay_down),
        lab_trial(&claim("relay_hung"), relay_hung),
        lab_trial(&claim("wrong_relay_id"), wrong_relay_id),
        tool_trial(&claim("clock_off"), ward::no_faketime, clock_off),
        lab_trial(&claim("no_ipv6"), no_ipv6),
        lab_trial(&claim("symmetric_both"), symmetric_both),
        lab_trial(&claim("allow_list_misses_the_peer"), allow_list_misses_the_peer),
        lab_trial(&claim("target_down"), target_down),
        lab_trial(&claim("ticket_expired"), ticket_expired),
        lab_trial(&claim("port_in_use"), port_in_use),
        lab_trial(&claim("disk_full"), disk_full),
        lab_trial(&claim("file_limit_low"), file_limit_low),
        lab_trial(&claim("peer_offline"), peer_offline),
    ]
}

async fn listed() -> Result<()> {
    let listed = ward::faults()?;
    let listed: Vec<&str> =
        listed.as_array().into_iter().flatten().filter_map(|listed| listed["fault"].as_str()).collect();
    let set: Vec<String> = trials().iter().map(|trial| trial.name().to_owned()).collect();
    ensure!(listed.len() == 15, "{listed:?}");
    for fault in listed {
        let claims = set.iter().filter(|claim| claim.starts_with(&format!("{fault}_is_named"))).count();
        ensure!(claims == 1, "{fault} is set by {claims} trials");
    }
    Ok(())
}

/// Two homes with both families, behind ordinary routers.
fn homes() -> LabSpec {
    LabSpec::new([Nat::PortPreserving; 2]).families(Families::Both)
}

async fn none() -> Result<()> {
    let ward = Ward::new(&homes()).await?;
    let _relay = ward.relay().await?;
    let _peer = ward.expose(&["--allow", &ward.ids.me, "--allow", &ward.ids.peer]).await?;
    let me = ward.forward(&[]).await?;
    me.wait_for("upgrade_succeeded", |_| true, SOON).await?;
    ward.doctor_says("none", &[]).await?;
    ward.why_says("none", "why").await
}

async fn dns_dead() -> Result<()> {
    let mut ward = Ward::new(&homes()).await?;
    let _relay = ward.relay().await?;
    dns::serve(ward.lab.internet(), vec![(NAME, Record::Address(ward.lab.relay().address().into()))])?;
    ward.relays = vec![format!("/dns4/{NAME}/tcp/4001/p2p/{}", ward.ids.relay)];
    let nameserver = ward.lab.internet().address();
    ward.lab.host(0).resolv_conf(&format!("nameserver {nameserver}\n"))?;
    let _me = ward.forward(&[]).await?;
    ward.doctor_says("none", &[]).await.context("with a name server")?;
    // It is gone, and nobody says so.
    ward.lab.block(0, nameserver)?;
    ward.doctor_says("dns_dead", &[]).await
}

async fn udp_blocked() -> Result<()> {
    let mut spec = homes();
    spec.routers[0].egress = Egress::NoUdp;
    let ward = Ward::new(&spec).await?;
    let (_relay, _me) = (ward.relay().await?, ward.forward(&[]).await?);
    ward.doctor_says("udp_blocked", &[]).await
}

async fn relay_down() -> Result<()> {
    let ward = Ward::new(&homes()).await?;
    let _me = ward.forward(&[]).await?;
    ward.doctor_says("relay_down", &[]).await?;
    ward.why_says("relay_down", "why").await
}

async fn relay_hung() -> Result<()> {
    let ward = Ward::new(&homes()).await?;
    let relay = ward.relay().await?;
    relay.halt()?;
    let _me = ward.forward(&[]).await?;
    ward.doctor_says("relay_hung", &[]).await?;
    ward.why_says("relay_hung", "why").await?;
    Ok(relay.resume()?)
}

async fn wrong_relay_id() -> Result<()> {
    let mut ward = Ward::new(&homes()).await?;
    let _relay = ward.relay().await?;
    for relay in &mut ward.relays {
        *relay = relay.replace(&ward.ids.relay, NO_PEER);
    }
    let _me = ward.forward(&[]).await?;
    ward.doctor_says("wrong_relay_id", &[]).await?;
    ward.why_says("wrong_relay_id", "why").await
}

/// The clocks of the two hosts are two hours ahead of the relay's.
async fn clock_off() -> Result<()> {
    let mut ward = Ward::new(&homes()).await?;
    let _relay = ward.relay().await?;
    ward.clock = Some("+2h");
    let _peer = ward.expose(&["--allow", &ward.ids.me]).await?;
    let me = ward.forward(&[]).await?;
    me.wait_for("upgrade_succeeded", |_| true, SOON).await?;
    ward.doctor_says("clock_off", &[]).await?;
    ward.why_says("clock_off", "why_there").await
}

/// The relay has IPv6, and is named by it as well.
async fn no_ipv6() -> Result<()> {
    let mut ward = Ward::new(&homes().host_families(0, Families::V4)).await?;
    let _relay = ward.relay().await?;
    ward.relays.push(format!("/ip6/2600::2/tcp/4001/p2p/{}", ward.ids.relay));
    let _me = ward.forward(&[]).await?;
    ward.doctor_says("no_ipv6", &[]).await
}

async fn symmetric_both() -> Result<()> {
    let ward = Ward::new(&LabSpec::new([Nat::Symmetric; 2])).await?;
    let _relay = ward.relay().await?;
    let (_peer, _me) = (ward.expose(&["--allow", &ward.ids.me]).await?, ward.forward(&[]).await?);
    ward.why_says("symmetric_both", "why").await
}

async fn allow_list_misses_the_peer() -> Result<()> {
    let ward = Ward::new(&homes()).await?;
    let _relay = ward.relay().await?;
    let (_peer, me) = (ward.expose(&["--allow", NO_PEER]).await?, ward.forward(&[]).await?);
    ward.connect_in_vain(&me, "").await?;
    ward.why_says("allow_list_misses_the_peer", "why").await?;
    ward.why_says("allow_list_misses_the_peer", "why_there").await
}

async fn target_down() -> Result<()> {
    let ward = Ward::new(&homes()).await?;
    let _relay = ward.relay().await?;
    let (_peer, me) = (ward.expose(&["--allow", &ward.ids.me]).await?, ward.forward(&[]).await?);
    ward.connect_in_vain(&me, "").await?;
    ward.why_says("target_down", "why").await?;
    ward.why_says("target_down", "why_there").await
}

async fn ticket_expired() -> Result<()> {
    let ward = Ward::new(&homes()).await?;
    let _relay = ward.relay().await?;
    let _peer = ward.expose(&["--tickets"]).await?;
    let new = ["ticket", "new", "--service", WEB, "--expires", "1s", "--relay", &ward.relays[0]];
    let launch = ward.punchline(Place::Host, &new)?.args(["--identity", &ward.world.identity("peer")]);
    let printed = launch.output(SOON).await?;
    ensure!(printed.status.success(), "{printed:?}");
    let ticket = String::from_utf8(printed.stdout)?;
    let me = ward.forward(&["--ticket", ticket.trim()]).await?;
    ward.connect_in_vain(&me, "expired").await?;
    ward.why_says("ticket_expired", "why").await
}

async fn port_in_use() -> Result<()> {
    let ward = Ward::new(&homes()).await?;
    let (_relay, _me) = (ward.relay().await?, ward.forward(&[]).await?);
    let listen = ["--listen", "/ip4/0.0.0.0/tcp/4001"];
    ward.doctor_says("none", &listen).await.context("before")?;
    let other = ward.world.launch(ward.lab.host(0), "relay", "other")?.args(listen);
    let other = other.args(["--external", "auto"]).spawn()?;
    other.wait_for("listening", |_| true, SOON).await?;
    let pid = other.id().context("it runs")?.to_string();
    ward.doctor_says_with("port_in_use", &listen, &[(&pid, "<pid>")]).await?;
    // A node that is to listen there says the same, and ends.
    let node = ward.world.launch(ward.lab.host(0), "server", "third")?.args(listen);
    let output = node.output(SOON).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("TCP port 4001 is taken by punchline"), "{said}");
    Ok(())
}

async fn disk_full() -> Result<()> {
    let ward = Ward::new(&homes()).await?;
    let (_relay, _me) = (ward.relay().await?, ward.forward(&[]).await?);
    let disk = Tmpfs::mount()?;
    let identity = disk.path().join("identity");
    let own = PathBuf::from(ward.world.identity("own"));
    std::fs::copy(own, &identity)?;
    disk.fill()?;
    let (place, identity) = (disk.path().to_string_lossy(), identity.to_string_lossy());
    let args = ["--identity", &identity];
    ward.doctor_says_with("disk_full", &args, &[(&place, "<state>")]).await
}

async fn file_limit_low() -> Result<()> {
    let mut ward = Ward::new(&homes()).await?;
    let (_relay, _me) = (ward.relay().await?, ward.forward(&[]).await?);
    ward.open_files = Some(100);
    ward.doctor_says("file_limit_low", &[]).await
}

async fn peer_offline() -> Result<()> {
    let ward = Ward::new(&homes()).await?;
    let (_relay, _me) = (ward.relay().await?, ward.forward(&[]).await?);
    ward.why_says("peer_offline", "why").await
}
