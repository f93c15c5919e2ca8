//! What a node offers and stands in for, as its command knows it, and the files that it reads again.

use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use libp2p::PeerId;
use punchline_bridge::Service;

/// A service that the node answers for.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub(crate) service: Service,
    /// Where its connections lead; none where the node itself is the program.
    pub(crate) target: Option<String>,
    pub(crate) anybody: bool,
    pub(crate) tickets: bool,
    /// The peers that it lets in by name.
    pub(crate) allowed: Vec<PeerId>,
    /// Connections that it may carry, if it has a limit of its own.
    pub(crate) connections_max: Option<usize>,
}

/// A local socket that is a peer's service.
#[derive(Clone, Debug)]
pub(crate) struct Forwarded {
    /// Of several that would do the one that answered last; none: nobody is known yet.
    pub(crate) peer: Option<PeerId>,
    pub(crate) service: Service,
    pub(crate) local: String,
    /// Local connections that are carried or wait for their stream.
    pub(crate) connections: usize,
    pub(crate) connections_max: Option<usize>,
    /// Why the last one came to nothing, if none has succeeded since.
    pub(crate) last_error: Option<String>,
}

/// What was read again, and does not hold yet.
pub(crate) struct Reread {
    /// For people: one line.
    pub(crate) said: String,
    /// Makes it hold.
    pub(crate) apply: BoxFuture<'static, ()>,
}

/// What a command knows of what it does.
pub(crate) trait Offers: Send + Sync {
    /// The services that it answers for.
    fn services(&self) -> Vec<Offered>;

    /// The sockets that it stands behind.
    fn forwards(&self) -> Vec<Forwarded>;

    /// Reads the files of its services again, which blocks.
    ///
    /// # Errors
    /// What is wrong with the first that cannot be used, with the file and the line.
    fn reread(&self) -> Result<Vec<Reread>, String>;

    /// Reads each file again and makes it hold by itself. What is wrong with one is an event.
    fn hang_up(&self) -> BoxFuture<'_, ()>;
}

/// Set once the command does what it is for. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Board(Arc<OnceLock<Box<dyn Offers>>>);

impl Board {
    /// From now on it is told.
    pub(crate) fn set(&self, offers: impl Offers + 'static) {
        // A command sets it once.
        let _ = self.0.set(Box::new(offers));
    }

    pub(super) fn services(&self) -> Vec<Offered> {
        self.0.get().map(|offers| offers.services()).unwrap_or_default()
    }

    pub(super) fn forwards(&self) -> Vec<Forwarded> {
        self.0.get().map(|offers| offers.forwards()).unwrap_or_default()
    }

    pub(super) async fn hang_up(&self) {
        if let Some(offers) = self.0.get() {
            offers.hang_up().await;
        }
    }

    pub(super) fn reread(&self) -> Result<Vec<Reread>, String> {
        self.0.get().map_or(Ok(Vec::new()), |offers| offers.reread())
    }
}
