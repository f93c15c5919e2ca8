//! `punchline discovery verify` in the lab: all six steps pass where all is well, and each fault shows at its step.

use anyhow::{Context as _, Result, ensure};
use punchline_tests::{
    lab::{LabSpec, Namespace, Nat},
    process::{Event, Launch, Place, Program, binary},
    scene::{Scene, Transport},
};
use serde_json::Value;

use crate::{
    dht::bootstrap,
    lan::{echoes, expose, expose_as, forward},
    world::{SOON, World},
};

const PASS: [&str; 6] = ["pass"; 6];

/// From the start of a node until it is in the DHT.
const JOINED_SECONDS: f64 = 10.0;

/// A host that anybody reaches if its firewall lets them, and one behind a NAT.
async fn lab(first: Nat) -> Result<(World, Scene)> {
    let world = World::new()?;
    let spec = LabSpec::new([first, Nat::PortPreserving]);
    Ok((world, Scene::prepare(&spec, Transport::Tcp).await?))
}

/// Two bootstrap nodes, and how others begin with both.
async fn bootstraps(world: &World, scene: &Scene) -> Result<([Program; 2], Vec<String>)> {
    let (first, begin) = bootstrap(world, scene.lab.internet(), "first", &[]).await?;
    let (second, also) = bootstrap(world, scene.lab.relay(), "second", &begin).await?;
    second.wait_for("dht_joined", |_| true, SOON).await?;
    Ok(([first, second], [begin, also].concat()))
}

struct Answer {
    code: Option<i32>,
    said: String,
    json: Value,
}

impl Answer {
    fn verdicts(&self) -> Vec<&str> {
        let steps = self.json["steps"].as_array().into_iter().flatten();
        steps.map(|step| step["verdict"].as_str().unwrap_or_default()).collect()
    }

    /// The first step that is no pass, its verdict, and what it says.
    fn first(&self) -> Result<(u64, String, String)> {
        let steps = self.json["steps"].as_array().into_iter().flatten();
        let mut other = steps.filter(|step| step["verdict"] != "pass");
        let step = other.next().with_context(|| self.json.to_string())?;
        let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
        let number = step["step"].as_u64().context("a number")?;
        Ok((number, text("verdict"), format!("{}; {}", text("found"), text("advice"))))
    }

    /// Nothing before this step is other than well, and it is as bad, and says this.
    fn is(&self, step: u64, verdict: &str, said: &str) -> Result<()> {
        let first = self.first()?;
        let meant = first.0 == step && first.1 == verdict && first.2.contains(said);
        ensure!(meant, "{first:?} of {}", self.json);
        let code = if self.verdicts().contains(&"fail") { 2 } else { 1 };
        ensure!(self.code == Some(code), "{:?}: {}", self.code, self.said);
        ensure!(self.said.contains("step "), "{}", self.said);
        Ok(())
    }
}

async fn verify<'lab>(place: impl Into<Place<'lab>>, args: &[String]) -> Result<Answer> {
    let launch = Launch::program(place, binary("punchline")?);
    let output = launch.args(["discovery", "verify", "--json"]).args(args).output(3 * SOON).await?;
    let said = String::from_utf8(output.stderr)?;
    let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Ok(Answer { code: output.status.code(), said, json })
}

/// Of the node of this name, which runs.
async fn of_running(world: &World, name: &str, args: &[&str]) -> Result<Answer> {
    let control = format!("{}.sock", world.identity(name));
    let args: Vec<String> =
        ["--control", &control].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
    verify(Place::Host, &args).await
}

fn in_namespace(begin: &[String], name: &str) -> Vec<String> {
    [begin, &["--namespace".to_owned(), name.to_owned()]].concat()
}

/// A node that is to be found, in the DHT and at a relay, whose relay has seen it, and a peer of it.
async fn at_work(world: &World, scene: &Scene, ways: &[String]) -> Result<[Program; 2]> {
    let (expose, peer) = expose(world, scene.lab.host(0), ways).await?;
    let forward = forward(world, scene.lab.host(1), &peer, ways)?;
    expose.wait_for("dht_joined", |_| true, SOON).await?;
    expose.wait_for("reservation_held", |_| true, SOON).await?;
    forward.wait_for("forward_listening", |_| true, SOON).await?;
    echoes(world).await.with_context(|| [&expose, &forward].map(Program::report).concat())?;
    Ok([expose, forward])
}

