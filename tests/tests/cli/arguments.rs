//! Unusable arguments end the program with 2 and failures with 1, each with words that help.

use anyhow::Result;
use punchline_tests::process::{Launch, Place};

use crate::world::{LISTEN, NO_PEER, NO_RELAY, SOON, World, refused};

const QUIC_DRAFT: &str =
    "/ip4/1.2.3.4/udp/5/quic/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

/// Arguments and what the refusal has to mention.
const UNUSABLE: &[(&[&str], &[&str])] = &[
    (&["frob"], &["frob", "--help"]),
    (&["server", "--frob"], &["--frob", "--help"]),
    (&["server", "--listen", "nonsense"], &["nonsense", "/tcp/<port>"]),
    (&["server", "--listen", "/ip4/127.0.0.1"], &["/tcp/<port>"]),
    (&["server", "--listen", "/ip4/127.0.0.1/udp/5"], &["quic-v1"]),
    (&["server", "--listen", "/p2p-circuit"], &["/p2p-circuit"]),
    (&["server", "--relay", "/ip4/127.0.0.1/tcp/1"], &["/p2p/<relay's peer id>"]),
    (&["server", "--listen", "/ip6/fe80::1/tcp/0"], &["nothing can listen there", "of one link"]),
    (&["server", "--relay", QUIC_DRAFT], &["nobody can dial that relay", "/udp/<port>/quic-v1"]),
    (
        &["client", "--peer", NO_PEER, "--addr", "/ip4/1.2.3.4/tcp/5/ws"],
        &["nobody can dial", "/tcp/<port>"],
    ),
    (
        &["client", "--peer", NO_PEER, "--addr", "/ip6/fe80::1/tcp/5"],
        &["nobody can dial", "of one link"],
    ),
    (&["client", "--peer", NO_PEER, "--addr", "/ip4/1.2.3.4/tcp/0"], &["nobody can dial", "port 0"]),
    (&["relay", "--external", "/ip4/1.2.3.4/udp/5"], &["nobody can dial", "/udp/<port>/quic-v1"]),
    (&["server", "--relay", ""], &["the list is empty"]),
    (&["server", "--relay", NO_PEER], &["does not say where", "/p2p/"]),
    (&["server", "--relay", "home"], &["one word", "/dnsaddr/home"]),
    (&["server", "--network", "moonnet"], &["mainnet, testnet-10, devnet or simnet"]),
    (&["server", "--assume-global", "10.0.0.0/99"], &["10.0.0.0/99"]),
    (&["server", "--stun-server", "turn:a.example:3478"], &["only STUN", "stun.example.org:3478"]),
    (&["server", "--stun-server", "a.example:0"], &["its port", "stun.example.org:3478"]),
    (&["relay", "--external", "auto", "--stun-listen", "3478"], &["say IP:PORT", "off"]),
    (
        &["relay", "--external", "auto", "--stun-listen", "off,[::]:3478"],
        &["--stun-listen off cannot be combined"],
    ),
    (&["server", "--advertise", "here"], &["here"]),
    (&["server", "--log-format", "xml"], &["text, json"]),
    (&["server", "--events", "/no/such/directory/events"], &["/no/such/directory", "--events"]),
    (&["server", "--identity", "/dev/null"], &["not a file", "--identity"]),
    (&["client"], &["--peer"]),
    (&["server", "--quiet", "--verbose"], &["--quiet", "--verbose"]),
    (&["client", "--peer", "xyz"], &["not a peer id", "punchline id"]),
    (&["client", "--peer", NO_PEER], &["--relay", "--addr"]),
    (&["client", "--peer", NO_PEER, "--addr", NO_RELAY], &["leads to", NO_PEER]),
    (&["client", "--peer", NO_PEER, "--relay", NO_RELAY, "--load-mib", "0"], &["--load-mib"]),
    (&["client", "--peer", NO_PEER, "--load-mib", "18446744073709551615"], &["1048576"]),
    (
        &[
            "client",
            "--peer",
            NO_PEER,
            "--relay",
            NO_RELAY,
            "--load-after-direct",
            "--load-until-direct",
        ],
        &["--load-after-direct cannot be combined with --load-until-direct"],
    ),
    (&["client", "--peer", NO_PEER, "--dial-attempts", "4294967296"], &["--dial-attempts"]),
    (&["server", "--listen", "/ip4/0.0.0.0/tcp/443/tls/ws"], &["only relays listen on"]),
    (
        &["server", "--proxy", "socks5://ann:sesame@a:1"],
        &["--proxy is of a kind", "http://<host>:<port>"],
    ),
    (&["server", "--proxy", "http://ann:sesame@a"], &["--proxy names no port"]),
    (&["relay", "--external", "auto", "--tls-cert", "/dev/null"], &["--tls-key belong together"]),
    (
        &["relay", "--external", "auto", "--tls-cert", "/dev/null", "--tls-key", "/dev/null"],
        &["no --listen ends in /tls/ws"],
    ),
    (
        &[
            "relay",
            "--listen",
            "/ip4/1.2.3.4/tcp/1/wss",
            "--tls-cert",
            "/dev/null",
            "--tls-key",
            "/dev/null",
        ],
        &["there is no certificate in PEM"],
    ),
    (&["relay"], &["--external auto"]),
    (&["relay", "--listen", "/ip4/0.0.0.0/tcp/0"], &["--external auto"]),
    (&["relay", "--external", "/ip4/1.2.3.4"], &["nobody can dial that"]),
    (&["relay", "--external", "auto", "--external", "/ip4/1.2.3.4/tcp/5"], &["cannot be combined"]),
    (&["relay", "--external", "auto", "--circuit-seconds", "0"], &["1 second to 366 days"]),
    (&["relay", "--external", "auto", "--circuit-seconds", "31622401"], &["1 second to 366 days"]),
    (&["relay", "--external", "auto", "--circuit-seconds", "18446744073709551616"], &["too large"]),
    (&["relay", "--external", "auto", "--reservation-seconds", "0"], &["1 second to 366 days"]),
    (&["relay", "--external", "auto", "--requests-per-peer", "0"], &["zero"]),
    (&["relay", "--external", "auto", "--requests-per-ip", "0"], &["zero"]),
    (&["relay", "--external", "auto", "--max-circuits", "0"], &["zero"]),
    (&["relay", "--external", "auto", "--max-circuits-per-peer", "0"], &["zero"]),
    (&["relay", "--external", "auto", "--max-reservations", "-1"], &["-1"]),
    (&["relay", "--external", "auto", "--max-reservations", "many"], &["many"]),
    (&["relay", "--external", "auto", "--max-reservations-per-peer", "0"], &["zero"]),
    (&["relay", "--external", "auto", "--max-connections", "0"], &["zero"]),
    (&["relay", "--external", "auto", "--max-connections", "4294967296"], &["4294967296"]),
];

