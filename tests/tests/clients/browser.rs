//! A browser that nobody sees, for pages: Chromium, told what to do over a pair of pipes.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::world::SOON;

/// Chromium takes orders at descriptor 3 and answers at 4.
const START: &str = r#"exec "$0" --headless --no-sandbox --disable-gpu --remote-debugging-pipe "--user-data-dir=$1" \
    about:blank 3<&0 4>&1 < /dev/null > /dev/null 2> /dev/null"#;

/// One that starts: some systems have a program of that name which only says where to get it.
fn chromium() -> Option<&'static str> {
    let starts = |name: &&str| {
        let tried = std::process::Command::new(name).arg("--version").output();
        tried.is_ok_and(|output| output.status.success())
    };
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(starts)
}

pub(crate) fn missing() -> Option<String> {
    chromium().is_none().then(|| "there is no chromium: apt-get install chromium".to_owned())
}

pub(crate) struct Browser {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    last: u64,
    /// Of the page that was opened last.
    session: String,
    _running: Child,
    _profile: TempDir,
}

impl Browser {
    pub(crate) fn start() -> Result<Self> {
        let chromium = chromium().context("no chromium")?;
        let profile = tempfile::tempdir()?;
        let mut command = Command::new("sh");
        command.args(["-c", START, chromium]).arg(profile.path()).kill_on_drop(true);
        let mut running = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = running.stdin.take().context("a pipe for orders")?;
        let answers = BufReader::new(running.stdout.take().context("a pipe for answers")?);
        let session = String::new();
        Ok(Self { orders, answers, last: 0, session, _running: running, _profile: profile })
    }

    /// The page at `url` as markup, once all that is `wanted` stands in it.
    pub(crate) async fn page(&mut self, url: &str, wanted: &[&str]) -> Result<String> {
        let opened = self.tell("Target.createTarget", json!({ "url": url }), None).await?;
        let target = json!({ "targetId": opened["targetId"], "flatten": true });
        let attached = self.tell("Target.attachToTarget", target, None).await?;
        attached["sessionId"].as_str().context("a session")?.clone_into(&mut self.session);
        self.look(wanted).await
    }

    /// The page that was opened last, as markup, once all that is `wanted` stands in it.
    pub(crate) async fn look(&mut self, wanted: &[&str]) -> Result<String> {
        let session = self.session.clone();
        let mut page = String::new();
        let look = async {
            while !wanted.iter().all(|text| page.contains(text)) {
                let look = json!({ "expression": "document.documentElement.outerHTML" });
                let seen = self.tell("Runtime.evaluate", look, Some(&session)).await?;
                page = seen["result"]["value"].as_str().unwrap_or_default().to_owned();
            }
            anyhow::Ok(())
        };
        match timeout(SOON, look).await {
            Ok(looked) => looked.map(|()| page),
            Err(_) => bail!("not all of {wanted:?} in {page}"),
        }
    }

    /// A key goes down and up again. `text`: what it writes.
    pub(crate) async fn press(&mut self, key: &str, text: &str) -> Result<()> {
        let session = self.session.clone();
        let code = if key == "Tab" { 9 } else { 13 };
        for kind in ["keyDown", "keyUp"] {
            let mut event =
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.tell("Input.dispatchKeyEvent", event, Some(&session)).await?;
        }
        Ok(())
    }

    async fn tell(&mut self, method: &str, params: Value, session: Option<&str>) -> Result<Value> {
        self.last += 1;
        let mut order = json!({ "id": self.last, "method": method, "params": params });
        if let Some(session) = session {
            order["sessionId"] = session.into();
        }
        self.orders.write_all(format!("{order}\0").as_bytes()).await?;
        let answered = async {
            loop {
                let mut answer = Vec::new();
                self.answers.read_until(0, &mut answer).await?;
                let answer = answer.strip_suffix(&[0]).context("the browser has ended")?;
                let answer: Value = serde_json::from_slice(answer)?;
                if answer["id"] == self.last {
                    return Ok(answer["result"].clone());
                }
            }
        };
        timeout(SOON, answered).await?
    }
}
