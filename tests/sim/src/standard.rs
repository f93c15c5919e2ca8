//! The figures that the document shows: each computed once, from the same seed everywhere.

use std::sync::LazyLock;

use crate::churn::{self, Churn, Survival};
use crate::crowd::{self, Also, Hidden};
use crate::liars::{self, Read};
use crate::placement::{self, Attack, Censored, Defence};
use crate::scale::{self, Work};
use crate::split::{self, Heal, Rejoin};

/// The sizes of networks.
pub const SIZES: [usize; 7] = [100, 300, 1_000, 5_000, 10_000, 50_000, 100_000];
/// The sizes of buckets, and of answers.
pub const BUCKETS: [usize; 3] = [20, 8, 4];
/// Shares of a network that are dead or lie.
pub const DEAD: [f64; 2] = [0.3, 0.5];
/// Shares of a network that lie.
pub const LYING: [f64; 3] = [0.1, 0.2, 0.4];

const SEED: u64 = 1;
const LOOKUPS: usize = 1_000;

/// A network at rest, for each bucket size and each size.
pub fn scale() -> &'static [Work] {
    static ROWS: LazyLock<Vec<Work>> = LazyLock::new(|| {
        let of = |k| SIZES.map(|peers| scale::measure(peers, k, LOOKUPS, SEED));
        BUCKETS.into_iter().flat_map(of).collect()
    });
    &ROWS
}

/// A network of 10,000 of which a share is dead.
pub fn dead() -> &'static [(f64, Work)] {
    static ROWS: LazyLock<Vec<(f64, Work)>> = LazyLock::new(|| {
        let of = |dead| (dead, scale::measure_dead(10_000, 20, dead, LOOKUPS, SEED));
        DEAD.into_iter().map(of).collect()
    });
    &ROWS
}

/// A network of 10,000 of which a share lies, looked up in several ways.
pub fn liars() -> &'static [Read] {
    static ROWS: LazyLock<Vec<Read>> = LazyLock::new(|| {
        let of = |share| liars::WAYS.map(|way| liars::measure(10_000, share, way, LOOKUPS, SEED));
        LYING.into_iter().flat_map(of).collect()
    });
    &ROWS
}

/// What becomes of a record among 1,000 peers that an attacker wants nobody to read, for each attack and each defence.
pub fn placement() -> &'static [Censored] {
    static ROWS: LazyLock<Vec<Censored>> = LazyLock::new(|| {
        let of = |attack| Defence::ALL.map(|defence| placement::measure(1_000, attack, defence, SEED));
        Attack::ALL.into_iter().flat_map(of).collect()
    });
    &ROWS
}

/// What becomes of it if the publisher notices, in networks of three sizes.
pub fn crowd() -> &'static [Hidden] {
    static ROWS: LazyLock<Vec<Hidden>> = LazyLock::new(|| {
        let of = |peers| Also::ALL.map(|also| crowd::measure(peers, also, SEED));
        [100, 1_000, 10_000].into_iter().flat_map(of).collect()
    });
    &ROWS
}

/// Networks of which a tenth leaves each minute, and as many come.
pub fn churn() -> &'static [Churn] {
    static ROWS: LazyLock<Vec<Churn>> =
        LazyLock::new(|| [100, 400].map(|peers| churn::measure(peers, 0.1, 10, SEED)).to_vec());
    &ROWS
}

/// What becomes of records that are not published again, among 150 peers.
pub fn survival() -> &'static [Survival] {
    static ROWS: LazyLock<Vec<Survival>> =
        LazyLock::new(|| [0.1, 0.05, 0.02].map(|share| churn::survival(150, share, SEED)).to_vec());
    &ROWS
}

/// 200 peers in two halves that do not hear each other for long.
pub fn heal() -> &'static [Heal] {
    static ROWS: LazyLock<Vec<Heal>> =
        LazyLock::new(|| Rejoin::ALL.map(|rejoin| split::measure(200, rejoin, SEED)).to_vec());
    &ROWS
}
