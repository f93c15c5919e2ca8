//! What peers are called, on this machine alone.

use anyhow::Result;
use serde_json::Value;

use crate::world::{LISTEN, NO_PEER, NO_RELAY, SOON, World, refused};

impl World {
    /// What `punchline peers ARGS…` prints, beside whichever identity.
    async fn peers(&self, args: &[&str]) -> Result<String> {
        let output = self.quiet("peers", "anybody")?.args(args).output(SOON).await?;
        anyhow::ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }
}

#[tokio::test]
async fn a_name_is_given_listed_and_taken_back_and_what_people_wrote_stays() -> Result<()> {
    let world = World::new()?;
    assert!(world.peers(&[]).await?.contains("no peer has a name"));
    let file = world.write("peers.toml", "# my machines\n")?;
    let other = NO_RELAY.rsplit('/').next().unwrap_or_default();
    world.peers(&["name", NO_PEER, "alice"]).await?;
    world.peers(&["name", other, "bob"]).await?;
    assert_eq!(world.peers(&[]).await?, format!("alice  {NO_PEER}\nbob    {other}\n"));
    let json: Value = serde_json::from_str(&world.peers(&["--json"]).await?)?;
    assert_eq!(json, serde_json::json!({ "alice": NO_PEER, "bob": other }));
    let taken = world.quiet("peers", "anybody")?.args(["name", other, "alice"]).output(SOON).await?;
    refused(&taken, 1, &["`alice` is 12D3KooWDpJ7", "punchline peers forget alice"]);
    let bad = world.quiet("peers", "anybody")?.args(["name", NO_PEER, "al ice"]).output(SOON).await?;
    refused(&bad, 2, &["letters"]);
    world.peers(&["forget", "alice"]).await?;
    let text = std::fs::read_to_string(&file)?;
    assert_eq!(text, format!("# my machines\nbob = \"{other}\"\n"));
    let gone = world.quiet("peers", "anybody")?.args(["forget", "alice"]).output(SOON).await?;
    refused(&gone, 1, &["`alice` is not a peer id"]);
    Ok(())
}

#[tokio::test]
async fn a_name_stands_wherever_an_id_does_and_a_wrong_one_names_those_like_it() -> Result<()> {
    let world = World::new()?;
    world.peers(&["name", NO_PEER, "alice"]).await?;
    let client = ["--listen", LISTEN, "--addr", "/ip4/127.0.0.1/tcp/1", "--check", "--peer"];
    let expose = ["--service", "web=127.0.0.1:9", "--check", "--allow"];
    let local = ["--addr", "/ip4/127.0.0.1/tcp/1", "--service", "web", "--local", "127.0.0.1:0"];
    let forward = [&local[..], &["--check", "--peer"]].concat();
    for (command, args) in [("client", &client[..]), ("expose", &expose[..]), ("forward", &forward[..])]
    {
        let check = |peer: &'static str| {
            let launch = world.quiet(command, command)?.args(args).args([peer]);
            anyhow::Ok(launch)
        };
        let good = check("alice")?.output(SOON).await?;
        assert!(good.status.success(), "{command}: {good:?}");
        refused(
            &check("alicia")?.output(SOON).await?,
            2,
            &["`alicia` is not a peer id", "did you mean alice?"],
        );
        refused(&check("al ice")?.output(SOON).await?, 2, &["not a peer id", "letters"]);
    }
    let variable =
        world.quiet("client", "client")?.args(&client[..5]).env("LIBP2P_REMOTE_PEER_ID", "alice");
    assert!(variable.output(SOON).await?.status.success());
    let table = format!(
        "[[forward]]\npeer = \"alice\"\nservice = \"web\"\nlocal = \"127.0.0.1:0\"\naddr = \"/ip4/127.0.0.1/tcp/1\"\n\
         [[expose]]\nservice = \"web\"\ntarget = \"127.0.0.1:9\"\nallow_file = \"{}\"\n",
        world.write("friends", "alice # the laptop\n")?
    );
    let table = world.write("tables.toml", &table)?;
    let run = || anyhow::Ok(world.quiet("run", "run")?.args(["--check", "--config", &table]));
    let good = run()?.output(SOON).await?;
    assert!(good.status.success(), "{good:?}");
    world.write("friends", "alice\nbob\n")?;
    refused(&run()?.output(SOON).await?, 2, &["friends, line 2: `bob` is not a peer id"]);
    world.write("peers.toml", &format!("alice = \"{NO_PEER}\"\n\nally = \"{NO_PEER}\"\n"))?;
    refused(
        &run()?.output(SOON).await?,
        2,
        &["peers.toml, line 3: `ally` is a second name", "in line 1"],
    );
    Ok(())
}

#[tokio::test]
async fn a_peer_is_dialled_shown_and_pinged_by_its_name() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    let server = world.server(&relay, &[]).await?;
    world.peers(&["name", &world.peer_id("server").await?, "bob"]).await?;
    world.peers(&["name", &world.peer_id("relay").await?, "hub"]).await?;
    let client = world.launch("client", "client")?.args(["--network", "simnet", "--listen", LISTEN]);
    let client = client.args(["--relay", &relay, "--peer", "bob"]).spawn()?;
    client.wait_for("session_ready", |_| true, SOON).await?;
    client.wait_for("stream_moved", |event| event.has("to", "direct"), SOON).await?;
    let ask = |what: &str| world.quiet(what, "client");
    let output = ask("status")?.args(["--json"]).output(SOON).await?;
    let status: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(
        (&status["peers"][0]["name"], &status["relays"][0]["name"]),
        (&"bob".into(), &"hub".into())
    );
    let screen = String::from_utf8(ask("status")?.output(SOON).await?.stdout)?;
    assert!(screen.contains("  bob (…") && screen.contains(")  direct over tcp"), "{screen}");
    let ping = ask("ping")?.args(["bob", "-c", "1"]).output(SOON).await?;
    assert!(ping.status.success(), "{ping:?}");
    let ping = ask("ping")?.args(["bob", "-c", "1", "--json"]).output(SOON).await?;
    let lines = String::from_utf8(ping.stdout)?;
    let lines: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!((&lines[0]["path"], &lines[0]["shape"]), (&"direct".into(), &1.into()), "{lines:?}");
    assert_eq!((&lines[1]["sent"], &lines[1]["lost"]), (&1.into(), &0.into()), "{lines:?}");
    for question in ["ping", "why"] {
        let wrong = ask(question)?.args(["bop"]).output(SOON).await?;
        refused(&wrong, 2, &["`bop` is not a peer id", "did you mean bob?"]);
    }
    let why = String::from_utf8(ask("why")?.args(["bob"]).output(SOON).await?.stdout)?;
    assert!(why.starts_with("bob (…") && why.contains("through hub: this node dialled"), "{why}");
    assert!(client.report().contains("bob is connected through relay hub"), "{}", client.report());
    // A name that is given while the node runs is known at once.
    world.peers(&["forget", "bob"]).await?;
    world.peers(&["name", &world.peer_id("server").await?, "robert"]).await?;
    let screen = String::from_utf8(ask("status")?.output(SOON).await?.stdout)?;
    assert!(screen.contains("  robert (…"), "{screen}");
    drop(server);
    Ok(())
}
