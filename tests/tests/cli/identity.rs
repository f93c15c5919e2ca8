//! `punchline id`: one identity for ever, and no other.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use anyhow::Result;
use punchline_tests::process::Program;

use crate::world::{SOON, World, refused};

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
