//! `punchline demo`: the whole story on one machine, checked.
//!
//! A relay, a server and a client, each its own process on loopback with its own identity. The server
//! reserves a place, the client reaches it through the relay, shakes hands, and a load begins to run over
//! the session's stream. Only then the demo lets the two punch: the stream moves to the direct path. The
//! demo has the client close that connection: the stream goes back to the relay. The two may punch again,
//! and it moves once more. All of it with the load running. `stage` runs the processes and tells them what
//! to do, `story` keeps what happened, `claims` judges it, `show` tells it to people.
//!
//! The direct connection is closed, not made silent: on one machine there is no router to switch off, and
//! a forwarder between the two would make the direct path one that a third process is in. What happens when
//! a path goes silent is proven on real NATs (`tests/tests/moves`).

mod claims;
mod show;
mod stage;
mod story;

use std::time::Duration;

use self::{
    stage::{Actor, Stage},
    story::{Act, ENDS, Scene, Story},
};
use crate::{cli, rehearsal::Cue};

/// For each thing to happen. All of it takes a few seconds; a busy machine may need more.
const SCENE_DEADLINE: Duration = Duration::from_secs(30);

/// For the load to bring what it must: what a build without optimisation needs when a dozen demos share
/// a core.
const LOAD_DEADLINE: Duration = Duration::from_secs(180);

/// Of a scene, for whoever watches the page.
const LINGER: Duration = Duration::from_secs(6);

/// How often both ends are asked what they carried.
const COUNT_EVERY: Duration = Duration::from_millis(100);

/// Runs the demo; with `json`, prints one JSON object at the end and nothing else, also if it fails.
///
/// # Errors
/// If a process cannot be run, something does not happen in time, or a claim does not hold.
pub async fn run(settings: &cli::Demo) -> anyhow::Result<()> {
    let mut show = show::Show::new(settings.json);
    show.title();
    let page = settings.page.map(|page| page.to_string());
    let mut demo = Demo { stage: Stage::new()?, show, story: Story::default(), page };
    let outcome = tokio::select! {
        outcome = demo.play() => outcome,
        () = crate::stop::told() => Err(anyhow::anyhow!("interrupted; nothing was concluded")),
    };
    let Demo { mut stage, mut show, mut story, page: _ } = demo;
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

struct Demo {
    stage: Stage,
    show: show::Show,
    story: Story,
    /// Where the client is to be seen.
    page: Option<String>,
}

impl Demo {
    async fn play(&mut self) -> anyhow::Result<()> {
        let mut relay = vec!["--external", "auto", "--stun-listen", "off"];
        if self.page.is_some() {
            // It carries more than its limit while people watch.
            relay.extend(["--circuit-bytes", "0"]);
        }
        let relay = self.stage.spawn(Actor::Relay, &relay)?;
        self.until(Scene::RelayListening).await?;
        let listening = self.story.first(Actor::Relay, "listening");
        let address = listening.map(|seen| seen.text("address").to_owned()).unwrap_or_default();
        let relay = format!("{address}/p2p/{relay}");

        let server = self.stage.spawn(Actor::Server, &["--relay", &relay])?;
        self.until(Scene::ReservationHeld).await?;

        // It goes on until it is told to end; its size does not matter.
        let mut client = vec!["--relay", &relay, "--peer", &server, "--load-mib", "1"];
        let page = self.page.clone();
        client.extend(page.iter().flat_map(|page| ["--page", page]));
        self.stage.spawn(Actor::Client, &client)?;
        self.until(Scene::Session).await?;
        self.until(Scene::Carried(Act::First)).await?;
        self.linger().await?;
        self.cue(&ENDS, Cue::AllowUpgrades).await?;
        self.act(Act::Second).await?;
        self.stage.cue(&ENDS, Cue::HoldUpgrades).await?;
        self.cue(&[Actor::Client], Cue::CloseDirect).await?;
        self.act(Act::Third).await?;
        self.cue(&ENDS, Cue::AllowUpgrades).await?;
        self.act(Act::Fourth).await?;
        self.cue(&[Actor::Client], Cue::EndLoad).await?;
        self.until(Scene::LoadDone).await?;
        self.end().await
    }

    async fn act(&mut self, act: Act) -> anyhow::Result<()> {
        self.until(Scene::Moved(act)).await?;
        self.until(Scene::Carried(act)).await?;
        self.linger().await
    }

    /// Whoever watches the page sees what is.
    async fn linger(&mut self) -> anyhow::Result<()> {
        if self.page.is_none() {
            return Ok(());
        }
        let over = tokio::time::sleep(LINGER);
        tokio::pin!(over);
        loop {
            let seen = tokio::select! {
                () = &mut over => return Ok(()),
                seen = self.stage.next() => seen?,
            };
            self.take(seen);
        }
    }

    /// Has both ends counted, and then gives a cue.
    async fn cue(&mut self, actors: &[Actor], cue: Cue) -> anyhow::Result<()> {
        self.until(Scene::Counted(self.story.length())).await?;
        let seen = self.stage.cue(actors, cue).await?;
        self.take(seen);
        Ok(())
    }

    /// Ends the processes one by one.
    async fn end(&mut self) -> anyhow::Result<()> {
        let curtain = self.stage.curtain();
        self.take(curtain);
        for actor in [Actor::Client, Actor::Server, Actor::Relay] {
            let status = self.stage.terminate(actor).await?;
            self.story.exited(status.success());
            while let Some(seen) = self.stage.seen_last() {
                self.take(seen);
            }
        }
        Ok(())
    }

    fn take(&mut self, seen: stage::Seen) {
        self.story.add(seen.clone());
        self.show.event(&seen, &self.story);
    }

    /// Lets the story go on until `scene` has happened.
    async fn until(&mut self, scene: Scene) -> anyhow::Result<()> {
        let deadline = match scene {
            Scene::Carried(_) => LOAD_DEADLINE,
            _ => SCENE_DEADLINE,
        };
        tokio::time::timeout(deadline, self.wait(scene))
            .await
            .unwrap_or_else(|_| anyhow::bail!("{scene} did not happen within {} s", deadline.as_secs()))
    }

    async fn wait(&mut self, scene: Scene) -> anyhow::Result<()> {
        let counts = matches!(scene, Scene::Carried(_) | Scene::Counted(_));
        let mut turn = tokio::time::interval(COUNT_EVERY);
        while !self.story.has(scene) {
            let seen = tokio::select! {
                seen = self.stage.next() => seen?,
                _ = turn.tick(), if counts => {
                    self.stage.cue(&ENDS, Cue::ReportTraffic).await?;
                    continue;
                }
            };
            let ended = seen.name() == "session_ended";
            let why = format!("the {}'s session ended: {}", seen.actor, seen.text("cause"));
            self.take(seen);
            anyhow::ensure!(!ended, why);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
