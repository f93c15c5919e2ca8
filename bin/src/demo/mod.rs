//! `punchline demo`: the whole story on one machine, checked.
//!
//! A relay, a server and a client, each its own process on loopback with its own identity: the server
//! reserves a place, the client reaches it through the relay, shakes hands and begins to send a load of
//! Kaspa messages; both upgrade to a direct connection, the live session moves there with data in
//! flight, and the relay's counters stand still. `stage` runs the processes, `story` collects what happened and
//! judges it, `show` tells it to people.

mod show;
mod stage;
mod story;

use std::time::Duration;

use self::{
    stage::{Actor, Stage},
    story::{Scene, Story},
};

/// What the load brings over the direct path, besides what went through the relay. Large enough that the
/// relay could not hide it.
pub(crate) const LOAD_MIB: u64 = 16;

/// For each thing to happen. All of it takes a few seconds; a busy machine may need more.
const SCENE_DEADLINE: Duration = Duration::from_secs(30);

/// For the load to arrive: what a build without optimisation needs when a dozen demos share a core.
const LOAD_DEADLINE: Duration = Duration::from_secs(180);

/// Runs the demo; with `json`, prints one JSON object at the end and nothing else, also if it fails.
///
/// # Errors
/// If a process cannot be run, something does not happen in time, or a claim does not hold.
pub async fn run(json: bool) -> anyhow::Result<()> {
    let mut show = show::Show::new(json);
    show.title();
    let mut stage = Stage::new()?;
    let mut story = Story::default();
    let outcome = tokio::select! {
        outcome = play(&mut stage, &mut show, &mut story) => outcome,
        () = crate::stop::told() => Err(anyhow::anyhow!("interrupted; nothing was concluded")),
    };
    if let Err(error) = outcome {
        stage.kill().await;
        let error = error.context(stage.complaints());
        story.broke_off(format!("{error:#}"));
        show.broken_off(&story)?;
        return Err(error);
    }
    show.verdict(&story)?;
    match story.claims().iter().find(|claim| !claim.holds) {
        None => Ok(()),
        Some(claim) => anyhow::bail!("the claim `{}` does not hold: {}", claim.text, claim.measured),
    }
}

async fn play(stage: &mut Stage, show: &mut show::Show, story: &mut Story) -> anyhow::Result<()> {
    let relay = stage.spawn(Actor::Relay, &["--external", "auto"])?;
    let listening = until(stage, show, story, Scene::RelayListening).await?;
    let relay = format!("{}/p2p/{relay}", listening.text("address"));

    let server = stage.spawn(Actor::Server, &["--relay", &relay])?;
    until(stage, show, story, Scene::ReservationHeld).await?;

    let load = LOAD_MIB.to_string();
    let client = ["--relay", &relay, "--peer", &server, "--load-mib", &load, "--load-until-direct"];
    stage.spawn(Actor::Client, &client)?;
    for scene in [
        Scene::RelayedConnection,
        Scene::RelayedStream,
        Scene::Session,
        Scene::Upgraded,
        Scene::Moved,
        Scene::LoadSent,
        Scene::LoadReceived,
    ] {
        until(stage, show, story, scene).await?;
    }
    for actor in [Actor::Client, Actor::Server, Actor::Relay] {
        let status = stage.terminate(actor).await?;
        story.exited(actor, status);
        while let Some(seen) = stage.seen_last() {
            show.event(&seen);
            story.add(seen);
        }
    }
    Ok(())
}

/// Lets the story go on until `scene` has happened.
async fn until(
    stage: &mut Stage,
    show: &mut show::Show,
    story: &mut Story,
    scene: Scene,
) -> anyhow::Result<stage::Seen> {
    let wait = async {
        loop {
            if let Some(seen) = story.find(scene) {
                return Ok(seen.clone());
            }
            let seen = stage.next().await?;
            show.event(&seen);
            story.add(seen.clone());
            if seen.name() == "session_ended" {
                anyhow::bail!("the {}'s session ended: {}", seen.actor, seen.text("cause"));
            }
        }
    };
    let deadline = if scene == Scene::LoadSent { LOAD_DEADLINE } else { SCENE_DEADLINE };
    tokio::time::timeout(deadline, wait)
        .await
        .unwrap_or_else(|_| anyhow::bail!("{scene} did not happen within {} s", deadline.as_secs()))
}
