//! What was measured beside what was expected, for a person to read.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{Cell, Expected, Outcome, Over, Run};
use crate::lab::Nat;

/// The outcomes of all runs, cell by cell.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<(Cell, Vec<Outcome>)>,
}

impl Table {
    /// An empty row for each of `cells`, in their order.
    pub fn new(cells: &[Cell]) -> Self {
        Self { rows: cells.iter().map(|&cell| (cell, Vec::new())).collect() }
    }

    /// Notes what a run came to.
    pub fn add(&mut self, run: &Run) {
        match self.rows.iter_mut().find(|(cell, _)| *cell == run.cell) {
            Some((_, outcomes)) => outcomes.push(run.outcome.clone()),
            None => self.rows.push((run.cell, vec![run.outcome.clone()])),
        }
    }

    /// How many runs did not come to what was expected of them.
    pub fn differences(&self) -> usize {
        let differ = |(cell, outcomes): &(Cell, Vec<Outcome>)| {
            outcomes.iter().filter(|outcome| !outcome.is(cell.expected())).count()
        };
        self.rows.iter().map(differ).sum()
    }

    fn grid(&self, over: Over, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<_> = self.rows.iter().filter(|(cell, _)| cell.over == over).collect();
        let Some((first, _)) = rows.first() else { return Ok(()) };
        let clients: Vec<Nat> = rows
            .iter()
            .take_while(|(cell, _)| cell.server == first.server)
            .map(|(cell, _)| cell.client)
            .collect();
        write!(formatter, "\n{:<16}", format!("{over}, client:"))?;
        clients.iter().try_for_each(|client| write!(formatter, "{client:>12}"))?;
        for line in rows.chunks(clients.len()) {
            write!(formatter, "\nserver {:<9}", line[0].0.server)?;
            for (cell, outcomes) in line {
                let mark = match outcomes.iter().all(|outcome| outcome.is(cell.expected())) {
                    true => " ",
                    false => "!",
                };
                write!(formatter, "{:>11}{mark}", summary(outcomes))?;
            }
        }
        let direct = rows.iter().filter(|(_, outcomes)| outcomes.iter().any(is_direct)).count();
        let possible = rows.iter().filter(|(cell, _)| cell.expected() == Expected::Direct).count();
        writeln!(formatter, "\n{direct} of {} cells direct, {possible} possible", rows.len())
    }

    fn lines(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (cell, outcomes) in &self.rows {
            let expected = cell.expected();
            let as_expected = outcomes.iter().filter(|outcome| outcome.is(expected)).count();
            let mark = if as_expected == outcomes.len() { ' ' } else { '!' };
            let Cell { over, server, client } = cell;
            let word = format!("{expected:?}").to_lowercase();
            write!(formatter, "{mark} {over:<5}{server:<9}{client:<9}{word:<8}")?;
            write!(formatter, "{:>7}", format!("{as_expected}/{}", outcomes.len()))?;
            match (quantile(outcomes, 50), quantile(outcomes, 95)) {
                (Some(half), Some(most)) => write!(formatter, "{:>8}{:>8}", millis(half), millis(most))?,
                _ => write!(formatter, "{:>8}{:>8}", "-", "-")?,
            }
            for (word, count) in words(outcomes) {
                write!(formatter, "  {count}× {word}")?;
            }
            writeln!(formatter)?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    /// A grid for each choice of transports, then a line for each cell.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "In a grid: the median time to direct in ms, or where the session stayed; `!` marks what"
        )?;
        writeln!(
            formatter,
            "was not expected. Times count from the client's first relayed connection to the server."
        )?;
        Over::ALL.into_iter().try_for_each(|over| self.grid(over, formatter))?;
        writeln!(formatter, "\n  over server   client   expected as exp.  p50 ms  p95 ms  outcomes")?;
        self.lines(formatter)
    }
}

/// What stands in a grid for the runs of a cell.
fn summary(outcomes: &[Outcome]) -> String {
    let direct = outcomes.iter().filter(|outcome| is_direct(outcome)).count();
    match (quantile(outcomes, 50), outcomes.first()) {
        (Some(half), _) if direct == outcomes.len() => millis(half),
        (Some(half), _) => format!("{} {direct}/{}", millis(half), outcomes.len()),
        (None, Some(Outcome::Silent)) => "silent".to_owned(),
        (None, Some(Outcome::Broken { .. })) => "broken".to_owned(),
        (None, Some(_)) => "relay".to_owned(),
        (None, None) => "-".to_owned(),
    }
}

/// What the runs of a cell came to, and how often.
fn words(outcomes: &[Outcome]) -> BTreeMap<String, usize> {
    let mut words = BTreeMap::new();
    let half = of(outcomes.iter().filter_map(told_after).collect(), 50).unwrap_or_default();
    for outcome in outcomes {
        let word = match outcome {
            Outcome::Direct { transport, .. } => format!("direct over {transport}"),
            Outcome::Relayed { reason, .. } => {
                format!("relay after {:.1} s: {reason}", half.as_secs_f64())
            }
            Outcome::Silent => "relay, and nobody said why".to_owned(),
            Outcome::Broken { why } => format!("no session: {why}"),
        };
        *words.entry(word).or_default() += 1;
    }
    words
}

fn told_after(outcome: &Outcome) -> Option<Duration> {
    match outcome {
        Outcome::Relayed { after, .. } => Some(*after),
        _ => None,
    }
}

/// The time to direct that `percent` of the direct runs did not exceed.
fn quantile(outcomes: &[Outcome], percent: usize) -> Option<Duration> {
    let took = |outcome: &Outcome| match outcome {
        Outcome::Direct { took, .. } => Some(*took),
        _ => None,
    };
    of(outcomes.iter().filter_map(took).collect(), percent)
}

/// The one of `times` that `percent` of them do not exceed.
fn of(mut times: Vec<Duration>, percent: usize) -> Option<Duration> {
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100);
    times.get(rank.checked_sub(1)?).copied()
}

fn is_direct(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Direct { .. })
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(millis: u64) -> Outcome {
        Outcome::Direct { took: Duration::from_millis(millis), transport: "tcp".to_owned() }
    }

    #[test]
    fn quantiles_are_of_the_direct_runs_alone() {
        let outcomes = [direct(30), Outcome::Silent, direct(10), direct(20)];
        assert_eq!(quantile(&outcomes, 50), Some(Duration::from_millis(20)));
        assert_eq!(quantile(&outcomes, 95), Some(Duration::from_millis(30)));
        assert_eq!(quantile(&[Outcome::Silent], 50), None);
    }

    #[test]
    fn one_reason_is_told_once_with_the_median_of_its_times() {
        let relayed = |seconds| Outcome::Relayed {
            reason: "because".to_owned(),
            after: Duration::from_secs(seconds),
        };
        let told: Vec<_> = words(&[relayed(3), relayed(1), relayed(2)]).into_iter().collect();
        assert_eq!(told, [("relay after 2.0 s: because".to_owned(), 3)]);
    }

    #[test]
    fn a_cell_that_came_out_otherwise_is_marked_and_counted() {
        let cells = Cell::all(&[Nat::FullCone, Nat::Symmetric], &[Over::Tcp]);
        let mut table = Table::new(&cells);
        for &cell in &cells {
            table.add(&Run { cell, outcome: direct(7), report: String::new() });
        }
        assert_eq!(table.differences(), 1, "symmetric and symmetric cannot be direct");
        let text = table.to_string();
        assert!(text.contains("4 of 4 cells direct, 3 possible"), "{text}");
        assert!(text.contains("! tcp  sym      sym      relayed     0/1"), "{text}");
    }
}
