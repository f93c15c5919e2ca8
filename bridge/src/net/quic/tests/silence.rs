//! Who is asked for a word, and who is given up.

use super::*;

#[tokio::test]
async fn a_relay_that_is_watched_is_asked_for_a_word_more_often_than_others() {
    let (mut far, far_id) = our_own();
    let (_, address) = listen(&mut far, LOOPBACK[0]).await;
    let watched = Watched::default();
    watched.add(far_id);
    let mut links = Vec::new();
    for watched in [watched, Watched::default()] {
        let (mut near, _) = watching(watched);
        let dial = near.dial(address.clone(), OPTS).unwrap();
        let accepted = async { comes(&mut far).await.0.await.unwrap() };
        let (dialled, accepted) = timeout(SOON, join(dial, accepted)).await.expect("no connection");
        links.push((dialled.unwrap().1, accepted, near));
    }
    // What finds out how large packets may be is counted as well, on both alike.
    let asked = |at: usize| links[at].0.link().lock().inner.stats().frame_tx.ping;
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let apart = async {
        while asked(0) < asked(1) + 6 {
            looks.tick().await;
        }
    };
    timeout(SOON, apart).await.expect("both are asked as often");
    assert!(links.iter().all(|(near, ..)| near.link().lock().lost.is_none()));
}

/// Forwards between whoever sends first and `far`, as a path does, until it is cut.
async fn path(far: Multiaddr) -> (Multiaddr, tokio::task::JoinHandle<()>) {
    let port =
        far.iter().find_map(|part| if let Protocol::Udp(port) = part { Some(port) } else { None });
    let far: SocketAddr = (std::net::Ipv4Addr::LOCALHOST, port.unwrap()).into();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = format!("/ip4/127.0.0.1/udp/{}/quic-v1", socket.local_addr().unwrap().port());
    let forwards = tokio::spawn(async move {
        let (mut near, mut packet) = (None, vec![0; 65_536]);
        loop {
            let (bytes, from) = socket.recv_from(&mut packet).await.unwrap();
            let to = if from == far { near.unwrap() } else { far };
            near = if from == far { near } else { Some(from) };
            socket.send_to(&packet[..bytes], to).await.unwrap();
        }
    });
    (address.parse().unwrap(), forwards)
}

#[tokio::test]
async fn a_peer_that_does_not_acknowledge_is_given_up_and_one_that_nothing_is_said_to_is_not() {
    let (mut near, (mut far, _)) = (ours().0, our_own());
    let (_, address) = listen(&mut far, LOOPBACK[0]).await;
    let mut links = Vec::new();
    for _ in 0..2 {
        let (address, forwards) = path(address.clone()).await;
        let dial = near.dial(address, OPTS).unwrap();
        let accepted = async { comes(&mut far).await.0.await.unwrap() };
        let (dialled, accepted) = timeout(SOON, join(dial, accepted)).await.expect("no connection");
        links.push((dialled.unwrap().1, accepted, forwards));
    }
    // Both are at rest: all that the handshake began is acknowledged, and how large packets may be is known.
    let due = |at: usize| {
        let mut state = links[at].0.link().lock();
        state.due(false)
    };
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let rests = async {
        while (0..2).any(|at| {
            due(at).is_some_and(|due| due < std::time::Instant::now() + Duration::from_secs(4))
        }) {
            looks.tick().await;
        }
    };
    timeout(SOON, rests).await.expect("they say something all the time");
    links.iter().for_each(|(.., forwards)| forwards.abort());
    {
        let mut state = links[0].0.link().lock();
        state.inner.ping();
        links[0].0.link().run(state);
    }
    let lost = |at: usize| links[at].0.link().lock().lost.clone();
    let given_up = async {
        while lost(0).is_none() {
            looks.tick().await;
        }
    };
    timeout(SOON, given_up).await.expect("it is never given up");
    assert_eq!(lost(0), Some(quinn_proto::ConnectionError::TimedOut));
    assert_eq!(lost(1), None);
}
