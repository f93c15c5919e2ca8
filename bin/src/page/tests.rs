#![allow(clippy::unwrap_used)]
use std::{net::SocketAddr, sync::Arc};

use punchline_bridge::{Config, Endpoint, Keypair, status::Purpose};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::{events::LISTENERS_MAX, *};
use crate::{
    control::{Answering, Board, Files, Keeper, Reloader},
    finding::Finder,
    http::tests::ask,
    names::NamesFile,
    report::{Reporter, SessionEvent},
};

/// A node's page, on loopback.
async fn start() -> (Serving, SocketAddr, Answering) {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    let config = Config { listen, ..Config::default() };
    let (endpoint, _events) = Endpoint::start(config, Keypair::generate_ed25519()).await.unwrap();
    let reporter = Reporter::none();
    let files = Files {
        nets: cli::Nets::default(),
        keeper: Keeper::Node(endpoint.clone()),
        names: NamesFile::default(),
        reporter: reporter.clone(),
    };
    let (command, board) = ("server", Board::default());
    let purpose = Purpose::BeFound { by_relays: false };
    let (named, finder) = (Arc::default(), Finder::silent(&endpoint).await);
    let hangups = tokio::sync::watch::Sender::new(0).subscribe();
    let (reloader, _) = Reloader::start(files.clone(), board.clone(), hangups);
    let node = Answering {
        endpoint,
        command,
        purpose,
        named,
        reporter,
        board,
        finder,
        files,
        reloader,
        #[cfg(feature = "kad")]
        verifier: None,
    };
    let settings = cli::Page { page: "127.0.0.1:0".parse().ok() };
    let bound = Bound::new(&settings).await.unwrap().unwrap();
    let address = bound.0.address;
    (bound.serve(node.clone(), &node.reporter, &[]), address, node)
}

fn get(path: &str, host: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[tokio::test]
async fn every_file_and_the_status_come_with_headers_that_keep_others_out() {
    let (_serving, address, node) = start().await;
    for (name, kind, content) in FILES {
        let answer = ask(address, &get(&format!("/{name}"), "localhost")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains(kind), "{head}");
        assert_eq!(body, content);
    }
    let status = ask(address, &get("/status.json", "localhost")).await;
    assert!(status.contains(&node.endpoint.peer_id().to_string()), "{status}");
    for (path, host, wanted) in [
        ("/status.json", "localhost", "200"),
        ("/nothing", "localhost", "404"),
        ("/status.json", "evil.example", "421"),
        ("/events", "evil.example", "421"),
    ] {
        let answer = ask(address, &get(path, host)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {wanted}")), "{path} {host}: {answer}");
        assert!(answer.contains("content-security-policy: default-src 'none';"), "{answer}");
        assert!(!answer.contains("access-control"), "{answer}");
    }
    let told = ask(address, "POST /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(told.starts_with("HTTP/1.1 405"), "{told}");
}

/// Wishes that it be tried again, from a page of this origin.
async fn retry(address: SocketAddr, origin: &str) -> String {
    let head = format!("POST /retry HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n{origin}\r\n");
    ask(address, &head).await
}

#[tokio::test]
async fn only_the_page_itself_has_the_node_try_again_and_not_all_the_time() {
    let (_serving, address, _node) = start().await;
    for other in ["", "Origin: http://evil.example\r\n", "Origin: http://127.0.0.1:1\r\n"] {
        let refused = retry(address, other).await;
        assert!(refused.starts_with("HTTP/1.1 403"), "{other}: {refused}");
    }
    let own = format!("Origin: http://{address}\r\n");
    let tried = retry(address, &own).await;
    assert!(tried.starts_with("HTTP/1.1 200"), "{tried}");
    let (_, body) = tried.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["upgrades"], &body["relays"], &body["peers"]), (&0.into(), &0.into(), &0.into()));
    let again = retry(address, &own).await;
    assert!(again.starts_with("HTTP/1.1 429") && again.contains("tried a moment ago"), "{again}");
    let asked = ask(address, &get("/retry", "localhost")).await;
    assert!(asked.starts_with("HTTP/1.1 404"), "to look is not to wish: {asked}");
}

#[tokio::test]
async fn many_who_look_at_once_have_the_node_asked_once() {
    let (_serving, address, node) = start().await;
    let status = || async { ask(address, &get("/status.json", "localhost")).await };
    let first = status().await;
    let uptime = |answer: &str| {
        let (_, rest) = answer.split_once("\"uptime_seconds\":").unwrap();
        rest.split(',').next().unwrap().to_owned()
    };
    let others = futures::future::join_all((0..8).map(|_| status())).await;
    let same = others.iter().filter(|other| uptime(other) == uptime(&first)).count();
    assert!(same > 0, "{first}");
    drop(node);
}

async fn listen(address: SocketAddr) -> BufReader<TcpStream> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(get("/events", "localhost").as_bytes()).await.unwrap();
    BufReader::new(socket)
}

async fn next_with(lines: &mut BufReader<TcpStream>, wanted: &str) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(lines.read_line(&mut line).await.unwrap(), 0, "it ended before {wanted}");
        if line.contains(wanted) {
            return line;
        }
    }
}

#[tokio::test]
async fn a_listener_hears_what_happened_and_what_happens() {
    let (_serving, address, node) = start().await;
    let mut listener = listen(address).await;
    next_with(&mut listener, "HTTP/1.1 200").await;
    assert!(next_with(&mut listener, "page_listening").await.starts_with("data: {\"ts\":"));
    let (peer, cause) = (node.endpoint.peer_id(), "it had enough".to_owned());
    node.reporter.report(SessionEvent::SessionEnded { peer, cause });
    next_with(&mut listener, "it had enough").await;
}

#[tokio::test]
async fn one_listener_more_than_there_may_be_is_told_so_and_a_place_comes_back() {
    let (_serving, address, node) = start().await;
    let mut listeners = Vec::new();
    for _ in 0..LISTENERS_MAX {
        let mut listener = listen(address).await;
        next_with(&mut listener, "page_listening").await;
        listeners.push(listener);
    }
    next_with(&mut listen(address).await, "HTTP/1.1 503").await;
    listeners.pop();
    loop {
        // Whoever has gone is noticed when something is written.
        let (peer, cause) = (node.endpoint.peer_id(), "again".to_owned());
        node.reporter.report(SessionEvent::SessionEnded { peer, cause });
        let mut line = String::new();
        listen(address).await.read_line(&mut line).await.unwrap();
        if line.starts_with("HTTP/1.1 200") {
            return;
        }
    }
}

#[test]
fn no_text_becomes_markup_or_code_and_nothing_comes_from_elsewhere() {
    let banned = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "DOMParser",
        "createContextualFragment",
        "eval(",
        "Function(",
        "setHTML",
        "srcdoc",
        "javascript:",
        "style=",
        "onclick",
        "onload",
        "https://",
        "import(",
    ];
    for (name, _, content) in FILES {
        for word in banned {
            assert!(!content.contains(word), "{word} in {name}");
        }
        let others = content.matches("http://").count();
        let names = content.matches("http://www.w3.org/2000/svg").count();
        assert_eq!(others, names, "an address in {name}");
    }
}
