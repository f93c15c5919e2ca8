//! What a node does about a crowd round the place of its contact.

use super::*;
use crate::kad::{
    density::{Change, Density, NEAREST},
    queries::Purpose,
    region::Round,
};

/// In a network of about so many nodes, as eight lookups told.
fn told_of(density: &mut Density, nodes: f64) {
    (0..8).for_each(|_| density.sampled(&[(NEAREST - 1) as f64 / nodes; NEAREST]));
}

fn actor(config: Config) -> (Actor, Dht) {
    let (commands, requests) = mpsc::channel(COMMANDS_MAX);
    let (_, wanted) = mpsc::unbounded_channel();
    let (hints, _) = mpsc::channel(HINTS_MAX);
    let (events, first) = broadcast::channel(EVENTS_MAX);
    let first = Arc::new(Mutex::new(Some(first)));
    let actor = Actor::new(config, requests, wanted, hints, events.clone()).unwrap();
    (actor, Dht { commands, events, first })
}

/// The lookups that a refresh of the table takes.
fn refresh(actor: &mut Actor) -> Vec<Option<Round>> {
    actor.queries.clear();
    actor.refresh();
    let of = |purpose: &Purpose| match purpose {
        Purpose::Round { of, .. } => Some(of.clone()),
        _ => None,
    };
    let mut all: Vec<_> = actor.queries.values().map(|query| of(&query.purpose)).collect();
    all.sort_by_key(|of| (of.is_some(), of == &Some(Round::Contact)));
    all
}

#[tokio::test]
async fn a_refresh_takes_one_lookup_more_of_who_says_where_it_is_first_of_any_place_and_then_of_its_own()
{
    let (mut actor, _dht) = actor(config(Mode::Auto, &[]));
    assert_eq!(refresh(&mut actor), [None, Some(Round::Drawn)]);
    actor.published = Some(Instant::now());
    assert_eq!(refresh(&mut actor), [None, Some(Round::Drawn), Some(Round::Drawn)]);
    told_of(&mut actor.density, 1_000.0);
    assert_eq!(refresh(&mut actor), [None, Some(Round::Drawn), Some(Round::Contact)]);
}

#[tokio::test]
async fn nodes_of_the_table_and_of_three_places_are_told_and_nobody_where_there_is_no_crowd() {
    let (mut actor, _dht) = actor(config(Mode::Auto, &[]));
    for _ in 0..40 {
        let kad = &mut actor.swarm.behaviour_mut().guard.kad;
        kad.add_address(&PeerId::random(), "/memory/1".parse().unwrap());
    }
    let record = actor.signer.sign(Body::Contact(Contact::default())).unwrap();
    actor.tell_around(&record);
    assert!(actor.queries.is_empty());
    told_of(&mut actor.density, 1_000.0);
    let began = (0..3).find_map(|_| actor.density.judge(&[1e-6; NEAREST], true));
    assert!(matches!(began, Some(Change::Began { .. })));
    actor.tell_around(&record);
    let beside = |purpose: &Purpose| matches!(purpose, Purpose::Round { of: Round::Beside(_), .. });
    let places = actor.queries.values().filter(|query| beside(&query.purpose)).count();
    assert_eq!((actor.queries.len(), places), (4, 3), "one is to those of the table");
    let ended = (0..3).find_map(|_| actor.density.judge(&[0.5; NEAREST], true));
    assert_eq!(ended, Some(Change::Ended));
    actor.queries.clear();
    actor.tell_around(&record);
    assert!(actor.queries.is_empty(), "it is over");
}

/// How many of eight keep where a node is that tells the nearest one alone.
async fn keepers(crowded: bool) -> usize {
    let nodes = servers(8).await;
    for node in &nodes {
        node.until("in one network", |status| status.table() == 7).await;
    }
    let to = [nodes[0].address.clone().unwrap()];
    let few = Config { bucket_size: NonZeroU8::new(1), ..config(Mode::Client, &to) };
    let (peer, (mut actor, dht)) = (few.keypair.public().to_peer_id(), actor(few.clone()));
    if crowded {
        told_of(&mut actor.density, 1_000.0);
        let change = (0..3).find_map(|_| actor.density.judge(&[1e-6; NEAREST], true));
        let change = change.unwrap();
        assert!(matches!(change, Change::Began { .. }));
        actor.density_changed(change, Instant::now());
    }
    let mut events = dht.events();
    let heard = std::iter::from_fn(|| events.try_recv().ok());
    let raised = heard.filter(|event| matches!(event, Event::DensityAlarmRaised { nodes: 1_000, .. }));
    assert_eq!(raised.count(), usize::from(crowded));
    tokio::spawn(actor.run());
    let node = Node { dht, peer, address: None, config: few };
    node.published().await;
    let status = node.status().await;
    assert_eq!((status.density_alarm, status.nodes_estimated.is_some()), (crowded, crowded));
    let mut keepers = 0;
    let wanted = if crowded { nodes.len() } else { 1 };
    let told = async {
        while keepers < wanted {
            keepers = 0;
            for node in &nodes {
                let kept = node.dht.kept(RecordKey::Contact(peer)).await;
                keepers += usize::from(kept.is_some());
            }
            tokio::task::yield_now().await;
        }
    };
    let within = timeout(SOON, told).await;
    assert!(within.is_ok(), "{keepers} keep it");
    keepers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_place_of_its_contact_is_crowded_a_node_tells_others_near_it_too() {
    let alone = keepers(false).await;
    assert!(alone < 8, "it tells everybody without a crowd: {alone}");
    assert_eq!(keepers(true).await, 8);
}
