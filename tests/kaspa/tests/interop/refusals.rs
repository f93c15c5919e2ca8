//! Every refusal, seen from both sides, whoever dials. So that it is certain which side refuses, the
//! other one asks for nothing, or says one thing and asks for another.

use anyhow::Result;
use kaspa_p2p_lib::{ConnectionError, pb::KaspadMessage, pb::p2p_client::P2pClient};
use punchline_kaspa_tests::{Demands, Manners, Peer, journal};
use punchline_protocol::{
    AdmissionLimit, DialError, HandshakeError, Inbound, NodeConfig, ProtocolVersion, RejectReason,
};
use tonic::{Code, Streaming, codegen::tokio_stream, transport::Channel};

use crate::world::{Dialler, EITHER, NETWORK, Ours, Place, soon};

/// Our side refuses `theirs` for `reason`: both say so, and neither keeps anything.
async fn we_refuse(place: Place, theirs: Manners, dialler: Dialler, reason: RejectReason) -> Result<()> {
    let mut ours = place.ours(place.config()).await?;
    let theirs = place.theirs(theirs).await?;
    let refused = ours.meet(&theirs, dialler).await?;
    assert_eq!(refused.err(), Some(HandshakeError::Refused(reason.clone())), "{dialler:?}");
    they_heard(&place, &reason).await?;
    nobody_is_there(&ours, &theirs);
    Ok(())
}

async fn they_heard(place: &Place, reason: &RejectReason) -> Result<()> {
    let name = place.name_of_ours();
    journal::line(&[&format!("got reject message: {reason} from peer: {name}")]).await?;
    journal::line(&["handshake failed for", &name, "peer connection is closed"]).await?;
    Ok(())
}

/// The other side refuses us: it says `text`, and we understand `reason`.
async fn they_refuse(
    place: Place,
    ours: NodeConfig,
    demands: Demands,
    dialler: Dialler,
    (text, reason): (&str, RejectReason),
) -> Result<()> {
    let mut ours = place.ours(ours).await?;
    let theirs = place.theirs(Manners { demands, ..Manners::tolerant(NETWORK) }).await?;
    let rejected = ours.meet(&theirs, dialler).await?;
    assert_eq!(rejected.err(), Some(HandshakeError::Rejected(reason)), "{dialler:?}");
    they_said(&place, text).await?;
    nobody_is_there(&ours, &theirs);
    Ok(())
}

async fn they_said(place: &Place, text: &str) -> Result<()> {
    journal::line(&["handshake failed for", &place.name_of_ours(), text]).await?;
    Ok(())
}

fn nobody_is_there(ours: &Ours, theirs: &Peer) {
    assert_eq!(ours.node.live_sessions(), 0);
    assert!(theirs.active_peers().is_empty());
}