pub(crate) async fn where_all_is_well() -> Result<()> {
    let (world, scene) = lab(Nat::Open).await?;
    let relay = scene.start_relay().await?;
    let (boots, begin) = bootstraps(&world, &scene).await?;
    let ways = in_namespace(&begin, "kaspa-test");
    let ways = [&["--relay".to_owned(), scene.relay_address()], &ways[..]].concat();
    let [expose, forward] = at_work(&world, &scene, &ways).await?;
    let verified = async {
        // By itself, soon after the start.
        let told = expose.wait_for("discovery_verified", |_| true, 3 * SOON).await?;
        let listens = expose.wait_for("listening", |_| true, SOON).await?;
        let joins = expose.wait_for("dht_joined", |_| true, SOON).await?;
        let took = joins.time()?.duration_since(listens.time()?).as_secs_f64();
        ensure!(took < JOINED_SECONDS, "in the DHT after {took} s");
        expose.wait_for("address_confirmed", |_| true, SOON).await?;
        let answer = of_running(&world, "expose", &[]).await?;
        ensure!(answer.verdicts() == PASS && answer.code == Some(0), "{} {}", answer.said, answer.json);
        ensure!(
            answer.json["steps"][5]["found"].as_str().is_some_and(|text| text.contains("`kaspa-test`"))
        );
        let ways = answer.json["steps"][4]["ways"].as_array().context("ways")?;
        for (direction, path) in [("out", "direct"), ("in", "direct"), ("in", "relayed")] {
            let way = |way: &&Value| {
                way["direction"] == direction && way["path"] == path && way["open"] == true
            };
            ensure!(ways.iter().any(|found| way(&found)), "no way {direction} {path}: {ways:?}");
        }
        // It is told wherever the node tells how it is.
        let launch = Launch::program(Place::Host, binary("punchline")?);
        let control = format!("{}.sock", world.identity("expose"));
        let status = launch.args(["status", "--control", &control]).output(SOON).await?;
        let status = String::from_utf8(status.stdout)?;
        ensure!(status.contains("discovery: all six steps pass"), "{status}");
        ensure!(told.text("verdict").is_some());
        // Peers are named to it, too.
        let peer = world.peer_id("forward").await?;
        let answer = of_running(&world, "expose", &["--peer", &peer]).await?;
        ensure!(answer.verdicts() == PASS, "{}", answer.json);
        // And a node that is started for that alone, behind the NAT, and is in no namespace.
        let passing = [&["--relay".to_owned(), scene.relay_address()], &begin[..]].concat();
        let alone = ["--identity".to_owned(), world.identity("nobody")];
        let answer = verify(scene.lab.host(1), &[&alone, &passing[..]].concat()).await?;
        ensure!(
            answer.verdicts()[..3] == PASS[..3] && answer.verdicts()[5] == "pass",
            "{}",
            answer.json
        );
        Ok(())
    };
    verified
        .await
        .with_context(|| [&relay, &boots[0], &boots[1], &expose, &forward].map(Program::report).concat())
}

/// Both ports are closed to those who come: that of the node, and that of the bootstrap node.
pub(crate) async fn a_blocked_port() -> Result<()> {
    let (world, scene) = lab(Nat::Open).await?;
    let relay = scene.start_relay().await?;
    let (boots, begin) = bootstraps(&world, &scene).await?;
    close(scene.lab.host(0), 4001)?;
    let listen = ["--listen".to_owned(), "/ip4/0.0.0.0/tcp/4001".to_owned()];
    let ways = [&["--relay".to_owned(), scene.relay_address()], &begin[..], &listen].concat();
    let (expose, _) = expose(&world, scene.lab.host(0), &ways).await?;
    let verified = async {
        expose.wait_for("dht_joined", |_| true, SOON).await?;
        expose.wait_for("reservation_held", |_| true, SOON).await?;
        expose.wait_for("data_stored", |_| true, SOON).await?;
        let answer = of_running(&world, "expose", &[]).await?;
        let step = &answer.json["steps"][4];
        let advice = step["advice"].as_str().unwrap_or_default();
        let at = format!("/ip4/{}/tcp/4001: open this port", scene.lab.host(0).address());
        ensure!(step["verdict"] == "warn" && advice.contains(&at), "{}", answer.json);
        ensure!(answer.verdicts()[..3] == PASS[..3], "{}", answer.json);
        close(scene.lab.internet(), 4002)?;
        close(scene.lab.relay(), 4002)?;
        let lonely = expose_as(&world, "lonely", scene.lab.host(1), &begin).await?.0;
        let answer = of_running(&world, "lonely", &[]).await?;
        answer.is(1, "fail", "no firewall blocks its port").with_context(|| lonely.report())
    };
    verified.await.with_context(|| [&relay, &boots[0], &expose].map(Program::report).concat())
}

