//! A Kaspa session, as the two nodes that have it see it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt as _;
use punchline_tests::kaspad::{Kaspad, Peer, eventually};
use tokio::try_join;

/// The one session between two nodes. A node counts it by the TCP connection, whose ends the
/// entries therefore name: it is the same session while they stay.
pub(crate) struct Session<'nodes> {
    dialler: End<'nodes>,
    acceptor: End<'nodes>,
}

/// One of the two nodes of a session.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    /// That dialled; its sidecar opened the stream.
    Dialler,
    /// That was dialled.
    Acceptor,
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Dialler => "dialler",
            Self::Acceptor => "acceptor",
        })
    }
}

struct End<'nodes> {
    node: &'nodes Kaspad,
    peer: Peer,
}

impl<'nodes> Session<'nodes> {
    /// Has `dialler` dial `address`, once, and waits until it and `acceptor` have shaken hands.
    pub(crate) async fn dial(
        dialler: &'nodes Kaspad,
        address: SocketAddr,
        acceptor: &'nodes Kaspad,
    ) -> Result<Self> {
        dialler.rpc().add_peer(address, false).await?;
        Self::between(dialler, address, acceptor, HANDSHAKE_DEADLINE).await
    }

    /// Waits until `dialler`, which dials `address`, and `acceptor` have shaken hands.
    pub(crate) async fn between(
        dialler: &'nodes Kaspad,
        address: SocketAddr,
        acceptor: &'nodes Kaspad,
        deadline: Duration,
    ) -> Result<Self> {
        let ids = try_join!(dialler.rpc().id(), acceptor.rpc().id())?;
        let (dialler, acceptor) =
            try_join!(End::of(dialler, &ids.1, deadline), End::of(acceptor, &ids.0, deadline))?;
        let [near, far] = [&dialler.peer, &acceptor.peer];
        ensure!(near.outbound && near.address == address, "the dialler sees {near:?}");
        ensure!(!far.outbound, "the acceptor sees {far:?}");
        for peer in [near, far] {
            ensure!(peer.protocol_version == PROTOCOL_VERSION, "{peer:?}");
        }
        Ok(Self { dialler, acceptor })
    }

    /// Where the accepting node sees the dialling one.
    pub(crate) fn source(&self) -> SocketAddr {
        self.acceptor.peer.address
    }

    /// Whether it is still the session that it was, and neither node ever lost a peer.
    pub(crate) async fn lives(&mut self) -> Result<()> {
        self.dialler.lives().await?;
        self.acceptor.lives().await
    }

    /// Mines on either node, and waits until the other has the same blocks.
    pub(crate) async fn carries_blocks(&self) -> Result<()> {
        self.carries_blocks_of(Side::Acceptor).await?;
        self.carries_blocks_of(Side::Dialler).await
    }

    /// Mines on one node, and waits until the other has the same blocks.
    pub(crate) async fn carries_blocks_of(&self, miner: Side) -> Result<()> {
        let (dialler, acceptor) = (self.dialler.node, self.acceptor.node);
        match miner {
            Side::Acceptor => blocks_arrive(acceptor, &[dialler]).await,
            Side::Dialler => blocks_arrive(dialler, &[acceptor]).await,
        }
    }

    /// Waits until each node has had the answer to a ping of its own.
    pub(crate) async fn pings(&self, deadline: Duration) -> Result<()> {
        let pinged = ["Successful ping with peer"];
        try_join!(
            self.dialler.node.wait_for_line(&pinged, deadline),
            self.acceptor.node.wait_for_line(&pinged, deadline),
        )?;
        Ok(())
    }

    /// How long it has been there, as the node that knows it for less time says.
    pub(crate) fn age(&self) -> Duration {
        self.dialler.peer.connected.min(self.acceptor.peer.connected)
    }

