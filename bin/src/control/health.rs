//! `grpc.health.v1` on the control socket: for probes that speak gRPC and know nothing of this program.

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use punchline_bridge::relay::Handle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
};

use super::service::{ANSWER_DEADLINE, Answering};

/// Between two looks for whoever watches.
const PACE: Duration = Duration::from_secs(2);

/// What may be asked about: everything, or the service that answers beside this one.
const SERVICES: [&str; 2] = ["", "punchline.v1.Node"];

/// Serving is a node or a relay that is usable.
#[derive(Clone)]
pub(crate) enum Wellness {
    /// Of a node.
    Node(Box<Answering>),
    /// Of a relay.
    Relay(Handle),
    /// Of a bootstrap node: it is, while it answers.
    #[cfg(feature = "kad")]
    Dht(punchline_discovery::kad::Dht),
}

impl Wellness {
    fn knows(request: Request<HealthCheckRequest>) -> Result<(), Status> {
        let service = request.into_inner().service;
        match SERVICES.contains(&service.as_str()) {
            true => Ok(()),
            false => Err(Status::not_found(format!("ask about {}, or about nothing", SERVICES[1]))),
        }
    }
}

async fn how(whose: &Wellness) -> ServingStatus {
    let usable = timeout(ANSWER_DEADLINE, async {
        match whose {
            Wellness::Node(node) => {
                let status = node.endpoint.status().await;
                status.is_some_and(|status| node.hindrance(&status).is_none())
            }
            #[cfg(feature = "kad")]
            Wellness::Dht(dht) => dht.status().await.is_some(),
            Wellness::Relay(relay) => {
                let status = relay.status().await;
                status.is_some_and(|status| status.hindrance().is_none())
            }
        }
    });
    match usable.await {
        Ok(true) => ServingStatus::Serving,
        Ok(false) | Err(_) => ServingStatus::NotServing,
    }
}

fn told(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for Wellness {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Self::knows(request)?;
        Ok(Response::new(told(how(self).await)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// What it is now, and what it becomes.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Self::knows(request)?;
        let mut pause = interval(PACE);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let changes =
            stream::unfold((self.clone(), pause, None), |(node, mut pause, before)| async move {
                loop {
                    pause.tick().await;
                    let now = how(&node).await;
                    if before != Some(now) {
                        return Some((Ok(told(now)), (node, pause, Some(now))));
                    }
                }
            });
        Ok(Response::new(changes.boxed()))
    }
}
