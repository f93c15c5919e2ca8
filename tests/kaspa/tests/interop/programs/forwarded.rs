//! A stock peer dials `punchline server` through `punchline forward`.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use kaspa_p2p_lib::ConnectionError;
use punchline_kaspa_tests::{Demands, Manners, Peer, journal};
use punchline_tests::process::{Event, Program};

use super::{World, talks};
use crate::world::{NETWORK, Place, SOON, soon};

/// A server, the way to it, and a peer of it.
struct Scene {
    _world: World,
    server: Program,
    _forward: Program,
    local: SocketAddr,
    peer: Peer,
}

impl Scene {
    async fn start(manners: Manners) -> Result<Self> {
        let world = World::new().await?;
        let server = world.server().await?;
        let (forward, local) = world.forward().await?;
        let peer = Place::new().theirs(manners).await?;
        Ok(Self { _world: world, server, _forward: forward, local, peer })
    }

    /// Dials, in vain: what the server says of it, and what upstream does.
    async fn parts(&self) -> Result<(String, String)> {
        let mark = self.server.mark();
        let parted = match soon(self.peer.dial(self.local)).await? {
            Err(ConnectionError::ProtocolError(error)) => error.to_string(),
            other => bail!("not refused in a handshake: {other:?}"),
        };
        let failed = self.server.wait_for_after(mark, "handshake_failed", |_| true, SOON).await?;
        Ok((failed.text("reason").unwrap_or_default().to_owned(), parted))
    }

    /// Dials as `manners`, which the server refuses saying `text`.
    async fn is_refused(&self, manners: Manners, text: &str) -> Result<()> {
        self.peer.behave(manners);
        let (said, parted) = self.parts().await?;
        assert_eq!(said, format!("we rejected the peer: {text}"));
        assert_eq!(parted, "peer connection is closed");
        let name = format!("peer: {}", self.local);
        journal::line(&[&format!("got reject message: {text} from {name}")]).await?;
        Ok(())
    }

    /// Dials with `demands`, which the server does not meet; `text` is upstream's, `heard` the server's.
    async fn refuses(&self, demands: Demands, text: &str, heard: &str) -> Result<()> {
        self.peer.behave(Manners { demands, ..Manners::tolerant(NETWORK) });
        let (said, parted) = self.parts().await?;
        assert_eq!(said, format!("the peer rejected us: {heard}"));
        assert!(parted.contains(text), "{parted}");
        Ok(())
    }
}

fn of_stock_peer(event: &Event, protocol_version: u64) -> bool {
    event.text("user_agent").is_some_and(|agent| agent.starts_with("/kaspad:2.1.0/"))
        && event.number("protocol_version") == Some(protocol_version)
        && event.has("network", NETWORK)
}

#[tokio::test]
async fn a_stock_peer_is_in_session_with_the_server_through_forward_and_may_come_again() -> Result<()> {
    let mut scene = Scene::start(Manners::stock(NETWORK)).await?;
    for protocol_version in [11, 10] {
        let mark = scene.server.mark();
        scene.peer.behave(Manners { protocol_version, ..Manners::stock(NETWORK) });
        let server = soon(scene.peer.dial(scene.local)).await??;
        let ready = |event: &Event| of_stock_peer(event, protocol_version.into());
        scene.server.wait_for_after(mark, "session_ready", ready, SOON).await?;
        let seen = scene.peer.one_active_peer().await?;
        assert!(seen.is_outbound() && seen.properties().user_agent.starts_with("/punchline:"));
        assert_eq!(seen.properties().protocol_version, protocol_version);
        talks(&mut scene.peer, server).await?;

        scene.peer.leave(server).await;
        scene.peer.nobody_active().await?;
        scene.server.wait_for_after(mark, "session_ended", |_| true, SOON).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_server_refuses_a_stock_peer_through_forward_and_both_say_why() -> Result<()> {
    let mut scene = Scene::start(Manners::tolerant(NETWORK)).await?;
    let first = soon(scene.peer.dial(scene.local)).await??;
    let server = scene.peer.one_active_peer().await?.identity().0;

    let network = Manners { network: "kaspa-devnet".into(), ..Manners::tolerant(NETWORK) };
    let text = "wrong network: ours is kaspa-simnet, yours is kaspa-devnet";
    scene.is_refused(network, text).await?;
    let version = Manners { protocol_version: 9, ..Manners::tolerant(NETWORK) };
    let text = "protocol version mismatch: ours is 11, yours is 9";
    scene.is_refused(version, text).await?;
    scene
        .is_refused(Manners { id: server, ..Manners::tolerant(NETWORK) }, "LOOPBACK_CONNECTION")
        .await?;

    // The first session is none the worse for it.
    talks(&mut scene.peer, first).await
}

#[tokio::test]
async fn the_server_refuses_a_second_session_through_forward_and_keeps_the_first() -> Result<()> {
    let manners = Manners::tolerant(NETWORK);
    let mut scene = Scene::start(manners.clone()).await?;
    let first = soon(scene.peer.dial(scene.local)).await??;
    scene.peer.one_active_peer().await?;
    scene.is_refused(manners, "DUPLICATE_CONNECTION").await?;
    talks(&mut scene.peer, first).await
}

#[tokio::test]
async fn a_stock_peer_refuses_the_server_through_forward_and_both_say_why() -> Result<()> {
    let mut scene = Scene::start(Manners::tolerant(NETWORK)).await?;
    let first = soon(scene.peer.dial(scene.local)).await??;
    let server = scene.peer.one_active_peer().await?.identity().0;

    let network = Demands { network: Some("kaspa-devnet".into()), ..Demands::none() };
    let text = "Network mismatch - local: kaspa-devnet, remote: kaspa-simnet";
    scene.refuses(network, text, text).await?;
    let version = Demands { protocol_version: Some(12), ..Demands::none() };
    let text = "P2P protocol version mismatch - local: 12, remote: 11";
    scene.refuses(version, text, text).await?;
    let other = Demands { other_than: Some(server), ..Demands::none() };
    scene.refuses(other, "loopback connection", "LOOPBACK_CONNECTION").await?;
    let once = Demands { once: true, ..Demands::none() };
    scene.refuses(once, "already exists", "DUPLICATE_CONNECTION").await?;

    talks(&mut scene.peer, first).await
}