    /// Waits until both nodes have noticed that it is over, one of its sidecars having been replaced.
    pub(crate) async fn ends(&self) -> Result<()> {
        for End { node, peer } in [&self.dialler, &self.acceptor] {
            let gone = async || {
                let peers = node.rpc().peers().await?;
                Ok(peers.iter().all(|other| other.address != peer.address).then_some(()))
            };
            eventually(format!("the end at {}", node.p2p()), END_DEADLINE, gone).await?;
        }
        Ok(())
    }
}

impl<'nodes> End<'nodes> {
    /// Waits until `node` has the peer called `id`.
    async fn of(node: &'nodes Kaspad, id: &str, deadline: Duration) -> Result<Self> {
        let peer = eventually(format!("a handshake at {}", node.p2p()), deadline, async || {
            Ok(node.rpc().peers().await?.into_iter().find(|peer| peer.id == id))
        });
        let peer = peer.await?;
        let said = ["Connected to", &peer.address.to_string()].map(str::to_owned);
        node.wait_for_line(&said.each_ref().map(String::as_str), HANDSHAKE_DEADLINE).await?;
        Ok(Self { node, peer })
    }

    async fn lives(&mut self) -> Result<()> {
        let same = |peer: &Peer| {
            let peer = (&peer.id, peer.address, peer.outbound);
            peer == (&self.peer.id, self.peer.address, self.peer.outbound)
        };
        let peers = self.node.rpc().peers().await?;
        let now = peers.iter().find(|peer| same(peer));
        let now = now.with_context(|| format!("{:?} is gone; there are {peers:?}", self.peer))?;
        ensure!(now.connected > self.peer.connected, "no longer {:?}, but {now:?}", self.peer);
        let lost = self.node.lines_with(&LOSSES);
        ensure!(lost.is_empty(), "{lost:?}");
        self.peer = now.clone();
        Ok(())
    }
}

/// Mines on `miner`, and waits until all of `others` have the same blocks as it.
pub(crate) async fn blocks_arrive(miner: &Kaspad, others: &[&Kaspad]) -> Result<()> {
    let before = miner.rpc().dag().await?.blocks;
    miner.rpc().mine(BLOCKS).await?;
    let mined = miner.rpc().dag().await?;
    ensure!(mined.blocks == before + BLOCKS, "{BLOCKS} blocks mined after {before}: {mined:?}");
    for other in others {
        let mut further =
            tokio::time::interval_at(tokio::time::Instant::now() + FURTHER_BLOCK, FURTHER_BLOCK);
        // A node counts a block before it has built upon it, so what the miner says is asked for again.
        let arrived = async || {
            if further.tick().now_or_never().is_some() {
                miner.rpc().mine(1).await?;
            }
            let (mined, there) = try_join!(miner.rpc().dag(), other.rpc().dag())?;
            Ok((there == mined && there.blocks >= before + BLOCKS).then_some(()))
        };
        let what = format!("{BLOCKS} blocks at {}", other.p2p());
        eventually(what, BLOCKS_DEADLINE, arrived).await?;
    }
    Ok(())
}

/// The one that kaspad 2.1.0 speaks with its like.
const PROTOCOL_VERSION: u32 = 11;

/// Enough that the nodes have to relay, and not only to synchronise once.
const BLOCKS: u64 = 25;

/// What a node prints when it has lost a peer, or refused one.
const LOSSES: [&str; 7] = [
    "incoming stream ended",
    "network error",
    "route error",
    "got reject message",
    "handshake failed",
    "disconnecting from peer",
    "removing peer",
];

/// A node gives a handshake 4 s for the versions and 8 s to be ready.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(20);

/// A sidecar that was started again knows no old streams, and says so to whoever asks.
const END_DEADLINE: Duration = Duration::from_secs(20);

/// Kaspad 2.1.0 may leave blocks aside that came before their parents, all of them being there, until another block
/// comes; as in any network that mines, one does.
const FURTHER_BLOCK: Duration = Duration::from_secs(4);

/// For a stream that first has to notice that its path is dead, which takes 20 s at most.
const BLOCKS_DEADLINE: Duration = Duration::from_secs(30);
