//! Whether discovery works, found out instead of assumed: six steps, each with a verdict, what it rests on, and what to do.
//!
//! 1. *table*: nodes of the DHT are known, and answer;
//! 2. *publish*: what this node says is kept by others, which give it back;
//! 3. *read*: a stranger with an empty table, who begins where this node began, reads the same bytes;
//! 4. *peers*: somebody else is found, by which source;
//! 5. *directions*: peers are reached, and reach this node, directly or through a relay;
//! 6. *members*: a stranger finds this node in its namespace, or in one of its own for the trial.
//!
//! [`gather`] asks a [`Dht`](crate::kad::Dht) and a stranger of this process, thinly; who has connections adds what it
//! knows of [`Peers`] and [`Directions`]. [`judge`] makes verdicts of the [`Evidence`], pure: it knows no clock and no
//! network. A step blames what is wrong where it is: the ones after it that need it say so.

mod directions;
mod evidence;
mod gather;
mod judge;

#[cfg(test)]
mod tests;

use std::time::Duration;

use libp2p::PeerId;

pub use self::{
    evidence::{
        Answerer, Direction, Directions, Evidence, Kept, Members, Peers, Publish, Read, Route, Table,
        Timed, Way,
    },
    gather::{Gathered, PROBE_LIFETIME, gather},
    judge::judge,
};
pub use crate::kad::proofs::Witnesses;

/// What is thought of a step, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It does what it should.
    Pass,
    /// It works, with less than there could be.
    Warn,
    /// It does not.
    Fail,
}

impl Verdict {
    /// All, the best first.
    pub const ALL: [Self; 3] = [Self::Pass, Self::Warn, Self::Fail];

    /// Its name, for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Nodes are known.
    Table,
    /// What is said is kept.
    Publish,
    /// A stranger reads it.
    Read,
    /// Others are found.
    Peers,
    /// Peers are reached, and reach us.
    Directions,
    /// A stranger finds us in the namespace.
    Members,
}

impl Step {
    /// All, in order.
    pub const ALL: [Self; 6] =
        [Self::Table, Self::Publish, Self::Read, Self::Peers, Self::Directions, Self::Members];

    /// From 1 to 6.
    pub fn number(self) -> u8 {
        match self {
            Self::Table => 1,
            Self::Publish => 2,
            Self::Read => 3,
            Self::Peers => 4,
            Self::Directions => 5,
            Self::Members => 6,
        }
    }

    /// Its name, for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Peers => "peers",
            Self::Directions => "directions",
            Self::Members => "members",
        }
    }
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub step: Step,
    /// What to think of it.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
    /// What was found: a sentence without its full stop.
    pub found: String,
    /// What to do; none if it passes.
    pub advice: Option<String>,
    /// The peers that it rests on.
    pub peers: Vec<PeerId>,
    /// The keys that were looked for, in hexadecimal.
    pub keys: Vec<String>,
    /// What was counted.
    pub counts: Vec<(&'static str, usize)>,
    /// Of step 5, each way that was tried.
    pub ways: Vec<Way>,
}

/// What came of all six, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The steps.
    pub steps: [Finding; 6],
}

impl Report {
    /// The worst of the six.
    pub fn verdict(&self) -> Verdict {
        self.steps.iter().map(|step| step.verdict).max().unwrap_or(Verdict::Fail)
    }

    /// The first step that is worst: what to mend first.
    pub fn worst(&self) -> &Finding {
        let verdict = self.verdict();
        self.steps.iter().find(|step| step.verdict == verdict).unwrap_or(&self.steps[0])
    }
}
