#![allow(clippy::unwrap_used)]

use std::time::Duration;

use futures::StreamExt as _;
use libp2p::{
    Swarm, Transport as _,
    core::{transport::MemoryTransport, upgrade},
    identity::Keypair,
    noise,
    swarm::{SwarmEvent, dial_opts::DialOpts},
    yamux,
};
use tokio::time::{Instant, timeout_at};

use super::*;
use crate::engine::{GIVEN_UP, PING_INTERVAL, QUIET_AFTER, QUIET_PING_INTERVAL};

fn swarm<B: NetworkBehaviour>(behaviour: B) -> Swarm<B> {
    let keypair = Keypair::generate_ed25519();
    let transport = MemoryTransport::default()
        .upgrade(upgrade::Version::V1)
        .authenticate(noise::Config::new(&keypair).unwrap())
        .multiplex(yamux::Config::default());
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::MAX);
    Swarm::new(transport.boxed(), behaviour, keypair.public().to_peer_id(), config)
}

/// Ours dials the other; what ours was told within this time, and when.
async fn told<B>(other: Swarm<B>, within: Duration) -> Vec<(Duration, Said)>
where
    B: NetworkBehaviour<ToSwarm: Send> + Send,
{
    told_until(other, Watched::default(), within, |_| false).await
}

/// Likewise, until it is enough. Both peers are `watched`, so that pings pass often all the time.
async fn told_until<B>(
    mut other: Swarm<B>,
    watched: Watched,
    within: Duration,
    enough: impl Fn(&[(Duration, Said)]) -> bool,
) -> Vec<(Duration, Said)>
where
    B: NetworkBehaviour<ToSwarm: Send> + Send,
{
    other.listen_on("/memory/0".parse().unwrap()).unwrap();
    let SwarmEvent::NewListenAddr { address, .. } = other.select_next_some().await else { panic!() };
    let peer = *other.local_peer_id();
    watched.add(peer);
    let mut ours = swarm(Behaviour::new(watched.clone()));
    watched.add(*ours.local_peer_id());
    ours.dial(DialOpts::peer_id(peer).addresses(vec![address]).build()).unwrap();
    let other = tokio::spawn(other.for_each(|_| std::future::ready(())));
    let (begun, mut told) = (Instant::now(), Vec::new());
    while let Ok(event) = timeout_at(begun + within, ours.select_next_some()).await {
        if let SwarmEvent::Behaviour(Event { said, .. }) = event {
            told.push((begun.elapsed(), said));
        }
        if enough(&told) {
            break;
        }
    }
    other.abort();
    told
}

#[tokio::test(start_paused = true)]
async fn two_ends_take_turns_and_each_hears_something_in_every_interval() {
    let watched = Watched::default();
    let other = swarm(Behaviour::new(watched.clone()));
    let told = told_until(other, watched, Duration::from_secs(60), |_| false).await;
    let after_the_first: Vec<_> = told.iter().filter(|(at, _)| *at > Duration::from_secs(1)).collect();
    let asked = after_the_first.iter().filter(|(_, said)| *said == Said::Asked).count();
    let answered = after_the_first.len() - asked;
    assert!((18..=21).contains(&asked) && (18..=21).contains(&answered), "{asked} and {answered}");
    let pauses: Vec<Duration> = told.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    // The first time they may ask at once.
    let most = PING_INTERVAL + Duration::from_millis(150);
    assert!(pauses.iter().all(|pause| *pause <= most), "{pauses:?}");
}

/// Two ends that watch nobody; what the dialler was told within this time, and when. A stream says something at this moment.
async fn told_unwatched(within: Duration, says: Duration) -> Vec<(Duration, Said)> {
    let mut swarms = [swarm(Behaviour::default()), swarm(Behaviour::default())];
    let [ours, other] = &mut swarms;
    other.listen_on("/memory/0".parse().unwrap()).unwrap();
    let SwarmEvent::NewListenAddr { address, .. } = other.select_next_some().await else { panic!() };
    ours.dial(address).unwrap();
    let [mut ours, other] = swarms;
    let other = tokio::spawn(other.for_each(|_| std::future::ready(())));
    let (begun, mut told, mut said) = (Instant::now(), Vec::new(), false);
    while begun.elapsed() < within {
        let until = begun + if said { within } else { says };
        let Ok(event) = timeout_at(until, ours.select_next_some()).await else {
            if !said {
                ours.behaviour().pulses.values().for_each(|pulse| pulse.used(Instant::now().into_std()));
            }
            said = true;
            continue;
        };
        if let SwarmEvent::Behaviour(Event { said, .. }) = event {
            told.push((begun.elapsed(), said));
        }
    }
    other.abort();
    told
}

