//! `punchline relay`.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use punchline_bridge::{
    addr::GlobalScope,
    error::{ListenFailure, StartError},
    relay::{Certificate, External, Rate, Relay, RelayConfig, StunListen},
};
#[cfg(feature = "kad")]
use punchline_discovery::kad::Dht;

use crate::{
    Context, Unusable, cautions, certificate,
    cli::{self, ExternalAddr, RelayListenAddr, StunAddr},
    control::{AnsweringRelay, Board, Bound, Files, Keeper, Reloader, Wellness},
    metrics::serve::{self, Subject},
    node, page, stop, supervised,
};

/// Runs a relay until the process is told to stop.
///
/// # Errors
/// If the settings make no sense, or an address cannot be listened on.
pub async fn run(settings: cli::Relay, context: Context) -> anyhow::Result<()> {
    let mut config = config(&settings)?;
    config.certificate = certificate(&settings, &config, &context)?;
    config.check().map_err(|error| Unusable(error.to_string()))?;
    if context.check {
        Bound::check(settings.control.as_ref())?;
        return crate::usable();
    }
    let (listen, external, global) =
        (config.listen.clone(), config.external.clone(), config.global.clone());
    cautions::of_root(settings.rights.allow_root);
    let faces =
        Faces::bind(settings.control.as_ref(), &settings.metrics, &settings.page, &context).await?;
    let started = Relay::start(config, context.keypair.clone()).await;
    let (relay, events) = started.map_err(|error| with_remedy(error, &listen, &external))?;
    if let External::Given(external) = &external {
        cautions::of_loopback(relay.listening(), external.iter().cloned());
    }
    let line = announcement(relay.peer_id(), relay.listening(), &external, &global);
    let lines = vec![format!("this relay is {}", relay.peer_id()), line];
    let nets = settings.nets;
    Tended {
        relay,
        events,
        nets,
        lines,
        #[cfg(feature = "kad")]
        dht: None,
    }
    .until_told(faces, context)
    .await;
    Ok(())
}

/// The sockets on which a relay answers those who look after it.
pub(crate) struct Faces {
    control: Option<Bound>,
    metrics: Option<serve::Bound>,
    page: Option<page::Bound>,
}

impl Faces {
    /// # Errors
    /// If one cannot be listened on.
    pub(crate) async fn bind(
        control: Option<&cli::ControlSocket>,
        metrics: &cli::Metrics,
        page: &cli::Page,
        context: &Context,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            control: Bound::new(control, &context.control).await?,
            metrics: serve::Bound::new(metrics).await?,
            page: page::Bound::new(page).await?,
        })
    }
}

/// A relay that runs.
pub(crate) struct Tended {
    pub(crate) relay: Relay,
    pub(crate) events: punchline_bridge::Events,
    pub(crate) nets: cli::Nets,
    /// What is said once it listens.
    pub(crate) lines: Vec<String>,
    /// What runs beside it.
    #[cfg(feature = "kad")]
    pub(crate) dht: Option<Dht>,
}

