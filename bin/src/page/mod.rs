//! A node or a relay on a page: what it says about itself, for people with a browser.
//!
//! The files beside this one are the page, as they are: `page.html`, `page.css`, and the scripts `page.js` (asks, and fills
//! what all have in common), `node.js`, `relay.js` and `dht.js` (fill the rest), `fill.js` (words), `story.js` (what events say) and `draw.js` (pictures).
//! They ask for `status.json`, which is what `punchline status --json` prints, listen to `events`, and say `retry`. Programs
//! that watched other monitors ask for `api/state`, `api/metrics` and `api/nodes`: `api` answers those.
//! Whatever peers may have written becomes text there, never markup. `guard` decides who may look.

mod api;
mod events;
mod guard;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use hyper::{Method, StatusCode, http::request::Parts};
use serde_json::Value;
use tokio::task::JoinSet;
use tonic::{Code, Request};

use self::{
    events::Broadcast,
    guard::{Guard, Token},
};
use crate::{
    asking::{retried_json, status_json},
    cli,
    control::{
        Answers,
        proto::{GetStatusRequest, RetryRequest},
    },
    http::{Answer, Fresh, Listener, Respond, is_own_origin, plain, refuse_method, text},
    report::{ReportEvent, Reporter},
    settings::show::Setting,
};

#[cfg(test)]
pub(crate) use self::api::numbers;

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

    /// Shows the node or the relay.
    pub(crate) fn serve(self, node: impl Answers, reporter: &Reporter, shown: &[Setting]) -> Serving {
        let Self(listener) = self;
        let address = listener.address;
        let guard = Guard::new(address, Token::random);
        reporter.report(ReportEvent::PageListening { address });
        if let Some(url) = guard.secret_url() {
            tracing::warn!(
                "other hosts reach the page, and nothing is encrypted: whoever has this address sees peers and their \
                 addresses: {url}"
            );
        }
        let broadcast = Broadcast::new(reporter.clone());
        let (status, numbers, nodes) = Default::default();
        let settings = Value::Array(shown.iter().map(Setting::json).collect()).to_string().into();
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.serve(Arc::new(Page {
            guard,
            node,
            settings,
            broadcast,
            status,
            numbers,
            nodes,
        })));
        Serving { _tasks: tasks }
    }
}

struct Page<N> {
    guard: Guard,
    node: N,
    /// What holds, as `punchline settings --show --json` prints it.
    settings: Bytes,
    broadcast: Broadcast,
    status: Fresh<Told>,
    numbers: Fresh<Told>,
    nodes: Fresh<Told>,
}

/// What is answered, and good for a moment: JSON, or why there is none.
type Told = Result<Bytes, (StatusCode, String)>;

/// The files, by name, with their types.
const FILES: [(&str, &str, &str); 11] = [
    ("", "text/html; charset=utf-8", include_str!("page.html")),
    ("page.css", "text/css; charset=utf-8", include_str!("page.css")),
    ("page.js", "text/javascript; charset=utf-8", include_str!("page.js")),
    ("fill.js", "text/javascript; charset=utf-8", include_str!("fill.js")),
    ("node.js", "text/javascript; charset=utf-8", include_str!("node.js")),
    ("verified.js", "text/javascript; charset=utf-8", include_str!("verified.js")),
    ("relay.js", "text/javascript; charset=utf-8", include_str!("relay.js")),
    ("dht.js", "text/javascript; charset=utf-8", include_str!("dht.js")),
    ("settings.js", "text/javascript; charset=utf-8", include_str!("settings.js")),
    ("story.js", "text/javascript; charset=utf-8", include_str!("story.js")),
    ("draw.js", "text/javascript; charset=utf-8", include_str!("draw.js")),
];

impl<N: Answers> Respond for Page<N> {
    async fn respond(&self, request: &Parts) -> Answer {
        let mut answer = self.answer(request).await;
        answer.headers_mut().extend(guard::headers());
        answer
    }
}

impl<N: Answers> Page<N> {
    async fn answer(&self, request: &Parts) -> Answer {
        if !self.guard.is_meant(&request.headers) {
            let say = "say localhost or the address of --page in place of this name";
            return plain(StatusCode::MISDIRECTED_REQUEST, say);
        }
        let Some(asked) = self.guard.admit(request.uri.path()) else {
            let say = "the log of the node has the whole address, with its secret part";
            return plain(StatusCode::NOT_FOUND, say);
        };
        if asked == "retry" && request.method == Method::POST {
            return self.retry(request).await;
        }
        if let Some(refusal) = refuse_method(&request.method) {
            return refusal;
        }
        match asked {
            "status.json" | "api/state" => match self.status.at(Instant::now(), self.status()).await {
                Ok(json) => text(StatusCode::OK, JSON, json),
                Err((status, why)) => plain(status, &why),
            },
            "api/metrics" => match self.numbers.at(Instant::now(), api::metrics(&self.node)).await {
                Ok(json) => text(StatusCode::OK, JSON, json),
                Err((status, why)) => plain(status, &why),
            },
            "api/nodes" => match self.nodes.at(Instant::now(), api::nodes(&self.node)).await {
                Ok(json) => text(StatusCode::OK, JSON, json),
                Err((status, why)) => plain(status, &why),
            },
            "settings.json" => text(StatusCode::OK, JSON, self.settings.clone()),
            "events" => self.broadcast.listen(),
            _ => match FILES.iter().find(|(name, ..)| *name == asked) {
                Some((_, kind, content)) => text(StatusCode::OK, kind, *content),
                None => plain(StatusCode::NOT_FOUND, "there is nothing of this name"),
            },
        }
    }

    async fn status(&self) -> Told {
        let told = self.node.get_status(Request::new(GetStatusRequest {})).await;
        let told =
            told.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.message().to_owned()))?;
        let json = status_json(told.get_ref());
        let json = json.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        Ok(json.to_string().into())
    }

    /// The only thing that whoever looks can have done. Which peer is meant stands after the question mark, if one is; the
    /// node decides how often it does so.
    async fn retry(&self, request: &Parts) -> Answer {
        if !is_own_origin(&request.headers) {
            return plain(StatusCode::FORBIDDEN, "only the page itself may ask for this");
        }
        let peer = request.uri.query().filter(|peer| !peer.is_empty()).map(str::to_owned);
        match self.node.retry(Request::new(RetryRequest { peer })).await {
            Ok(retried) => match retried_json(retried.get_ref()) {
                Ok(json) => text(StatusCode::OK, JSON, json.to_string()),
                Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            },
            Err(error) => {
                let status = match error.code() {
                    Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
                    Code::InvalidArgument => StatusCode::BAD_REQUEST,
                    _ => StatusCode::SERVICE_UNAVAILABLE,
                };
                plain(status, error.message())
            }
        }
    }
}

const JSON: &str = "application/json";

#[cfg(test)]
mod tests;
