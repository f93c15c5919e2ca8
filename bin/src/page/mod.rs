//! A node on a page: what it says about itself, for people with a browser.
//!
//! The files beside this one are the page, as they are: `page.html`, `page.css`, and the scripts `page.js` (asks the node,
//! fills the page), `story.js` (what events say about a peer) and `draw.js` (pictures). They ask for `status.json`, which is
//! what `punchline status --json` prints, and listen to `events`. Whatever peers may have written becomes text there, never
//! markup. `guard` decides who may look.

mod events;
mod guard;

use std::sync::Arc;

use hyper::{StatusCode, http::request::Parts};
use tokio::task::JoinSet;
use tonic::Request;

use self::{
    events::Broadcast,
    guard::{Guard, Token},
};
use crate::{
    asking::status_json,
    cli,
    control::{
        Answering,
        proto::{GetStatusRequest, node_server::Node as _},
    },
    http::{Answer, Listener, Respond, plain, refuse_method, text},
    report::ReportEvent,
};

/// A socket on which browsers wait.
pub(crate) struct Bound(Listener);

/// Shows a page.
///
/// # Drop
/// No more.
pub(crate) struct Serving {
    _tasks: JoinSet<()>,
}

impl Bound {
    /// Listens where the settings say, if they do.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub(crate) async fn new(settings: &cli::Page) -> anyhow::Result<Option<Self>> {
        let Some(address) = settings.address() else { return Ok(None) };
        Listener::bind(address, "--page").await.map(|listener| Some(Self(listener)))
    }

    /// Shows the node.
    pub(crate) fn serve(self, node: Answering) -> Serving {
        let Self(listener) = self;
        let address = listener.address;
        let guard = Guard::new(address, Token::random);
        node.reporter.report(ReportEvent::PageListening { address });
        if let Some(url) = guard.secret_url() {
            tracing::warn!(
                "other hosts reach the page, and nothing is encrypted: whoever has this address sees peers and their \
                 addresses: {url}"
            );
        }
        let broadcast = Broadcast::new(node.reporter.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.serve(Arc::new(Page { guard, node, broadcast })));
        Serving { _tasks: tasks }
    }
}

struct Page {
    guard: Guard,
    node: Answering,
    broadcast: Broadcast,
}

/// The files, by name, with their types.
const FILES: [(&str, &str, &str); 5] = [
    ("", "text/html; charset=utf-8", include_str!("page.html")),
    ("page.css", "text/css; charset=utf-8", include_str!("page.css")),
    ("page.js", "text/javascript; charset=utf-8", include_str!("page.js")),
    ("story.js", "text/javascript; charset=utf-8", include_str!("story.js")),
    ("draw.js", "text/javascript; charset=utf-8", include_str!("draw.js")),
];

impl Respond for Page {
    async fn respond(&self, request: &Parts) -> Answer {
        let mut answer = self.answer(request).await;
        answer.headers_mut().extend(guard::headers());
        answer
    }
}

impl Page {
    async fn answer(&self, request: &Parts) -> Answer {
        if !self.guard.is_meant(&request.headers) {
            let say = "say localhost or the address of --page in place of this name";
            return plain(StatusCode::MISDIRECTED_REQUEST, say);
        }
        if let Some(refusal) = refuse_method(&request.method) {
            return refusal;
        }
        let Some(asked) = self.guard.admit(request.uri.path()) else {
            let say = "the log of the node has the whole address, with its secret part";
            return plain(StatusCode::NOT_FOUND, say);
        };
        match asked {
            "status.json" => self.status().await,
            "events" => self.broadcast.listen(),
            _ => match FILES.iter().find(|(name, ..)| *name == asked) {
                Some((_, kind, content)) => text(StatusCode::OK, kind, *content),
                None => plain(StatusCode::NOT_FOUND, "there is nothing of this name"),
            },
        }
    }

    async fn status(&self) -> Answer {
        let json = match self.node.get_status(Request::new(GetStatusRequest {})).await {
            Ok(status) => status_json(status.get_ref()),
            Err(error) => return plain(StatusCode::SERVICE_UNAVAILABLE, error.message()),
        };
        match json {
            Ok(json) => text(StatusCode::OK, "application/json", json.to_string()),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
