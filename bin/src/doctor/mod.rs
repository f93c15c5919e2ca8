//! `punchline doctor`: whether this host and its network let a node work, and what to do where they do not.
//!
//! Reading order: [`findings`] is what there is to find out; [`gather`] finds it out, with [`host`] what needs nobody,
//! and [`probe`] how an address is tried layer by layer; [`judge`] decides, and is pure; [`diagnosis`] is what it comes to,
//! [`screen`] shows it. [`bundle`] writes it into a file for a bug report, less what [`sanitise`] takes out. [`firewall`]
//! prints lines to copy.

mod bundle;
mod diagnosis;
mod findings;
mod firewall;
mod gather;
mod host;
mod judge;
pub(crate) mod probe;
mod sanitise;
mod screen;

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use punchline_bridge::{RelayAddr, RelayLocator, addr::GlobalScope, survey};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::{
    diagnosis::{Diagnosis, VERSION, Verdict},
    findings::{DhtFinding, Fault},
    gather::Quest,
    probe::{Means, Probed},
};
use crate::{
    Unusable,
    cli::{self, Asking, Doctor, DoctorWhat, ListenAddr, Nets, PortMapping, ProxyFlags, Reach},
    control::{self, proto},
    node, progress, stop,
};

/// For a node that runs here to answer.
const NODE_ANSWER: Duration = Duration::from_secs(2);

/// For the router to take back what it was asked for, when we are told to stop: half a second for what it grants meanwhile,
/// and as long for its answer.
const TAKEN_BACK: Duration = Duration::from_millis(1200);

/// Checks, prints, and writes the bundle if one is wanted.
///
/// # Errors
/// If anything is bad, the address is not reached, or the bundle cannot be written.
pub(crate) async fn run(
    mut settings: Doctor,
    identity: Option<&Path>,
    quiet: bool,
) -> anyhow::Result<()> {
    settings.asking.identity = identity.map(Path::to_owned);
    let stop = CancellationToken::new();
    let work = async {
        match settings.what {
            Some(DoctorWhat::Reach(reach)) => self::reach(reach, quiet).await,
            Some(DoctorWhat::Firewall(mut firewall)) => {
                firewall.asking.identity = identity.map(Path::to_owned);
                self::firewall(firewall).await
            }
            None => examine(settings, identity, quiet, &stop).await,
        }
    };
    let mut work = std::pin::pin!(work);
    tokio::select! {
        outcome = &mut work => outcome,
        () = stop::told() => {
            stop.cancel();
            let _ = tokio::time::timeout(TAKEN_BACK, work).await;
            anyhow::bail!("told to stop before everything was checked")
        }
    }
}

async fn examine(
    settings: Doctor,
    identity: Option<&Path>,
    quiet: bool,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let bundle = settings.bundle.as_deref().map(bundle::begin).transpose()?;
    let global = GlobalScope::with_assumed(cli::all(&settings.assume_global));
    let means = means(&settings.proxy, &settings.nets, global.clone())?;
    let status = status(&settings.asking).await;
    let mut given = cli::all(&settings.relay);
    let mut listen = Vec::new();
    for address in cli::all(&settings.listen) {
        match address {
            ListenAddr::At(address) => listen.push(address),
            ListenAddr::Reserve(relay) => given.push(relay),
        }
    }
    if given.is_empty() {
        given = status.iter().flat_map(relays_of).collect();
    }
    let (relays, unresolved) = resolve(&given).await;
    let running = status.iter().flat_map(|status| &status.listening);
    let quest = Quest {
        relays,
        unresolved,
        stun: cli::all(&settings.stun_server),
        means,
        listen,
        running: running.filter_map(|address| address.parse().ok()).collect(),
        dht: status.as_ref().and_then(DhtFinding::of),
        external: status.iter().flat_map(|status| status.external.clone()).collect(),
        router: settings.port_mapping == PortMapping::On,
        identity: identity.map(Path::to_owned),
    };
    let doing = || "looking at this host, its network and its relays".to_owned();
    let found = progress::beside(quiet, doing, gather::gather(quest, stop)).await;
    let Some(found) = found else { return Ok(()) };
    let diagnosis = judge::judge(&found, &global, began.elapsed());
    let text = match settings.json {
        true => serde_json::to_string(&diagnosis)? + "\n",
        false => screen::of(&diagnosis),
    };
    print(&text)?;
    if let Some(bundle) = bundle {
        bundle.write(&diagnosis, status.as_ref(), &settings.asking).await?;
    }
    verdict(&diagnosis)
}

