//! `punchline discovery delegate`: an authority says again and again who answers for it.

use std::time::{Duration, SystemTime};

use libp2p::{PeerId, identity::Keypair};
use punchline_discovery::{
    UnixTime,
    record::{self, Body, Delegation, LIFETIME_MAX, Sequence, Statement},
};
use serde_json::json;
use tokio::time::sleep;

use super::{Answer, nodes, say, through::Way};
use crate::{
    Unusable,
    cli::{Common, discovery as cli},
    control::proto::{self, get_request, put_request},
    identity,
    names::PeerRef,
};

/// It is said again after half of the time that it holds.
const AGAIN: Duration = Duration::from_secs(LIFETIME_MAX.as_secs() / 2);

/// What was not kept is tried again after this, doubled up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// Says it until it is dropped, or once.
///
/// # Errors
/// If the first time fails.
pub(super) async fn run(delegate: cli::Delegate, common: &Common) -> anyhow::Result<()> {
    let to = match super::named(&delegate.to, common)? {
        PeerRef::Id(to) => to,
        other => {
            return Err(
                Unusable(format!("--to {other}: an authority names a peer, by its id or name")).into()
            );
        }
    };
    let key =
        identity::load_or_create(&delegate.authority).map_err(|error| Unusable(error.to_string()))?;
    let authority = key.public().to_peer_id();
    let way = Way::to(&delegate.through, None).await?;
    let kept = said(&way, &key, to).await?;
    say(delegate.through.json, answer(authority.to_string(), &to.to_string(), kept))?;
    if delegate.once {
        way.stop().await;
        return Ok(());
    }
    let mut pause = RETRY.0;
    let mut next = AGAIN;
    loop {
        sleep(next).await;
        match said(&way, &key, to).await {
            Ok(_) => (next, pause) = (AGAIN, RETRY.0),
            Err(error) => {
                tracing::warn!(
                    "that {to} answers for authority:{authority} could not be said again: {error:#}"
                );
                (next, pause) = (pause, (pause * 2).min(RETRY.1));
            }
        }
    }
}

/// By how many nodes it is kept.
async fn said(way: &Way, key: &Keypair, to: PeerId) -> anyhow::Result<u32> {
    let authority = key.public().to_peer_id().to_string();
    let what = Some(get_request::What::Authority(authority));
    // Whatever the clock says: the number is higher than the one that others keep.
    let before = way.get_any(proto::GetRequest { what }).await?;
    let last = before.and_then(|before| before.sequence).unwrap_or_default();
    let issued = UnixTime::from(SystemTime::now());
    let sequence = Sequence::after(last).next(issued);
    let sequence = sequence.ok_or_else(|| anyhow::anyhow!("there is no higher number for a record"))?;
    let (network, lasts) = (way.network().await?, LIFETIME_MAX);
    let body = Body::Delegation(Delegation { to });
    let signed = record::sign(key, Statement { network, sequence, issued, lasts, body })?;
    let what = Some(put_request::What::Delegation(signed.bytes().to_vec().into()));
    Ok(way.put(proto::PutRequest { what }).await?.nodes)
}

pub(super) fn answer(authority: String, to: &str, kept: u32) -> Answer {
    let text = format!("authority:{authority} is {to}; kept by {}", nodes(kept));
    (text.into_bytes(), json!({ "authority": authority, "to": to, "nodes": kept }))
}
