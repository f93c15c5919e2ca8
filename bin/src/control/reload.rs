//! Files are read again: because somebody asks, and then all of them hold from then on, or none; or for SIGHUP, and then each
//! by itself, and what is wrong with one is an event.
//!
//! One task does it, one wish after the other and each to its end: what was read last holds last, also if whoever asked is
//! gone meanwhile.

use punchline_bridge::{Endpoint, addr::Ranges, relay};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::offers::{Board, Reread};
use crate::{
    access,
    cli::Nets,
    names::NamesFile,
    report::{ReportEvent, Reporter},
};

/// Who keeps to ranges.
#[derive(Clone)]
pub(crate) enum Keeper {
    /// A node.
    Node(Endpoint),
    /// A relay.
    Relay(relay::Handle),
    /// A node that takes part in a DHT.
    #[cfg(feature = "kad")]
    NodeInDht(Endpoint, DhtKeeper),
    /// A node of a DHT, and nothing else.
    #[cfg(feature = "kad")]
    Dht(DhtKeeper),
}

/// The part in a DHT, and what its addresses are beside the ranges.
#[cfg(feature = "kad")]
#[derive(Clone)]
pub(crate) struct DhtKeeper {
    pub(crate) dht: punchline_discovery::kad::Dht,
    pub(crate) global: punchline_bridge::addr::GlobalScope,
}

#[cfg(feature = "kad")]
impl DhtKeeper {
    async fn keep_to(&self, ranges: Ranges) {
        self.dht.keep_to(crate::finding::dht::policy(self.global.clone(), ranges)).await;
    }
}

impl Keeper {
    async fn keep_to(&self, ranges: Ranges) {
        match self {
            Self::Node(endpoint) => endpoint.keep_to(ranges).await,
            Self::Relay(relay) => relay.keep_to(ranges).await,
            #[cfg(feature = "kad")]
            Self::NodeInDht(endpoint, dht) => {
                endpoint.keep_to(ranges.clone()).await;
                dht.keep_to(ranges).await;
            }
            #[cfg(feature = "kad")]
            Self::Dht(dht) => dht.keep_to(ranges).await,
        }
    }
}

/// Wishes that wait for their turn. One more waits where it is.
const WISHES_MAX: usize = 16;

/// What is to be done with the files.
enum Wish {
    /// Somebody waits for the answer.
    Asked(oneshot::Sender<Result<Vec<String>, String>>),
    /// SIGHUP came before there was anything to read.
    HungUp,
}

/// Has files read again.
#[derive(Clone)]
pub(crate) struct Reloader(mpsc::Sender<Wish>);

impl Reloader {
    /// `hangups` changes with each SIGHUP. The task ends with the last of these handles, or when it is aborted.
    pub(crate) fn start(
        files: Files,
        board: Board,
        hangups: watch::Receiver<u64>,
    ) -> (Self, JoinHandle<()>) {
        let (wish, wishes) = mpsc::channel(WISHES_MAX);
        (Self(wish), tokio::spawn(work(files, board, wishes, hangups)))
    }