impl Tended {
    /// Answers whoever asks, reports what happens, and ends when the process is told to stop.
    pub(crate) async fn until_told(self, faces: Faces, context: Context) {
        let Self { relay, mut events, nets, lines, .. } = self;
        #[cfg(feature = "kad")]
        let dht = self.dht;
        let (handle, reporter) = (relay.handle(), context.reporter.clone());
        let keeper = Keeper::Relay(handle.clone());
        let files = Files { nets, keeper, names: context.names.clone(), reporter: reporter.clone() };
        let (reloader, reloading) = Reloader::start(files, Board::default(), stop::reloads());
        let answering = AnsweringRelay {
            relay: handle,
            command: context.command,
            #[cfg(feature = "kad")]
            dht: dht.clone(),
            reporter: reporter.clone(),
            reloader: reloader.clone(),
        };
        let _page = faces.page.map(|bound| bound.serve(answering.clone(), &reporter, &context.shown));
        let health = Wellness::Relay(relay.handle());
        let _control = faces.control.map(|bound| bound.serve(answering, health));
        reporter.say_ready(&lines);
        let telling = reporter.clone();
        let events = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                telling.report(event);
            }
        });
        let subject = Subject::Relay {
            relay: relay.handle(),
            #[cfg(feature = "kad")]
            dht: dht.clone(),
        };
        let _metrics = faces.metrics.map(|bound| bound.serve(subject, context.command, &reporter));
        let turns = async || {
            #[cfg(feature = "kad")]
            if let Some(dht) = &dht {
                dht.status().await?;
            }
            relay.turn().await.then_some(None)
        };
        tokio::select! {
            () = supervised::attend(turns) => {}
            () = stop::told() => {}
        }
        reloading.abort();
        drop(reloader);
        stop::drain(async {
            #[cfg(feature = "kad")]
            if let Some(dht) = &dht {
                dht.stop().await;
            }
            relay.shutdown().await;
            let _ = events.await;
        })
        .await;
    }
}

fn config(settings: &cli::Relay) -> Result<RelayConfig, Unusable> {
    let listen: Vec<Multiaddr> =
        cli::all(&settings.listen).into_iter().map(|RelayListenAddr(address)| address).collect();
    let external = external(&listen, &cli::all(&settings.external))?;
    Ok(RelayConfig {
        listen,
        external,
        stun: stun(&cli::all(&settings.stun_listen))?,
        global: GlobalScope::with_assumed(cli::all(&settings.assume_global)),
        ranges: node::ranges(&settings.nets)?,
        ..limited(&settings.limits)
    })
}

/// How much a relay does for whom, by its settings.
pub(crate) fn limited(settings: &cli::RelayLimits) -> RelayConfig {
    RelayConfig {
        reservations: settings.max_reservations.get(),
        reservations_per_peer: settings.max_reservations_per_peer.get(),
        reservations_per_ip: settings.max_reservations_per_ip,
        reservation_duration: std::time::Duration::from_secs(settings.reservation_seconds),
        circuits: settings.max_circuits.get(),
        circuits_per_peer: settings.max_circuits_per_peer.get(),
        circuits_per_ip: settings.max_circuits_per_ip,
        circuit_bytes: settings.circuit_bytes,
        circuit_duration: std::time::Duration::from_secs(settings.circuit_seconds),
        requests_per_peer: Rate::per_hour(settings.requests_per_peer),
        requests_per_ip: Rate::per_hour(settings.requests_per_ip),
        connections: settings.max_connections.get(),
        connections_per_ip: settings.max_connections_per_ip,
        ..RelayConfig::default()
    }
}

/// What to show on `/tls/ws`, if it listens there.
fn certificate(
    settings: &cli::Relay,
    config: &RelayConfig,
    context: &Context,
) -> Result<Option<Certificate>, Unusable> {
    let is_tls = |part| matches!(part, Protocol::Tls | Protocol::Wss(_));
    let wanted = config.listen.iter().any(|address| address.iter().any(is_tls));
    let found = match (&settings.tls_cert, &settings.tls_key) {
        (None, None) if !wanted => return Ok(None),
        (None, None) => {
            let hosts = match &config.external {
                External::Given(addresses) => addresses.as_slice(),
                External::Observed => &[],
            };
            certificate::own(&context.certificate, hosts, context.check)
        }
        (Some(_), Some(_)) if !wanted => {
            let remedy = "is of no use: no --listen ends in /tls/ws";
            return Err(Unusable(format!("--tls-cert {remedy}")));
        }
        (Some(chain), Some(key)) => certificate::given(chain, key),
        _ => Err(certificate::Fault::Half),
    };
    found.map(Some).map_err(|fault| Unusable(fault.to_string()))
}

