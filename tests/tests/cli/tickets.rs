//! `punchline ticket`: makes, shows and revokes, and keeps its ledger safe.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::time::Instant;

use anyhow::{Result, ensure};
use punchline_tests::process::Program;
use serde_json::Value;

use crate::world::{NO_PEER, NO_RELAY, SOON, World, refused};

const NEW: [&str; 5] = ["new", "--service", "kaspad", "--relay", NO_RELAY];

async fn ticket(world: &World, args: &[&str]) -> Result<Output> {
    Ok(world.quiet("ticket", "identity")?.args(args).output(SOON).await?)
}

/// Makes a ticket; its string.
async fn new(world: &World, args: &[&str]) -> Result<String> {
    let output = ticket(world, &[&NEW, args].concat()).await?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

async fn list(world: &World) -> Result<Vec<Value>> {
    let output = ticket(world, &["list", "--json"]).await?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn id(row: &Value) -> String {
    row["id"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn new_prints_the_ticket_alone_and_says_on_standard_error_what_to_do_with_it() -> Result<()> {
    let world = World::new()?;
    let output = ticket(&world, &[&NEW[..], &["--expires", "7d", "--once"]].concat()).await?;
    let printed = String::from_utf8(output.stdout)?;
    let text = printed.strip_prefix("punchline-ticket:").and_then(|text| text.strip_suffix('\n'));
    let text = text.unwrap_or_else(|| panic!("{printed:?}"));
    assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{text}");
    let said = String::from_utf8(output.stderr)?;
    let row = list(&world).await?.remove(0);
    let revoke = format!("punchline ticket revoke {} --identity {}", id(&row), world.text("identity"));
    for hint in [
        "PUNCHLINE_TICKET=<the ticket> punchline forward",
        "--local 127.0.0.1:",
        "one connection",
        "`kaspad`",
        &revoke,
    ] {
        assert!(said.contains(hint), "`{hint}` is missing in: {said}");
    }
    assert!(!said.contains(text), "the secret is in the pipe alone");
    Ok(())
}

#[tokio::test]
async fn list_shows_what_new_made_in_a_table_and_as_json() -> Result<()> {
    let world = World::new()?;
    new(&world, &["--once"]).await?;
    new(&world, &["--expires", "2d"]).await?;
    let rows = list(&world).await?;
    assert_eq!(rows.len(), 2);
    for (row, (once, hours)) in rows.iter().zip([(true, 1), (false, 48)]) {
        assert_eq!((&row["service"], &row["standing"]), (&"kaspad".into(), &"valid".into()));
        assert_eq!((&row["once"], &row["used_by"]), (&once.into(), &Value::Null));
        let time = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        assert!(time("issued").ends_with('Z') && time("expires") > time("issued"), "{row}");
        let ledger: Value = serde_json::from_slice(&fs::read(world.path("identity.tickets"))?)?;
        let tickets = ledger["tickets"].as_array().cloned().unwrap_or_default();
        let entry = tickets.iter().find(|entry| entry["id"] == row["id"]).expect("it is written down");
        let lasts =
            entry["expires"].as_u64().zip(entry["issued"].as_u64()).map(|(end, begin)| end - begin);
        assert!(lasts.is_some_and(|lasts| lasts.abs_diff(hours * 3600) <= 1), "{entry}");
    }
    let table = String::from_utf8(ticket(&world, &["list"]).await?.stdout)?;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].starts_with("ID ") && lines[0].ends_with("STANDING"), "{table}");
    for (line, (row, uses)) in lines[1..].iter().zip(rows.iter().zip(["one", "any"])) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let wanted = [&id(row), "kaspad", row["expires"].as_str().unwrap_or_default(), uses, "valid"];
        assert_eq!(words, wanted);
    }
    Ok(())
}

#[tokio::test]
async fn where_there_are_no_tickets_list_says_so_and_makes_nothing() -> Result<()> {
    let world = World::new()?;
    let output = ticket(&world, &["list"]).await?;
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("punchline ticket new"), "{output:?}");
    assert_eq!(list(&world).await?, Vec::<Value>::new());
    assert_eq!(world.files()?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn revoke_takes_back_those_that_are_named_or_all() -> Result<()> {
    let world = World::new()?;
    for _ in 0..3 {
        new(&world, &[]).await?;
    }
    let ids: Vec<String> = list(&world).await?.iter().map(id).collect();
    let [first, second, third] = [&ids[0], &ids[1], &ids[2]].map(String::as_str);
    let standings = async || -> Result<Vec<Value>> {
        Ok(list(&world).await?.iter().map(|row| row["standing"].clone()).collect())
    };

    let output = ticket(&world, &["revoke", second]).await?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout)?, format!("revoked {second}\n"));
    assert_eq!(standings().await?, ["valid", "revoked", "valid"]);
    assert!(list(&world).await?[1]["revoked_at"].as_str().is_some_and(|time| time.ends_with('Z')));
    assert!(ticket(&world, &["revoke", second]).await?.status.success(), "twice is no harm");

    let nobody = "0".repeat(32);
    let output = ticket(&world, &["revoke", first, &nobody]).await?;
    refused(&output, 1, &[&nobody, "punchline ticket list"]);
    assert_eq!(standings().await?, ["valid", "revoked", "valid"], "all or none");

    let output = ticket(&world, &["revoke", "--all"]).await?;
    assert_eq!(String::from_utf8(output.stdout)?, format!("revoked {first}\nrevoked {third}\n"));
    assert_eq!(standings().await?, ["revoked", "revoked", "revoked"]);
    let output = ticket(&world, &["revoke", "--all"]).await?;
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no ticket to revoke"));
    Ok(())
}

