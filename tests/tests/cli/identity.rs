//! `punchline id`: one identity for ever, and no other.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use anyhow::Result;
use punchline_tests::process::Program;

use crate::world::{LISTEN, NO_PEER, NO_RELAY, SOON, World, refused};

#[tokio::test]
async fn id_prints_the_peer_id_alone_on_a_line_and_the_same_ever_after() -> Result<()> {
    let world = World::new()?;
    let first = world.quiet("id", "identity")?.output(SOON).await?;
    let second = world.quiet("id", "identity")?.output(SOON).await?;
    let printed = String::from_utf8(first.stdout)?;
    assert!(printed.starts_with("12D3KooW") && printed.ends_with('\n'), "{printed:?}");
    assert_eq!(printed.lines().count(), 1);
    assert_eq!(second.stdout, printed.as_bytes());
    assert!(first.stderr.is_empty());
    assert_eq!(fs::metadata(world.path("identity"))?.permissions().mode() & 0o777, 0o600);
    Ok(())
}

#[tokio::test]
async fn eight_first_runs_at_once_agree_and_leave_no_draft() -> Result<()> {
    let world = World::new()?;
    let path = "deep/er/identity";
    let starts: Vec<Program> =
        (0..8).map(|_| Ok(world.quiet("id", path)?.spawn()?)).collect::<Result<_>>()?;
    for mut start in starts {
        assert!(start.wait(SOON).await?.success(), "{}", start.report());
        let own = start.report();
        assert!(own.contains(&world.peer_id(path).await?), "{own}");
    }
    assert_eq!(fs::read_dir(world.path("deep/er"))?.count(), 1);
    Ok(())
}

#[tokio::test]
async fn an_identity_that_cannot_be_trusted_is_refused_with_the_remedy_and_kept() -> Result<()> {
    let world = World::new()?;
    world.peer_id("exposed").await?;
    fs::set_permissions(world.path("exposed"), Permissions::from_mode(0o644))?;
    for (name, size) in [("empty", 0), ("garbage", 100), ("huge", 100_000)] {
        fs::write(world.path(name), vec![7; size])?;
        fs::set_permissions(world.path(name), Permissions::from_mode(0o600))?;
    }
    fs::create_dir(world.path("directory"))?;
    let chmod = format!("chmod 600 {}", world.text("exposed"));
    for (name, hint) in [
        ("exposed", chmod.as_str()),
        ("empty", "move it away"),
        ("garbage", "move it away"),
        ("huge", "no private key"),
        ("directory", "not a file"),
        ("garbage/below", "--identity"),
    ] {
        for command in ["id", "server"] {
            let launch = world.quiet(command, name)?;
            refused(&launch.output(SOON).await?, 2, &[&world.text(name), hint]);
        }
    }
    assert_eq!(fs::read(world.path("garbage"))?, [7; 100]);
    Ok(())
}

#[tokio::test]
async fn a_node_has_the_identity_that_id_prints() -> Result<()> {
    let world = World::new()?;
    let (relay, address) = world.relay(&[]).await?;
    let server = world.server(&address, &[]).await?;
    let held = server.wait_for("reservation_held", |_| true, SOON).await?;
    assert!(held.text("address").unwrap_or_default().ends_with(&world.peer_id("server").await?));
    let accepted = relay.wait_for("reservation_accepted", |_| true, SOON).await?;
    assert!(accepted.has("peer", &world.peer_id("server").await?), "{accepted}");
    Ok(())
}

#[tokio::test]
async fn a_secret_of_kubernetes_is_taken_as_it_is_mounted() -> Result<()> {
    let world = World::new()?;
    let id = world.peer_id("secret").await?;
    fs::set_permissions(world.path("secret"), Permissions::from_mode(0o440))?;
    let output = world.quiet("id", "secret")?.output(SOON).await?;
    match fs::metadata(world.path("secret"))?.uid() {
        0 => assert_eq!(String::from_utf8(output.stdout)?.trim_end(), id),
        // It is ours then, and should be ours alone.
        _ => refused(&output, 2, &["chmod 600"]),
    }
    Ok(())
}

