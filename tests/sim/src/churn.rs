//! Peers come and go.
//!
//! A minute has four steps: some leave without a word, as many come and join, keys are looked up, and a fifth of all
//! peers refresh their tables (each does every five minutes).

use crate::living::Living;

/// How lookups fared while peers came and went.
#[derive(Debug, Clone, Copy)]
pub struct Churn {
    /// How many peers are there at any time.
    pub peers: usize,
    /// The share of them that leaves in a minute.
    pub leaving: f64,
    /// How many lookups there were.
    pub lookups: usize,
    /// How many of them did not find the nearest peer that is there.
    pub failed: usize,
    /// How many were asked, on average.
    pub requests: f64,
}

/// Has peers come and go for so many minutes, with 100 lookups in each.
pub fn measure(peers: usize, leaving: f64, minutes: usize, seed: u64) -> Churn {
    let mut living = Living::new(peers, seed);
    let (mut lookups, mut failed, mut requests) = (0, 0, 0);
    for minute in 0..minutes {
        living.replace(leaving);
        for _ in 0..LOOKUPS_A_MINUTE {
            let (found, asked) = living.finds_the_nearest();
            lookups += 1;
            failed += usize::from(!found);
            requests += asked;
        }
        living.refresh(minute);
    }
    Churn { peers, leaving, lookups, failed, requests: requests as f64 / lookups as f64 }
}

/// How long records last that nobody publishes again.
#[derive(Debug, Clone)]
pub struct Survival {
    /// The share of peers that leaves in a minute.
    pub leaving: f64,
    /// After each of [`READ_AFTER`], the share of records that was still found.
    pub found: Vec<f64>,
}

/// The minutes after which records are read.
pub const READ_AFTER: [usize; 6] = [5, 10, 15, 20, 30, 60];

/// Publishes 100 records once, and reads each now and then while peers come and go.
pub fn survival(peers: usize, leaving: f64, seed: u64) -> Survival {
    let mut living = Living::new(peers, seed);
    let records: Vec<_> = (0..RECORDS).map(|_| living.publish()).collect();
    let mut found = Vec::new();
    for minute in 0..=*READ_AFTER.last().expect("some minutes") {
        if READ_AFTER.contains(&minute) {
            let read = records.iter().filter(|(key, holders)| living.reads(*key, holders)).count();
            found.push(read as f64 / RECORDS as f64);
        }
        living.replace(leaving);
        living.refresh(minute);
    }
    Survival { leaving, found }
}

const LOOKUPS_A_MINUTE: usize = 100;
const RECORDS: usize = 100;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::standard;

    #[test]
    fn fewer_than_one_lookup_in_a_hundred_fails_while_a_tenth_leaves_each_minute() {
        for row in standard::churn() {
            assert_eq!(row.lookups, 1_000);
            assert!(row.failed < 10, "{row:?}");
        }
    }

    #[test]
    fn records_outlive_a_quarter_of_an_hour_in_which_a_tenth_leaves_each_minute_and_not_an_hour() {
        let row = standard::survival().iter().find(|row| row.leaving == 0.1).unwrap();
        let after = |minutes| row.found[READ_AFTER.iter().position(|&after| after == minutes).unwrap()];
        assert!(after(10) > 0.98 && after(60) < 0.2, "{row:?}");
    }
}
