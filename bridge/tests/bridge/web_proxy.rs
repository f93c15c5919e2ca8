//! Relays that are reached through an HTTP proxy.

use std::sync::{Arc, Mutex};

use libp2p::identity::Keypair;
use punchline_bridge::{Config, Event, RelayAddr, proxy::Proxy};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    web::{TLS_WS, web_config},
    world::{self, Node, RelayNode, exchange, until},
};

/// A proxy: where it is, and the heads of the requests that it was sent.
struct TestProxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

/// What it does about a request.
#[derive(Clone, Copy)]
enum Manner {
    /// It connects to this port of the host, whatever name it is told.
    Connects(u16),
    Says(&'static str),
    KeepsSilent,
}

impl TestProxy {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(tcp, manner, Arc::clone(&told)));
            }
        });
        Self { port, heads }
    }

    fn config(&self, user: &str) -> Config {
        let url = format!("http://{user}127.0.0.1:{}", self.port);
        Config { proxy: Some(Proxy::new(&url, "").unwrap()), ..world::unpunchable(world::TCP) }
    }
}

async fn serve(mut tcp: TcpStream, manner: Manner, heads: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
    match manner {
        Manner::Connects(port) => {
            let mut other = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tcp.write_all(b"HTTP/1.0 200 Connection established\r\nProxy-agent: test\r\n\r\n")
                .await
                .unwrap();
            let _ = tokio::io::copy_bidirectional(&mut tcp, &mut other).await;
        }
        Manner::Says(answer) => {
            let _ = tcp.write_all(answer.as_bytes()).await;
        }
        Manner::KeepsSilent => std::future::pending().await,
    }
}

/// The relay under a name that only the proxy knows.
fn named(relay: &RelayNode) -> RelayAddr {
    let text = relay.address.to_string().replace("/ip4/127.0.0.1/", "/dns4/relay.invalid/");
    text.parse().unwrap()
}

fn port_of(relay: &RelayAddr) -> u16 {
    let mut parts = relay.address().iter();
    parts
        .find_map(|part| match part {
            libp2p::multiaddr::Protocol::Tcp(port) => Some(port),
            _ => None,
        })
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_that_have_nothing_but_a_proxy_meet_at_a_relay_that_only_the_proxy_can_look_up() {
    let mut config = web_config(TLS_WS);
    config.external = punchline_bridge::relay::External::Given(vec![TLS_WS.parse().unwrap()]);
    let relay = RelayNode::start(config).await;
    let by_name = named(&relay);
    let proxy = TestProxy::start(Manner::Connects(port_of(&by_name))).await;
    let mut server = Node::start(proxy.config("ann:sesame@")).await;
    let circuit = server.reserve(&by_name).await;
    server.echo().await;
    let client = Node::start(proxy.config("")).await;
    client.endpoint.add_addresses(server.id(), vec![circuit]).await;
    exchange(client.open(server.id()).await, b"through a proxy").await;
    let heads = proxy.heads.lock().unwrap().clone();
    let target = format!("relay.invalid:{}", port_of(&by_name));
    let plain = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    assert_eq!(heads[0], plain.clone() + "Proxy-Authorization: Basic YW5uOnNlc2FtZQ==\r\n\r\n");
    assert_eq!(heads[1], plain + "\r\n");
}

/// Why no reservation was had through a proxy.
async fn failure(config: Config, relay: &str) -> String {
    let peer = Keypair::generate_ed25519().public().to_peer_id();
    let mut node = Node::start(config).await;
    node.endpoint.reserve(format!("{relay}/p2p/{peer}").parse().unwrap()).await;
    until(&mut node.events, "a failure", |event| match event {
        Event::ReservationFailed { cause, .. } => Some(cause.clone()),
        _ => None,
    })
    .await
}

const RELAY: &str = "/dns4/relay.invalid/tcp/443/tls/ws";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_says_is_told_with_what_to_do_and_without_the_password() {
    const BASIC: &str = "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n";
    const NTLM: &str =
        "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n";
    for (answer, user, wanted) in [
        (BASIC, "", "say --proxy http://<user>:<password>@127.0.0.1"),
        (BASIC, "ann:sesame@", "does not take this user and password (407)"),
        (NTLM, "ann:sesame@", "by Negotiate, NTLM (407), and only Basic is spoken here"),
        ("HTTP/1.1 403 No\r\n\r\n", "ann:sesame@", "forbids connections to relay.invalid:443 (403)"),
        ("HTTP/1.1 502 No\r\n\r\n", "", "cannot reach relay.invalid:443 (502)"),
        ("HTTP/1.1 302 No\r\n\r\n", "", "does not connect to relay.invalid:443 (HTTP status 302)"),
        ("SSH-2.0-OpenSSH_9\r\n", "", "gave no answer in HTTP"),
        ("", "", "gave no answer in HTTP"),
        ("HTTP/1.1 200 Yes\r\n\r\nmore", "", "it goes on after its answer"),
    ] {
        let proxy = TestProxy::start(Manner::Says(answer)).await;
        let said = failure(proxy.config(user), RELAY).await;
        assert!(said.contains(wanted), "{said}");
        assert!(said.contains(&format!("the proxy 127.0.0.1:{}", proxy.port)), "{said}");
        assert!(!said.contains("sesame") && !said.contains("ann:"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_silent_or_not_there_is_named() {
    let proxy = TestProxy::start(Manner::KeepsSilent).await;
    let said = failure(proxy.config(""), RELAY).await;
    assert!(said.contains(&format!("the proxy 127.0.0.1:{} did not answer within 8 s", proxy.port)));
    let nowhere = Config {
        proxy: Some(Proxy::new("http://127.0.0.1:1", "").unwrap()),
        ..world::unpunchable(world::TCP)
    };
    let said = failure(nowhere, RELAY).await;
    assert!(said.contains("the proxy 127.0.0.1:1 cannot be reached: Connection refused"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_websockets_go_through_the_proxy_and_no_exception_does() {
    let proxy = TestProxy::start(Manner::Says("HTTP/1.1 403 No\r\n\r\n")).await;
    let relay = RelayNode::start(world::relay_config(world::TCP)).await;
    let mut node = Node::start(proxy.config("")).await;
    node.reserve(&relay.address).await;
    let web = RelayNode::start(web_config(TLS_WS)).await;
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let proxied = Some(Proxy::new(&url, "127.0.0.0/8").unwrap());
    let mut node = Node::start(Config { proxy: proxied, ..world::config(world::TCP) }).await;
    node.reserve(&web.address).await;
    assert_eq!(*proxy.heads.lock().unwrap(), Vec::<String>::new());
}