#[tokio::test]
async fn a_second_process_of_one_identity_is_told_who_has_it_and_what_to_do() -> Result<()> {
    let world = World::new()?;
    let forward = ["--peer", NO_PEER, "--relay", NO_RELAY, "--service", "x", "--local", "127.0.0.1:0"];
    let commands: [(&str, &[&str]); 5] = [
        ("server", &[]),
        ("client", &["--peer", NO_PEER, "--relay", NO_RELAY]),
        ("relay", &["--external", "auto"]),
        ("expose", &["--service", "x=127.0.0.1:1", "--allow-any"]),
        ("forward", &forward),
    ];
    let mut first =
        world.launch("forward", "identity")?.args(["--listen", LISTEN]).args(forward).spawn()?;
    first.wait_for("listening", |_| true, SOON).await?;
    let holder = format!("process {}", first.id().unwrap_or_default());
    fs::set_permissions(world.path("identity"), Permissions::from_mode(0o400))?;
    for (command, args) in commands {
        let second = world.quiet(command, "identity")?.args(["--listen", LISTEN]).args(args);
        let output = second.output(SOON).await?;
        refused(&output, 1, &[&world.text("identity"), &holder, "--identity", "punchline run"]);
    }
    // Neither who only asks, nor a check, runs as anybody.
    assert!(world.quiet("id", "identity")?.output(SOON).await?.status.success());
    let check = world.quiet("server", "identity")?.args(["--check"]);
    assert!(check.output(SOON).await?.status.success());
    // Who comes after a process that was killed does not notice.
    first.kill().await?;
    let next = world.launch("forward", "identity")?.args(["--listen", LISTEN]).args(forward).spawn()?;
    next.wait_for("listening", |_| true, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn one_of_each_command_runs_on_a_machine_without_a_word_about_identities() -> Result<()> {
    let world = World::new()?;
    let at_home = |args: &[&str]| {
        let launch = world.bare()?.args(args).env("XDG_STATE_HOME", world.path("state"));
        Ok::<_, anyhow::Error>(launch)
    };
    let id = async |role: &str| -> Result<String> {
        let output = at_home(&["id", "--of", role])?.output(SOON).await?;
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    };
    let start = |command: &str, args: &[&str]| -> Result<Program> {
        let launch = at_home(&[command, "--events", "-", "--listen", LISTEN])?;
        Ok(launch.args(args).spawn()?)
    };
    let local = ["--assume-global", "127.0.0.0/8"];
    let relay = start("relay", &[&["--external", "auto"], &local[..]].concat())?;
    let listening = relay.wait_for("listening", |_| true, SOON).await?;
    let address = listening.text("address").unwrap_or_default();
    let address = format!("{address}/p2p/{}", id("relay").await?);
    // As the README has it: the far side says who it is, and is let in.
    let forwarder = id("forward").await?;
    let args = ["--relay", &address, "--service", "x=127.0.0.1:1", "--allow", &forwarder];
    let expose = start("expose", &args)?;
    expose.wait_for("reservation_held", |_| true, SOON).await?;
    let server = start("server", &["--relay", &address, "--network", "simnet"])?;
    server.wait_for("reservation_held", |_| true, SOON).await?;
    let to = id("server").await?;
    let client = start("client", &["--peer", &to, "--relay", &address, "--network", "simnet"])?;
    client.wait_for("session_ready", |_| true, SOON).await?;
    let exposer = String::from_utf8(at_home(&["id"])?.output(SOON).await?.stdout)?;
    let args = ["--peer", exposer.trim_end(), "--relay", &address, "--service", "x"];
    let forward = start("forward", &[&args[..], &["--local", "127.0.0.1:0"]].concat())?;
    let listening = forward.wait_for("forward_listening", |_| true, SOON).await?;
    let _local = tokio::net::TcpStream::connect(listening.text("local").unwrap_or_default()).await?;
    // It was let in, though nothing runs behind the service.
    let failed = expose.wait_for("target_failed", |_| true, SOON).await?;
    assert!(failed.has("peer", &forwarder), "{failed}");
    // A ticket is one of the node that exposes.
    let ticket =
        at_home(&["ticket", "new", "--service", "x", "--relay", &address])?.output(SOON).await?;
    let ticket = String::from_utf8(ticket.stdout)?;
    drop(forward);
    let args = ["--ticket", ticket.trim_end(), "--local", "127.0.0.1:0"];
    let forward = start("forward", &args)?;
    let listening = forward.wait_for("forward_listening", |_| true, SOON).await?;
    assert!(listening.has("peer", exposer.trim_end()), "{listening}");
    Ok(())
}
