//! What the doctor says in networks of each kind.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use punchline_tests::lab::{Egress, Filtering, Lab, LabSpec, Mapping, Miniupnpd, Nat, PortMapping};
use punchline_tests::process::{Event, Launch, Place, Program, binary};
use serde_json::Value;

use crate::{
    dns::{self, NAME, Record},
    mapping::HOUR,
    world::{SOON, World},
};

/// The doctor promises 10 s; a busy machine takes longer to start it.
const BOUND: Duration = Duration::from_secs(20);

/// A lab with a relay that has three addresses, and name and STUN servers.
struct Clinic {
    world: World,
    lab: Lab,
    relays: Vec<String>,
    _relay: Program,
}

impl Clinic {
    async fn open(spec: &LabSpec) -> Result<Self> {
        let world = World::new()?;
        let id = world.peer_id("relay").await?;
        let lab = Lab::build(spec)?;
        let ip = lab.relay().address();
        dns::serve(lab.internet(), vec![(NAME, Record::Address(ip.into()))])?;
        let mut launch = world.launch(lab.relay(), "relay", "relay")?;
        let suffixes = ["tcp/4001", "udp/4001/quic-v1", "tcp/443/tls/ws"];
        for suffix in suffixes {
            let address = format!("/ip4/{ip}/{suffix}");
            launch = launch.args(["--listen", &address, "--external", &address]);
        }
        let relay = launch.spawn()?;
        let last = |event: &Event| event.text("address").is_some_and(|address| address.ends_with("/ws"));
        relay.wait_for("listening", last, SOON).await?;
        let relays = suffixes.map(|suffix| format!("/dns4/{NAME}/{suffix}/p2p/{id}")).to_vec();
        Ok(Self { world, lab, relays, _relay: relay })
    }

    /// What it says on host `index`, and whether nothing is bad.
    async fn examine(&self, index: usize, args: &[&str]) -> Result<(Value, bool)> {
        self.examine_by(&self.relays, index, args).await
    }

    /// Where no question to a name server gets out.
    async fn examine_by_address(&self, index: usize) -> Result<(Value, bool)> {
        let host = format!("/ip4/{}/", self.lab.relay().address());
        let by_address = |relay: &String| relay.replace(&format!("/dns4/{NAME}/"), &host);
        let relays: Vec<String> = self.relays.iter().map(by_address).collect();
        self.examine_by(&relays, index, &[]).await
    }

    async fn examine_by(&self, relays: &[String], index: usize, args: &[&str]) -> Result<(Value, bool)> {
        let host = self.lab.host(index);
        let launch = Launch::program(Place::from(host), binary("punchline")?).args(["doctor", "--json"]);
        let launch = launch.args(["--identity", &self.world.identity("own")]).args(args);
        let output =
            launch.args(relays.iter().flat_map(|relay| ["--relay", relay])).output(BOUND).await?;
        let said = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
        Ok((said, output.status.success()))
    }

    fn resolves_by(&self, index: usize, server: std::net::Ipv4Addr) -> Result<()> {
        Ok(self.lab.host(index).resolv_conf(&format!("nameserver {server}\n"))?)
    }
}

fn verdict<'a>(said: &'a Value, name: &str) -> &'a str {
    let mut checks = said["checks"].as_array().into_iter().flatten();
    checks
        .find(|check| check["check"] == name)
        .and_then(|check| check["verdict"].as_str())
        .unwrap_or("none")
}

#[track_caller]
fn ensure_says(said: &Value, expect: &str, verdicts: &[(&str, &str)]) -> Result<()> {
    ensure!(said["expect"]["kind"] == expect, "{expect} is not what is expected: {said:#}");
    for (name, wanted) in verdicts {
        ensure!(verdict(said, name) == *wanted, "{name} is not {wanted}: {said:#}");
    }
    Ok(())
}