    /// What was read, a line each.
    ///
    /// # Errors
    /// What is wrong with the first that cannot be used; then all stays as it was.
    pub(super) async fn ask(&self) -> Result<Vec<String>, String> {
        let (answer, answered) = oneshot::channel();
        let gone = || "the node is about to end".to_owned();
        self.0.send(Wish::Asked(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// As SIGHUP does.
    pub(crate) async fn hang_up(&self) {
        // A node that ends reads nothing.
        let _ = self.0.send(Wish::HungUp).await;
    }
}

async fn work(
    files: Files,
    board: Board,
    mut wishes: mpsc::Receiver<Wish>,
    mut hangups: watch::Receiver<u64>,
) {
    loop {
        let wish = tokio::select! {
            wish = wishes.recv() => wish,
            Ok(()) = hangups.changed() => Some(Wish::HungUp),
        };
        match wish {
            Some(Wish::Asked(answer)) => {
                let outcome = files.reload(&board).await;
                // Whoever asked may have left.
                let _ = answer.send(outcome);
            }
            Some(Wish::HungUp) => files.hang_up(&board).await,
            None => return,
        }
    }
}

/// The files that every node and relay may have.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) nets: Nets,
    pub(crate) keeper: Keeper,
    pub(crate) names: NamesFile,
    /// Knows the file of events.
    pub(crate) reporter: Reporter,
}

impl Files {
    /// Reads all files again, those of `board` too, and then makes them hold. What was read, a line each.
    ///
    /// # Errors
    /// What is wrong with the first that cannot be used; then all stays as it was.
    async fn reload(&self, board: &Board) -> Result<Vec<String>, String> {
        let (files, board) = (self.clone(), board.clone());
        let reading = tokio::task::spawn_blocking(move || files.reread(&board));
        let reread = reading.await.map_err(|_| "the node is about to end".to_owned())??;
        let mut said = Vec::new();
        for Reread { said: line, apply } in reread {
            apply.await;
            said.push(line);
        }
        Ok(said)
    }

    /// Reads each by itself, and makes it hold if it can be used. The file of events is opened anew by the command.
    async fn hang_up(&self, board: &Board) {
        board.hang_up().await;
        if self.nets.net_file.is_some() {
            let read = tokio::task::block_in_place(|| access::ranges(&self.nets));
            let error = read.as_ref().err().map(ToString::to_string);
            if let Ok(ranges) = read {
                self.keeper.keep_to(ranges).await;
            }
            self.reporter.report(ReportEvent::NetsReloaded { error });
        }
    }

    fn reread(&self, board: &Board) -> Result<Vec<Reread>, String> {
        let mut all = Vec::new();
        let names = self.names.read().map_err(|error| error.to_string())?;
        let count = names.iter().count();
        if count > 0 {
            let said = format!("{count} names of peers from {}", self.names.path().display());
            let reporter = self.reporter.clone();
            all.push(Reread { said, apply: Box::pin(async move { reporter.calls(names) }) });
        }
        all.extend(board.reread()?);
        if let Some(path) = &self.nets.net_file {
            let ranges = access::ranges(&self.nets).map_err(|error| error.to_string())?;
            let (keeper, reporter) = (self.keeper.clone(), self.reporter.clone());
            let apply = async move {
                keeper.keep_to(ranges).await;
                reporter.report(ReportEvent::NetsReloaded { error: None });
            };
            let said = format!("ranges from {}", path.display());
            all.push(Reread { said, apply: Box::pin(apply) });
        }
        if let Some(path) = self.reporter.file() {
            let unwritable = |cause| format!("cannot write events to {}: {cause}", path.display());
            Reporter::check(path).map_err(unwritable)?;
            let reporter = self.reporter.clone();
            let apply = async move { reporter.reopen() };
            let said = format!("opened {} anew, for events", path.display());
            all.push(Reread { said, apply: Box::pin(apply) });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    };

    use punchline_bridge::{Config, Keypair};
    use tokio::sync::Notify;

    use super::*;
    use crate::control::offers::{Forwarded, Offered, Offers};

    /// Two files, of which the second takes its time to hold.
    #[derive(Clone, Default)]
    struct Slow {
        reads: Arc<AtomicU32>,
        said: Arc<Mutex<Vec<String>>>,
        began: Arc<Notify>,
        go_on: Arc<Notify>,
    }

    impl Slow {
        fn says(&self, what: &str, read: u32) {
            self.said.lock().unwrap().push(format!("{what} {read}"));
        }
    }

    impl Offers for Slow {
        fn services(&self) -> Vec<Offered> {
            Vec::new()
        }

        fn forwards(&self) -> Vec<Forwarded> {
            Vec::new()
        }

        fn reread(&self) -> Result<Vec<Reread>, String> {
            let read = 1 + self.reads.fetch_add(1, Ordering::SeqCst);
            self.says("read", read);
            let (first, second) = (self.clone(), self.clone());
            let first = async move { first.says("first holds", read) };
            let second = async move {
                second.began.notify_one();
                second.go_on.notified().await;
                second.says("second holds", read);
            };
            let reread = |apply| Reread { said: format!("{read}"), apply };
            Ok(vec![reread(Box::pin(first)), reread(Box::pin(second))])
        }

        fn hang_up(&self) -> futures::future::BoxFuture<'_, ()> {
            let read = 1 + self.reads.fetch_add(1, Ordering::SeqCst);
            self.says("hung up", read);
            Box::pin(async {})
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_read_again_holds_in_turn_and_to_the_end_though_whoever_asked_is_gone() {
        let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let config = Config { listen, ..Config::default() };
        let (endpoint, _events) = Endpoint::start(config, Keypair::generate_ed25519()).await.unwrap();
        let files = Files {
            nets: Nets::default(),
            keeper: Keeper::Node(endpoint),
            names: NamesFile::default(),
            reporter: Reporter::none(),
        };
        let (slow, board) = (Slow::default(), Board::default());
        board.set(slow.clone());
        let (hang_up, hangups) = watch::channel(0);
        let (reloader, _task) = Reloader::start(files, board, hangups);
        let leaves = tokio::spawn({
            let reloader = reloader.clone();
            async move { reloader.ask().await }
        });
        slow.began.notified().await;
        // The first has one file in force. Its asker goes, SIGHUP comes, and somebody else asks.
        leaves.abort();
        let asks = tokio::spawn(async move { reloader.ask().await });
        slow.go_on.notify_one();
        slow.began.notified().await;
        hang_up.send_replace(1);
        slow.go_on.notify_one();
        assert_eq!(asks.await.unwrap().unwrap(), ["2", "2"]);
        let done = || slow.said.lock().unwrap().len() >= 7;
        while !done() {
            tokio::task::yield_now().await;
        }
        let said = slow.said.lock().unwrap().clone();
        assert_eq!(
            said,
            [
                "read 1",
                "first holds 1",
                "second holds 1",
                "read 2",
                "first holds 2",
                "second holds 2",
                "hung up 3"
            ]
        );
    }
}
