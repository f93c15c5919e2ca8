//! What a relay tells clients that listen.

use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt};

use crate::{
    circuit_wire::OK,
    relay_hand::{AbsenceMessage, Hand, PeersMessage, Sentence, heard, reachable, with_an_echo},
    world::{RelayNode, within},
};

#[tokio::test]
async fn who_watches_a_peer_hears_when_it_comes_and_when_it_goes() {
    let relay = RelayNode::start(reachable()).await;
    let (mut watcher, mut peer) = (Hand::new(&relay), Hand::new(&relay));
    assert_eq!(watcher.reserve().await.status, Some(OK));
    let id = peer.id.to_bytes();
    let watch = Some(PeersMessage { ids: vec![id.clone()] });
    let _watching = watcher.say(Sentence { watch, ..Sentence::default() }).await;
    // Whether the word or the reservation comes first, one is told.
    assert_eq!(peer.reserve().await.status, Some(OK));
    let mut ear = watcher.ear().await;
    let present = Sentence { present: Some(id.clone()), ..Sentence::default() };
    assert_eq!(heard(&mut ear).await, present);
    drop(peer);
    let absent = Some(AbsenceMessage { id, closed: true });
    assert_eq!(heard(&mut ear).await, Sentence { absent, ..Sentence::default() });
}

#[tokio::test]
async fn a_relay_that_stops_says_so_and_circuits_go_on_meanwhile() {
    let (relay, echo) = with_an_echo(reachable()).await;
    let mut client = Hand::new(&relay);
    // So the relay knows that it is heard.
    let watch = Some(PeersMessage { ids: vec![echo.id.to_bytes()] });
    let _watching = client.say(Sentence { watch, ..Sentence::default() }).await;
    let mut ear = client.ear().await;
    assert_eq!(heard(&mut ear).await.present, Some(echo.id.to_bytes()));
    let (answer, mut io) = client.connect(echo.id).await;
    assert_eq!(answer.status, Some(OK));
    let started = Instant::now();
    let stopping = tokio::spawn(relay.relay.shutdown());
    let word = heard(&mut ear).await;
    assert_eq!(word, Sentence { leaving_seconds: Some(3), ..Sentence::default() });
    within("an echo", async {
        io.write_all(b"still here").await.unwrap();
        io.flush().await.unwrap();
        let mut back = [0; 10];
        io.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"still here");
    })
    .await;
    let refused = client.connect(echo.id).await.0.refusal.unwrap();
    assert!((1..=3000).contains(&refused.retry_after_ms), "{refused:?}");
    assert!(!stopping.is_finished());
    let mut rest = Vec::new();
    let _ = within("the end", io.read_to_end(&mut rest)).await;
    within("the stop", stopping).await.unwrap();
    let took = started.elapsed().as_secs_f64();
    assert!((2.9..4.4).contains(&took), "{took} s");
}

/// The least time between two words that are heard on one connection (`PACE`).
const PACE: Duration = Duration::from_millis(50);

#[tokio::test]
async fn words_on_one_substream_after_another_are_heard_no_faster_than_on_one() {
    let (relay, echo) = with_an_echo(reachable()).await;
    let mut other = Hand::new(&relay);
    assert_eq!(other.reserve().await.status, Some(OK));
    let mut client = Hand::new(&relay);
    let watch = |hand: &Hand| Some(PeersMessage { ids: vec![hand.id.to_bytes()] });
    let (started, mut substreams) = (Instant::now(), Vec::new());
    for _ in 0..50 {
        substreams.push(client.say(Sentence { watch: watch(&echo), ..Sentence::default() }).await);
    }
    // Nothing takes the place of the last one, so it is heard. Each word is answered once.
    substreams.push(client.say(Sentence { watch: watch(&other), ..Sentence::default() }).await);
    let (mut ear, mut answers) = (client.ear().await, 1);
    while heard(&mut ear).await.present != Some(other.id.to_bytes()) {
        answers += 1;
    }
    let slots = 1 + started.elapsed().as_millis() / PACE.as_millis();
    assert!(answers <= slots, "{answers} words within {slots} turns");
}