fn external(listen: &[Multiaddr], given: &[ExternalAddr]) -> Result<External, Unusable> {
    if given.contains(&ExternalAddr::Auto) {
        if given.len() > 1 {
            return Err(Unusable("--external auto cannot be combined with addresses".to_owned()));
        }
        return Ok(External::Observed);
    }
    let given: Vec<Multiaddr> = given
        .iter()
        .filter_map(|external| match external {
            ExternalAddr::At(address) => Some(address.clone()),
            ExternalAddr::Auto => None,
        })
        .collect();
    if !given.is_empty() {
        return Ok(External::Given(given));
    }
    let named: Vec<Multiaddr> = listen.iter().filter(|address| names_a_host(address)).cloned().collect();
    if named.is_empty() {
        let remedy = "say where peers reach this relay: --external /ip4/<its public address>/tcp/<port>, \
                      or --external auto to believe what the first peers see";
        return Err(Unusable(remedy.to_owned()));
    }
    Ok(External::Given(named))
}

pub(crate) fn stun(given: &[StunAddr]) -> Result<StunListen, Unusable> {
    if given.is_empty() {
        return Ok(StunListen::Everywhere);
    }
    let addresses = given.iter().filter_map(|given| match given {
        StunAddr::At(address) => Some(*address),
        StunAddr::Off => None,
    });
    let addresses: Vec<_> = addresses.collect();
    match addresses.len() {
        0 => Ok(StunListen::Off),
        count if count == given.len() => Ok(StunListen::At(addresses)),
        _ => Err(Unusable("--stun-listen off cannot be combined with addresses".to_owned())),
    }
}

fn names_a_host(address: &Multiaddr) -> bool {
    let host = ip_of(address).is_some_and(|ip| !ip.is_unspecified());
    let port = |part| matches!(part, Protocol::Tcp(port) | Protocol::Udp(port) if port != 0);
    host && address.iter().any(port)
}

pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// Where the address to listen on is that of a NAT in front of this host, the command that works.
fn with_remedy(error: StartError, listen: &[Multiaddr], external: &External) -> anyhow::Error {
    match &error {
        StartError::Listen { address, cause: ListenFailure::NotOurs { .. } }
            if listen.contains(address) =>
        {
            let command = behind_a_nat(ip_of(address), listen, external);
            anyhow::anyhow!("{error}; if {address} is this host's address outside: {command}")
        }
        _ => error.into(),
    }
}

/// The same command, which listens on every interface instead of on the address `outside`.
fn behind_a_nat(outside: Option<IpAddr>, listen: &[Multiaddr], external: &External) -> String {
    let mut command = "punchline relay".to_owned();
    let mut add = |flag: &str, value: &dyn std::fmt::Display| command += &format!(" {flag} {value}");
    for address in listen {
        match ip_of(address) {
            ip if ip == outside => add("--listen", &everywhere(address)),
            _ => add("--listen", address),
        }
    }
    match external {
        External::Given(addresses) => {
            addresses.iter().for_each(|address| add("--external", address));
        }
        External::Observed => add("--external", &"auto"),
    }
    command
}

fn everywhere(address: &Multiaddr) -> Multiaddr {
    let part = |part| match part {
        Protocol::Ip4(_) => Protocol::Ip4(Ipv4Addr::UNSPECIFIED),
        Protocol::Ip6(_) => Protocol::Ip6(Ipv6Addr::UNSPECIFIED),
        part => part,
    };
    address.iter().map(part).collect()
}

