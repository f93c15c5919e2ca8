#![allow(clippy::print_stderr, clippy::unwrap_used)]
use libp2p::PeerId;
use rand::{Rng, RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};

use super::*;

/// A network: where its nodes lie.
struct Nodes(Vec<u64>);

impl Nodes {
    fn honest(count: usize, rng: &mut impl Rng) -> Self {
        Self((0..count).map(|_| rng.random()).collect())
    }

    /// So many more, nearer to the place than everybody else.
    fn crowded(&self, place: u64, sybils: usize, rng: &mut impl Rng) -> Self {
        let nearest = self.0.iter().map(|node| node ^ place).min().unwrap();
        let near = (0..sybils).map(|_| place ^ rng.random_range(0..nearest));
        Self(self.0.iter().copied().chain(near).collect())
    }

    /// What a lookup finds.
    fn nearest(&self, place: u64) -> Vec<f64> {
        let mut all: Vec<u64> = self.0.iter().map(|node| node ^ place).collect();
        if all.len() > NEAREST {
            all.select_nth_unstable(NEAREST);
            all.truncate(NEAREST);
        }
        all.sort_unstable();
        all.into_iter().map(|distance| distance as f64 / 2_f64.powi(64)).collect()
    }
}

/// With so many places drawn.
fn sampled(nodes: &Nodes, places: usize, rng: &mut impl Rng) -> Density {
    let mut density = Density::default();
    (0..places).for_each(|_| density.sampled(&nodes.nearest(rng.random())));
    density
}

/// What the third judgement of this says.
fn judged(density: &mut Density, nearest: &[f64]) -> Option<Change> {
    (0..IN_A_ROW).filter_map(|_| density.judge(nearest, true)).last()
}

#[test]
fn the_number_of_nodes_is_estimated_within_a_tenth_most_times() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for count in [100, 1_000, 5_000] {
        let nodes = Nodes::honest(count, &mut rng);
        let within = (0..40).filter(|_| {
            let estimate = sampled(&nodes, SAMPLES_MAX, &mut rng).nodes().unwrap();
            (estimate / count as f64 - 1.0).abs() < 0.15
        });
        let within = within.count();
        assert!(within >= 32, "{count}: {within} of 40");
    }
}

/// 30,000 judgements; the criterion allows for less than one in 10,000.
#[test]
fn an_honest_network_is_called_too_dense_less_than_once_in_10_000_judgements() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let (mut judgements, mut alarms) = (0, 0);
    for _ in 0..600 {
        let nodes = Nodes::honest(1_000, &mut rng);
        let mut density = sampled(&nodes, SAMPLES_MIN, &mut rng);
        for _ in 0..50 {
            let nearest = nodes.nearest(rng.random());
            judgements += 1;
            alarms += u32::from(judged(&mut density, &nearest).is_some());
            density.alarm = false;
            // As lookups go on, the estimate is another.
            density.samples.pop_front();
            density.sampled(&nodes.nearest(rng.random()));
        }
    }
    eprintln!("{alarms} false alarms in {judgements} judgements");
    assert!(alarms * 10_000 <= judgements, "{alarms} of {judgements}");
}

#[test]
fn twenty_identities_nearest_to_the_key_are_noticed_and_the_table_says_from_how_many_on() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    const KEYS: u32 = 400;
    let mut noticed = |sybils| {
        let mut alarms = 0;
        for _ in 0..KEYS / 20 {
            let nodes = Nodes::honest(1_000, &mut rng);
            for _ in 0..20 {
                let mut density = sampled(&nodes, SAMPLES_MIN, &mut rng);
                let key = rng.random();
                let nearest = nodes.crowded(key, sybils, &mut rng).nearest(key);
                alarms += u32::from(judged(&mut density, &nearest).is_some());
            }
        }
        eprintln!("| {sybils} | {:.0} % |", f64::from(alarms * 100) / f64::from(KEYS));
        alarms
    };
    let [few, .., most, all] = [8, 10, 12, 14, 16, 18, NEAREST].map(&mut noticed);
    assert!(all * 100 >= 99 * KEYS, "all places taken, and {all} of {KEYS} noticed");
    assert!(most * 100 >= 95 * KEYS && few * 100 <= 10 * KEYS, "{few} {most}");
}

/// Who has all places and lies as far away as that allows is noticed, but for the keys near to which nobody honest is.
#[test]
fn whoever_takes_all_places_and_keeps_as_far_away_as_he_can_is_noticed_in_99_of_100_keys() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let nodes = Nodes::honest(1_000, &mut rng);
    let noticed = (0..1_000).filter(|_| {
        let mut density = sampled(&nodes, SAMPLES_MIN, &mut rng);
        let honest = nodes.nearest(rng.random());
        judged(&mut density, &[honest[0]; NEAREST]).is_some()
    });
    let noticed = noticed.count();
    assert!(noticed >= 990, "{noticed}");
}

