//! Two nodes with a sidecar each, ready to meet.

use anyhow::{Result, anyhow};
use punchline_tests::kaspad::Kaspad;
use punchline_tests::process::{Event, Mark, Place, Program};
use tokio::try_join;

use crate::session::Session;
use crate::world::{DEADLINE, Forward, World};

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) acceptor: Kaspad,
    pub(crate) dialler: Kaspad,
    pub(crate) expose: Program,
    pub(crate) forward: Forward,
}

impl Scene {
    /// The accepting node, and what exposes it, at one place; the dialling one at another.
    pub(crate) async fn start(world: World, near: Place<'_>, far: Place<'_>) -> Result<Self> {
        let (acceptor, dialler) = try_join!(Kaspad::start(near), Kaspad::start(far))?;
        let expose = world.expose(near, "acceptor", &acceptor, &["dialler"]).await?;
        let forward = world.forward(far, "dialler", "acceptor").await?;
        Ok(Self { world, acceptor, dialler, expose, forward })
    }

    /// All on this machine.
    pub(crate) async fn on_loopback() -> Result<Self> {
        Self::start(World::on_loopback().await?, Place::Host, Place::Host).await
    }

    /// The nodes meet.
    pub(crate) async fn session(&self) -> Result<Session<'_>> {
        Session::dial(&self.dialler, self.forward.local, &self.acceptor).await
    }

    /// What the sidecars have done so far is the past.
    pub(crate) fn marks(&self) -> [Mark; 2] {
        [self.expose.mark(), self.forward.program.mark()]
    }

    /// Waits until each of the sidecars has seen, since `marks`, the stream move.
    pub(crate) async fn moved(&self, marks: [Mark; 2], to: &str) -> Result<()> {
        let there = |event: &Event| event.has("to", to);
        try_join!(
            self.expose.wait_for_after(marks[0], "stream_moved", there, DEADLINE),
            self.forward.program.wait_for_after(marks[1], "stream_moved", there, DEADLINE),
        )?;
        Ok(())
    }

    /// [`explain`] with all of them.
    pub(crate) fn explain<T>(&self, result: Result<T>) -> Result<T> {
        let programs = [self.world.relay(), &self.expose, &self.forward.program];
        explain(result, &programs, &[&self.acceptor, &self.dialler])
    }
}

/// `result`, whose error is followed by all that the programs and nodes printed.
pub(crate) fn explain<T>(result: Result<T>, programs: &[&Program], nodes: &[&Kaspad]) -> Result<T> {
    let programs = programs.iter().map(|program| program.report());
    let reports = programs.chain(nodes.iter().map(|node| node.report()));
    result.map_err(|error| anyhow!("{error:#}\n{}", reports.collect::<String>()))
}