fn verdict(diagnosis: &Diagnosis) -> anyhow::Result<()> {
    let bad = diagnosis.checks.iter().filter(|check| check.verdict == Verdict::Bad);
    let sentences: Vec<String> =
        bad.map(|check| format!("{}: {}", check.check, screen::sentence(check))).collect();
    match sentences.as_slice() {
        [] => Ok(()),
        [only] => anyhow::bail!("{only}"),
        [first, rest @ ..] => anyhow::bail!("{first} (and {} more that are bad)", rest.len()),
    }
}

async fn reach(settings: Reach, quiet: bool) -> anyhow::Result<()> {
    let means = means(&settings.proxy, &settings.nets, GlobalScope::default())?;
    let doing = || format!("trying {}", settings.address);
    let probing = probe::probe_named(&settings.address, &means);
    let Probed { passed, outcome } = progress::beside(quiet, doing, probing).await;
    let fault = outcome.err();
    let text = match settings.json {
        true => reach_json(&settings.address.to_string(), &passed, fault.as_ref()).to_string() + "\n",
        false => screen::of_reach(&passed, fault.as_ref()),
    };
    print(&text)?;
    match fault {
        None => Ok(()),
        Some(fault) => {
            let (found, advice) = fault.words();
            let sentence = screen::joined(&found, advice);
            anyhow::bail!("{}: {} fails: {sentence}", settings.address, fault.layer().name())
        }
    }
}

async fn firewall(settings: cli::Firewall) -> anyhow::Result<()> {
    let named: Vec<_> = cli::all(&settings.listen).into_iter().filter_map(|at| at.0).collect();
    let ports = match named.is_empty() {
        false => firewall::Ports::named(&named),
        true => {
            let nobody = "no node or relay answers here, so its ports are not known: start it, or name one with --node or \
                          --control; or say --listen /ip4/0.0.0.0/tcp/4001";
            let status = status(&settings.asking).await.ok_or_else(|| anyhow::anyhow!(nobody))?;
            firewall::Ports::of(&status)
        }
    };
    print(&firewall::text(&ports).map_err(|fault| anyhow::anyhow!(fault))?)
}

/// As `design/doctor.md` shows it.
fn reach_json(address: &str, passed: &[(findings::Layer, String)], fault: Option<&Fault>) -> Value {
    let mut layers: Vec<Value> = passed
        .iter()
        .map(|(layer, found)| json!({"layer": layer, "verdict": Verdict::Ok, "found": found}))
        .collect();
    layers.extend(fault.map(|fault| {
        let (found, advice) = fault.words();
        let mut failed = json!({"layer": fault.layer(), "verdict": Verdict::Bad, "found": found});
        if let Some(advice) = advice {
            failed["advice"] = advice.into();
        }
        failed
    }));
    json!({"version": VERSION, "address": address, "reached": fault.is_none(), "layers": layers})
}

fn means(proxy: &ProxyFlags, nets: &Nets, global: GlobalScope) -> Result<Means, Unusable> {
    Ok(Means { proxy: node::proxy(proxy)?, global, ranges: node::ranges(nets)? })
}

/// That of a node which runs here; the doctor does without.
async fn status(asking: &Asking) -> Option<proto::Status> {
    let asked = async {
        let mut node = control::ask(asking).await.ok()?;
        Some(node.get_status(proto::GetStatusRequest {}).await.ok()?.into_inner())
    };
    tokio::time::timeout(NODE_ANSWER, asked).await.ok()?
}

