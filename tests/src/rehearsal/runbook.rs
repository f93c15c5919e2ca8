//! Reads `design/runbook.md`, which people read too: strictly, so that nothing in it is passed over in a rehearsal.
//!
//! A section is for the topologies in its line `For:`; one without that line has no steps. A step is a block whose
//! fence names a machine, and the list under it: what must be seen, and what to do if it is not.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::text::{Cursor, Unclear};
use super::{Machine, Topology};

/// The runbook: its steps, in their order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Runbook {
    steps: Vec<Step>,
}

impl Runbook {
    /// The steps that are for `topology`.
    pub fn steps(&self, topology: Topology) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.topologies.contains(&topology))
    }
}

/// Something to type, and what must be seen then.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// The heading of its section.
    pub section: String,
    /// Where its block begins in the file, counted from 1.
    pub line: usize,
    /// Where it is typed.
    pub machine: Machine,
    /// What is typed.
    pub script: String,
    /// What must be seen, in this order.
    pub sights: Vec<Sight>,
    /// What to do if it is not.
    pub advice: String,
    topologies: Vec<Topology>,
}

/// Something that must be seen after a step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sight {
    /// The step prints one line, which is noted.
    Printed {
        /// The variable for it.
        note: String,
    },
    /// An event.
    Event {
        /// On which machine.
        machine: Machine,
        /// Counted from the begin of the step.
        within: Duration,
        /// Whether one from before the step will do.
        by_now: bool,
        /// None: in each topology of the step.
        only_in: Vec<Topology>,
        /// Its name.
        event: String,
        /// What it must say.
        conditions: Vec<Condition>,
        /// One of its fields, and the variable for it.
        note: Option<(String, String)>,
    },
    /// There was no such event up to here.
    Never {
        /// On which machine.
        machine: Machine,
        /// Its name.
        event: String,
    },
}

/// What a field of an event must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Condition {
    /// Its name.
    pub field: String,
    /// How it relates to `value`.
    pub relation: Relation,
    /// A text, a number, or `$` and a variable.
    pub value: String,
}

/// How a field relates to a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Relation {
    /// They are equal.
    Is,
    /// The field is a greater number.
    Above,
    /// The field is a smaller number.
    Below,
    /// The field is a text with the value in it.
    Contains,
}

/// The runbook says something that a rehearsal would not understand.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("runbook, line {line}: {problem}")]
pub struct RunbookError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub problem: String,
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` {} `{}`", self.field, self.relation.sign(), self.value)
    }
}

impl Relation {
    const ALL: [Self; 4] = [Self::Is, Self::Above, Self::Below, Self::Contains];

    fn sign(self) -> &'static str {
        match self {
            Self::Is => "=",
            Self::Above => ">",
            Self::Below => "<",
            Self::Contains => "contains",
        }
    }
}

impl FromStr for Runbook {
    type Err = RunbookError;

    fn from_str(text: &str) -> Result<Self, RunbookError> {
        let mut reader = Reader::default();
        let mut lines = text.lines().zip(1..).peekable();
        while let Some((text, line)) = lines.next() {
            let wrong = |problem: String| RunbookError { line, problem };
            if let Some(heading) = text.strip_prefix('#') {
                reader.end_step()?;
                reader.section = heading.trim_start_matches('#').trim().to_owned();
                reader.topologies.clear();
            } else if let Some(names) = text.strip_prefix("For: ") {
                reader.topologies = Cursor::new(names).whole(Cursor::names).map_err(wrong)?;
            } else if let Some(fence) = text.strip_prefix("```") {
                reader.end_step()?;
                let script: Vec<&str> =
                    lines.by_ref().map(|(text, _)| text).take_while(|text| *text != "```").collect();
                reader.begin_step(fence, script.join("\n"), line).map_err(wrong)?;
            } else if let Some(item) = text.strip_prefix("- ") {
                let mut item = item.to_owned();
                while let Some((more, _)) = lines.next_if(|(text, _)| text.starts_with("  ")) {
                    item = format!("{item} {}", more.trim());
                }
                reader.item(&item).map_err(wrong)?;
            }
        }
        reader.end_step()?;
        Ok(Self { steps: reader.done })
    }
}

/// Where a reader is.
#[derive(Default)]
struct Reader {
    section: String,
    topologies: Vec<Topology>,
    step: Option<Step>,
    done: Vec<Step>,
}

