//! Paths that die without a word: through a router that forgets what it forwarded.

use std::time::{Duration, Instant};

use punchline_bridge::{Event, Incoming, Multiaddr, Stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::world::{Node, RelayNode, TCP, relay_config, service, unpunchable, until, within};

/// A router in front of a TCP port, until it is switched off: then connections through it stay open, and
/// nothing moves.
struct Router {
    address: Multiaddr,
    on: watch::Sender<bool>,
}

impl Router {
    async fn before(target: &Multiaddr) -> Self {
        let target: u16 = target.to_string().split('/').nth(4).unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (on, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((inside, _)) = listener.accept().await {
                tokio::spawn(forward(inside, target, state.clone()));
            }
        });
        Self { address: format!("/ip4/127.0.0.1/tcp/{own}").parse().unwrap(), on }
    }

    fn switch_off(&self) {
        self.on.send_replace(false);
    }
}

async fn forward(mut near: TcpStream, target: u16, mut on: watch::Receiver<bool>) {
    if !*on.borrow_and_update() {
        return std::future::pending().await;
    }
    let mut far = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = on.changed() => std::future::pending().await,
    }
}

/// A stream on a direct connection through a router; there is no other connection to its peer.
struct World {
    router: Router,
    near: Stream,
    far: Stream,
    client: Node,
    _rest: (Node, RelayNode, Incoming),
}

impl World {
    async fn start() -> Self {
        let config = || {
            let mut config = unpunchable(TCP);
            config.deadlines.relayed_grace = Duration::from_millis(500);
            config
        };
        let relay = RelayNode::start(relay_config(TCP)).await;
        let mut server = Node::start(config()).await;
        server.reserve(&relay.address).await;
        let mut incoming = server.endpoint.incoming(service()).await.unwrap();
        let router = Router::before(&server.endpoint.listening()[0]).await;
        let mut client = Node::start(config()).await;
        let ways = vec![router.address.clone(), relay.address.circuit_to(server.id())];
        client.endpoint.add_addresses(server.id(), ways).await;
        let near = client.open(server.id()).await;
        let far = within("the stream", incoming.next()).await.unwrap();
        until(&mut client.events, "the end of the circuit", |event| {
            let relayed = matches!(event, Event::ConnectionClosed { path, .. } if !path.is_direct());
            relayed.then_some(())
        })
        .await;
        assert!(near.path().is_direct());
        Self { router, near, far, client, _rest: (server, relay, incoming) }
    }
}

/// Sends a message and tells how long it took to arrive.
async fn passes(from: &mut Stream, to: &mut Stream) -> Duration {
    let began = Instant::now();
    within("a message", async {
        from.write_all(b"are you there").await.unwrap();
        let mut message = [0; 13];
        to.read_exact(&mut message).await.unwrap();
        assert_eq!(&message, b"are you there");
    })
    .await;
    began.elapsed()
}

/// Beside two hundred nodes of other tests. Pings alone take 18 s to give a connection up; that it is 3 s on
/// a host that has time is shown in the NAT lab.
const GAP_MAX: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn what_an_acceptor_says_after_the_path_died_in_a_pause_arrives_soon() {
    let mut world = World::start().await;
    world.router.switch_off();
    let took = passes(&mut world.far, &mut world.near).await;
    assert!(took < GAP_MAX, "{took:?}");
    // It is told a moment after bytes may flow again.
    let moved = |event: &Event| matches!(event, Event::StreamMoved { .. }).then_some(());
    until(&mut world.client.events, "a move", moved).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_opener_says_after_the_path_died_in_a_pause_arrives_soon() {
    let mut world = World::start().await;
    world.router.switch_off();
    let took = passes(&mut world.near, &mut world.far).await;
    assert!(took < GAP_MAX, "{took:?}");
}
