//! Has our router forward the ports that we listen on, or over IPv6 let everybody in at them: at which ports says the
//! engine, when it is asked says [`lease`], what is said to it is in [`router`], and over IPv6 in [`pinhole`] and [`pcp`]; [`trial`] finds out what it would do.
//!
//! One task looks for the router and has a keeper, a task of its own, for each transport and family. Where no router is,
//! or none that answers, they sleep.

mod lease;
mod pcp;
mod pinhole;
mod router;
mod trial;
mod upnp;

use std::{
    collections::BTreeMap,
    num::NonZeroU16,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep_until, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use self::trial::{RouterAnswer, port_mapping};
use self::{
    lease::{Job, Lease},
    router::{Granted, Mapping, Port, Way},
};
use crate::{
    engine::input::{Input, Listener},
    error::Family,
    event::MappingProtocol,
    path::Transport,
};

/// For the router to take back what it forwards, when the node ends.
const RELEASE: Duration = Duration::from_secs(1);

/// First and longest wait before the way to the router is looked up again; it doubles in between, and begins anew
/// when the addresses of this host change. The route often comes a little later than the address.
const LOOK: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// News that wait for the driver: it reads them at once.
const NEWS_MAX: usize = 16;

/// Keeps our router forwarding to our listeners. Does nothing before it is told of some.
#[derive(Debug, Default)]
pub(crate) struct Mapper(Option<Running>);

#[derive(Debug)]
struct Running {
    listeners: watch::Sender<Vec<Listener>>,
    news: mpsc::Receiver<Input>,
    task: JoinHandle<()>,
    /// When it was last told.
    told: tokio::time::Instant,
}

impl Mapper {
    /// Has the router forward to these listeners and to no others. Must be called within a tokio runtime.
    pub(crate) fn map(&mut self, listeners: Vec<Listener>) {
        let running = self.0.get_or_insert_with(|| {
            let (tell, told) = watch::channel(Vec::new());
            let (say, news) = mpsc::channel(NEWS_MAX);
            let task = tokio::spawn(Office::new(say).run(told));
            Running { listeners: tell, news, task, told: tokio::time::Instant::now() }
        });
        running.told = tokio::time::Instant::now();
        running.listeners.send_replace(listeners);
    }

    /// What the router does, for the engine.
    pub(crate) async fn news(&mut self) -> Input {
        if let Some(running) = &mut self.0
            && let Some(input) = running.news.recv().await
        {
            return input;
        }
        std::future::pending().await
    }

    /// Waits until the router has taken everything back, at most for [`RELEASE`] since it was last told.
    pub(crate) async fn end(self) {
        if let Some(Running { listeners, news, task, told }) = self.0 {
            drop((listeners, news));
            let task = AbortOnDropHandle::new(task);
            let _ = timeout_at(told + RELEASE, task).await;
        }
    }
}

/// What a keeper says: who it is, and what the router forwards; none if it does not any more.
type Word = (u64, Option<(Granted, MappingProtocol)>);

/// A keeper at work.
struct Keeper {
    id: u64,
    port: Port,
    /// Whether the engine was told that the router forwards the port.
    told: bool,
    stop: CancellationToken,
}

/// Where keepers are hired and let go.
struct Office {
    say: mpsc::Sender<Input>,
    keepers: BTreeMap<(Transport, Family), Keeper>,
    /// All that have not ended: those that were let go still take back what they had.
    tasks: JoinSet<()>,
    words: (mpsc::Sender<Word>, mpsc::Receiver<Word>),
    hired: u64,
}

impl Office {
    fn new(say: mpsc::Sender<Input>) -> Self {
        let words = mpsc::channel(NEWS_MAX);
        Self { say, keepers: BTreeMap::new(), tasks: JoinSet::new(), words, hired: 0 }
    }

    async fn run(mut self, mut told: watch::Receiver<Vec<Listener>>) {
        let (mut look, mut wait) = (None, LOOK.0);
        loop {
            tokio::select! {
                changed = told.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    (look, wait) = (Some(tokio::time::Instant::now()), LOOK.0);
                }
                () = until(look) => {
                    let listeners = told.borrow().clone();
                    look = (!listeners.is_empty()).then(|| tokio::time::Instant::now() + wait);
                    wait = (wait * 2).min(LOOK.1);
                    self.look(&listeners).await;
                }
                Some(word) = self.words.1.recv() => self.heard(word).await,
                Some(_) = self.tasks.join_next() => {}
            }
        }
        self.keepers.values().for_each(|keeper| keeper.stop.cancel());
        while self.tasks.join_next().await.is_some() {}
    }

    /// Sees to it that there is a keeper for each port that the router stands before, and no other.
    async fn look(&mut self, listeners: &[Listener]) {
        for family in [Family::V4, Family::V6] {
            let way = match listeners.iter().any(|listener| Family::of(listener.at.ip()) == family) {
                // A look at the system's tables that went wrong found nothing.
                true => tokio::task::spawn_blocking(move || Way::find(family)).await.ok().flatten(),
                false => None,
            };
            for transport in [Transport::Tcp, Transport::Quic] {
                let port = way.and_then(|way| port_of(listeners, transport, way));
                self.keep_to(port, transport, family).await;
            }
        }
    }

    /// Has a keeper for this port, and for no other of the same transport and family.
    async fn keep_to(&mut self, port: Option<Port>, transport: Transport, family: Family) {
        let key = (transport, family);
        if self.keepers.get(&key).map(|keeper| keeper.port) == port {
            return;
        }
        if let Some(keeper) = self.keepers.remove(&key) {
            keeper.stop.cancel();
            if keeper.told {
                let _ = self.say.send(Input::PortMappingLost { transport, family }).await;
            }
        }
        if let Some(port) = port {
            self.hire(port, key);
        }
    }

    fn hire(&mut self, port: Port, key: (Transport, Family)) {
        self.hired += 1;
        let (id, stop) = (self.hired, CancellationToken::new());
        self.tasks.spawn(keep(id, port, stop.clone(), self.words.0.clone()));
        self.keepers.insert(key, Keeper { id, port, told: false, stop });
    }

    /// What those say who were let go does not count.
    async fn heard(&mut self, (id, forwarded): Word) {
        let said = self.keepers.iter_mut().find(|(_, keeper)| keeper.id == id);
        let Some((&(transport, family), keeper)) = said else { return };
        keeper.told = forwarded.is_some();
        let input = match forwarded {
            Some((granted, by)) => Input::PortMapped { transport, external: granted.external, by },
            None => Input::PortMappingLost { transport, family },
        };
        // Without a driver nobody has to know.
        let _ = self.say.send(input).await;
    }
}

