//! Goes through the steps of the runbook.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;

use super::stage::Stage;
use super::{Condition, Machine, Relation, Runbook, Sight, Step, Topology};
use crate::process::Event;

/// What came of a rehearsal.
#[derive(Debug)]
pub struct Rehearsal {
    /// What was rehearsed.
    pub topology: Topology,
    /// The steps that were done, the one that failed included.
    pub done: Vec<Done>,
    /// Why it ended before the last step.
    pub failure: Option<String>,
    /// What each machine said.
    pub events: BTreeMap<Machine, Vec<Event>>,
    /// For a person who wants to know why it failed: not to be published.
    pub said: String,
    pub(super) addresses: Vec<(Ipv4Addr, &'static str)>,
    pub(super) variables: BTreeMap<String, String>,
}

/// A step that was done.
#[derive(Debug)]
pub struct Done {
    /// The step.
    pub step: Step,
    /// What was seen of what it says: the event, and how long after the begin.
    pub seen: Vec<(String, Duration)>,
    /// Bytes at the relay's link up to the end of the step.
    pub relay_link_bytes: u64,
    /// Bytes between the routers of server and client up to the end of the step; none where no router is between.
    pub direct_bytes: Option<u64>,
}

/// Builds the networks of `topology` and does what the runbook says for it, up to the first step after which
/// something else is to be seen than it says.
///
/// # Errors
///
/// If the lab cannot be built or measured. That a step fails is [`Rehearsal::failure`].
pub async fn rehearse(topology: Topology, runbook: &Runbook) -> Result<Rehearsal> {
    let mut player = Player::new(Stage::build(topology)?, topology);
    let mut done = Vec::new();
    let mut failure = None;
    for step in runbook.steps(topology) {
        let at = Timestamp::now();
        let mut seen = Vec::new();
        let outcome = player.play(step, at, &mut seen).await;
        let (relay_link_bytes, direct_bytes) =
            (player.stage.relay_link_bytes()?, player.stage.direct_bytes()?);
        done.push(Done { step: step.clone(), seen, relay_link_bytes, direct_bytes });
        if let Err(error) = outcome {
            let Step { line, machine, advice, .. } = step;
            failure = Some(format!(
                "The step on {machine} in line {line} of the runbook: {error:#}.\nIf not: {advice}"
            ));
            break;
        }
    }
    let Player { stage, variables, .. } = player;
    let events = Machine::ALL.map(|machine| (machine, stage.events(machine))).into();
    let (said, addresses) = (stage.all_that_was_said(), stage.addresses());
    Ok(Rehearsal { topology, done, failure, events, said, addresses, variables })
}

/// Whoever follows the runbook, with what was noted so far.
struct Player {
    stage: Stage,
    topology: Topology,
    variables: BTreeMap<String, String>,
}

impl Player {
    fn new(stage: Stage, topology: Topology) -> Self {
        Self { topology, variables: stage.given(), stage }
    }

    async fn play(
        &mut self,
        step: &Step,
        at: Timestamp,
        seen: &mut Vec<(String, Duration)>,
    ) -> Result<()> {
        let printed = self.stage.enter(step.machine, &step.script, &self.variables).await?;
        for sight in step.sights.iter().filter(|sight| sight.is_in(self.topology)) {
            match sight {
                Sight::Printed { note } => {
                    let line = printed.trim_end();
                    ensure!(!line.is_empty() && !line.contains('\n'), "it printed {printed:?}");
                    self.variables.insert(note.clone(), line.to_owned());
                }
                Sight::Never { machine, event } => {
                    let found =
                        self.stage.events(*machine).into_iter().find(|said| said.name() == event);
                    ensure!(found.is_none(), "{machine} said `{event}`, which was never to be seen");
                }
                Sight::Event { machine, event, note, .. } => {
                    let said = self.wait_for(sight, at).await?;
                    seen.push((format!("`{event}` on {machine}"), after(&said, at)?));
                    if let Some((field, name)) = note {
                        let text = said.text(field).with_context(|| format!("no text in `{field}`"))?;
                        self.variables.insert(name.clone(), text.to_owned());
                    }
                }
            }
        }
        Ok(())
    }

    /// The event that `sight` is about, of a step that began `at`.
    async fn wait_for(&self, sight: &Sight, at: Timestamp) -> Result<Event> {
        let Sight::Event { machine, within, by_now, event, conditions, .. } = sight else {
            bail!("not about an event: {sight:?}");
        };
        let until = at + *within;
        let is_meant = |said: &Event| {
            let all = || conditions.iter().all(|condition| condition.holds(said, &self.variables));
            let at_its_time = |time| (*by_now || time >= at) && time <= until;
            said.name() == event && all() && said.time().is_ok_and(at_its_time)
        };
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            // Asked before the look, so that what is written meanwhile is not missed.
            let is_over = Timestamp::now() > until;
            if let Some(said) = self.stage.events(*machine).into_iter().find(is_meant) {
                return Ok(said);
            }
            if is_over {
                let said: Vec<String> = conditions.iter().map(Condition::to_string).collect();
                let with = if said.is_empty() { "" } else { " with " };
                bail!("no `{event}`{with}{} on {machine} within {within:?}", said.join(" and "));
            }
        }
    }
}

impl Condition {
    fn holds(&self, said: &Event, variables: &BTreeMap<String, String>) -> bool {
        let named = self.value.strip_prefix('$');
        let Some(value) = named.map_or(Some(&self.value), |name| variables.get(name)) else {
            return false;
        };
        let (text, number) = (said.text(&self.field), said.number(&self.field));
        let compares = |is: fn(u64, u64) -> bool| {
            number.zip(value.parse().ok()).is_some_and(|(field, value)| is(field, value))
        };
        match self.relation {
            Relation::Is => text == Some(value.as_str()) || compares(|field, value| field == value),
            Relation::Above => compares(|field, value| field > value),
            Relation::Below => compares(|field, value| field < value),
            Relation::Contains => text.is_some_and(|text| text.contains(value.as_str())),
        }
    }
}

/// How long after `start` it was said; nothing if it was before.
pub(super) fn after(said: &Event, start: Timestamp) -> Result<Duration> {
    Ok(Duration::try_from(said.time()?.duration_since(start)).unwrap_or_default())
}

/// How often the files of events are looked into.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_condition_compares_texts_numbers_and_what_was_noted() {
        let said = Event::parse(r#"{"event":"e","path":"relayed","bytes":7,"sum":"ab"}"#).unwrap();
        let variables = BTreeMap::from([("SUM".to_owned(), "ab".to_owned())]);
        let holds = |field: &str, relation, value: &str| {
            let condition = Condition { field: field.to_owned(), relation, value: value.to_owned() };
            condition.holds(&said, &variables)
        };
        assert!(holds("path", Relation::Is, "relayed") && !holds("path", Relation::Is, "direct"));
        assert!(holds("path", Relation::Contains, "lay") && !holds("path", Relation::Contains, "dir"));
        assert!(holds("bytes", Relation::Is, "7") && holds("bytes", Relation::Above, "6"));
        assert!(!holds("bytes", Relation::Above, "7") && !holds("bytes", Relation::Below, "7"));
        assert!(holds("sum", Relation::Is, "$SUM") && !holds("sum", Relation::Is, "$OTHER"));
        assert!(!holds("missing", Relation::Below, "7") && !holds("missing", Relation::Is, "$OTHER"));
    }
}
