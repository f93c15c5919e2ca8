//! Layers of settings: flags, environment, file, defaults; seen by where a server listens.

use anyhow::{Result, ensure};
use punchline_tests::process::Launch;

use crate::world::{NO_PEER, NO_RELAY, SOON, STOP, World, refused};

const FILE: &str = r#"
listen = "/ip4/127.0.0.5/tcp/0"
[server]
listen = ["/ip4/127.0.0.4/tcp/0"]
"#;

fn on(host: u8) -> String {
    format!("/ip4/127.0.0.{host}/tcp/0")
}

/// Starts a server, waits until it listens on each of these loopback addresses, and stops it; in all its
/// life it may not have listened on others.
async fn listens(launch: Launch, hosts: &[u8]) -> Result<()> {
    let mut program = launch.spawn()?;
    for host in hosts {
        let there = format!("/ip4/127.0.0.{host}/");
        let is_there = |address: &str| address.starts_with(&there);
        program.wait_for("listening", |event| event.text("address").is_some_and(is_there), SOON).await?;
    }
    program.terminate(STOP).await?;
    let count = program.events().iter().filter(|event| event.name() == "listening").count();
    ensure!(count == hosts.len(), "{}", program.report());
    Ok(())
}

#[tokio::test]
async fn flags_beat_punchline_variables_beat_libp2p_variables_beat_the_file() -> Result<()> {
    let world = World::new()?;
    let file = world.write("settings.toml", FILE)?;
    let by_file = || Ok::<_, anyhow::Error>(world.launch("server", "server")?.args(["--config", &file]));
    let by_libp2p = || Ok::<_, anyhow::Error>(by_file()?.env("LIBP2P_LISTEN_MULTIADDRS", on(3)));
    let by_punchline = || Ok::<_, anyhow::Error>(by_libp2p()?.env("PUNCHLINE_LISTEN", on(2)));
    listens(by_file()?, &[4]).await?;
    listens(by_libp2p()?, &[3]).await?;
    listens(by_punchline()?, &[2]).await?;
    listens(by_punchline()?.args(["--listen", &on(1)]), &[1]).await?;
    Ok(())
}

#[tokio::test]
async fn a_table_named_after_a_command_holds_for_that_command_alone() -> Result<()> {
    let world = World::new()?;
    let file = world.write("settings.toml", FILE)?;
    let relay = world.launch("relay", "relay")?.args(["--external", "auto", "--config", &file]);
    listens(relay.env("LIBP2P_LISTEN_MULTIADDRS", on(3)), &[5]).await?;
    Ok(())
}

#[tokio::test]
async fn common_settings_too_may_stand_in_the_table_of_a_command() -> Result<()> {
    let world = World::new()?;
    let (top, own, flag) = (world.text("top"), world.text("own"), world.text("flag"));
    let file = format!("identity = \"{top}\"\n[server]\nidentity = \"{own}\"\nlisten = \"{}\"", on(1));
    let file = world.write("settings.toml", &file)?;
    let server =
        || Ok::<_, anyhow::Error>(world.bare()?.args(["server", "--events=-", "--config", &file]));
    listens(server()?, &[1]).await?;
    assert!(world.path("own").exists() && !world.path("top").exists());
    listens(server()?.env("PUNCHLINE_IDENTITY", &flag), &[1]).await?;
    assert!(world.path("flag").exists());
    let id = world.bare()?.args(["id"]).env("PUNCHLINE_CONFIG", &file).output(SOON).await?;
    assert!(id.status.success() && world.path("top").exists());
    Ok(())
}

#[tokio::test]
async fn lists_take_repetition_commas_and_semicolons_everywhere() -> Result<()> {
    let world = World::new()?;
    let server = || world.launch("server", "server");
    let flags = server()?.args(["--listen", &on(1), "--listen"]).args([format!("{},{}", on(2), on(3))]);
    listens(flags, &[1, 2, 3]).await?;
    let variable = format!("{}; {},", on(1), on(2));
    listens(server()?.env("PUNCHLINE_LISTEN", &variable), &[1, 2]).await?;
    listens(server()?.env("LIBP2P_LISTEN_MULTIADDRS", &variable), &[1, 2]).await?;
    let file =
        world.write("lists.toml", &format!("listen = [\"{};{}\", \"{}\"]", on(1), on(2), on(3)))?;
    listens(server()?.args(["--config", &file]), &[1, 2, 3]).await?;
    Ok(())
}

