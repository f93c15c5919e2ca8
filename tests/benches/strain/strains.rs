//! The strains: paced, on loopback, off until they are switched on.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use punchline_bridge::{Endpoint, Multiaddr, PeerId, Service};
use tokio::{
    io::AsyncReadExt,
    net::TcpSocket,
    sync::Semaphore,
    time::{interval, timeout},
};

use super::Switch;

/// Sockets that say nothing, at once: more than the relay lets one address have.
const SOCKETS_MAX: usize = 600;
/// Opened a millisecond, where there is room.
const SOCKETS_EACH: usize = 3;

/// Refused opens under way at once.
const OPENS_MAX: usize = 256;
/// Made a millisecond: ten thousand a second.
const OPENS_EACH: usize = 10;

const TICK: Duration = Duration::from_millis(1);
/// How soon a socket notices that the strain is off.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where the sockets come from: not where honest clients do.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 6, 6, 6);

/// Opens sockets to a relay that say nothing, and opens them anew as they are closed.
pub(crate) async fn silent_sockets(relay: Multiaddr, switch: Switch) {
    let port = relay.to_string().rsplit('/').next().unwrap().parse().unwrap();
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let places = Arc::new(Semaphore::new(SOCKETS_MAX));
    let mut ticks = interval(TICK);
    loop {
        ticks.tick().await;
        for _ in 0..SOCKETS_EACH {
            if !switch.on.load(Relaxed) {
                break;
            }
            let Ok(place) = places.clone().try_acquire_owned() else { break };
            let switch = switch.clone();
            tokio::spawn(async move {
                let _place = place;
                let socket = TcpSocket::new_v4().unwrap();
                // Sockets of closed connections must not use up the ports.
                let _ = socket.set_zero_linger();
                socket.bind((STRANGER, 0).into()).unwrap();
                if let Ok(mut silent) = socket.connect(target).await {
                    switch.done.fetch_add(1, Relaxed);
                    let mut bytes = [0; 256];
                    while switch.on.load(Relaxed) {
                        // The relay says which protocol it speaks, and then waits.
                        match timeout(LOOK_EVERY, silent.read(&mut bytes)).await {
                            Err(_) => {}
                            Ok(read) if read.as_ref().is_ok_and(|read| *read > 0) => {}
                            Ok(_) => break,
                        }
                    }
                }
            });
        }
    }
}

/// Asks a peer for streams of a service that it does not have.
pub(crate) async fn refused_opens(stranger: Endpoint, peer: PeerId, switch: Switch) {
    let service = Service::new("nowhere").unwrap();
    let places = Arc::new(Semaphore::new(OPENS_MAX));
    let mut ticks = interval(TICK);
    loop {
        ticks.tick().await;
        for _ in 0..OPENS_EACH {
            if !switch.on.load(Relaxed) {
                break;
            }
            let Ok(place) = places.clone().try_acquire_owned() else { break };
            let (stranger, service, switch) = (stranger.clone(), service.clone(), switch.clone());
            tokio::spawn(async move {
                let _place = place;
                if stranger.open(peer, service).await.is_err() {
                    switch.done.fetch_add(1, Relaxed);
                }
            });
        }
    }
}