#[tokio::test]
async fn we_refuse_a_peer_of_another_network_and_it_hears_which() -> Result<()> {
    for dialler in EITHER {
        let theirs = Manners { network: "kaspa-testnet-10".into(), ..Manners::tolerant(NETWORK) };
        let reason =
            RejectReason::WrongNetwork { local: NETWORK.into(), remote: theirs.network.clone() };
        we_refuse(Place::new(), theirs, dialler, reason).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_peer_of_another_network_refuses_us_and_we_hear_which() -> Result<()> {
    for dialler in EITHER {
        let place = Place::new();
        let demands = Demands { network: Some("kaspa-testnet-10".into()), ..Demands::none() };
        let text = "Network mismatch - local: kaspa-testnet-10, remote: kaspa-simnet";
        let said = (text, RejectReason::Text(text.into()));
        they_refuse(place, place.config(), demands, dialler, said).await?;
    }
    Ok(())
}

#[tokio::test]
async fn honest_peers_of_two_networks_part_whoever_is_first_to_say_so() -> Result<()> {
    for dialler in EITHER {
        let place = Place::new();
        let mut ours = place.ours(place.config()).await?;
        let theirs = place.theirs(Manners::stock("kaspa-devnet")).await?;
        let parted = ours.meet(&theirs, dialler).await?.err();
        assert!(
            matches!(parted, Some(HandshakeError::Refused(_) | HandshakeError::Rejected(_))),
            "{parted:?}"
        );
        they_said(&place, "").await?;
        nobody_is_there(&ours, &theirs);
    }
    Ok(())
}

#[tokio::test]
async fn we_refuse_a_peer_of_protocol_9_and_it_hears_our_version() -> Result<()> {
    for dialler in EITHER {
        let theirs = Manners { protocol_version: 9, ..Manners::tolerant(NETWORK) };
        let reason = RejectReason::VersionMismatch { local: 11, remote: 9 };
        we_refuse(Place::new(), theirs, dialler, reason).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_peer_that_wants_a_newer_protocol_refuses_us_and_we_hear_which() -> Result<()> {
    for (version, wanted) in [(ProtocolVersion::V11, 12), (ProtocolVersion::V10, 11)] {
        for dialler in EITHER {
            let place = Place::new();
            let ours = NodeConfig { protocol_version: version, ..place.config() };
            let demands = Demands { protocol_version: Some(wanted), ..Demands::none() };
            let text = format!("P2P protocol version mismatch - local: {wanted}, remote: {version}");
            let said = (text.as_str(), RejectReason::Text(text.clone()));
            they_refuse(place, ours, demands, dialler, said).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn we_refuse_a_peer_that_has_our_own_id() -> Result<()> {
    for dialler in EITHER {
        let place = Place::new();
        let theirs = Manners { id: place.kaspa_id(), ..Manners::tolerant(NETWORK) };
        we_refuse(place, theirs, dialler, RejectReason::Loopback).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_peer_refuses_us_for_having_its_own_id() -> Result<()> {
    for dialler in EITHER {
        let place = Place::new();
        let demands = Demands { other_than: Some(place.kaspa_id()), ..Demands::none() };
        let said = ("loopback connection", RejectReason::Loopback);
        they_refuse(place, place.config(), demands, dialler, said).await?;
    }
    Ok(())
}

#[tokio::test]
async fn we_refuse_a_second_connection_of_a_peer_and_keep_the_first() -> Result<()> {
    for dialler in EITHER {
        let place = Place::new();
        let mut ours = place.ours(place.config()).await?;
        let theirs = place.theirs(Manners::tolerant(NETWORK)).await?;
        let first = ours.session(&theirs, dialler).await?;
        let second = ours.meet(&theirs, dialler).await?;
        let reason = RejectReason::Duplicate;
        assert_eq!(second.err(), Some(HandshakeError::Refused(reason.clone())), "{dialler:?}");
        they_heard(&place, &reason).await?;
        soon(first.handle().ping()).await??;
        assert_eq!((ours.node.live_sessions(), theirs.active_peers().len()), (1, 1));
    }
    Ok(())
}

/// Two processes of one identity, as after a restart: only the peer can notice.
#[tokio::test]
async fn a_peer_refuses_our_second_connection_and_keeps_the_first() -> Result<()> {
    for dialler in EITHER {
        let place = Place::new();
        let mut ours = place.ours(place.config()).await?;
        let mut again = place.ours(place.config()).await?;
        let demands = Demands { once: true, ..Demands::none() };
        let theirs = place.theirs(Manners { demands, ..Manners::tolerant(NETWORK) }).await?;
        let first = ours.session(&theirs, dialler).await?;
        let rejected = again.meet(&theirs, dialler).await?;
        let reason = RejectReason::Duplicate;
        assert_eq!(rejected.err(), Some(HandshakeError::Rejected(reason)), "{dialler:?}");
        they_said(&place, "already exists").await?;
        soon(first.handle().ping()).await??;
        assert_eq!((again.node.live_sessions(), theirs.active_peers().len()), (0, 1));
    }
    Ok(())
}

/// A call whose handshake is pending, because the caller says nothing.
async fn silent_call(channel: Channel) -> Result<Streaming<KaspadMessage>> {
    let call = async move { P2pClient::new(channel).message_stream(tokio_stream::pending()).await };
    Ok(soon(call).await??.into_inner())
}

#[tokio::test]
async fn a_third_pending_handshake_of_ours_is_refused_and_may_be_tried_again() -> Result<()> {
    let (ours, theirs) = Place::new().both().await?;
    let _first = silent_call(ours.channel(theirs.address())?).await?;
    let _second = silent_call(ours.channel(theirs.address())?).await?;
    let Err(DialError::Call(refused)) = ours.dial(theirs.address()).await? else {
        anyhow::bail!("the third call was not refused");
    };
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert_eq!(refused.message, "too many pending inbound handshakes");
    assert!(DialError::Call(refused).is_retryable());
    Ok(())
}

#[tokio::test]
async fn a_third_pending_handshake_of_theirs_is_refused_and_told() -> Result<()> {
    let (mut ours, theirs) = Place::new().both().await?;
    // Upstream dials from 127.0.0.1, whichever address it listens on.
    let local = Place { ours: [127, 0, 0, 1].into(), ..Place::new() };
    let silent = local.ours(local.config()).await?;
    let _first = silent_call(silent.channel(ours.address)?).await?;
    let _second = silent_call(silent.channel(ours.address)?).await?;
    let Err(ConnectionError::TonicStatus(refused)) = theirs.dial(ours.address).await else {
        anyhow::bail!("the third call was not refused");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let Inbound::Refused { limit, .. } = soon(ours.acceptor.next()).await? else {
        anyhow::bail!("our side did not tell");
    };
    assert_eq!(limit, AdmissionLimit::PendingPerPeer { limit: 2 });
    assert_eq!(refused.message(), limit.to_string());
    Ok(())
}
