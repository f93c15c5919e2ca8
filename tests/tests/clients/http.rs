//! curl against Python's HTTP server.

use anyhow::{Result, ensure};
use punchline_tests::process::{Launch, Place};

use crate::world::{ANY, Gateway, server, succeeds};

pub(crate) fn missing() -> Option<String> {
    let curl = std::process::Command::new("curl").arg("--version").output();
    let no_curl = curl.is_err().then(|| "there is no curl: apt-get install curl".to_owned());
    crate::python_without("http.server", "python3").or(no_curl)
}

/// Requests on one connection.
const REQUESTS: usize = 20;

pub(crate) async fn keep_alive() -> Result<()> {
    let (_server, address) = server("http_server.py").await?;
    let gateway = Gateway::start(&address, ANY).await?;
    let url = format!("http://{}/echo", gateway.local);
    let mut args = Vec::new();
    for number in 0..REQUESTS {
        if number > 0 {
            args.push("--next".to_owned());
        }
        let told = "%{http_code} %{http_version} %{num_connects}\n";
        args.extend(["--data", &format!("body {number}"), "--write-out", told, &url].map(str::to_owned));
    }
    let told = succeeds(curl().args(args)).await?;
    let answers: Vec<&str> = told.lines().collect();
    ensure!(answers.len() == 2 * REQUESTS, "{told}");
    for (number, answer) in answers.chunks(2).enumerate() {
        // A connection is made for the first request only.
        let connects = u8::from(number == 0);
        ensure!(answer == [format!("body {number}"), format!("200 1.1 {connects}")], "{answer:?}");
    }
    Ok(())
}

pub(crate) async fn downloads() -> Result<()> {
    let (_server, address) = server("http_server.py").await?;
    let gateway = Gateway::start(&address, ANY).await?;
    let directory = tempfile::tempdir()?;
    let hash = succeeds(curl().args([format!("http://{}/sha256", gateway.local)])).await?;
    for way in ["whole", "chunked"] {
        let file = directory.path().join(way);
        let url = format!("http://{}/{way}", gateway.local);
        succeeds(curl().args(["--output", &file.to_string_lossy(), &url])).await?;
        let content = std::fs::read(&file)?;
        ensure!(content.len() == 10 << 20, "{way}: {} bytes", content.len());
        ensure!(sha256(&content) == hash, "{way} differs from what was served");
        // And the other way.
        let upload = format!("@{}", file.to_string_lossy());
        let url = format!("http://{}/hash", gateway.local);
        let sent = match way {
            "whole" => curl().args(["--data-binary", &upload, &url]),
            _ => curl().args(["--header", "Transfer-Encoding: chunked", "--data-binary", &upload, &url]),
        };
        ensure!(succeeds(sent).await? == hash, "{way} arrived changed");
    }
    Ok(())
}

/// Says nothing but the answer, and fails for what is not 200.
fn curl() -> Launch {
    Launch::program(Place::Host, "curl").args(["--silent", "--show-error", "--fail", "--http1.1"])
}

fn sha256(content: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}