#[tokio::test]
async fn unusable_arguments_exit_2_and_say_what_to_do_checked_or_not() -> Result<()> {
    let world = World::new()?;
    for (arguments, hints) in UNUSABLE {
        let (command, rest) = arguments.split_first().expect("every row names a command");
        for check in [None, Some("--check")] {
            let launch = match rest.contains(&"--identity") {
                true => world.bare()?.args([command]),
                false => world.quiet(command, "identity")?,
            };
            let output = launch.args(rest).args(check).output(SOON).await?;
            refused(&output, 2, hints);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_is_to_dial_itself_is_refused() -> Result<()> {
    let world = World::new()?;
    let own = world.peer_id("identity").await?;
    for check in [None, Some("--check")] {
        let client = world.quiet("client", "identity")?.args(["--peer", &own, "--relay", NO_RELAY]);
        refused(&client.args(check).output(SOON).await?, 2, &["own id", "--identity"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_exits_1_and_says_so() -> Result<()> {
    let world = World::new()?;
    for command in ["server", "relay"] {
        let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
        let listen = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr()?.port());
        let output = world.quiet(command, "identity")?.args(["--listen", &listen]).output(SOON).await?;
        refused(&output, 1, &[&listen, "stop it or choose another port"]);
    }
    Ok(())
}

#[tokio::test]
async fn check_leaves_no_trace() -> Result<()> {
    let world = World::new()?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let listen = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr()?.port());
    let listens: &[&str] = &["--listen", &listen];
    let dials = &["--listen", &listen, "--peer", NO_PEER, "--relay", NO_RELAY];
    for (command, args) in
        [("id", &[][..]), ("demo", &[]), ("relay", listens), ("server", listens), ("client", dials)]
    {
        let launch = world.quiet(command, "identity")?.args(["--events", &world.text("events")]);
        let output = launch.args(["--check"]).args(args).output(SOON).await?;
        assert!(output.status.success(), "{command}: {output:?}");
        assert_eq!(output.stdout, b"the settings are usable\n", "{command}");
        assert!(world.files()?.is_empty(), "{command} left {:?}", world.files()?);
    }
    Ok(())
}

#[tokio::test]
async fn help_and_version_are_answers_not_errors() -> Result<()> {
    let world = World::new()?;
    for argument in ["--help", "--version"] {
        let output = world.bare()?.args([argument]).output(SOON).await?;
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("punchline"));
    }
    Ok(())
}

#[tokio::test]
async fn the_small_mains_take_no_arguments() -> Result<()> {
    for name in ["kaspa_p2p_server", "kaspa_p2p_client"] {
        let output = Launch::main(Place::Host, name)?.args(["--listen", LISTEN]).output(SOON).await?;
        refused(&output, 2, &["--listen", "LIBP2P_LISTEN_MULTIADDRS", "run: punchline"]);
    }
    Ok(())
}

#[tokio::test]
async fn the_small_mains_speak_of_variables_and_not_of_flags() -> Result<()> {
    let output = Launch::main(Place::Host, "kaspa_p2p_client")?.output(SOON).await?;
    refused(&output, 2, &["LIBP2P_REMOTE_PEER_ID is not set", "kaspa_p2p_client --help"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("--peer") && !said.contains("Usage"), "{said}");
    for (name, needed) in [("kaspa_p2p_server", false), ("kaspa_p2p_client", true)] {
        let output = Launch::main(Place::Host, name)?.args(["--help"]).output(SOON).await?;
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("LIBP2P_RELAY_MULTIADDRS") && said.contains("PUNCHLINE_<FLAG>"), "{said}");
        assert_eq!(said.contains("LIBP2P_REMOTE_PEER_ID"), needed, "{said}");
    }
    Ok(())
}