#[tokio::test]
async fn a_node_listens_on_tcp_and_quic_when_nothing_is_said() -> Result<()> {
    let world = World::new()?;
    let server = world.launch("server", "server")?.spawn()?;
    for transport in ["/tcp/", "/quic-v1"] {
        let has = |address: &str| address.starts_with("/ip4/127.0.0.1/") && address.contains(transport);
        server.wait_for("listening", |event| event.text("address").is_some_and(has), SOON).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_no_settings_file_is_refused_with_the_place_and_the_reason() -> Result<()> {
    let world = World::new()?;
    let huge = format!("# {}", "x".repeat(1 << 20));
    for (content, hints) in [
        ("listen =", &["is not valid TOML", "line 1"][..]),
        ("lisen = \"x\"", &["line 1: `lisen` is not a setting", "settings --example"]),
        ("[server]\nfrob = 1", &["line 2: `frob` is not a setting of `server`"]),
        ("[serfer]\nlisten = \"x\"", &["`serfer` is not a setting"]),
        ("[client]\nmax-circuits = 1", &["`max-circuits` is not a setting of `client`"]),
        ("config = \"other.toml\"", &["`config` is not a setting"]),
        ("network = 1.5", &["`network` must be a string"]),
        ("listen = [1]", &["`listen` must be"]),
        ("listen = { a = 1 }", &["`listen` must be"]),
        ("[server]\nlisten = { a = 1 }", &["`listen` must be"]),
        ("network = \"moonnet\"", &["moonnet", "mainnet, testnet-10", "settings.toml"]),
        ("[server]\nlisten = \"x\"", &["/tcp/<port>", "settings.toml"]),
        (&huge, &["too many", "--config"]),
    ] {
        let file = world.write("settings.toml", content)?;
        let launch = world.quiet("server", "server")?.args(["--check", "--config", &file]);
        refused(&launch.output(SOON).await?, 2, &[hints, &[&file]].concat());
    }
    for missing in [world.text("missing.toml"), world.text("")] {
        let launch = world.quiet("server", "server")?.args(["--check"]);
        let output = launch.env("PUNCHLINE_CONFIG", &missing).output(SOON).await?;
        refused(&output, 2, &[&missing, "--config"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_variable_is_named() -> Result<()> {
    let world = World::new()?;
    for (name, value) in [
        ("PUNCHLINE_PEER", "xyz"),
        ("LIBP2P_REMOTE_PEER_ID", "xyz"),
        ("LIBP2P_LISTEN_MULTIADDRS", "xyz"),
        ("PUNCHLINE_NETWORK", "moonnet"),
        ("PUNCHLINE_CHECK", "perhaps"),
    ] {
        let launch = world.quiet("client", "client")?.env(name, value);
        refused(&launch.output(SOON).await?, 2, &[name, value]);
    }
    Ok(())
}

#[tokio::test]
async fn switches_are_variables_and_keys_too() -> Result<()> {
    let world = World::new()?;
    for yes in ["1", "true", "yes"] {
        let server = world.quiet("server", "server")?.args(["--relay", NO_RELAY]);
        let output = server.env("PUNCHLINE_CHECK", yes).output(SOON).await?;
        assert_eq!(output.stdout, b"the settings are usable\n", "{yes}: {output:?}");
    }
    let file = world.write("settings.toml", "check = true\nverbose = 1\nmax_circuits = 7\n")?;
    let output = world.quiet("server", "server")?.args(["--config", &file]).output(SOON).await?;
    assert_eq!(output.stdout, b"the settings are usable\n", "{output:?}");
    Ok(())
}

#[tokio::test]
async fn a_variable_that_is_empty_is_not_set() -> Result<()> {
    let world = World::new()?;
    let file = world.write("settings.toml", &format!("relay = \"{NO_RELAY}\"\n"))?;
    let mut client = world.quiet("client", "client")?.args(["--check", "--peer", NO_PEER]);
    for name in
        ["RELAY", "LISTEN", "ADDR", "NETWORK", "VERBOSE", "LOG_FORMAT", "LOAD_MIB", "CHECK", "EVENTS"]
    {
        client = client.env(&format!("PUNCHLINE_{name}"), "");
    }
    let output = client.args(["--config", &file]).env("PUNCHLINE_IDENTITY", " ").output(SOON).await?;
    assert_eq!(output.stdout, b"the settings are usable\n", "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let output = world.quiet("client", "client")?.env("PUNCHLINE_CONFIG", "").output(SOON).await?;
    refused(&output, 2, &["--peer"]);
    Ok(())
}

#[tokio::test]
async fn verbosity_is_a_switch_or_a_number() -> Result<()> {
    let world = World::new()?;
    for value in ["true", "false", "yes", "0", "1", "2"] {
        let server = world.quiet("server", "server")?.args(["--check"]);
        let output = server.env("PUNCHLINE_VERBOSE", value).output(SOON).await?;
        assert_eq!(output.stdout, b"the settings are usable\n", "{value}: {output:?}");
    }
    let file = world.write("settings.toml", "verbose = true\n")?;
    let server = world.quiet("server", "server")?.args(["--check", "--config", &file]);
    assert!(server.output(SOON).await?.status.success());
    let server = world.quiet("server", "server")?.args(["--check"]).env("PUNCHLINE_VERBOSE", "loud");
    refused(&server.output(SOON).await?, 2, &["PUNCHLINE_VERBOSE", "0, 1 or 2"]);
    Ok(())
}

#[tokio::test]
async fn a_variable_that_is_no_setting_is_named_with_the_one_that_was_meant() -> Result<()> {
    let world = World::new()?;
    let server = world.quiet("server", "server")?.args(["--check"]);
    let server = server.env("PUNCHLINE_RELAYS", NO_RELAY).env("PUNCHLINE_PEER", NO_PEER);
    let output = server.output(SOON).await?;
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr)?;
    assert!(
        said.contains("PUNCHLINE_RELAYS") && said.contains("did you mean PUNCHLINE_RELAY?"),
        "{said}"
    );
    assert!(!said.contains("PUNCHLINE_PEER") && said.lines().count() == 1, "{said}");
    Ok(())
}

#[tokio::test]
async fn port_mapping_is_a_word_or_a_switch() -> Result<()> {
    let world = World::new()?;
    for text in ["port_mapping = false", "[server]\nport_mapping = \"off\"", "port_mapping = true"] {
        let file = world.write("settings.toml", text)?;
        let launch = world.launch("server", "server")?.args(["--check", "--config", &file]);
        let output = launch.output(SOON).await?;
        ensure!(output.status.success(), "{text}: {output:?}");
    }
    let wrong =
        world.launch("server", "server")?.args(["--check"]).env("PUNCHLINE_PORT_MAPPING", "upnp");
    refused(&wrong.output(SOON).await?, 2, &["upnp", "PUNCHLINE_PORT_MAPPING", "on, off"]);
    Ok(())
}

#[tokio::test]
async fn a_relay_that_is_given_and_not_to_be_used_is_a_usage_error() -> Result<()> {
    let world = World::new()?;
    let off = ["--check", "--relay-mode", "off"];
    let own = |command: &str| match command {
        "client" => vec!["--peer", NO_PEER],
        "expose" => vec!["--service", "x=127.0.0.1:1", "--allow", NO_PEER],
        _ => vec![],
    };
    for command in ["server", "client", "expose"] {
        let launch = world.quiet(command, command)?.args(off).args(own(command));
        let launch = launch.args(["--relay", NO_RELAY]);
        refused(&launch.output(SOON).await?, 2, &["--relay-mode off uses no relay", NO_RELAY]);
    }
    let circuit = format!("{NO_RELAY}/p2p-circuit");
    let launch = world.quiet("server", "server")?.args(off).args(["--listen", &circuit]);
    refused(&launch.output(SOON).await?, 2, &["--relay-mode off uses no relay"]);
    let launch = world.quiet("server", "server")?.args(off);
    assert!(launch.output(SOON).await?.status.success());
    let launch = world.quiet("server", "server")?.args(["--check", "--relay-mode", "perhaps"]);
    refused(&launch.output(SOON).await?, 2, &["off, coordination, fallback"]);
    Ok(())
}

#[tokio::test]
async fn a_file_without_autorelay_means_coordination_and_a_warning_says_so() -> Result<()> {
    let world = World::new()?;
    let file = world.write("settings.toml", "enable_autorelay = false\n")?;
    let server = world.quiet("server", "server")?.args(["--check", "--config", &file]);
    let output = server.args(["--relay", NO_RELAY]).output(SOON).await?;
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr)?;
    assert!(said.contains("enable_autorelay") && said.contains("coordination"), "{said}");
    Ok(())
}