impl Reader {
    fn begin_step(&mut self, fence: &str, script: String, line: usize) -> Result<(), String> {
        let machine = fence.strip_prefix("sh ").ok_or("a block begins with ```sh MACHINE")?;
        let machine = machine.parse().map_err(|unclear: Unclear| unclear.to_string())?;
        if self.topologies.is_empty() {
            return Err("a step in a section that does not say `For:` which topologies it is".to_owned());
        }
        self.step = Some(Step {
            section: self.section.clone(),
            line,
            machine,
            script,
            sights: Vec::new(),
            advice: String::new(),
            topologies: self.topologies.clone(),
        });
        Ok(())
    }

    fn item(&mut self, item: &str) -> Result<(), String> {
        let step = self.step.as_mut().ok_or("a list that is not under a step")?;
        match item.strip_prefix("If not: ") {
            Some(advice) if step.advice.is_empty() => step.advice = advice.to_owned(),
            Some(_) => return Err("a second `If not:`".to_owned()),
            None => step.sights.push(Cursor::new(item).whole(sight)?),
        }
        Ok(())
    }

    /// A step is complete if whoever takes it knows what must be seen, in each topology, and what to do if it is not.
    fn end_step(&mut self) -> Result<(), RunbookError> {
        let Some(step) = self.step.take() else { return Ok(()) };
        let seen_in = |topology: &Topology| step.sights.iter().any(|sight| sight.is_in(*topology));
        let problem = match step.topologies.iter().find(|topology| !seen_in(topology)) {
            Some(topology) => format!("nothing is to be seen in {topology} after this step"),
            None if step.advice.is_empty() => "this step does not say what to do `If not:`".to_owned(),
            None => {
                self.done.push(step);
                return Ok(());
            }
        };
        Err(RunbookError { line: step.line, problem })
    }
}

impl Sight {
    /// Whether it is to be seen in `topology`, if the step is for it.
    pub fn is_in(&self, topology: Topology) -> bool {
        match self {
            Self::Event { only_in, .. } => only_in.is_empty() || only_in.contains(&topology),
            Self::Printed { .. } | Self::Never { .. } => true,
        }
    }
}

fn sight(text: &mut Cursor) -> Result<Sight, Unclear> {
    if text.skip("See one line printed; note it as ") {
        return Ok(Sight::Printed { note: text.name()? });
    }
    if text.skip("Never on ") {
        let machine = text.until(": ")?.parse()?;
        return Ok(Sight::Never { machine, event: text.name()? });
    }
    text.expect("See ")?;
    let by_now = text.skip("by now ");
    text.expect("on ")?;
    let machine = text.until(" within ")?.parse()?;
    let within = Duration::from_secs(text.number()?);
    text.expect(" s")?;
    let only_in = if text.skip(", in ") { text.names()? } else { Vec::new() };
    text.expect(": ")?;
    let event = text.name()?;
    let mut conditions = Vec::new();
    while text.skip(if conditions.is_empty() { " with " } else { " and " }) {
        conditions.push(condition(text)?);
    }
    let note = if text.skip("; note its ") {
        let field = text.name()?;
        text.expect(" as ")?;
        Some((field, text.name()?))
    } else {
        None
    };
    Ok(Sight::Event { machine, within, by_now, only_in, event, conditions, note })
}

