//! Prometheus and its `promtool`, which judge alerts and answer the queries of the dashboard.

use std::{net::Ipv4Addr, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use punchline_tests::{
    ports::free_port,
    process::{Launch, Place},
};
use serde_json::Value;

use crate::world::{ANY, Gateway, SOON, server, succeeds};

pub(crate) fn missing() -> Option<String> {
    let lacks = |program: &str| Command::new(program).arg("--version").output().is_err();
    let lacking = ["promtool", "prometheus", "curl"].into_iter().find(|program| lacks(program))?;
    Some(format!("there is no {lacking}: apt-get install prometheus curl"))
}

fn deployed(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file);
    path.to_string_lossy().into_owned()
}

fn host(program: &str) -> Launch {
    Launch::program(Place::Host, program)
}

pub(crate) async fn alerts() -> Result<()> {
    succeeds(host("promtool").args(["check", "rules", &deployed("prometheus/alerts.yml")])).await?;
    succeeds(host("promtool").args(["test", "rules", &deployed("prometheus/alerts_test.yml")])).await?;
    Ok(())
}

/// Between two scrapes, and between two looks at what Prometheus knows.
const PACE: Duration = Duration::from_secs(1);

pub(crate) async fn dashboard() -> Result<()> {
    let (_server, target) = server("http_server.py").await?;
    let gateway = Gateway::start(&target, ANY).await?;
    succeeds(host("curl").args(["--silent", &format!("http://{}/echo", gateway.local)])).await?;
    let directory = tempfile::tempdir()?;
    let config = directory.path().join("prometheus.yml");
    std::fs::write(&config, configuration(&gateway.metrics().await?))?;
    // Prometheus does not tell which port it got.
    let address = free_port(Ipv4Addr::LOCALHOST)?.to_string();
    let _prometheus = host("prometheus")
        .args([
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", directory.path().join("data").display()),
            format!("--web.listen-address={address}"),
            "--log.level=warn".to_owned(),
        ])
        .spawn()?;
    // A rate takes two scrapes.
    let scraped =
        "min(count_over_time(up{job=\"punchline\"}[1m])) >= 3 and sum(up{job=\"punchline\"}) == 3";
    tokio::time::timeout(SOON, async {
        let mut pause = tokio::time::interval(PACE);
        while query(&address, scraped).await.unwrap_or_default().is_empty() {
            pause.tick().await;
        }
    })
    .await
    .context("three programs are not scraped")?;
    let board: Value =
        serde_json::from_str(&std::fs::read_to_string(deployed("grafana/punchline.json"))?)?;
    let mut queries = 0;
    for panel in board["panels"].as_array().context("panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().context("a query")?;
            let asked = expression.replace("$__rate_interval", "1m").replace("$__range", "1m");
            let asked = asked.replace("$instance", ".*");
            query(&address, &asked).await?;
            // What never happened is not shown; it is told all the same.
            let told = asked.split(" and ").next().unwrap_or(&asked).trim_end_matches(" > 0");
            let answer = query(&address, told).await?;
            ensure!(!answer.is_empty(), "{}: nothing for {told}", panel["title"]);
            queries += 1;
        }
    }
    ensure!(queries > 30, "{queries} queries");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients/dashboard.py");
    let asked = [script.to_string_lossy().into_owned(), format!("http://{address}"), "1".to_owned()];
    let drawn = host("/usr/bin/python3").args(asked);
    let page = succeeds(drawn).await?;
    for panel in board["panels"].as_array().into_iter().flatten() {
        let title = panel["title"].as_str().context("a title")?;
        ensure!(page.contains(title), "{title} is not drawn");
    }
    ensure!(page.matches("<svg").count() > 8, "hardly anything is drawn: {page}");
    let peers = query(&address, "sum(punchline_peers)").await?;
    ensure!(peers[0]["value"][1] == "2", "expose and forward have one peer each: {peers:?}");
    Ok(())
}

fn configuration(targets: &[String]) -> String {
    let (rules, pace) = (deployed("prometheus/alerts.yml"), PACE.as_secs());
    format!(
        "global: {{ scrape_interval: {pace}s, evaluation_interval: {pace}s }}\n\
         rule_files: [{rules:?}]\n\
         scrape_configs:\n  - job_name: punchline\n    static_configs: [{{ targets: {targets:?} }}]\n"
    )
}

/// The series that Prometheus answers with.
async fn query(address: &str, query: &str) -> Result<Vec<Value>> {
    let url = format!("http://{address}/api/v1/query");
    let asked = format!("query={query}");
    let curl =
        host("curl").args(["--silent", "--show-error", "--get", "--data-urlencode", &asked, &url]);
    let answer: Value = serde_json::from_str(&succeeds(curl).await?)?;
    ensure!(answer["status"] == "success", "{query}: {answer}");
    Ok(answer["data"]["result"].as_array().context("a result")?.clone())
}