/// Nobody gets in at this port any more.
fn close(host: &Namespace, port: u16) -> Result<()> {
    let rules = format!(
        "add table inet closed; add chain inet closed entering {{ type filter hook input priority 0; }}; \
         add rule inet closed entering iif != lo ct state new tcp dport {port} drop"
    );
    let output = host.command("nft").arg(rules).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

pub(crate) async fn a_private_address() -> Result<()> {
    let (world, scene) = lab(Nat::PortPreserving).await?;
    let (boots, begin) = bootstraps(&world, &scene).await?;
    let private = ["--assume-global".to_owned(), "192.168.0.0/16".to_owned()];
    let (expose, _) = expose(&world, scene.lab.host(0), &[&begin[..], &private].concat()).await?;
    let verified = async {
        expose.wait_for("dht_joined", |_| true, SOON).await?;
        expose.wait_for("data_stored", |_| true, SOON).await?;
        let answer = of_running(&world, "expose", &[]).await?;
        let step = &answer.json["steps"][4];
        let advice = step["advice"].as_str().unwrap_or_default();
        let at = format!("/ip4/{}/", scene.lab.host(0).address());
        let named = advice.starts_with(&at) && advice.contains("is private, and told to everybody");
        ensure!(step["verdict"] == "fail" && named, "{}", answer.json);
        ensure!(answer.code == Some(2) && answer.verdicts()[..3] == PASS[..3], "{}", answer.json);
        // The program says so by itself.
        let told = |event: &Event| event.has("verdict", "fail");
        expose.wait_for("discovery_verified", told, 3 * SOON).await?;
        Ok(())
    };
    verified.await.with_context(|| [&boots[0], &expose].map(Program::report).concat())
}

/// A node that says another network, and one that has another secret than who asks.
pub(crate) async fn another_network_and_another_secret() -> Result<()> {
    let (world, scene) = lab(Nat::Open).await?;
    let (boots, begin) = bootstraps(&world, &scene).await?;
    let other = ["--dht-network".to_owned(), "other".to_owned()];
    let (lost, _) = expose_as(&world, "lost", scene.lab.host(1), &[&begin[..], &other].concat()).await?;
    let (ours, theirs) = (world.identity("ours"), world.identity("theirs"));
    std::fs::write(&ours, "a secret of our own\n")?;
    std::fs::write(&theirs, "the secret of others\n")?;
    let secret = |file: &str| ["--namespace-secret".to_owned(), file.to_owned()];
    let within = [&in_namespace(&begin, "kaspa-test")[..], &secret(&ours)].concat();
    let (expose, _) = expose(&world, scene.lab.host(0), &within).await?;
    let verified = async {
        let answer = of_running(&world, "lost", &[]).await?;
        answer.is(1, "fail", "is of the network `main`, this node of `other`")?;
        expose.wait_for("dht_joined", |_| true, SOON).await?;
        let ask = |file: &str| {
            let asked = ["--namespace", "kaspa-test", "--namespace-secret", file].map(str::to_owned);
            let world = &world;
            async move {
                let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
                of_running(world, "expose", &asked).await
            }
        };
        let answer = ask(&ours).await?;
        ensure!(answer.verdicts()[5] == "pass", "{}", answer.json);
        let answer = ask(&theirs).await?;
        let step = &answer.json["steps"][5];
        let advice = step["advice"].as_str().unwrap_or_default();
        ensure!(step["verdict"] == "fail" && advice.contains("--namespace-secret"), "{}", answer.json);
        Ok(())
    };
    verified.await.with_context(|| [&boots[0], &lost, &expose].map(Program::report).concat())
}
