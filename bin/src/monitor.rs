//! `punchline monitor`: a bootstrap node of the DHT, a relay with its AutoNAT and STUN servers, and the page that shows
//! them, in one process.

use std::{
    io,
    net::{IpAddr, TcpListener, UdpSocket},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use punchline_bridge::{
    addr::GlobalScope,
    relay::{External, Relay, RelayConfig},
};
use punchline_discovery::kad::{self, Dht};
use tokio::time::{sleep, timeout};

use crate::{
    Context, Unusable, cautions, cli,
    control::Bound,
    finding::{dht, event, members},
    node,
    relay::{self, Faces, Tended},
};

/// For the DHT to say where it listens; it does at once.
const LISTENS_WITHIN: Duration = Duration::from_secs(5);

/// Between two looks whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Runs it until the process is told to stop.
///
/// # Errors
/// If the settings make no sense, or an address cannot be listened on.
pub(crate) async fn run(settings: cli::Monitor, context: Context) -> anyhow::Result<()> {
    let plan = Plan::of(&settings, &context)?;
    if context.check {
        Bound::check(settings.control.as_ref())?;
        return crate::usable();
    }
    cautions::of_root(settings.rights.allow_root);
    let Plan { mut kad, relay, namespaces } = plan;
    kad.listen = free(kad.listen)?;
    let (external, global) = (relay.external.clone(), relay.global.clone());
    let page = settings.page();
    let faces = Faces::bind(settings.control.as_ref(), &settings.metrics, &page, &context)
        .await
        .map_err(|error| error.context("the page takes another port with --web-port"))?;
    let (relay, events) = Relay::start(relay, context.keypair.clone()).await?;
    let told = kad.external.clone();
    let dht = Dht::start(kad)?;
    tokio::spawn(event::tell_all(dht.events(), context.reporter.clone()));
    for namespace in namespaces {
        dht.watch(namespace).await;
    }
    let dht_at = if told.is_empty() { listening(&dht, relay.listening()).await } else { told };
    let relay_at = match &external {
        External::Given(addresses) => addresses.clone(),
        External::Observed => relay.listening().to_vec(),
    };
    let peer = relay.peer_id();
    let lines = announcement(peer, &dht_at, &relay_at, &global);
    Tended { relay, events, nets: settings.nets, lines, dht: Some(dht) }
        .until_told(faces, context)
        .await;
    Ok(())
}

/// What its parts are to do.
struct Plan {
    kad: kad::Config,
    relay: RelayConfig,
    namespaces: Vec<punchline_discovery::keys::Namespace>,
}

impl Plan {
    fn of(settings: &cli::Monitor, context: &Context) -> Result<Self, Unusable> {
        let (port, relay_port) = (settings.port, settings.relay_port());
        if port == relay_port && port != 0 {
            let remedy = "the DHT and the relay listen each on its own";
            return Err(Unusable(format!("--port and --relay-port are both {port}; {remedy}")));
        }
        let ips = cli::all(&settings.listen_addr);
        let ranges = node::ranges(&settings.nets)?;
        let global = GlobalScope::with_assumed(cli::all(&settings.assume_global));
        let outside = outside(&ips, cli::all(&settings.external));
        let relay = RelayConfig {
            listen: ips.iter().flat_map(|ip| both(*ip, relay_port)).collect(),
            external: match outside.is_empty() || relay_port == 0 {
                true => External::Observed,
                false => {
                    External::Given(outside.iter().flat_map(|at| both(at.ip, relay_port)).collect())
                }
            },
            stun: relay::stun(&cli::all(&settings.stun_listen))?,
            global: global.clone(),
            ranges: ranges.clone(),
            ..relay::limited(&settings.limits)
        };
        relay.check().map_err(|error| Unusable(error.to_string()))?;
        let of = |at: &cli::Outside| match &at.dht {
            Some(address) => vec![address.clone()],
            None if port == 0 => Vec::new(),
            None => both(at.ip, port),
        };
        let network = dht::network(&settings.dht_network)?;
        let names = cli::all(&settings.namespace);
        let namespaces = members::Space::public(network.clone()).namespaces(&names)?;
        let kad = dht::server(
            dht::Place {
                listen: ips.iter().flat_map(|ip| both(*ip, port)).collect(),
                external: outside.iter().flat_map(of).collect(),
                bootstrap: cli::all(&settings.bootstrap),
                network,
                policy: dht::policy(global, ranges),
            },
            context,
        );
        Ok(Self { kad, relay, namespaces })
    }
}

/// Where it is reached by the settings: what they say, or else the addresses that it is to listen on, if they are of a host.
fn outside(ips: &[IpAddr], said: Vec<cli::Outside>) -> Vec<cli::Outside> {
    if !said.is_empty() {
        return said;
    }
    let of_a_host = ips.iter().filter(|ip| !ip.is_unspecified());
    of_a_host.map(|ip| cli::Outside { ip: *ip, dht: None }).collect()
}

/// The port over TCP and QUIC.
fn both(ip: IpAddr, port: u16) -> Vec<Multiaddr> {
    let over = |part: Protocol<'static>| Multiaddr::from(ip).with(part);
    vec![over(Protocol::Tcp(port)), over(Protocol::Udp(port)).with(Protocol::QuicV1)]
}

/// Those of the addresses whose ports can be had. WireGuard takes this one over UDP: then nodes begin over TCP.
fn free(listen: Vec<Multiaddr>) -> anyhow::Result<Vec<Multiaddr>> {
    let mut free = Vec::new();
    for address in listen {
        let Some(ip) = relay::ip_of(&address) else { continue };
        match address.iter().nth(1) {
            Some(Protocol::Tcp(port)) => {
                if let Err(cause) = try_tcp(ip, port) {
                    anyhow::bail!("cannot listen on {address}: {cause}; take another port with --port");
                }
            }
            Some(Protocol::Udp(port)) => {
                if let Err(cause) = UdpSocket::bind((ip, port)) {
                    tracing::warn!(
                        "cannot listen on {address}: {cause}; most likely WireGuard has the port. Nodes begin over TCP; \
                         --port takes another one"
                    );
                    continue;
                }
            }
            _ => {}
        }
        free.push(address);
    }
    Ok(free)
}

/// As the DHT will.
fn try_tcp(ip: IpAddr, port: u16) -> io::Result<()> {
    TcpListener::bind((ip, port)).map(drop)
}

/// Where the DHT listens, once it does over TCP at as many addresses as the relay, which listens at the same ones.
async fn listening(dht: &Dht, relay: &[Multiaddr]) -> Vec<Multiaddr> {
    let tcp = |all: &[Multiaddr]| {
        all.iter().filter(|at| matches!(at.iter().nth(1), Some(Protocol::Tcp(_)))).count()
    };
    let mut found = Vec::new();
    let all = async {
        while let Some(status) = dht.status().await {
            found = status.listening;
            if tcp(&found) >= tcp(relay) {
                return;
            }
            sleep(LOOK_AGAIN).await;
        }
    };
    let _ = timeout(LISTENS_WITHIN, all).await;
    found
}

/// What others have to type.
fn announcement(
    peer: PeerId,
    dht: &[Multiaddr],
    relay: &[Multiaddr],
    global: &GlobalScope,
) -> Vec<String> {
    let scope = |address: &Multiaddr| match relay::ip_of(address) {
        Some(ip) if global.contains(ip) => Scope::Anybody,
        Some(ip) if ip.is_loopback() => Scope::ThisHost,
        _ => Scope::Nearby,
    };
    let widest = dht.iter().chain(relay).map(scope).min().unwrap_or(Scope::ThisHost);
    let flags = |flag: &str, all: &[Multiaddr]| -> String {
        let usable = all.iter().filter(|address| scope(address) == widest);
        let mut usable: Vec<String> =
            usable.map(|address| format!(" {flag} {address}/p2p/{peer}")).collect();
        // They are heard of in any order; TCP comes first.
        usable.sort_unstable();
        usable.concat()
    };
    let mut lines = vec![
        format!("this monitor is {peer}"),
        format!("nodes use:{}{}", flags("--bootstrap", dht), flags("--relay", relay)),
    ];
    lines.extend(match widest {
        Scope::Anybody => None,
        Scope::Nearby => Some(
            "this host has no public address: the line is for hosts of its own network. If a router forwards these ports, say \
             where others reach them, with --external IP"
                .to_owned(),
        ),
        Scope::ThisHost => Some("the line is for programs on this host alone".to_owned()),
    });
    lines
}

/// Who reaches an address, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Anybody,
    Nearby,
    ThisHost,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> Vec<Multiaddr> {
        text.split_whitespace().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn others_are_told_the_public_addresses_or_else_those_nearby_and_why() {
        let (peer, global) = (PeerId::random(), GlobalScope::default());
        let line = |dht: &str, relay: &str| announcement(peer, &at(dht), &at(relay), &global);
        let everywhere = line(
            "/ip4/127.0.0.1/tcp/51820 /ip4/192.168.1.5/tcp/51820 /ip4/9.9.9.9/tcp/51820",
            "/ip4/127.0.0.1/tcp/51821 /ip4/9.9.9.9/tcp/51821",
        );
        let expected = format!(
            "nodes use: --bootstrap /ip4/9.9.9.9/tcp/51820/p2p/{peer} --relay /ip4/9.9.9.9/tcp/51821/p2p/{peer}"
        );
        assert_eq!((&everywhere[1], everywhere.len()), (&expected, 2));
        let home = line("/ip4/127.0.0.1/tcp/1 /ip4/192.168.1.5/tcp/1", "/ip4/192.168.1.5/tcp/2");
        assert!(home[1].contains("--bootstrap /ip4/192.168.1.5/tcp/1/p2p/"), "{home:?}");
        assert!(!home[1].contains("127.0.0.1") && home[2].contains("--external IP"), "{home:?}");
        assert!(line("/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2")[2].contains("this host alone"));
    }

    #[test]
    fn where_udp_is_taken_nodes_begin_over_tcp_and_where_tcp_is_another_port_is_asked_for() {
        let ip: IpAddr = "127.0.0.1".parse().unwrap();
        let wireguard = UdpSocket::bind((ip, 0)).unwrap();
        let port = wireguard.local_addr().unwrap().port();
        assert_eq!(free(both(ip, port)).unwrap(), at(&format!("/ip4/127.0.0.1/tcp/{port}")));
        let other = TcpListener::bind((ip, 0)).unwrap();
        let error = free(both(ip, other.local_addr().unwrap().port())).unwrap_err().to_string();
        assert!(error.contains("--port"), "{error}");
    }

    #[test]
    fn addresses_to_listen_on_are_those_outside_unless_others_are_said() {
        let named = |text: &str| text.parse::<cli::Outside>().unwrap();
        let any: IpAddr = "0.0.0.0".parse().unwrap();
        let own: IpAddr = "203.0.113.7".parse().unwrap();
        assert_eq!(outside(&[any], Vec::new()), []);
        assert_eq!(outside(&[own, any], Vec::new()), [named("203.0.113.7")]);
        assert_eq!(outside(&[own], vec![named("203.0.113.9")]), [named("203.0.113.9")]);
    }
}
