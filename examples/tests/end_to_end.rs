//! The examples run, as processes.

#![allow(clippy::unwrap_used)]

use std::{process::Stdio, time::Duration};

use punchline_bridge::{
    Config, Endpoint, Keypair, PeerId, RelayAddr,
    addr::GlobalScope,
    relay::{External, Relay, RelayConfig, StunListen},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// For anything that a program does on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Where everything here happens.
const LOOPBACK: &str = "127.0.0.0/8";

/// An example that runs; killed when dropped.
struct Program {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { input: child.stdin.take().unwrap(), lines, child }
    }

    async fn line(&mut self) -> String {
        let line = timeout(DEADLINE, self.lines.next_line()).await;
        line.expect("no line in time").unwrap().expect("the program ended")
    }

    async fn ended_well(mut self) -> bool {
        drop(self.input);
        timeout(DEADLINE, self.child.wait()).await.expect("it goes on").unwrap().success()
    }
}

/// A relay on loopback; alive as long as it is held.
async fn relay() -> (Relay, RelayAddr) {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    let global = GlobalScope::with_assumed(vec![LOOPBACK.parse().unwrap()]);
    let (external, stun) = (External::Observed, StunListen::Off);
    let config = RelayConfig { listen, external, stun, global, ..RelayConfig::default() };
    let (relay, _) = Relay::start(config, Keypair::generate_ed25519()).await.unwrap();
    let address = format!("{}/p2p/{}", relay.listening()[0], relay.peer_id());
    (relay, address.parse().unwrap())
}

#[tokio::test]
async fn the_client_is_greeted_and_its_call_ends_up_on_a_direct_path() {
    let (_relay, address) = relay().await;
    let address = address.to_string();
    let mut server = Program::start(env!("CARGO_BIN_EXE_greet_server"), &[&address, LOOPBACK]);
    let told = server.line().await;
    let [_, relay, peer] = told.split(' ').collect::<Vec<_>>()[..] else { panic!("{told}") };
    assert_eq!(relay, address);

    let client = env!("CARGO_BIN_EXE_greet_client");
    let mut client = Program::start(client, &[relay, peer, LOOPBACK]);
    assert!(client.line().await.starts_with("Hello, World! You are on a "));
    let direct = async {
        loop {
            client.input.write_all(b"Ada\n").await.unwrap();
            let greeting = client.line().await;
            assert!(greeting.starts_with("Hello, Ada! You are on a "), "{greeting}");
            if greeting.ends_with("direct path.") {
                return;
            }
        }
    };
    timeout(DEADLINE, direct).await.expect("the call stayed on the relay");
    assert!(client.ended_well().await);
}

#[tokio::test]
async fn an_embedded_node_echoes_and_ends_cleanly() {
    let (_relay, relay) = relay().await;
    let mut embed = Program::start(env!("CARGO_BIN_EXE_embed"), &[&relay.to_string(), LOOPBACK]);
    let told = embed.line().await;
    let peer: PeerId = told.split([' ', ';']).find_map(|word| word.parse().ok()).unwrap();

    let (node, _) = Endpoint::start(Config::default(), Keypair::generate_ed25519()).await.unwrap();
    node.add_addresses(peer, vec![relay.circuit_to(peer)]).await;
    let mut stream = node.open(peer, "echo".parse().unwrap()).await.unwrap();
    stream.write_all(b"over and over").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut back)).await.expect("no echo").unwrap();
    assert_eq!(back, b"over and over");

    assert!(embed.ended_well().await);
    node.shutdown().await;
}

#[tokio::test]
async fn without_arguments_the_programs_say_how_they_are_used() {
    for (name, program) in [
        ("greet_server", env!("CARGO_BIN_EXE_greet_server")),
        ("greet_client", env!("CARGO_BIN_EXE_greet_client")),
        ("embed", env!("CARGO_BIN_EXE_embed")),
    ] {
        let output = timeout(DEADLINE, Command::new(program).output()).await.unwrap().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(said.contains(&format!("usage: {name} <relay's address>")), "{said}");
    }
}

#[test]
fn every_example_fits_on_a_page() {
    for (name, text) in [
        ("greet_server", include_str!("../greet_server.rs")),
        ("greet_client", include_str!("../greet_client.rs")),
        ("embed", include_str!("../embed.rs")),
    ] {
        assert!(text.lines().count() < 60, "{name}");
    }
}
