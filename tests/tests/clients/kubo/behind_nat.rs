//! In the lab: Kubo behind a NAT, a node of ours behind another one.

use anyhow::{Context as _, Result};
use futures::{FutureExt as _, future::LocalBoxFuture};
use punchline_tests::{
    lab::{LabSpec, Namespace, Nat},
    process::{Event, Launch, Program},
    scene::{Scene, Transport},
};
use tempfile::TempDir;

use super::{Key, Kubo, client_of, relayed};
use crate::world::{ANY, SOON, id};

/// Kubo dials, so we begin.
pub(super) fn reaches_us(transport: Transport) -> LocalBoxFuture<'static, Result<()>> {
    async move {
        let stage = Stage::set(transport).await?;
        let server = stage.scene.start_server().await?;
        let kubo = &stage.kubo;
        let met = async {
            kubo.connect(&format!("{}/p2p-circuit/p2p/{}", stage.relay(), stage.scene.server_id))
                .await?;
            stage.direct(&server, &stage.scene.server_id).await
        };
        met.await.with_context(|| stage.report(&server))
    }
    .boxed_local()
}

/// We dial, so Kubo begins.
pub(super) fn is_reached(transport: Transport) -> LocalBoxFuture<'static, Result<()>> {
    async move {
        let stage = Stage::set(transport).await?;
        let identities = tempfile::tempdir()?;
        let forward = Launch::punchline(stage.scene.lab.host(0), "forward")?
            .args(["--identity".as_ref(), identities.path().join("forward").as_os_str()])
            .args(["--listen", &everywhere(transport, 0), "--relay", &stage.relay()])
            .args(["--peer", &stage.kubo.peer, "--service", "any", "--local", ANY])
            .spawn()?;
        let peer = id(&identities, "forward").await?;
        stage.direct(&forward, &peer).await.with_context(|| stage.report(&forward))
    }
    .boxed_local()
}

/// Kubo behind a router, with a place at our relay, and sure of its address.
struct Stage {
    transport: Transport,
    scene: Scene,
    kubo: Kubo,
    relay: Program,
    _observers: Vec<Program>,
    _identities: TempDir,
}

impl Stage {
    async fn set(transport: Transport) -> Result<Self> {
        let nats = [Nat::PortPreserving, Nat::PortPreserving, Nat::Open, Nat::Open];
        let scene = Scene::prepare(&LabSpec::new(nats), transport).await?;
        let relay = scene.start_relay().await?;
        let identities = tempfile::tempdir()?;
        let kubo = Kubo::start(
            scene.lab.host(1).into(),
            Key::Ed25519,
            &everywhere(transport, PORT),
            false,
            client_of(&scene.relay_address()),
        )
        .await?;
        // go-libp2p believes four that see it at one address, each from an address of its own; the relay is the first.
        let mut observers = Vec::new();
        let machines = [scene.lab.internet(), scene.lab.host(2), scene.lab.host(3)];
        for (name, machine) in ["observer-2", "observer-3", "observer-4"].into_iter().zip(machines) {
            let (observer, address) = observer(&identities, name, machine, transport).await?;
            observers.push(observer);
            kubo.connect(&address).await?;
        }
        let by_it = |event: &Event| event.has("peer", &kubo.peer);
        relay.wait_for("reservation_accepted", by_it, SOON).await?;
        kubo.program.wait_for_text("Host now has a public address", SOON).await?;
        Ok(Self { transport, scene, kubo, relay, _observers: observers, _identities: identities })
    }

    fn relay(&self) -> String {
        self.scene.relay_address()
    }

    /// Both say that they are.
    async fn direct(&self, node: &Program, peer: &str) -> Result<()> {
        let transport = self.transport.to_string();
        let with_it =
            |event: &Event| event.has("peer", &self.kubo.peer) && event.has("transport", &transport);
        node.wait_for("upgrade_succeeded", with_it, SOON).await?;
        self.kubo.has_connection(peer, |address| !relayed(address)).await
    }

    fn report(&self, node: &Program) -> String {
        [&self.relay, node, &self.kubo.program].map(Program::report).concat()
    }
}

fn everywhere(transport: Transport, port: u16) -> String {
    at("0.0.0.0", transport, port)
}

fn at(ip: &str, transport: Transport, port: u16) -> String {
    match transport {
        Transport::Tcp => format!("/ip4/{ip}/tcp/{port}"),
        Transport::Quic => format!("/ip4/{ip}/udp/{port}/quic-v1"),
    }
}

/// A relay that Kubo only connects to.
async fn observer(
    identities: &TempDir,
    name: &str,
    machine: &Namespace,
    transport: Transport,
) -> Result<(Program, String)> {
    let address = at(&machine.address().to_string(), transport, PORT);
    let launch =
        Launch::punchline(machine, "relay")?.args(["--listen", &address, "--stun-listen", "off"]);
    let program =
        launch.args(["--identity".as_ref(), identities.path().join(name).as_os_str()]).spawn()?;
    program.wait_for("listening", |_| true, SOON).await?;
    Ok((program, format!("{address}/p2p/{}", id(identities, name).await?)))
}

/// Of whoever has one that is known beforehand.
const PORT: u16 = 4001;