#[tokio::test]
async fn a_ticket_whose_time_is_over_is_shown_as_expired() -> Result<()> {
    let world = World::new()?;
    new(&world, &["--expires", "1s"]).await?;
    let begun = Instant::now();
    while list(&world).await?[0]["standing"] != "expired" {
        ensure!(begun.elapsed() < SOON, "it never expires");
    }
    Ok(())
}

#[tokio::test]
async fn eight_tickets_made_at_once_all_stand_in_the_ledger_which_is_its_owner_s_alone() -> Result<()> {
    let world = World::new()?;
    let start = || -> Result<Program> { Ok(world.quiet("ticket", "identity")?.args(NEW).spawn()?) };
    let starts: Vec<Program> = (0..8).map(|_| start()).collect::<Result<_>>()?;
    for mut start in starts {
        assert!(start.wait(SOON).await?.success(), "{}", start.report());
    }
    assert_eq!(list(&world).await?.len(), 8);
    let mut files = world.files()?;
    files.sort();
    assert_eq!(files, ["identity", "identity.tickets", "identity.tickets.lock"]);
    for file in files {
        assert_eq!(fs::metadata(world.path(&file))?.permissions().mode() & 0o777, 0o600, "{file}");
    }
    Ok(())
}

#[tokio::test]
async fn what_makes_no_ticket_exits_2_and_says_what_to_do_checked_or_not() -> Result<()> {
    let world = World::new()?;
    let elsewhere = format!("/ip4/127.0.0.1/tcp/5/p2p/{NO_PEER}");
    let circuit = format!("{NO_RELAY}/p2p-circuit");
    let nine = ["/ip4/127.0.0.1/tcp/5"; 9].join(",");
    let unusable: &[(&[&str], &[&str])] = &[
        (&[], &["new", "list", "revoke"]),
        (&["new", "--relay", NO_RELAY], &["--service"]),
        (&["new", "--service", "kaspad"], &["lead nowhere", "--relay", "--addr"]),
        (&["new", "--service", "kas pad", "--relay", NO_RELAY], &["not allowed in a service name"]),
        (&["new", "--service", "", "--relay", NO_RELAY], &["1 to 64 bytes"]),
        (&["new", "--service", "a", "--relay", "/ip4/127.0.0.1/tcp/1"], &["/p2p/<relay's peer id>"]),
        (&["new", "--service", "a", "--addr", "nonsense"], &["nonsense"]),
        (&["new", "--service", "a", "--addr", "/ip4/0.0.0.0/tcp/5"], &["nobody can dial"]),
        (&["new", "--service", "a", "--addr", &elsewhere], &["leads to", NO_PEER]),
        (&["new", "--service", "a", "--addr", &circuit], &["name that relay with --relay"]),
        (&["new", "--service", "a", "--addr", &nine], &["9 addresses do not fit"]),
        (&["new", "--service", "a", "--relay", NO_RELAY, "--expires", "soon"], &["90s, 15m, 1h or 7d"]),
        (&["new", "--service", "a", "--relay", NO_RELAY, "--expires", "0s"], &["from 1 second"]),
        (&["new", "--service", "a", "--relay", NO_RELAY, "--expires", "367d"], &["366 days"]),
        (&["revoke"], &["--all"]),
        (&["revoke", "--all", "000102030405060708090a0b0c0d0e0f"], &["--all"]),
        (&["revoke", "12"], &["32 hexadecimal digits", "ticket list"]),
    ];
    for (args, hints) in unusable {
        refused(&ticket(&world, args).await?, 2, hints);
        if !args.is_empty() {
            refused(&ticket(&world, &[args, &["--check"][..]].concat()).await?, 2, hints);
        }
    }
    assert!(!world.path("identity.tickets").exists());
    Ok(())
}