#[test]
fn an_alarm_takes_three_judgements_in_a_row_to_begin_and_to_end() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let nodes = Nodes::honest(1_000, &mut rng);
    let mut density = sampled(&nodes, SAMPLES_MIN, &mut rng);
    let (key, mut said) = (rng.random(), Vec::new());
    let (normal, dense) = (nodes.nearest(key), nodes.crowded(key, NEAREST, &mut rng).nearest(key));
    for (nearest, whole) in [
        (&dense, true),
        (&dense, true),
        (&normal, true),
        (&dense, true),
        // Some did not answer in time.
        (&dense, false),
        (&normal, false),
        (&dense, true),
        (&normal, true),
        (&normal, true),
        (&normal, false),
        (&dense[..3].to_vec(), true),
    ] {
        said.push(density.judge(nearest, whole));
        assert_eq!(density.radius().is_some(), density.alarm());
    }
    let changes: Vec<usize> = (0..said.len()).filter(|at| said[*at].is_some()).collect();
    assert_eq!(changes, [6, 10], "{said:?}");
    assert!(
        matches!(said[6], Some(Change::Began { expected, nodes }) if expected < CHANCE_MIN && nodes > 700.0)
    );
    assert_eq!(said[10], Some(Change::Ended));
}

#[test]
fn nothing_is_said_of_a_small_network_nor_before_enough_places_were_drawn() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let key = rng.random();
    let crowd = [1e-9; NEAREST];
    for (count, places) in [(1_000, SAMPLES_MIN - 1), (45, SAMPLES_MAX), (10, SAMPLES_MAX)] {
        let nodes = Nodes::honest(count, &mut rng);
        let mut density = sampled(&nodes, places, &mut rng);
        assert_eq!(judged(&mut density, &crowd), None, "{count} nodes, {places} places");
        assert_eq!(judged(&mut density, &nodes.nearest(key)), None);
    }
}

#[test]
fn an_alarm_ends_where_the_network_has_become_small() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut density = sampled(&Nodes::honest(1_000, &mut rng), SAMPLES_MIN, &mut rng);
    let crowd = [1e-9; NEAREST];
    assert!(matches!(judged(&mut density, &crowd), Some(Change::Began { .. })));
    let few = Nodes::honest(12, &mut rng);
    (0..SAMPLES_MAX).for_each(|_| density.sampled(&few.nearest(rng.random())));
    assert_eq!(density.nodes(), Some(12.0));
    assert_eq!(judged(&mut density, &crowd), Some(Change::Ended));
}

#[test]
fn a_minority_of_crowded_places_does_not_raise_the_estimate_and_samples_fill_no_memory() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let nodes = Nodes::honest(1_000, &mut rng);
    let mut density = sampled(&nodes, 1_000, &mut rng);
    assert_eq!(density.samples.len(), SAMPLES_MAX);
    (0..SAMPLES_MAX / 3).for_each(|_| density.sampled(&[1e-12; NEAREST]));
    let nodes = density.nodes().unwrap();
    assert!((700.0..1_500.0).contains(&nodes), "{nodes}");
    density.sampled(&[0.0; NEAREST]);
    assert!(density.nodes().unwrap().is_finite());
}

#[test]
fn a_distance_is_a_share_of_all() {
    let [one, other] = [PeerId::random(), PeerId::random()].map(KBucketKey::from);
    let (distance, shared) = (one.distance(&other), share(one.distance(&other)));
    let exponent = distance.ilog2().unwrap() as i32 - 256;
    assert!((2_f64.powi(exponent)..2_f64.powi(exponent + 1)).contains(&shared), "{shared}");
    assert!(share(one.distance(&one)).abs() < f64::EPSILON);
}

#[test]
fn places_beside_a_key_are_in_rings_of_their_own_and_are_sought_only_so_long() {
    let key = KBucketKey::new(b"a key".to_vec());
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let nodes = 1_000.0;
    let places = beside(&key, NEAREST as f64 / nodes, || rng.random());
    let at = |place: &Vec<u8>| share(key.distance(&KBucketKey::new(place.clone()))) * nodes;
    let at: Vec<f64> = places.iter().map(at).collect();
    let rings = [7.8..15.7, 15.6..31.3, 31.2..62.6];
    assert!(at.len() == 3 && rings.iter().zip(&at).all(|(ring, at)| ring.contains(at)), "{at:?}");
    let mut draws = 0;
    let none = beside(&key, 1e-30, || {
        draws += 1;
        draws
    });
    assert_eq!((none.len(), draws as usize), (0, 3 * DRAWS_MAX));
}
