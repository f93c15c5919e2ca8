//! What a node and a relay tell Prometheus and probes.

use anyhow::{Context as _, Result};
use punchline_tests::process::Program;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::world::{LISTEN, SOON, World, refused};

/// On loopback, any port.
const METRICS: [&str; 2] = ["--metrics", "127.0.0.1:0"];

/// Where a program says that it tells its numbers.
async fn told_at(program: &Program) -> Result<String> {
    let listening = program.wait_for("metrics_listening", |_| true, SOON).await?;
    Ok(listening.text("address").context("an address")?.to_owned())
}

/// The status and the body of an answer.
async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    timeout(SOON, socket.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").context("a head")?;
    let status = head.split(' ').nth(1).context("a status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// What a program tells under the names that begin so, added up.
async fn sum(address: &str, beginning: &str) -> Result<f64> {
    let (status, text) = get(address, "/metrics").await?;
    anyhow::ensure!(status == 200, "{status}: {text}");
    let samples = text.lines().filter(|line| line.starts_with(beginning));
    let values: Vec<f64> = samples.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect();
    anyhow::ensure!(!values.is_empty(), "nothing begins with {beginning} in {text}");
    Ok(values.iter().sum())
}

/// Waits until that sum is `wanted`: what was said last is good for a moment.
async fn becomes(address: &str, beginning: &str, wanted: f64) -> Result<()> {
    let mut last = f64::NAN;
    let looks = async {
        while last != wanted {
            last = sum(address, beginning).await?;
        }
        Ok(())
    };
    let looked = timeout(SOON, looks).await;
    looked.unwrap_or_else(|_| Err(anyhow::anyhow!("{beginning} is {last}, not {wanted}")))
}

/// Likewise until `/readyz` says this.
async fn answers_ready(address: &str, wanted: (u16, &str)) -> Result<()> {
    let looks = async {
        loop {
            let (status, said) = get(address, "/readyz").await?;
            if (status, &*said) == wanted {
                return Ok(());
            }
        }
    };
    timeout(SOON, looks).await.with_context(|| format!("/readyz does not say {wanted:?}"))?
}

#[tokio::test]
async fn a_session_moves_counters_at_both_ends_and_at_the_relay() -> Result<()> {
    let world = World::new()?;
    let (relay, relay_address) = world.relay(&METRICS).await?;
    let server = world.server(&relay_address, &METRICS).await?;
    let own = [told_at(&server).await?, told_at(&relay).await?];
    assert_eq!(sum(&own[0], "punchline_sessions_total").await?, 0.0);
    assert_eq!(sum(&own[1], "punchline_relay_circuits_opened_total").await?, 0.0);
    let client = world.client(&relay_address, &METRICS).await?;
    client.wait_for("session_ready", |_| true, SOON).await?;
    for program in [&server, &client] {
        program.wait_for("stream_moved", |event| event.has("to", "direct"), SOON).await?;
        let address = told_at(program).await?;
        for (beginning, wanted) in [
            (r#"punchline_sessions_total{change="ready"}"#, 1.0),
            (r#"punchline_move_gap_seconds_count{from="relayed",to="direct","#, 1.0),
            (r#"punchline_time_to_direct_seconds_count"#, 1.0),
            (r#"punchline_peers{path="direct"}"#, 1.0),
            (r#"punchline_streams{path="direct""#, 1.0),
            ("punchline_usable", 1.0),
        ] {
            becomes(&address, beginning, wanted).await?;
        }
        let relayed = r#"punchline_stream_bytes_total{direction="sent",path="relayed"}"#;
        assert!(sum(&address, relayed).await? > 0.0, "the session began on the relay");
        assert!(sum(&address, r#"punchline_limit_used{limit="connections"}"#).await? >= 2.0);
        let (_, text) = get(&address, "/metrics").await?;
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert!(!text.contains("12D3KooW") && !text.contains("127.0.0.1"), "{text}");
    }
    let [_, relay] = own;
    for (beginning, wanted) in [
        (r#"punchline_relay_reservations_accepted_total{kind="first"}"#, 1.0),
        (r#"punchline_relay_circuits_opened_total"#, 1.0),
        (r#"punchline_limit_used{limit="reservations"}"#, 1.0),
        (r#"punchline_limit_max{limit="reservations"}"#, 1024.0),
    ] {
        becomes(&relay, beginning, wanted).await?;
    }
    assert_eq!(get(&relay, "/readyz").await?, (200, "usable\n".to_owned()), "it listens");
    Ok(())
}

#[tokio::test]
async fn readyz_says_503_until_a_relay_keeps_a_place_and_healthz_says_200_all_the_time() -> Result<()> {
    let world = World::new()?;
    let (mut relay, relay_address) = world.relay(&[]).await?;
    relay.terminate(SOON).await?;
    let launch = world.launch("server", "server")?.args(["--network", "simnet", "--listen", LISTEN]);
    let server = launch.args(["--relay", &relay_address]).args(METRICS).spawn()?;
    server.wait_for("reservation_failed", |_| true, SOON).await?;
    let address = told_at(&server).await?;
    let (status, why) = get(&address, "/readyz").await?;
    assert!(status == 503 && why.starts_with("not usable: relay 12D3KooW"), "{status} {why}");
    assert_eq!(get(&address, "/healthz").await?.0, 200);
    assert_eq!(sum(&address, "punchline_usable").await?, 0.0);
    let mark = server.mark();
    let listen = relay_address.split("/p2p/").next().unwrap_or_default();
    let relay = world.launch("relay", "relay")?.args(["--listen", listen, "--external", listen]);
    let _relay = relay.spawn()?;
    server.wait_for_after(mark, "reservation_held", |_| true, SOON).await?;
    answers_ready(&address, (200, "usable\n")).await?;
    assert_eq!(get(&address, "/healthz").await?.0, 200);
    assert_eq!(get(&address, "/").await?.0, 404);
    Ok(())
}

#[tokio::test]
async fn metrics_that_others_could_read_must_be_meant() -> Result<()> {
    let world = World::new()?;
    for (command, check) in [("server", false), ("server", true), ("relay", false)] {
        let launch = world.launch(command, command)?.args(["--listen", LISTEN]);
        let launch = launch.args(["--metrics", "0.0.0.0:0"]).args(check.then_some("--check"));
        let output = launch.output(SOON).await?;
        refused(&output, 2, &["--metrics 0.0.0.0:0", "other hosts", "--metrics-public"]);
    }
    let meant = world.launch("server", "server")?.args(["--listen", LISTEN, "--metrics-public"]);
    let meant = meant.args(["--metrics", "0.0.0.0:0"]).spawn()?;
    let address = told_at(&meant).await?;
    let port = address.rsplit_once(':').context("a port")?.1;
    assert_eq!(get(&format!("127.0.0.1:{port}"), "/healthz").await?.0, 200);
    let taken = world.launch("relay", "relay")?.args(["--listen", LISTEN, "--external", "auto"]);
    let taken = taken.args(["--metrics", &format!("127.0.0.1:{port}")]).output(SOON).await?;
    refused(&taken, 1, &["--metrics", "in use", "another"]);
    assert!(!String::from_utf8(taken.stdout)?.contains("listening"), "nobody was bothered");
    Ok(())
}