/// What to copy to the other machines, on one line; or why that is not known.
fn announcement(
    peer: PeerId,
    listening: &[Multiaddr],
    external: &External,
    global: &GlobalScope,
) -> String {
    let usable: Vec<_> = match external {
        External::Given(addresses) => addresses.iter().collect(),
        External::Observed => {
            let is_global = |ip| global.contains(ip);
            listening.iter().filter(|address| ip_of(address).is_some_and(is_global)).collect()
        }
    };
    if !usable.is_empty() {
        let flags: String =
            usable.iter().map(|address| format!(" --relay {address}/p2p/{peer}")).collect();
        return format!("peers use:{flags}");
    }
    let after_ip = |address: &Multiaddr| address.iter().skip(1).collect::<Multiaddr>();
    let ports: BTreeSet<_> = listening.iter().map(|address| after_ip(address).to_string()).collect();
    let ports: Vec<String> = ports.into_iter().collect();
    format!(
        "this host has no public address, so where others reach it is not known here: if a router or cloud maps one to it, \
         peers use --relay /ip4/<that address>{}/p2p/{peer}",
        ports.first().map_or("/tcp/<port>", String::as_str)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use punchline_bridge::error::SystemError;

    use super::*;

    fn at(text: &str) -> Vec<Multiaddr> {
        vec![text.parse().unwrap()]
    }

    #[test]
    fn a_relay_binds_its_external_address_only_from_what_it_is_told() {
        assert!(external(&at("/ip4/0.0.0.0/tcp/4001"), &[]).unwrap_err().0.contains("--external auto"));
        assert!(external(&at("/ip4/127.0.0.1/tcp/0"), &[]).is_err(), "the port is not known yet");
        let named = at("/ip4/203.0.113.7/tcp/4001");
        assert_eq!(external(&named, &[]).unwrap(), External::Given(named.clone()));
        assert_eq!(external(&[], &[ExternalAddr::Auto]).unwrap(), External::Observed);
        let both = [ExternalAddr::Auto, ExternalAddr::At(named[0].clone())];
        assert!(external(&[], &both).is_err());
    }

    #[test]
    fn stun_is_answered_everywhere_where_it_is_said_or_nowhere() {
        let read = |given: &[&str]| {
            let given: Vec<StunAddr> = given.iter().map(|text| text.parse().unwrap()).collect();
            stun(&given)
        };
        assert_eq!(read(&[]).unwrap(), StunListen::Everywhere);
        assert_eq!(read(&["off"]).unwrap(), StunListen::Off);
        let at = read(&["203.0.113.7:3478", "[::]:5000"]).unwrap();
        let expected = ["203.0.113.7:3478", "[::]:5000"].map(|text| text.parse().unwrap());
        assert_eq!(at, StunListen::At(expected.to_vec()));
        assert!(read(&["off", "[::]:5000"]).unwrap_err().0.contains("cannot be combined"));
        assert!("3478".parse::<StunAddr>().unwrap_err().contains("say IP:PORT"));
    }

    #[test]
    fn behind_a_one_to_one_nat_the_command_that_works_is_said() {
        let [tcp, quic] = ["/ip4/203.0.113.7/tcp/4001", "/ip4/203.0.113.7/udp/4001/quic-v1"];
        let listen = [at(tcp), at(quic)].concat();
        let external = external(&listen, &[]).unwrap();
        let refused = StartError::Listen {
            address: listen[0].clone(),
            cause: ListenFailure::NotOurs { error: SystemError(99), ours: Vec::new() },
        };
        let said = with_remedy(refused, &listen, &external).to_string();
        let command = format!(
            "punchline relay --listen /ip4/0.0.0.0/tcp/4001 --listen /ip4/0.0.0.0/udp/4001/quic-v1 \
             --external {tcp} --external {quic}"
        );
        assert!(said.ends_with(&command), "{said}");
    }

    #[test]
    fn only_an_address_that_others_can_use_is_announced() {
        let (peer, global) = (PeerId::random(), GlobalScope::default());
        let listening = [at("/ip4/127.0.0.1/tcp/4001"), at("/ip4/10.0.0.5/tcp/4001")].concat();
        let said = announcement(peer, &listening, &External::Observed, &global);
        assert!(said.starts_with("this host has no public address"), "{said}");
        assert!(said.ends_with(&format!("--relay /ip4/<that address>/tcp/4001/p2p/{peer}")), "{said}");
        let public = [listening, at("/ip4/73.0.0.2/tcp/4001")].concat();
        let said = announcement(peer, &public, &External::Observed, &global);
        assert_eq!(said, format!("peers use: --relay /ip4/73.0.0.2/tcp/4001/p2p/{peer}"));
    }
}
