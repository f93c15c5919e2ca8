//! One run of one cell.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::timeout;

use super::{Cell, Expected, Outcome};
use crate::lab::LabSpec;
use crate::process::{Event, Program};
use crate::scene::{Cast, Scene};

/// What a run came to, and all that the three programs printed.
#[derive(Debug)]
pub struct Run {
    /// The pair of NATs.
    pub cell: Cell,
    /// What became of the session.
    pub outcome: Outcome,
    /// For a person who wants to know why.
    pub report: String,
}

impl Cell {
    /// Builds a lab in which packets between a host and the relay take `one_way`, starts relay, server and client in
    /// it, and waits for what becomes of their session.
    pub async fn run(self, one_way: Duration) -> Run {
        self.run_in(&LabSpec::new([self.server, self.client]).delay(one_way)).await
    }

    /// As [`Cell::run`], in a lab of another make with the server behind router 0 and the client behind router 1.
    pub async fn run_in(self, spec: &LabSpec) -> Run {
        let broken = |error: anyhow::Error| {
            let report = format!("{error:#}");
            let why = report.lines().next().unwrap_or_default().to_owned();
            Run { cell: self, outcome: Outcome::Broken { why }, report }
        };
        self.attempt(spec).await.unwrap_or_else(broken)
    }

    async fn attempt(self, spec: &LabSpec) -> Result<Run> {
        let scene = Scene::prepare_over(spec, self.over.transports()).await?;
        let cast = Cast::start(&scene, &[]).await?;
        let outcome = self.watch(&scene, &cast).await;
        let outcome = outcome.unwrap_or_else(|error| {
            let why = error.to_string().lines().next().unwrap_or_default().to_owned();
            Outcome::Broken { why }
        });
        let report = [&cast.relay, &cast.server, &cast.client].map(Program::report).concat();
        Ok(Run { cell: self, outcome, report })
    }

    async fn watch(self, scene: &Scene, cast: &Cast) -> Result<Outcome> {
        cast.client.wait_for("session_ready", |_| true, SESSION_DEADLINE).await?;
        let (direct, failed) = (direct(scene, cast), cast.either("upgrade_failed", VERDICT_DEADLINE));
        tokio::pin!(direct, failed);
        let verdict = tokio::select! {
            opened = &mut direct => return opened.map_or(Ok(Outcome::Silent), |opened| took(scene, cast, &opened)),
            failed = &mut failed => failed.ok(),
        };
        // Who says that it failed may be wrong, or try again: where there is a way, that counts too.
        if self.expected() == Expected::Direct
            && let Ok(Some(opened)) = timeout(SECOND_THOUGHTS, direct).await
        {
            return took(scene, cast, &opened);
        }
        let Some(failed) = verdict else { return Ok(Outcome::Silent) };
        let reason = failed.text("reason").unwrap_or("none given").to_owned();
        Ok(Outcome::Relayed { reason, after: since_relayed(scene, cast, &failed)? })
    }
}

/// The client's first direct connection to the server; none if there is none within [`VERDICT_DEADLINE`].
async fn direct(scene: &Scene, cast: &Cast) -> Option<Event> {
    let opened = |event: &Event| is_connection(event, scene, "direct");
    cast.client.wait_for("connection_opened", opened, VERDICT_DEADLINE).await.ok()
}

fn took(scene: &Scene, cast: &Cast, opened: &Event) -> Result<Outcome> {
    let took = since_relayed(scene, cast, opened)?;
    Ok(Outcome::Direct { took, transport: opened.text("transport").unwrap_or("?").to_owned() })
}

/// From the client's first relayed connection to the server to `event`.
fn since_relayed(scene: &Scene, cast: &Cast, event: &Event) -> Result<Duration> {
    let events = cast.client.events();
    let is_relayed =
        |event: &&Event| event.name() == "connection_opened" && is_connection(event, scene, "relayed");
    let start = events.iter().find(is_relayed).or(events.first()).context("the client said nothing")?;
    let since = event.time()?.duration_since(start.time()?);
    // A direct connection may be there before the relayed one is.
    Ok(Duration::try_from(since).unwrap_or_default())
}

fn is_connection(event: &Event, scene: &Scene, path: &str) -> bool {
    event.has("peer", &scene.server_id) && event.has("path", path)
}

/// How long the client may take to have a session: it dials the relay, then a circuit, then shakes hands.
const SESSION_DEADLINE: Duration = Duration::from_secs(20);

/// How long a session may be relayed until it is direct, or somebody says why it is not.
const VERDICT_DEADLINE: Duration = Duration::from_secs(60);

/// How long a direct connection that is possible is waited for after a node said that there will be none.
const SECOND_THOUGHTS: Duration = Duration::from_secs(5);
