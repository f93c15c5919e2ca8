//! What server and client have in common: a bridge endpoint, its reservations, its events.

use punchline_bridge::{Config, Endpoint, RelayAddr, addr, addr::GlobalScope};
use tokio::task::JoinHandle;

use crate::{Context, Unusable, cli};

/// A started node.
pub struct Node {
    /// Its face.
    pub endpoint: Endpoint,
    /// The relays it was given.
    pub relays: Vec<RelayAddr>,
    events: JoinHandle<()>,
}

/// The service that Kaspa sessions are opened for.
pub const KASPA_SERVICE: &str = "kaspa-p2p";

impl Node {
    /// Starts an endpoint and reports its events. `None` if only the settings were to be checked.
    ///
    /// # Errors
    /// If the settings make no sense, or an address cannot be listened on.
    pub async fn start(settings: &cli::Node, context: &Context) -> anyhow::Result<Option<Self>> {
        let (listen, reserve) = split_listen(cli::all(&settings.listen))?;
        let mut relays = cli::all(&settings.relay);
        relays.extend(reserve.iter().cloned());
        if context.check {
            crate::print_line("the settings are usable")?;
            return Ok(None);
        }
        let global = GlobalScope::with_assumed(cli::all(&settings.assume_global));
        let config = Config { listen, global, ..Config::default() };
        let (endpoint, mut events) = Endpoint::start(config, context.keypair.clone()).await?;
        let reporter = context.reporter.clone();
        let events = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                reporter.report(event);
            }
        });
        for relay in reserve {
            endpoint.reserve(relay).await;
        }
        Ok(Some(Self { endpoint, relays, events }))
    }

    /// Closes the endpoint; its last event is reported when this returns.
    pub async fn shutdown(self) {
        self.endpoint.shutdown().await;
        drop(self.endpoint);
        let _ = self.events.await;
    }
}

/// A circuit address to "listen" on means: reserve there.
fn split_listen(
    addresses: Vec<libp2p::Multiaddr>,
) -> Result<(Vec<libp2p::Multiaddr>, Vec<RelayAddr>), Unusable> {
    let mut listen = Vec::new();
    let mut reserve = Vec::new();
    for address in addresses {
        match addr::split_circuit(&address) {
            Ok(Some((relay, _))) => reserve.push(relay),
            Ok(None) => listen.push(address),
            Err(error) => return Err(Unusable(format!("--listen {address}: {error}"))),
        }
    }
    Ok((listen, reserve))
}
