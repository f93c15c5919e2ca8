//! Who is on the networks of this host, by mDNS as libp2p speaks it. What to say and to believe, the machine decides;
//! here are the sockets.

mod machine;
mod message;
mod sockets;

use std::time::Instant;

use futures::StreamExt as _;
use if_watch::{IpNet, tokio::IfWatcher};
use libp2p::PeerId;

use self::{
    machine::{Machine, Send},
    sockets::Sockets,
};
use crate::task::{self, Asker, Finds, Teller, Wish, Wishes};

/// Begins; ends when both are dropped. Must be called within a tokio runtime.
pub(crate) fn start(local: PeerId) -> (Asker, Teller) {
    let (asker, teller, wanted, finds) = task::ends();
    let machine = Machine::new(local, rand::random());
    tokio::spawn(run(machine, wanted, finds));
    (asker, teller)
}

async fn run(mut machine: Machine, mut wanted: Wishes, finds: Finds) {
    let mut watcher = match IfWatcher::new() {
        Ok(watcher) => watcher,
        Err(error) => {
            return tracing::info!(
                %error,
                "peers on the local network are not found: this host does not tell which networks it has"
            );
        }
    };
    let mut sockets = Sockets::default();
    loop {
        sockets.use_lans(&machine.lans().collect::<Vec<_>>());
        for Send { lan, packet } in machine.handle_timeout(Instant::now()) {
            sockets.send(lan, &packet).await;
        }
        let timeout = machine.poll_timeout();
        tokio::select! {
            wish = wanted.recv() => match wish {
                Some(Wish::Seek(_)) => machine.seek(Instant::now()),
                Some(Wish::Forget { last: true, .. }) => machine.rest(),
                Some(Wish::Listening(addresses)) => machine.listening(addresses, Instant::now()),
                // Others are sought still; and neighbours have no use for where hosts far away reach this node.
                Some(Wish::Forget { .. } | Wish::Reachable(_)) => {}
                None => return,
            },
            _ = watcher.select_next_some() => {
                let nets = watcher.iter().filter_map(|net| match net {
                    IpNet::V4(net) => Some(*net),
                    IpNet::V6(_) => None,
                });
                machine.networks(nets, Instant::now());
            }
            (packet, from) = sockets.receive() => {
                for hint in machine.received(&packet, from, Instant::now()) {
                    finds.hand_on(hint);
                }
            }
            () = sleep_until(timeout) => {}
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
