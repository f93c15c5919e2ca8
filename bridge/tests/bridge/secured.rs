//! Stock peers, whatever they secure connections with, in both roles.

use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder,
    identity::Keypair,
    noise, ping,
    swarm::{SwarmEvent, dial_opts::DialOpts},
    tcp, tls, yamux,
};
use punchline_bridge::{Event, PeerId};

use crate::world::{Node, TCP, config, until, within};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Noise,
    Tls,
    /// And proposes Noise first.
    Both,
}

const ALL: [Speaks; 3] = [Speaks::Noise, Speaks::Tls, Speaks::Both];

fn stock(speaks: Speaks) -> Swarm<ping::Behaviour> {
    let builder = SwarmBuilder::with_new_identity().with_tokio();
    let (tcp, muxer) = (tcp::Config::default(), yamux::Config::default);
    let ping = |_: &Keypair| ping::Behaviour::default();
    match speaks {
        Speaks::Noise => {
            let builder = builder.with_tcp(tcp, noise::Config::new, muxer).unwrap();
            builder.with_behaviour(ping).unwrap().build()
        }
        Speaks::Tls => {
            let builder = builder.with_tcp(tcp, tls::Config::new, muxer).unwrap();
            builder.with_behaviour(ping).unwrap().build()
        }
        Speaks::Both => {
            let both = (noise::Config::new, tls::Config::new);
            let builder = builder.with_tcp(tcp, both, muxer).unwrap();
            builder.with_behaviour(ping).unwrap().build()
        }
    }
}

async fn listening(swarm: &mut Swarm<ping::Behaviour>) -> Multiaddr {
    swarm.listen_on(TCP.parse().unwrap()).unwrap();
    within("an address", async {
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                return address;
            }
        }
    })
    .await
}

/// Connections that came in until one is answered on.
async fn answered(swarm: &mut Swarm<ping::Behaviour>) -> usize {
    let mut came = 0;
    within("an answer", async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::IncomingConnection { .. } => came += 1,
                SwarmEvent::Behaviour(ping::Event { result: Ok(_), .. }) => return came,
                _ => {}
            }
        }
    })
    .await
}

async fn opened(node: &mut Node, wanted: PeerId) {
    until(&mut node.events, "a connection", |event| match event {
        Event::ConnectionOpened { peer, .. } if *peer == wanted => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn a_stock_peer_that_we_dial_is_reached_and_only_one_without_tls_is_dialled_twice() {
    for speaks in ALL {
        let mut server = stock(speaks);
        let (address, id) = (listening(&mut server).await, *server.local_peer_id());
        let mut client = Node::start(config(TCP)).await;
        client.endpoint.add_addresses(id, vec![address]).await;
        client.endpoint.hold(id).await;
        let (came, ()) = tokio::join!(answered(&mut server), opened(&mut client, id));
        let expected = if speaks == Speaks::Noise { 2 } else { 1 };
        assert_eq!(came, expected, "{speaks:?}");
    }
}

#[tokio::test]
async fn a_stock_peer_that_dials_us_reaches_us() {
    for speaks in ALL {
        let mut server = Node::start(config(TCP)).await;
        let mut client = stock(speaks);
        let id = *client.local_peer_id();
        let addresses = server.endpoint.listening().to_vec();
        client.dial(DialOpts::peer_id(server.id()).addresses(addresses).build()).unwrap();
        let (came, ()) = tokio::join!(answered(&mut client), opened(&mut server, id));
        assert_eq!(came, 0, "{speaks:?}");
    }
}
