//! Random lives of a relay: limits hold throughout, and nothing is left behind.

use fastrand::Rng;

use super::*;

/// Takes a random step.
fn step(
    world: &mut World,
    rng: &mut Rng,
    peers: &[PeerId],
    clients: &mut Vec<Client>,
    asks: &mut Vec<AskId>,
) {
    let any = |rng: &mut Rng, clients: &[Client]| rng.choice(clients).copied();
    match rng.u8(..100) {
        0..20 => {
            let ip = format!("10.{}.0.{}", rng.u8(..3), rng.u8(..3));
            let peer = *rng.choice(peers).unwrap();
            clients.extend(world.try_connect(peer, &ip));
        }
        20..30 => {
            if let Some(client) = any(rng, clients) {
                let connection = client.connection;
                world.handle(Input::Identified { connection, ours: rng.bool(), hears: rng.bool() });
            }
        }
        30..45 => {
            if let Some(client) = any(rng, clients) {
                let _ = world.reserve(client);
            }
        }
        45..65 => {
            if let Some(client) = any(rng, clients) {
                asks.push(world.connect(client, *rng.choice(peers).unwrap()));
            }
        }
        65..80 => {
            if let Some(ask) = rng.choice(&*asks).copied() {
                let answers = [Answer::Accepted, Answer::Full, Answer::Denied, Answer::Failed];
                let answer = *rng.choice(&answers).unwrap();
                world.handle(Input::Answered { ask, answer });
            }
        }
        80..85 => {
            if let Some(client) = any(rng, clients) {
                let peers: Vec<PeerId> = peers.iter().copied().filter(|_| rng.bool()).collect();
                world.handle(Input::Watch { connection: client.connection, peers });
            }
        }
        85..92 => {
            if !clients.is_empty() {
                let client = clients.swap_remove(rng.usize(..clients.len()));
                world.close(client);
            }
        }
        92..96 => {
            if let Some(ask) = rng.choice(&*asks).copied().filter(|ask| open(world, *ask)) {
                world.end(ask);
            }
        }
        _ => world.advance(Duration::from_millis(rng.u64(..20_000))),
    }
}

fn open(world: &World, ask: AskId) -> bool {
    world.machine.circuits.get(ask).is_some_and(|circuit| circuit.stage == Stage::Open)
}

/// Does what the driver would do about the actions since the last time.
fn obey(world: &mut World, clients: &mut Vec<Client>) {
    loop {
        let actions = world.actions();
        if actions.is_empty() {
            return;
        }
        for action in actions {
            match action {
                Action::Cut { ask, .. } => world.end(ask),
                Action::Close { connection, .. } => {
                    if let Some(at) = clients.iter().position(|client| client.connection == connection) {
                        let client = clients.swap_remove(at);
                        world.close(client);
                    }
                }
                _ => {}
            }
        }
    }
}

#[test]
fn whatever_happens_nothing_is_left_behind() {
    let config = RelayConfig {
        reservations: 8,
        circuits: 24,
        circuits_per_peer: 6,
        connections: 40,
        pending_inbound: 8,
        ..RelayConfig::default()
    };
    for seed in 0..200 {
        let (mut rng, mut world) = (Rng::with_seed(seed), World::new(&config));
        let peers: Vec<PeerId> = (0..6).map(|_| PeerId::random()).collect();
        let (mut clients, mut asks) = (Vec::new(), Vec::new());
        for _ in 0..500 {
            step(&mut world, &mut rng, &peers, &mut clients, &mut asks);
            obey(&mut world, &mut clients);
            assert!(world.machine.circuits.all().count() <= 24);
            assert!(world.machine.reservations.connections().count() <= 8);
            world.events();
        }
        for client in std::mem::take(&mut clients) {
            world.close(client);
        }
        obey(&mut world, &mut clients);
        world.advance(HOUR * 2);
        obey(&mut world, &mut clients);
        let machine = &world.machine;
        assert!(machine.connections.is_empty(), "seed {seed}");
        assert!(machine.reservations.is_empty(), "seed {seed}");
        assert!(machine.circuits.is_clear(), "seed {seed}");
        assert!(machine.watches.is_empty(), "seed {seed}");
        assert!(machine.timers.is_empty(), "seed {seed}");
    }
}
