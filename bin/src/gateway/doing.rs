//! What a process with exposed and forwarded services does, for those who ask it.

use std::sync::Arc;

use futures::future::BoxFuture;
use punchline_bridge::Endpoint;

use super::{expose::Exposed, forward::Forward};
use crate::control::{Forwarded, Offered, Offers, Reread};

/// All that it does.
pub(super) struct Doing {
    pub(super) exposed: Vec<Arc<Exposed>>,
    pub(super) forwards: Vec<Arc<Forward>>,
    pub(super) endpoint: Endpoint,
}

impl Offers for Doing {
    fn services(&self) -> Vec<Offered> {
        self.exposed.iter().map(|exposed| exposed.offered()).collect()
    }

    fn forwards(&self) -> Vec<Forwarded> {
        self.forwards.iter().map(|forward| forward.forwarded()).collect()
    }

    fn reread(&self) -> Result<Vec<Reread>, String> {
        let lists = self.exposed.iter().filter_map(|exposed| exposed.reread(&self.endpoint).transpose());
        lists.collect()
    }

    fn hang_up(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            for exposed in &self.exposed {
                exposed.reload();
                self.endpoint.welcome(exposed.service().clone(), exposed.listed()).await;
            }
        })
    }
}