/// The port of this transport that we listen on at the address which `way` leaves from.
fn port_of(listeners: &[Listener], transport: Transport, way: Way) -> Option<Port> {
    let there = |listener: &&Listener| listener.transport == transport && listener.at.ip() == way.from;
    let port = NonZeroU16::new(listeners.iter().find(there)?.at.port())?;
    Some(Port { way, transport, port })
}

/// Has the router forward one port until told to stop, and take it back then.
async fn keep(id: u64, port: Port, stop: CancellationToken, words: mpsc::Sender<Word>) {
    let family = Family::of(port.way.from);
    let (mut lease, mut held) = (Lease::new(family, Instant::now()), None);
    while let Some(job) = due(&lease, &stop).await {
        let done = act(job, port, &mut held);
        let granted = tokio::select! {
            granted = done => granted,
            // What the router grants in the last moment is taken back, too.
            () = ended(&stop) => None,
        };
        let word = match granted {
            Some(granted) => {
                lease.granted(granted.lasts, Instant::now());
                held.as_ref().map(|(_, by)| (granted, *by))
            }
            None if lease.failed(Instant::now()) => {
                held = None;
                None
            }
            None => continue,
        };
        let _ = words.send((id, word)).await;
    }
    if let Some((mapping, by)) = held
        && let Ok(Err(cause)) = timeout(RELEASE / 2, mapping.release()).await
    {
        tracing::debug!(?port, ?by, %cause, "the router did not take a mapped port back");
    }
}

/// Waits for what is to be done next; none when told to stop.
async fn due(lease: &Lease, stop: &CancellationToken) -> Option<Job> {
    let (at, job) = lease.next();
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        () = sleep_until(at.into()) => Some(job),
    }
}

/// A while after the keeper was told to stop.
async fn ended(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(RELEASE / 2).await;
}

async fn act(job: Job, port: Port, held: &mut Option<(Mapping, MappingProtocol)>) -> Option<Granted> {
    let done = match (job, held) {
        (Job::Renew, Some((mapping, _))) => mapping.renew().await,
        (Job::Renew, None) => return None,
        (Job::Ask(by), held) => Mapping::ask(port, by).await.map(|(mapping, granted)| {
            *held = Some((mapping, by));
            granted
        }),
    };
    done.inspect_err(|cause| tracing::debug!(?job, ?port, %cause, "the router did not map a port")).ok()
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn listener(transport: Transport, at: &str) -> Listener {
        Listener { transport, at: at.parse().unwrap() }
    }

    fn way() -> Way {
        let [router, from] = ["192.168.1.1", "192.168.1.7"].map(|ip| ip.parse().unwrap());
        Way { router, interface: 2, from }
    }

    #[test]
    fn only_a_listener_at_the_address_that_leads_to_the_router_is_mapped() {
        let bridge = listener(Transport::Tcp, "172.17.0.1:4001");
        let home = listener(Transport::Tcp, "192.168.1.7:4002");
        assert_eq!(port_of(&[bridge], Transport::Tcp, way()), None);
        assert_eq!(port_of(&[bridge, home], Transport::Quic, way()), None);
        let port = port_of(&[bridge, home], Transport::Tcp, way()).unwrap();
        assert_eq!((port.port.get(), port.transport), (4002, Transport::Tcp));
    }

    #[tokio::test]
    async fn what_a_keeper_says_that_was_let_go_does_not_count() {
        let (say, mut news) = mpsc::channel(NEWS_MAX);
        let mut office = Office::new(say);
        let port = port_of(&[listener(Transport::Tcp, "192.168.1.7:1")], Transport::Tcp, way());
        let keeper = Keeper { id: 2, port: port.unwrap(), told: false, stop: CancellationToken::new() };
        office.keepers.insert((Transport::Tcp, Family::V4), keeper);
        let lasts = Duration::from_secs(60);
        let granted = |external: &str| Granted { external: external.parse().unwrap(), lasts };
        let (old, new) = (granted("8.8.4.4:1"), granted("8.8.4.4:2"));
        office.heard((1, Some((old, MappingProtocol::Pcp)))).await;
        office.heard((2, Some((new, MappingProtocol::Pcp)))).await;
        office.heard((1, None)).await;
        let told = news.try_recv().unwrap();
        assert!(
            matches!(told, Input::PortMapped { external, .. } if external == new.external),
            "{told:?}"
        );
        assert!(news.try_recv().is_err());
        // Nobody stands before the listeners any more.
        office.look(&[]).await;
        let told = news.try_recv().unwrap();
        assert!(
            matches!(told, Input::PortMappingLost { transport: Transport::Tcp, family: Family::V4 }),
            "{told:?}"
        );
    }
}