fn condition(text: &mut Cursor) -> Result<Condition, Unclear> {
    let field = text.name()?;
    let found = Relation::ALL.into_iter().find(|relation| text.skip(&format!(" {} ", relation.sign())));
    let relation = found.ok_or_else(|| text.unclear("`=`, `<`, `>` or `contains`"))?;
    Ok(Condition { field, relation, value: text.name()? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::*;

    const SECTION: &str = "## A\n\nFor: `lan`\n\n";
    const BLOCK: &str = "```sh relay\ntrue\n```\n";

    fn problem(text: &str) -> (usize, String) {
        let RunbookError { line, problem } = text.parse::<Runbook>().unwrap_err();
        (line, problem)
    }

    fn committed() -> Runbook {
        super::super::RUNBOOK.parse().unwrap()
    }

    #[test]
    fn the_committed_runbook_is_understood_and_has_steps_for_every_topology() {
        let runbook = committed();
        for topology in Topology::ALL {
            assert!(runbook.steps(topology).count() >= 8, "{topology}");
        }
    }

    #[test]
    fn the_runbook_uses_only_variables_that_are_known_by_then() {
        let runbook = committed();
        for topology in Topology::ALL {
            let mut known: BTreeSet<String> =
                super::super::GIVEN.map(str::to_owned).into_iter().collect();
            for step in runbook.steps(topology) {
                for used in variables(&step.script) {
                    assert!(known.contains(used), "line {}: {used} in {topology}", step.line);
                }
                for sight in step.sights.iter().filter(|sight| sight.is_in(topology)) {
                    let (conditions, note) = match sight {
                        Sight::Printed { note } => (&[][..], Some(note)),
                        Sight::Event { conditions, note, .. } => {
                            (&conditions[..], note.as_ref().map(|(_, name)| name))
                        }
                        Sight::Never { .. } => (&[][..], None),
                    };
                    let mut used = conditions.iter().flat_map(|condition| variables(&condition.value));
                    assert!(used.all(|used| known.contains(used)), "line {}: {sight:?}", step.line);
                    known.extend(note.cloned());
                }
            }
        }
    }

    /// What follows each `$`, without `$!` and `$(…)`.
    fn variables(text: &str) -> impl Iterator<Item = &str> {
        let named =
            |rest: &'_ str| rest.find(|c: char| !c.is_ascii_uppercase() && !"_0123456789".contains(c));
        let name = move |rest| str::split_at(rest, named(rest).unwrap_or(rest.len())).0;
        text.split('$').skip(1).map(name).filter(|name| !name.is_empty())
    }

    #[test]
    fn the_runbook_names_only_events_that_are_described() {
        let described = include_str!("../../../design/events.md");
        for sight in committed().steps.iter().flat_map(|step| &step.sights) {
            if let Sight::Event { event, .. } | Sight::Never { event, .. } = sight {
                assert!(described.contains(&format!("\n## `{event}`\n")), "{event}");
            }
        }
    }

    #[test]
    fn all_that_a_sight_says_is_read() {
        let text = "- See by now on relay-2 within 5 s, in `lan`: `load_done` with `bytes` > `7` and `path` contains \
                    `rel`;\n  note its `sha256` as `SUM`\n- If not: wait.\n";
        let runbook: Runbook = format!("{SECTION}{BLOCK}{text}").parse().unwrap();
        let condition = |field: &str, relation, value: &str| Condition {
            field: field.to_owned(),
            relation,
            value: value.to_owned(),
        };
        let expected = Sight::Event {
            machine: Machine::Relay2,
            within: Duration::from_secs(5),
            by_now: true,
            only_in: vec![Topology::Lan],
            event: "load_done".to_owned(),
            conditions: vec![
                condition("bytes", Relation::Above, "7"),
                condition("path", Relation::Contains, "rel"),
            ],
            note: Some(("sha256".to_owned(), "SUM".to_owned())),
        };
        assert_eq!(runbook.steps[0].sights, [expected]);
        assert_eq!((runbook.steps[0].script.as_str(), runbook.steps[0].line), ("true", 5));
    }

    #[test]
    fn what_is_not_understood_is_an_error_with_its_line() {
        let seen = "- See on relay within 5 s: `stopped`\n- If not: wait.\n";
        let cases = [
            ("## A\n\nFor: `wan`\n".to_owned(), 3, "wan"),
            (format!("## A\n\n{BLOCK}{seen}"), 3, "For:"),
            (format!("{SECTION}```sh\n```\n{seen}"), 5, "MACHINE"),
            (format!("{SECTION}```sh laptop\n```\n{seen}"), 5, "laptop"),
            (format!("{SECTION}{seen}"), 5, "not under a step"),
            (format!("{SECTION}{BLOCK}- Look at `stopped`\n"), 8, "See"),
            (format!("{SECTION}{BLOCK}- See on relay within soon s: `stopped`\n"), 8, "number"),
            (format!("{SECTION}{BLOCK}- See on relay within 5 s: stopped\n"), 8, "stopped"),
            (format!("{SECTION}{BLOCK}- See on relay within 5 s: `stopped` perhaps\n"), 8, "perhaps"),
            (format!("{SECTION}{BLOCK}- See on relay within 5 s: `stopped`\n"), 5, "If not:"),
            (format!("{SECTION}{BLOCK}- If not: wait.\n"), 5, "nothing is to be seen in lan"),
            (format!("{SECTION}{BLOCK}{seen}- If not: run.\n"), 10, "second"),
        ];
        for (text, line, named) in cases {
            let found = problem(&text);
            assert!(found.0 == line && found.1.contains(named), "{text}: {found:?}");
        }
    }
}
