//! How many substreams a peer may have open at once.

use libp2p::core::muxing::SubstreamBox;

use super::*;

/// Opens as many as the other end lets it, and then waits in vain.
async fn opens(near: &mut StreamMuxerBox, opened: &mut Vec<SubstreamBox>) {
    loop {
        let mut substream = poll_fn(|cx| near.poll_outbound_unpin(cx)).await.unwrap();
        substream.write_all(b"!").await.unwrap();
        substream.flush().await.unwrap();
        opened.push(substream);
    }
}

async fn takes(far: &mut StreamMuxerBox, count: usize) -> Vec<SubstreamBox> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let mut substream = poll_fn(|cx| far.poll_inbound_unpin(cx)).await.unwrap();
        substream.read_exact(&mut [0]).await.unwrap();
        taken.push(substream);
    }
    taken
}

#[tokio::test]
async fn a_peer_may_open_more_and_more_up_to_the_limit_and_one_more_for_each_that_ends() {
    let limit = config::SUBSTREAMS_MAX as usize;
    let ((mut near, _), (mut far, _)) = (our_own(), ours());
    let (_, address) = listen(&mut far, LOOPBACK[0]).await;
    let dial = near.dial(address, OPTS).unwrap();
    let accepted = async { comes(&mut far).await.0.await.unwrap() };
    let (dialled, (_, far)) = timeout(SOON, join(dial, accepted)).await.expect("no connection");
    let mut near = dialled.unwrap().1;
    let mut taker = StreamMuxerBox::new(Connection::new(far.held()));
    for round in 0..2 {
        let mut opened = Vec::new();
        let opening = Box::pin(opens(&mut near, &mut opened));
        let taking = Box::pin(takes(&mut taker, limit));
        let taken = match timeout(SOON, select(opening, taking)).await {
            Ok(Either::Right((taken, _))) => taken,
            _ => panic!("round {round}: not as many as may be"),
        };
        let allowed = far.link().lock().inner.max_concurrent_streams(quinn_proto::Dir::Bi);
        assert_eq!((opened.len(), allowed), (limit, limit as u64), "round {round}");
        drop((opened, taken));
    }
}

#[tokio::test]
async fn what_is_said_first_does_not_wait_for_the_packet_that_tries_how_large_they_may_be() {
    let ((mut near, _), (mut far, _)) = (ours(), our_own());
    let (_, address) = listen(&mut far, LOOPBACK[0]).await;
    let dial = near.dial(address, OPTS).unwrap();
    let accepted = async { comes(&mut far).await.0.await.unwrap() };
    let (dialled, _accepted) = timeout(SOON, join(dial, accepted)).await.expect("no connection");
    let largest = mtu::largest_packet(std::net::Ipv4Addr::LOCALHOST.into());
    let room = dialled.unwrap().1.link().lock().inner.stats().path.cwnd;
    assert!(room >= 2 * u64::from(largest), "{room} bytes under way, of packets of {largest}");
}
