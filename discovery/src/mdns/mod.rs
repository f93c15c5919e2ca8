//! Who is on the networks of this host, by mDNS as libp2p speaks it. What to say and to believe, the machine decides;
//! here are the sockets.

mod machine;
mod message;
mod sockets;

use std::{
    collections::BTreeSet,
    task::{Context, Poll},
    time::Instant,
};

use futures::StreamExt as _;
use if_watch::{IpNet, tokio::IfWatcher};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use self::{
    machine::{Machine, Send},
    sockets::Sockets,
};
use crate::{
    hint::Hint,
    source::{Lookup, Publish},
};

/// Hints that were not taken yet. One more is dropped: whoever is there says it again.
const FOUND_MAX: usize = 256;

/// What is to be done.
enum Order {
    Seek,
    Rest,
    Publish(Vec<Multiaddr>),
}

/// Finds peers on the networks of this host.
pub(crate) struct Asker {
    orders: mpsc::UnboundedSender<Order>,
    found: mpsc::Receiver<Hint>,
}

/// Tells these networks where this node is.
pub(crate) struct Teller {
    orders: mpsc::UnboundedSender<Order>,
}

/// Begins; ends when both are dropped. Must be called within a tokio runtime.
pub(crate) fn start(local: PeerId) -> (Asker, Teller) {
    // One order for each peer that is sought and each address that comes, which their own limits bound.
    let (orders, taken) = mpsc::unbounded_channel();
    let (hints, found) = mpsc::channel(FOUND_MAX);
    let machine = Machine::new(local, rand::random());
    tokio::spawn(run(machine, taken, hints));
    (Asker { orders: orders.clone(), found }, Teller { orders })
}

impl Lookup for Asker {
    fn seek(&mut self, _: &BTreeSet<PeerId>, _: PeerId) {
        let _ = self.orders.send(Order::Seek);
    }

    fn forget(&mut self, sought: &BTreeSet<PeerId>, _: PeerId) {
        if sought.is_empty() {
            let _ = self.orders.send(Order::Rest);
        }
    }

    fn poll_hint(&mut self, cx: &mut Context<'_>) -> Poll<Hint> {
        match self.found.poll_recv(cx) {
            Poll::Ready(Some(hint)) => Poll::Ready(hint),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Publish for Teller {
    fn publish(&mut self, addresses: &[Multiaddr]) {
        let _ = self.orders.send(Order::Publish(addresses.to_vec()));
    }
}

async fn run(
    mut machine: Machine,
    mut orders: mpsc::UnboundedReceiver<Order>,
    hints: mpsc::Sender<Hint>,
) {
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
            order = orders.recv() => match order {
                Some(Order::Seek) => machine.seek(Instant::now()),
                Some(Order::Rest) => machine.rest(),
                Some(Order::Publish(addresses)) => machine.listening(addresses, Instant::now()),
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
                    if hints.try_send(hint).is_err() {
                        tracing::debug!("somebody on the local network was found, and nobody takes it");
                    }
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