/// The addresses of relays that were given, those that names stand for included; and the names that could not be resolved,
/// with the reason.
async fn resolve(given: &[RelayLocator]) -> (Vec<RelayAddr>, Vec<(String, String)>) {
    let (mut relays, mut unresolved) = (Vec::new(), Vec::new());
    for relay in given {
        match relay {
            RelayLocator::At(relay) => relays.push(relay.clone()),
            RelayLocator::Named(name) => match survey::relays(name).await {
                Ok(found) => relays.extend(found),
                Err(cause) => unresolved.push((format!("_dnsaddr.{name}"), cause)),
            },
        }
    }
    let mut seen = BTreeSet::new();
    relays.retain(|relay| seen.insert(relay.to_string()));
    (relays, unresolved)
}

/// The relays that a node was told to use. Those that tickets and peers name are asked for nothing.
fn relays_of(status: &proto::Status) -> impl Iterator<Item = RelayLocator> {
    let named = status.named_relays.iter().filter_map(|relay| relay.parse().ok());
    let wanted = status.relays.iter().filter(|relay| relay.wanted).flat_map(|relay| {
        relay
            .addresses
            .iter()
            .filter_map(|address| format!("{address}/p2p/{}", relay.relay).parse().ok())
    });
    let mut seen = BTreeSet::new();
    named.chain(wanted).filter(move |relay: &RelayLocator| seen.insert(relay.to_string()))
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::doctor::{
        diagnosis::{Check, Expectation},
        findings::{Foreign, Layer},
    };

    const DOCUMENT: &str = include_str!("../../../design/doctor.md");

    /// The examples of the document, in their order.
    fn documented() -> Vec<Value> {
        let blocks = DOCUMENT.split("```json\n").skip(1);
        blocks.map(|block| serde_json::from_str(block.split("```").next().unwrap()).unwrap()).collect()
    }

    fn keys(value: &Value) -> BTreeSet<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn what_is_printed_has_the_fields_of_the_document() {
        let check = Check {
            check: "relay",
            subject: Some("/ip4/192.0.2.1/tcp/1".to_owned()),
            verdict: Verdict::Bad,
            layer: Some(Layer::Tcp),
            found: String::new(),
            advice: Some(String::new()),
        };
        let expect = Expectation::Nobody;
        let diagnosis = Diagnosis {
            version: VERSION,
            punchline: "0",
            checks: vec![check],
            bad: 1,
            warnings: 0,
            took_ms: 1,
            expect,
        };
        let printed = serde_json::to_value(&diagnosis).unwrap();
        let documented = documented();
        assert_eq!(keys(&printed), keys(&documented[0]));
        assert_eq!(keys(&printed["checks"][0]), keys(&documented[0]["checks"][0]));
        assert_eq!(printed["expect"], documented[0]["expect"]);
        let passed = vec![(Layer::Tcp, "203.0.113.7:80 takes connections".to_owned())];
        let fault = Fault::Foreign(Foreign::Http);
        assert_eq!(reach_json("/ip4/203.0.113.7/tcp/80", &passed, Some(&fault)), documented[1]);
    }

    #[test]
    fn every_layer_and_every_expectation_is_documented() {
        let layers = [
            Layer::Name,
            Layer::Tcp,
            Layer::Quic,
            Layer::Websocket,
            Layer::Security,
            Layer::Identity,
            Layer::Protocol,
        ];
        for layer in layers {
            let row = format!("| `{}` |", serde_json::to_value(layer).unwrap().as_str().unwrap());
            assert!(DOCUMENT.contains(&row), "{row}");
        }
        for expect in [
            Expectation::DirectWithNearlyAll,
            Expectation::DirectWithMost,
            Expectation::DirectOverTcp,
            Expectation::DirectOverIpv6,
            Expectation::DirectWithSome,
            Expectation::RelayedAtLeast,
            Expectation::RelayedOverHttps,
            Expectation::Nobody,
            Expectation::NotKnown,
        ] {
            assert!(DOCUMENT.contains(&format!("`{}`", expect.name())), "{expect:?}");
        }
    }
}