#[tokio::test(start_paused = true)]
async fn where_streams_are_quiet_pings_pass_rarely_until_one_says_something() {
    let says = 5 * QUIET_AFTER;
    let told = told_unwatched(says + 2 * QUIET_AFTER, says).await;
    let paced: Vec<_> = told
        .iter()
        .filter_map(
            |(at, said)| if let Said::Paced(interval) = said { Some((*at, *interval)) } else { None },
        )
        .collect();
    let [(rests, QUIET_PING_INTERVAL), (wakes, PING_INTERVAL), (again, QUIET_PING_INTERVAL)] = paced[..]
    else {
        panic!("{paced:?}")
    };
    let soon = 2 * PING_INTERVAL;
    assert!((QUIET_AFTER..QUIET_AFTER + soon).contains(&rests), "{rests:?}");
    assert!((says..says + Duration::from_millis(10)).contains(&wakes), "{wakes:?}");
    assert!((says + QUIET_AFTER..says + QUIET_AFTER + soon).contains(&again), "{again:?}");
    let pings = |from: Duration, to: Duration| {
        let pings =
            told.iter().filter(|(at, said)| (from..to).contains(at) && !matches!(said, Said::Paced(_)));
        pings.count()
    };
    let rest = (says - rests).as_secs_f64() / QUIET_PING_INTERVAL.as_secs_f64();
    assert!(pings(rests + Duration::from_secs(1), says) <= rest as usize + 1, "{told:?}");
    assert!(pings(says, says + QUIET_AFTER) >= 5, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_another_behaviour_refuses_leaves_nothing_behind() {
    let mut behaviour = Behaviour::default();
    let (peer, id) = (PeerId::random(), swarm::ConnectionId::new_unchecked(1));
    let address: Multiaddr = "/memory/1".parse().unwrap();
    behaviour.handle_established_inbound_connection(id, peer, &address, &address).unwrap();
    assert_eq!(behaviour.pulses.len(), 1);
    behaviour.on_swarm_event(FromSwarm::ListenFailure(swarm::behaviour::ListenFailure {
        local_addr: &address,
        send_back_addr: &address,
        error: &swarm::ListenError::Aborted,
        connection_id: id,
        peer_id: Some(peer),
    }));
    assert_eq!(behaviour.pulses.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stock_peer_that_asks_rarely_is_asked_in_every_interval_and_answers() {
    let stock = libp2p::ping::Behaviour::default();
    let told = told(swarm(stock), Duration::from_secs(60)).await;
    let answered =
        |said: &Said| matches!(said, Said::Answered { round_trip, .. } if *round_trip < PING_INTERVAL);
    let count = told.iter().filter(|(_, said)| answered(said)).count();
    assert!((34..=41).contains(&count), "{count}: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_speaks_no_ping_is_not_asked_and_that_is_no_failure() {
    let dumb = swarm::dummy::Behaviour;
    assert_eq!(told(swarm(dumb), Duration::from_secs(60)).await, []);
}

mod silent {
    //! Takes every substream for pings and says nothing on it, or drops it at once.

    use std::convert::Infallible;

    use libp2p::{
        Stream, StreamProtocol,
        core::upgrade::{DeniedUpgrade, ReadyUpgrade},
        swarm::{
            ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol,
            handler::{ConnectionEvent, FullyNegotiatedInbound},
        },
    };

    use super::*;
    use crate::net::ping::handler::PROTOCOL;

    pub(super) struct Silent {
        pub(super) drops: bool,
    }

    pub(super) struct Handler(bool, Vec<Stream>);

    impl NetworkBehaviour for Silent {
        type ConnectionHandler = Handler;
        type ToSwarm = Infallible;

        fn handle_established_inbound_connection(
            &mut self,
            _: swarm::ConnectionId,
            _: PeerId,
            _: &Multiaddr,
            _: &Multiaddr,
        ) -> Result<Handler, ConnectionDenied> {
            Ok(Handler(self.drops, Vec::new()))
        }

        fn handle_established_outbound_connection(
            &mut self,
            _: swarm::ConnectionId,
            _: PeerId,
            _: &Multiaddr,
            _: Endpoint,
            _: PortUse,
        ) -> Result<Handler, ConnectionDenied> {
            Ok(Handler(self.drops, Vec::new()))
        }

        fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

        fn on_connection_handler_event(&mut self, _: PeerId, _: swarm::ConnectionId, never: Infallible) {
            match never {}
        }

        fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Infallible>> {
            Poll::Pending
        }
    }

    impl ConnectionHandler for Handler {
        type FromBehaviour = Infallible;
        type ToBehaviour = Infallible;
        type InboundProtocol = ReadyUpgrade<StreamProtocol>;
        type OutboundProtocol = DeniedUpgrade;
        type InboundOpenInfo = ();
        type OutboundOpenInfo = ();

        fn listen_protocol(&self) -> SubstreamProtocol<ReadyUpgrade<StreamProtocol>> {
            SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
        }

        fn on_behaviour_event(&mut self, never: Infallible) {
            match never {}
        }

        fn poll(
            &mut self,
            _: &mut Context<'_>,
        ) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Infallible>> {
            Poll::Pending
        }

        fn on_connection_event(
            &mut self,
            event: ConnectionEvent<'_, ReadyUpgrade<StreamProtocol>, DeniedUpgrade>,
        ) {
            if let ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) =
                event
                && !self.0
            {
                self.1.push(protocol);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_is_given_up_in_time() {
    for drops in [false, true] {
        let told = told(swarm(silent::Silent { drops }), GIVEN_UP).await;
        assert_eq!(told.first().map(|(_, said)| *said), Some(Said::Unanswered), "drops: {drops}");
    }
}

/// In real time, since libp2p's pings go by it.
#[tokio::test]
async fn a_peer_that_asks_all_the_time_is_answered_and_that_is_told_twice_a_second_at_most() {
    let often = libp2p::ping::Config::new().with_interval(Duration::from_millis(1));
    let stock = swarm(libp2p::ping::Behaviour::new(often));
    let asked = |told: &[(Duration, Said)]| {
        told.iter().filter(|(_, said)| *said == Said::Asked).map(|(at, _)| *at).collect::<Vec<_>>()
    };
    let told = told_until(stock, Watched::default(), GIVEN_UP, |told| asked(told).len() == 3).await;
    let asked = asked(&told);
    assert!(asked.len() == 3 && asked[2] - asked[0] >= Duration::from_secs(1), "{asked:?}");
}
