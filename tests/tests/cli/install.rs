//! What helps to install it: settings that are shown, completions, pages; and what a service manager is told.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use punchline_tests::process::Launch;
use serde_json::Value;

use crate::world::{LISTEN, NO_PEER, NO_RELAY, SOON, STOP, World, refused};

impl World {
    async fn says(&self, args: &[&str]) -> Result<String> {
        let output = self.bare()?.args(args).output(SOON).await?;
        ensure!(output.status.success(), "{args:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }
}

#[tokio::test]
async fn the_example_is_a_settings_file_and_a_line_of_it_holds_when_it_is_uncommented() -> Result<()> {
    let world = World::new()?;
    let example = world.says(&["settings", "--example"]).await?;
    let commented = world.write("as-it-is.toml", &example)?;
    let (before, own) = example.split_once("#[server]").context("no table for servers")?;
    let own = own.replacen("#network = \"mainnet\"", "network = \"simnet\"", 1);
    let tables = format!("{before}[server]{own}");
    let changed = world.write("changed.toml", &tables)?;
    for (file, network, source) in [(&commented, "mainnet", "default"), (&changed, "simnet", "file")] {
        let check =
            world.quiet("server", "server")?.args(["--check", "--config", file]).output(SOON).await?;
        ensure!(check.status.success(), "{check:?}");
        let shown = world.says(&["settings", "--show", "--json", "server", "--config", file]).await?;
        let shown: Vec<Value> = serde_json::from_str(&shown)?;
        let network_shown =
            shown.iter().find(|setting| setting["key"] == "network").context("no network")?;
        assert_eq!(
            (&network_shown["values"][0], &network_shown["source"]),
            (&network.into(), &source.into())
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_holds_is_shown_with_who_said_so() -> Result<()> {
    let world = World::new()?;
    let file =
        "relay_mode = \"fallback\"\n\n[client]\npatience = \"2h\"\nproxy = \"http://u:secret@p:1\"\n";
    let file = world.write("settings.toml", file)?;
    let show =
        world.bare()?.args(["settings", "--show", "--config", &file, "client", "--relay", NO_RELAY]);
    let show = show.env("PUNCHLINE_NETWORK", "simnet").env("LIBP2P_REMOTE_PEER_ID", NO_PEER);
    let output = show.output(SOON).await?;
    ensure!(output.status.success(), "{output:?}");
    let shown = String::from_utf8(output.stdout)?;
    for (key, value, source) in [
        ("relay", NO_RELAY, "flag".to_owned()),
        ("network", "simnet", "environment PUNCHLINE_NETWORK".to_owned()),
        ("peer", NO_PEER, "environment LIBP2P_REMOTE_PEER_ID".to_owned()),
        ("relay_mode", "fallback", format!("file {file} line 1")),
        ("patience", "2h", format!("file {file} line 4")),
        ("port_mapping", "on", "default".to_owned()),
        ("load_mib", "-", "default".to_owned()),
        ("check", "false", "default".to_owned()),
    ] {
        let found = shown.lines().any(|line| {
            line.split_whitespace().take(2).eq([key, value]) && line.ends_with(&format!(" {source}"))
        });
        assert!(found, "{key} = {value} by {source} is missing in:\n{shown}");
    }
    assert!(!shown.contains("u:secret"), "{shown}");
    Ok(())
}

#[tokio::test]
async fn an_unknown_key_is_named_with_its_line() -> Result<()> {
    let world = World::new()?;
    for (text, line) in [
        ("verbose = 1\n\nlisen = \"x\"", "line 3"),
        ("[server]\n# here\nfrob = 1", "line 3"),
        ("[[expose]]\nservice = \"a\"\n\n[[expose]]\ntarget = \"a:1\"\nfrob = 1", "line 6"),
    ] {
        let file = world.write("settings.toml", text)?;
        let launch = world.quiet("server", "server")?.args(["--check", "--config", &file]);
        refused(&launch.output(SOON).await?, 2, &[line, "is not a setting", "settings --example"]);
    }
    Ok(())
}

#[tokio::test]
async fn settings_that_are_not_said_which_or_cannot_be_used_are_a_usage_error() -> Result<()> {
    let world = World::new()?;
    for (args, hint) in [
        (&["settings"][..], "--example"),
        (&["settings", "--show"], "of which command?"),
        (&["settings", "--show", "server", "--network", "moonnet"], "moonnet"),
        (&["settings", "--show", "server", "--frob"], "--frob"),
        (&["settings", "--show", "serfer"], "serfer"),
    ] {
        refused(&world.bare()?.args(args).output(SOON).await?, 2, &[hint]);
    }
    Ok(())
}

#[tokio::test]
async fn bash_completes_commands_and_flags() -> Result<()> {
    let world = World::new()?;
    let script = world.write("completions", &world.says(&["completions", "bash"]).await?)?;
    let complete = "source \"$1\"; COMP_WORDS=(punchline \"$2\" \"$3\"); COMP_CWORD=$4; \
                    _punchline punchline \"${COMP_WORDS[$4]}\" \"\"; echo \"${COMPREPLY[@]}\"";
    for (words, cursor, expected) in
        [(["expo", ""], "1", "expose"), (["server", "--netw"], "2", "--network")]
    {
        let output = Command::new("bash")
            .args(["-c", complete, "bash", &script, words[0], words[1], cursor])
            .output()?;
        let said = String::from_utf8(output.stdout)?;
        assert!(
            said.split_whitespace().any(|word| word == expected),
            "{words:?}: {said} {:?}",
            output.stderr
        );
    }
    Ok(())
}

#[tokio::test]
async fn pages_are_written_where_it_is_said() -> Result<()> {
    let world = World::new()?;
    std::fs::create_dir(world.path("man"))?;
    world.says(&["man-pages", &world.text("man")]).await?;
    let page = std::fs::read_to_string(world.path("man/punchline-server.1"))?;
    assert!(page.contains("network") && page.contains("PUNCHLINE_NETWORK"), "{page}");
    let nowhere = world.bare()?.args(["man-pages", &world.text("nowhere")]).output(SOON).await?;
    refused(&nowhere, 1, &["nowhere", "name a directory"]);
    Ok(())
}

#[tokio::test]
async fn what_the_kaspa_nodes_fork_calls_things_is_understood_by_server_and_run() -> Result<()> {
    let world = World::new()?;
    let flags = ["--libp2p-mode=bridge", "--libp2p-role=auto", "--libp2p-reservations", NO_RELAY];
    for command in ["server", "run"] {
        let show = world.bare()?.args(["settings", "--show", "--json", command]).args(flags);
        let show = show.env("KASPAD_LIBP2P_IDENTITY_PATH", world.text("key"));
        let output = show.env("KASPAD_LIBP2P_EXTERNAL_MULTIADDRS", "").output(SOON).await?;
        ensure!(output.status.success(), "{output:?}");
        let shown: Vec<Value> = serde_json::from_slice(&output.stdout)?;
        let found =
            |key: &str| shown.iter().find(|setting| setting["key"] == key).cloned().unwrap_or_default();
        assert_eq!(
            (&found("relay")["values"][0], &found("relay")["source"]),
            (&NO_RELAY.into(), &"flag".into())
        );
        assert_eq!(found("identity")["variable"], "KASPAD_LIBP2P_IDENTITY_PATH");
        assert_eq!(
            found("listen")["values"][0],
            "/ip4/0.0.0.0/tcp/16112,/ip4/0.0.0.0/udp/16112/quic-v1"
        );
    }
    let file = world.write("settings.toml", &format!("listen = \"{LISTEN}\"\n"))?;
    let server =
        world.launch("server", "server")?.args(["--libp2p-mode=bridge", "--config", &file]).spawn()?;
    let listening = server.wait_for("listening", |_| true, SOON).await?;
    assert_ne!(listening.text("address"), Some("/ip4/127.0.0.1/tcp/16112"), "the file says where");
    Ok(())
}

#[tokio::test]
async fn what_has_no_meaning_here_is_refused_with_what_to_say_instead() -> Result<()> {
    let world = World::new()?;
    let server = || world.quiet("server", "server").map(|launch| launch.args(["--check"]));
    for (flag, hint) in [
        ("--libp2p-role=public", "punchline relay"),
        ("--libp2p-mode=off", "do not start"),
        ("--libp2p-frobs=1", "--libp2p-frobs"),
    ] {
        refused(
            &server()?.args([flag]).output(SOON).await?,
            2,
            &[flag.split('=').next().unwrap(), hint],
        );
    }
    let variable = server()?.env("KASPAD_LIBP2P_ROLE", "public").output(SOON).await?;
    refused(&variable, 2, &["KASPAD_LIBP2P_ROLE", "punchline relay"]);
    let relay = server()?.env("KASPAD_LIBP2P_RESERVATIONS", "nonsense").output(SOON).await?;
    refused(&relay, 2, &["KASPAD_LIBP2P_RESERVATIONS", "nonsense"]);
    let id = world.quiet("id", "id")?.env("KASPAD_LIBP2P_ROLE", "public").output(SOON).await?;
    assert!(id.status.success(), "other commands do not read it: {id:?}");
    Ok(())
}

/// What systemd would be.
struct Manager {
    socket: UnixDatagram,
    place: String,
}

/// The patience of its watchdog.
const WATCHDOG: Duration = Duration::from_millis(900);

impl Manager {
    fn new(world: &World) -> Result<Self> {
        let place = world.text("notify");
        Ok(Self { socket: UnixDatagram::bind(&place)?, place })
    }

    fn over(&self, launch: Launch) -> Launch {
        let launch = launch.env("NOTIFY_SOCKET", &self.place);
        launch.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
    }

    /// The next message, unless it is silent for so long.
    fn hears(&self, patience: Duration) -> Result<Option<String>> {
        self.socket.set_read_timeout(Some(patience))?;
        let mut message = [0; 4096];
        let heard = loop {
            match self.socket.recv(&mut message) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                heard => break heard,
            }
        };
        match heard {
            Ok(length) => Ok(Some(String::from_utf8_lossy(&message[..length]).into_owned())),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// All it hears until a message with this line comes.
    fn waits_for(&self, line: &str) -> Result<String> {
        let (mut heard, until) = (String::new(), Instant::now() + SOON);
        while Instant::now() < until {
            let message = self.hears(SOON)?.with_context(|| format!("no {line} after:\n{heard}"))?;
            heard += &format!("{message}\n");
            if message.lines().any(|said| said == line) {
                return Ok(heard);
            }
        }
        anyhow::bail!("no {line} in:\n{heard}")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_hears_that_a_relay_is_ready_lives_is_halted_goes_on_and_stops() -> Result<()>
{
    let world = World::new()?;
    let manager = Manager::new(&world)?;
    let relay = world.launch("relay", "relay")?.args(["--listen", LISTEN, "--external", "auto"]);
    let mut relay = manager.over(relay).spawn()?;
    manager.waits_for("READY=1")?;
    manager.waits_for("WATCHDOG=1")?;
    relay.halt()?;
    // What was said before it was halted is heard first.
    while manager.hears(WATCHDOG)?.is_some() {}
    assert_eq!(manager.hears(WATCHDOG)?, None, "a halted process says nothing");
    relay.resume()?;
    manager.waits_for("WATCHDOG=1")?;
    relay.hang_up()?;
    manager.waits_for("WATCHDOG=1")?;
    assert!(relay.terminate(STOP).await?.success());
    manager.waits_for("STOPPING=1")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_has_started_though_no_relay_answers_and_says_what_is_missing() -> Result<()> {
    let world = World::new()?;
    let manager = Manager::new(&world)?;
    let (relay, address) = world.relay(&["--stun-listen", "off"]).await?;
    relay.halt()?;
    let server = world.launch("server", "server")?.args(["--listen", LISTEN, "--relay", &address]);
    let mut server = manager.over(server).spawn()?;
    let heard = manager.waits_for("READY=1")?;
    assert!(heard.contains("STATUS=not usable: ") && !heard.contains("STATUS=usable"), "{heard}");
    relay.resume()?;
    let heard = manager.waits_for("STATUS=usable")?;
    assert!(heard.contains("WATCHDOG=1") && !heard.contains("READY=1"), "{heard}");
    assert!(server.terminate(STOP).await?.success());
    manager.waits_for("STOPPING=1")?;
    Ok(())
}
