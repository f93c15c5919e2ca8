//! `punchline relay`.

use libp2p::{Multiaddr, multiaddr::Protocol};
use punchline_bridge::{
    addr::GlobalScope,
    relay::{External, Rate, Relay, RelayConfig},
};

use crate::{
    Context, Unusable,
    cli::{self, ExternalAddr, ListenAddr},
    stop,
};

/// Runs a relay until the process is told to stop.
///
/// # Errors
/// If the settings make no sense, or an address cannot be listened on.
pub async fn run(settings: cli::Relay, context: Context) -> anyhow::Result<()> {
    let config = config(&settings)?;
    config.check().map_err(|error| Unusable(error.to_string()))?;
    if context.check {
        return crate::usable();
    }
    let external = config.external.clone();
    let (relay, mut events) = Relay::start(config, context.keypair).await?;
    announce(&relay, &external);
    let reporter = context.reporter.clone();
    let events = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            reporter.report(event);
        }
    });
    stop::told().await;
    stop::drain(async {
        relay.shutdown().await;
        let _ = events.await;
    })
    .await;
    Ok(())
}

fn config(settings: &cli::Relay) -> Result<RelayConfig, Unusable> {
    let listen = listen(cli::all(&settings.listen))?;
    let external = external(&listen, &cli::all(&settings.external))?;
    Ok(RelayConfig {
        listen,
        external,
        global: GlobalScope::with_assumed(cli::all(&settings.assume_global)),
        reservations: settings.max_reservations.get(),
        reservations_per_peer: settings.max_reservations_per_peer.get(),
        reservation_duration: std::time::Duration::from_secs(settings.reservation_seconds),
        circuits: settings.max_circuits.get(),
        circuits_per_peer: settings.max_circuits_per_peer.get(),
        circuit_bytes: settings.circuit_bytes,
        circuit_duration: std::time::Duration::from_secs(settings.circuit_seconds),
        requests_per_peer: Rate::per_hour(settings.requests_per_peer),
        requests_per_ip: Rate::per_hour(settings.requests_per_ip),
        connections: settings.max_connections.get(),
        ..RelayConfig::default()
    })
}

fn listen(given: Vec<ListenAddr>) -> Result<Vec<Multiaddr>, Unusable> {
    let each = given.into_iter().map(|address| match address {
        ListenAddr::At(address) => Ok(address),
        ListenAddr::Reserve(relay) => Err(Unusable(format!(
            "--listen {}: a relay must be reached directly; give an address of this machine",
            relay.circuit()
        ))),
    });
    each.collect()
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

fn names_a_host(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let host = match parts.next() {
        Some(Protocol::Ip4(ip)) => !ip.is_unspecified(),
        Some(Protocol::Ip6(ip)) => !ip.is_unspecified(),
        _ => false,
    };
    let port = parts.any(|part| matches!(part, Protocol::Tcp(port) | Protocol::Udp(port) if port != 0));
    host && port
}

/// What to copy to the other machines.
fn announce(relay: &Relay, external: &External) {
    let addresses = match external {
        External::Given(addresses) => addresses.as_slice(),
        External::Observed => relay.listening(),
    };
    for address in addresses {
        tracing::info!("peers use: --relay {address}/p2p/{}", relay.peer_id());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
}