pub(crate) async fn each_network() -> Result<()> {
    let mut spec = LabSpec::new([
        Nat::PortPreserving,
        Nat::Symmetric,
        Nat::PortPreserving,
        Nat::PortPreserving,
        Nat::Open,
    ]);
    spec.routers[2].egress = Egress::NoUdp;
    spec.routers[3].egress = Egress::Https;
    let clinic = Clinic::open(&spec).await?;
    for index in 0..spec.routers.len() {
        clinic.resolves_by(index, clinic.lab.internet().address())?;
    }
    let well = [
        ("relay", "ok"),
        ("udp", "ok"),
        ("tcp", "ok"),
        ("port_443", "ok"),
        ("dns", "ok"),
        ("clock", "ok"),
    ];
    for (index, expect, verdicts) in [
        (0, "direct_with_most", [&well[..], &[("nat", "ok"), ("ipv6", "warning")]].concat()),
        (
            1,
            "direct_with_some",
            [&well[..], &[("nat", "warning"), ("port_mapping", "warning")]].concat(),
        ),
        (2, "direct_over_tcp", vec![("udp", "warning"), ("tcp", "ok"), ("port_443", "ok")]),
        (3, "relayed_over_https", vec![("udp", "warning"), ("tcp", "warning"), ("port_443", "ok")]),
        (4, "direct_with_nearly_all", [&well[..], &[("nat", "ok"), ("hairpin", "ok")]].concat()),
    ] {
        let (said, healthy) = match index {
            2 | 3 => clinic.examine_by_address(index).await?,
            _ => clinic.examine(index, &[]).await?,
        };
        ensure_says(&said, expect, &verdicts).with_context(|| format!("host {index}"))?;
        ensure!(healthy, "host {index}: {said:#}");
    }
    let (said, _) = clinic.examine(0, &[]).await?;
    ensure!(said.to_string().contains("comes back from the router"), "{said:#}");
    Ok(())
}

/// Of each kind of NAT it says what the lab made it, and what follows from that for whoever is at the other end. But for
/// the kind that has one flow to each destination: of the doctor's the first would be the only one.
pub(crate) async fn each_nat() -> Result<()> {
    let kinds = || Nat::ALL.into_iter().filter(|nat| *nat != Nat::PORT_CHANGING);
    let clinic = Clinic::open(&LabSpec::new(kinds())).await?;
    for (index, nat) in kinds().enumerate() {
        let (said, _) = clinic.examine_by_address(index).await?;
        let checks = said["checks"].as_array().into_iter().flatten();
        let kind =
            checks.filter(|check| check["check"] == "nat").find_map(|check| check["found"].as_str());
        let kind = kind.unwrap_or_default();
        let symmetric = nat.mapping() == Mapping::EndpointDependent;
        ensure!(kind.contains("symmetric") == symmetric, "{nat} is not {kind}: {said:#}");
        ensure_says(&said, expected(nat), &[("nat", if symmetric { "warning" } else { "ok" })])
            .with_context(|| nat.to_string())?;
    }
    Ok(())
}

/// By whom a host behind such a NAT is reached directly. The worst at the other end is symmetric and lets nobody in but whom
/// its host has sent to: whoever goes by addresses alone lets it in. Of two ends one must keep its port.
fn expected(nat: Nat) -> &'static str {
    match (nat.mapping(), nat.filtering()) {
        (Mapping::EndpointDependent, _) => "direct_with_some",
        (_, Filtering::AddressAndPortDependent) => "direct_with_most",
        (_, Filtering::AddressDependent | Filtering::EndpointIndependent) => "direct_with_nearly_all",
    }
}

pub(crate) async fn dead_dns() -> Result<()> {
    let clinic = Clinic::open(&LabSpec::new([Nat::PortPreserving])).await?;
    // Nobody is a name server there.
    clinic.resolves_by(0, clinic.lab.relay().address())?;
    let (said, healthy) = clinic.examine(0, &["--port-mapping", "off"]).await?;
    ensure!(!healthy, "{said:#}");
    ensure_says(&said, "nobody", &[("dns", "bad"), ("relay", "skipped"), ("ipv4", "ok")])?;
    ensure!(said.to_string().contains("/etc/resolv.conf"), "{said:#}");
    Ok(())
}

pub(crate) async fn router_maps(protocol: PortMapping, name: &str) -> Result<()> {
    let clinic = Clinic::open(&LabSpec::new([Nat::Symmetric])).await?;
    clinic.resolves_by(0, clinic.lab.internet().address())?;
    let _daemon = Miniupnpd::start(&clinic.lab, 0, protocol, HOUR)?;
    let (said, _) = clinic.examine(0, &[]).await?;
    ensure_says(&said, "direct_with_nearly_all", &[("port_mapping", "ok"), ("nat", "warning")])?;
    let forwards = format!("{name} forwards from {}", clinic.lab.router(0).address());
    ensure!(said.to_string().contains(&forwards), "{said:#}");
    let left = Miniupnpd::forwarded(clinic.lab.router(0))?;
    ensure!(left == 0, "{left} ports stay forwarded");
    Ok(())
}
