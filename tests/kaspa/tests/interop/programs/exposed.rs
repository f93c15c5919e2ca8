//! `punchline client` dials a stock peer through `punchline expose`.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use punchline_kaspa_tests::{Demands, Manners, Peer, journal};
use punchline_tests::process::{Event, Program};

use super::{World, talks};
use crate::world::{NETWORK, Place, SOON};

/// A peer, and the way to it.
struct Scene {
    world: World,
    _expose: Program,
    peer: Peer,
}

impl Scene {
    async fn start(manners: Manners) -> Result<Self> {
        let world = World::new().await?;
        let peer = Place::new().theirs(manners).await?;
        let expose = world.expose(peer.address()).await?;
        Ok(Self { world, _expose: expose, peer })
    }

    /// A client, in session.
    async fn client(&self) -> Result<Program> {
        let client = self.world.client().await?;
        client.wait_for("session_ready", |_| true, SOON).await?;
        Ok(client)
    }

    /// What a client says that is refused: its event, and its last words.
    async fn parts(&self) -> Result<String> {
        let mut client = self.world.client().await?;
        let failed = client.wait_for("handshake_failed", |_| true, SOON).await?;
        let status = client.wait(SOON).await?;
        ensure!(status.code() == Some(1), "{status}, {}", client.report());
        let reason = failed.text("reason").unwrap_or_default().to_owned();
        ensure!(client.report().contains(&format!("error: {reason}")), "{}", client.report());
        Ok(reason)
    }

    /// A client refuses the peer of these manners, saying `text`. To the peer, it comes from `source`.
    async fn is_refused(&self, manners: Manners, text: &str, source: IpAddr) -> Result<()> {
        self.peer.behave(manners);
        assert_eq!(self.parts().await?, format!("we rejected the peer: {text}"));
        journal::line(&[&format!("got reject message: {text} from peer: {source}:")]).await?;
        Ok(())
    }

    /// The peer refuses a client, saying `text`; the client understands `heard`.
    async fn refuses(&self, demands: Demands, text: &str, heard: &str, source: IpAddr) -> Result<()> {
        self.peer.behave(Manners { demands, ..Manners::tolerant(NETWORK) });
        assert_eq!(self.parts().await?, format!("the peer rejected us: {heard}"));
        let failed = format!("handshake failed for inbound peer {source}:");
        journal::line(&[&failed, text]).await?;
        Ok(())
    }
}

#[tokio::test]
async fn the_client_is_in_session_with_a_stock_peer_through_expose_and_comes_again() -> Result<()> {
    let mut scene = Scene::start(Manners::stock(NETWORK)).await?;
    let mut sources = Vec::new();
    let client = scene.client().await?;
    for protocol_version in [11, 10] {
        let mark = client.mark();
        let seen = scene.peer.one_active_peer().await?;
        assert!(!seen.is_outbound() && seen.properties().user_agent.starts_with("/punchline:"));
        assert_eq!(seen.properties().advertised_protocol_version, 11);
        sources.push(seen.net_address().ip());
        talks(&mut scene.peer, seen.key()).await?;

        scene.peer.behave(Manners { protocol_version, ..Manners::stock(NETWORK) });
        scene.peer.leave(seen.key()).await;
        client.wait_for_after(mark, "session_ended", |_| true, SOON).await?;
        let agreed = |event: &Event| event.number("protocol_version") == Some(protocol_version.into());
        client.wait_for_after(mark, "session_ready", agreed, SOON).await?;
    }
    // One address for one far peer, and not the one that programs of this machine come from.
    assert_eq!(sources[0], sources[1]);
    assert!(sources[0].is_loopback() && sources[0] != IpAddr::V4(Ipv4Addr::LOCALHOST));
    Ok(())
}

#[tokio::test]
async fn the_client_refuses_a_stock_peer_through_expose_and_both_say_why() -> Result<()> {
    let scene = Scene::start(Manners::tolerant(NETWORK)).await?;
    let mut first = scene.client().await?;
    let seen = scene.peer.one_active_peer().await?;
    let (client, source) = (seen.identity().0, seen.net_address().ip());
    first.terminate(SOON).await?;

    let network = Manners { network: "kaspa-devnet".into(), ..Manners::tolerant(NETWORK) };
    let text = "wrong network: ours is kaspa-simnet, yours is kaspa-devnet";
    scene.is_refused(network, text, source).await?;
    let version = Manners { protocol_version: 9, ..Manners::tolerant(NETWORK) };
    let text = "protocol version mismatch: ours is 11, yours is 9";
    scene.is_refused(version, text, source).await?;
    let same = Manners { id: client, ..Manners::tolerant(NETWORK) };
    scene.is_refused(same, "LOOPBACK_CONNECTION", source).await
}

#[tokio::test]
async fn a_stock_peer_refuses_the_client_through_expose_and_both_say_why() -> Result<()> {
    let mut scene = Scene::start(Manners::tolerant(NETWORK)).await?;
    let first = scene.client().await?;
    let seen = scene.peer.one_active_peer().await?;
    let (client, source) = (seen.identity().0, seen.net_address().ip());

    // A second process of the same identity, beside the first.
    let once = Demands { once: true, ..Demands::none() };
    scene.refuses(once, "already exists", "DUPLICATE_CONNECTION", source).await?;
    let network = Demands { network: Some("kaspa-devnet".into()), ..Demands::none() };
    let text = "Network mismatch - local: kaspa-devnet, remote: kaspa-simnet";
    scene.refuses(network, text, text, source).await?;
    let version = Demands { protocol_version: Some(12), ..Demands::none() };
    let text = "P2P protocol version mismatch - local: 12, remote: 11";
    scene.refuses(version, text, text, source).await?;
    let other = Demands { other_than: Some(client), ..Demands::none() };
    scene.refuses(other, "loopback connection", "LOOPBACK_CONNECTION", source).await?;

    talks(&mut scene.peer, seen.key()).await?;
    ensure!(!first.events().iter().any(|event| event.name() == "session_ended"), "{}", first.report());
    Ok(())
}
