//! The figures as tables of Markdown, for a terminal and for the document.

use crate::churn::READ_AFTER;
use crate::placement::{Attack, Defence};
use crate::scale::{Work, by_doubling};
use crate::split::Rejoin;
use crate::standard::{self, BUCKETS};

/// The parts of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Tables, hops and requests by the number of peers; dead peers.
    Table,
    /// Peers that come and go.
    Churn,
    /// Liars, and identities that lie nearest to a key.
    Sybil,
    /// A split network.
    Split,
}

impl Part {
    /// Each of them, in the order of the document.
    pub const ALL: [Self; 4] = [Self::Table, Self::Churn, Self::Sybil, Self::Split];

    /// What it is called on the command line and in the document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Churn => "churn",
            Self::Sybil => "sybil",
            Self::Split => "split",
        }
    }

    /// Its tables.
    pub fn text(self) -> String {
        match self {
            Self::Table => format!("{}\n{}\n{}", scale(), lines(), dead()),
            Self::Churn => format!("{}\n{}", churn(), survival()),
            Self::Sybil => format!("{}\n{}\n{}", liars(), placement(), crowd()),
            Self::Split => split(),
        }
    }
}

fn scale() -> String {
    let head = [
        "peers",
        "k",
        "peers in a table",
        "hops",
        "most hops",
        "requests until the nearest is heard of",
        "requests",
        "found",
    ];
    table(&head, standard::scale().iter().map(work))
}

fn work(row: &Work) -> Vec<String> {
    vec![
        thousands(row.peers),
        row.k.to_string(),
        format!("{:.1}", row.table),
        format!("{:.2}", row.hops),
        row.hops_max.to_string(),
        format!("{:.2}", row.requests_to_hear),
        format!("{:.1}", row.requests),
        percent(row.found as f64 / row.lookups as f64),
    ]
}

fn lines() -> String {
    let row = |k| {
        let rows: Vec<_> = standard::scale().iter().filter(|row| row.k == k).copied().collect();
        let line = by_doubling(&rows, |row| row.hops);
        let values = [line.at_zero, line.rise, line.fit].map(|value| format!("{value:.3}"));
        [vec![k.to_string()], values.to_vec()].concat()
    };
    table(&["k", "hops of one peer (a)", "hops by each doubling (b)", "R²"], BUCKETS.map(row))
}

fn dead() -> String {
    let row = |(dead, row): &(f64, Work)| {
        let found = percent(row.found as f64 / row.lookups as f64);
        vec![percent(*dead), format!("{:.2}", row.hops), format!("{:.1}", row.requests), found]
    };
    table(&["dead", "hops", "requests", "found"], standard::dead().iter().map(row))
}

fn churn() -> String {
    let row = |row: &crate::churn::Churn| {
        let failed = percent(row.failed as f64 / row.lookups as f64);
        let counts = [thousands(row.peers), percent(row.leaving), thousands(row.lookups)];
        [counts.to_vec(), vec![failed, format!("{:.1}", row.requests)]].concat()
    };
    let head = ["peers", "leave each minute", "lookups", "failed", "requests"];
    table(&head, standard::churn().iter().map(row))
}

fn survival() -> String {
    let minutes = READ_AFTER.map(|minutes| format!("found after {minutes} min"));
    let head: Vec<_> =
        ["leave each minute"].into_iter().chain(minutes.iter().map(String::as_str)).collect();
    let row = |row: &crate::churn::Survival| {
        let found = row.found.iter().copied().map(percent);
        [percent(row.leaving)].into_iter().chain(found).collect()
    };
    table(&head, standard::survival().iter().map(row))
}

fn liars() -> String {
    let row = |row: &crate::liars::Read| {
        let counts =
            [thousands(row.peers), percent(row.lying), row.paths.to_string(), row.alpha.to_string()];
        [counts.to_vec(), vec![percent(row.found), format!("{:.1}", row.requests)]].concat()
    };
    let head = ["peers", "lie", "paths", "each asks at once", "found", "requests"];
    table(&head, standard::liars().iter().map(row))
}

fn placement() -> String {
    let names = Defence::ALL.map(|defence| defence.to_string());
    let head: Vec<_> =
        ["identities", "IP networks"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let row = |attack: Attack| {
        let of_row = standard::placement().iter().filter(|cell| cell.attack == attack);
        let of = [attack.sybils, attack.groups].map(|count| count.to_string());
        of.into_iter().chain(of_row.map(|cell| percent(cell.share))).collect()
    };
    table(&head, Attack::ALL.map(row))
}

fn crowd() -> String {
    let row = |row: &crate::crowd::Hidden| {
        let counts = [thousands(row.peers), row.also.to_string()];
        [counts.to_vec(), vec![format!("{:.0}", row.told), percent(row.share)]].concat()
    };
    let head = ["peers", "also told", "honest ones told", "readers that do not find it"];
    table(&head, standard::crowd().iter().map(row))
}

fn split() -> String {
    let row = |row: &crate::split::Heal| {
        let rejoin = match row.rejoin {
            Rejoin::OwnHalf => "dial bootstraps of their own half",
            Rejoin::Redial => "dial bootstraps of both halves",
            Rejoin::Ask => "and ask them who is near",
        };
        let figures = [row.before, row.split].into_iter().chain(row.healed).map(percent);
        [rejoin.to_owned()].into_iter().chain(figures).collect()
    };
    let times = ["joined again", "after 1 refresh", "after 2", "after 3"];
    let head = ["peers", "before", "split: of the own half"].into_iter().chain(times);
    table(&head.collect::<Vec<_>>(), standard::heal().iter().map(row))
}

fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let names: Vec<_> = head.iter().map(|&name| name.to_owned()).collect();
    let rule = format!("|{}\n", "---|".repeat(head.len()));
    let rows: String = rows.into_iter().map(|row| line(&row)).collect();
    line(&names) + &rule + &rows
}

fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}

fn thousands(count: usize) -> String {
    match count / 1_000 {
        0 => count.to_string(),
        thousands => format!("{thousands},{:03}", count % 1_000),
    }
}