#[tokio::test]
async fn a_ledger_that_cannot_be_trusted_is_refused_with_the_remedy_and_kept() -> Result<()> {
    let world = World::new()?;
    new(&world, &[]).await?;
    let path = world.path("identity.tickets");
    let good = fs::read(&path)?;
    let chmod = format!("chmod 600 {}", path.display());
    let revoke = ["revoke", "--all"];
    for (content, mode, hint) in [
        (good.clone(), 0o640, chmod.as_str()),
        (good[..good.len() / 2].to_vec(), 0o600, "damaged"),
        (vec![b' '; 2 << 20], 0o600, "no ledger has"),
    ] {
        fs::write(&path, &content)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        for args in [&NEW[..], &["list"], &["list", "--json"], &revoke, &["list", "--check"]] {
            refused(&ticket(&world, args).await?, 1, &[hint, &world.text("identity.tickets")]);
        }
        assert!(fs::read(&path)? == content, "it is kept");
    }
    Ok(())
}

#[tokio::test]
async fn flags_beat_variables_which_beat_the_file() -> Result<()> {
    let world = World::new()?;
    let file = format!(
        "relay = \"{NO_RELAY}\"\nidentity = \"{}\"\n[ticket]\nservice = \"from-file\"\nonce = true\n\
         identity = \"{}\"",
        world.text("top"),
        world.text("own")
    );
    let file = world.write("settings.toml", &file)?;
    let new = || Ok::<_, anyhow::Error>(world.bare()?.args(["ticket", "new", "--config", &file]));
    for launch in [
        new()?,
        new()?.env("PUNCHLINE_SERVICE", "from-variable").env("PUNCHLINE_ONCE", "false"),
        new()?.env("PUNCHLINE_SERVICE", "from-variable").args(["--service", "from-flag"]),
    ] {
        let output = launch.output(SOON).await?;
        assert!(output.status.success(), "{output:?}");
    }
    let output = world.bare()?.args(["ticket", "list"]).env("PUNCHLINE_JSON", "true");
    let output = output.env("PUNCHLINE_CONFIG", &file).output(SOON).await?;
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let seen: Vec<_> = rows.iter().map(|row| (row["service"].clone(), row["once"].clone())).collect();
    let wanted = [("from-file", true), ("from-variable", false), ("from-flag", true)];
    assert_eq!(seen, wanted.map(|(service, once)| (service.into(), once.into())));
    assert!(world.path("own.tickets").exists() && !world.path("top").exists());

    for (content, hint) in [
        ("[ticket]\nfrob = 1", "`frob` is not a setting of `ticket`"),
        ("[ticket]\nmax-circuits = 1", "`max-circuits` is not a setting of `ticket`"),
        ("[ticket]\nexpires = \"soon\"", "90s, 15m, 1h or 7d"),
    ] {
        let file = world.write("settings.toml", content)?;
        let output = ticket(&world, &[&NEW[..], &["--config", &file]].concat()).await?;
        refused(&output, 2, &[hint, &file]);
    }
    Ok(())
}

#[tokio::test]
async fn an_identity_has_one_ledger_by_whatever_link_it_is_named() -> Result<()> {
    let world = World::new()?;
    new(&world, &[]).await?;
    std::os::unix::fs::symlink(world.path("identity"), world.path("link"))?;
    let output = world.quiet("ticket", "link")?.args(NEW).output(SOON).await?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(list(&world).await?.len(), 2);
    assert!(!world.path("link.tickets").exists());
    Ok(())
}

#[tokio::test]
async fn check_makes_no_ticket_and_leaves_no_trace() -> Result<()> {
    let world = World::new()?;
    for args in [&NEW[..], &["list"]] {
        let output = ticket(&world, &[args, &["--check"]].concat()).await?;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, b"the settings are usable\n");
        assert_eq!(world.files()?, Vec::<String>::new());
    }
    Ok(())
}
