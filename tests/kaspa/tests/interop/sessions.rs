//! What works between a stock peer and ours, whoever dials.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use kaspa_p2p_lib::{
    make_message, make_request, make_response, pb, pb::kaspad_message::Payload as Theirs,
};
use punchline_kaspa_tests::{Manners, Peer};
use punchline_protocol::{
    Direction, EndCause, NodeConfig, Payload, PayloadKind, ProtocolVersion, Session, SessionEvent,
    wire::proto,
};

use crate::world::{Dialler, EITHER, NETWORK, Ours, Place, event, soon};

/// A session between defaults: all that each side has of it.
async fn in_session(dialler: Dialler) -> Result<(Ours, Peer, Session)> {
    let (mut ours, theirs) = Place::new().both().await?;
    let session = ours.session(&theirs, dialler).await?;
    Ok((ours, theirs, session))
}

/// Versions we speak, versions they say, and what is agreed.
const AGREED: [(ProtocolVersion, u32, ProtocolVersion); 6] = [
    (ProtocolVersion::V11, 11, ProtocolVersion::V11),
    (ProtocolVersion::V11, 10, ProtocolVersion::V10),
    (ProtocolVersion::V10, 11, ProtocolVersion::V10),
    (ProtocolVersion::V10, 10, ProtocolVersion::V10),
    (ProtocolVersion::V11, 12, ProtocolVersion::V11),
    (ProtocolVersion::V10, 12, ProtocolVersion::V10),
];

#[tokio::test]
async fn every_pair_of_versions_from_10_on_shakes_hands_whoever_dials() -> Result<()> {
    for (version, said, agreed) in AGREED {
        for dialler in EITHER {
            let place = Place::new();
            let config = NodeConfig { protocol_version: version, ..place.config() };
            let user_agent = config.user_agent.to_string();
            let mut ours = place.ours(config).await?;
            let manners = Manners { protocol_version: said, ..Manners::stock(NETWORK) };
            let theirs = place.theirs(manners.clone()).await?;
            let session = ours.session(&theirs, dialler).await?;

            let facts = session.facts();
            assert_eq!(facts.kaspa_id, manners.id);
            assert_eq!(facts.protocol_version, agreed);
            assert_eq!(facts.peer.protocol_version, said);
            assert_eq!(facts.network.to_string(), NETWORK);
            assert!(facts.peer.user_agent.as_str().starts_with("/kaspad:2.1.0/"), "{facts:?}");
            assert_eq!(facts.direction == Direction::Outbound, matches!(dialler, Dialler::Ours));

            let peer = theirs.one_active_peer().await?;
            let known = peer.properties();
            assert_eq!(peer.identity().0, place.kaspa_id());
            assert_eq!(peer.net_address().ip(), place.ours);
            assert_eq!(peer.is_outbound(), matches!(dialler, Dialler::Theirs));
            assert_eq!(known.advertised_protocol_version, version.number());
            assert_eq!(known.protocol_version, agreed.number());
            assert_eq!(known.user_agent, user_agent);
            assert!(known.time_offset.abs() < 60_000, "{} ms", known.time_offset);
            assert!(!known.disable_relay_tx && known.subnetwork_id.is_none());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_ping_is_answered_with_its_nonce_both_ways() -> Result<()> {
    for dialler in EITHER {
        let (_ours, mut theirs, session) = in_session(dialler).await?;
        soon(session.handle().ping()).await??;

        let us = theirs.one_active_peer().await?.key();
        for nonce in [0, 1, u64::MAX] {
            assert!(theirs.say(us, make_message!(Theirs::Ping, pb::PingMessage { nonce })).await);
            let pong = theirs.hear(|heard| match heard.message.payload {
                Some(Theirs::Pong(pong)) => Some(pong.nonce),
                _ => None,
            });
            assert_eq!(pong.await, Some(nonce));
        }
    }
    Ok(())
}

#[tokio::test]
async fn each_side_asks_for_addresses_and_gets_those_of_the_other() -> Result<()> {
    let ours_knows: SocketAddr = "198.51.100.7:16511".parse()?;
    let theirs_knows: Vec<SocketAddr> = vec!["203.0.113.9:16511".parse()?, "[2001:db8::5]:1".parse()?];
    let advertised: SocketAddr = "203.0.113.1:2".parse()?;
    for dialler in EITHER {
        let place = Place::new();
        let config = NodeConfig { advertised: Some(ours_knows), ..place.config() };
        let mut ours = place.ours(config).await?;
        ours.node.addresses().insert(ours_knows);
        let addresses = theirs_knows.clone();
        let manners = Manners { addresses, advertised: Some(advertised), ..Manners::stock(NETWORK) };
        let mut theirs = place.theirs(manners).await?;
        let mut session = ours.session(&theirs, dialler).await?;

        assert_eq!(session.facts().peer.address, Some(advertised));
        let got = event(&mut session, |event| match event {
            SessionEvent::Addresses(addresses) => Some(addresses),
            _ => None,
        });
        assert_eq!(got.await?, theirs_knows);
        let known = ours.node.addresses().sample(usize::MAX);
        assert!([advertised, theirs_knows[0], theirs_knows[1]].iter().all(|one| known.contains(one)));

        let got = theirs.hear(|heard| match heard.message.payload {
            Some(Theirs::Addresses(addresses)) => Some(addresses.address_list),
            _ => None,
        });
        let got = got.await.context("no addresses")?;
        let wanted = pb::NetAddress::from((ours_knows.ip().into(), ours_knows.port()));
        assert!(got.contains(&wanted), "{got:?}");
    }
    Ok(())
}

/// A block of `bytes`, which compression does not make small.
fn their_block(bytes: usize) -> pb::BlockMessage {
    let mut state = 1_u32;
    let payload = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let transaction =
        pb::TransactionMessage { payload: payload.take(bytes).collect(), ..Default::default() };
    pb::BlockMessage { header: None, transactions: vec![transaction] }
}

fn our_block(theirs: &pb::BlockMessage) -> proto::BlockMessage {
    let transaction = |theirs: &pb::TransactionMessage| proto::TransactionMessage {
        payload: theirs.payload.clone().into(),
        ..Default::default()
    };
    let transactions = theirs.transactions.iter().map(transaction).collect();
    proto::BlockMessage { header: None, transactions }
}

/// More than any window of HTTP/2, and than the 4 MiB that gRPC takes by default.
const LARGE_BYTES: usize = 12 * 1024 * 1024;

#[tokio::test]
async fn a_block_of_12_mib_is_whole_on_either_side() -> Result<()> {
    for dialler in EITHER {
        let (_ours, mut theirs, mut session) = in_session(dialler).await?;
        let us = theirs.one_active_peer().await?.key();
        let block = their_block(LARGE_BYTES);

        assert!(theirs.say(us, make_message!(Theirs::Block, block.clone())).await);
        let arrived = event(&mut session, |event| match event {
            SessionEvent::Message(message) => match message.payload {
                Some(Payload::Block(block)) => Some(block),
                _ => None,
            },
            _ => None,
        });
        assert!(arrived.await? == our_block(&block));

        soon(session.handle().send(Payload::Block(our_block(&block)))).await??;
        let arrived = theirs.hear(|heard| match heard.message.payload {
            Some(Theirs::Block(block)) => Some(block),
            _ => None,
        });
        assert!(arrived.await == Some(block));
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_finds_the_route_that_asked_on_either_side() -> Result<()> {
    for dialler in EITHER {
        let (_ours, mut theirs, mut session) = in_session(dialler).await?;
        let us = theirs.one_active_peer().await?.key();
        let first = theirs.hear(Some).await.context("no addresses")?;

        // They ask, by the id of their route; we answer what was asked.
        let hashes = vec![pb::Hash { bytes: vec![7; 32] }];
        let question = pb::RequestRelayBlocksMessage { hashes };
        let question = make_request!(Theirs::RequestRelayBlocks, question, first.route);
        assert!(theirs.say(us, question).await);
        let asked = event(&mut session, |event| match event {
            SessionEvent::Message(message) => Some(message),
            _ => None,
        });
        let asked = asked.await?;
        assert_eq!(asked.kind(), Some(PayloadKind::RequestRelayBlocks));
        let block = Payload::Block(our_block(&their_block(1)));
        soon(session.handle().answer(&asked, block)).await??;
        let answer = theirs.hear(|heard| {
            let block = matches!(heard.message.payload, Some(Theirs::Block(_)));
            block.then_some((heard.message.response_id, heard.message.request_id))
        });
        assert_eq!(answer.await, Some((first.route, 0)));

        // We ask, by the id of ours.
        let mut route = session.handle().subscribe(&[], 1)?;
        let question = proto::RequestRelayBlocksMessage::default();
        soon(session.handle().request(&route, Payload::RequestRelayBlocks(question))).await??;
        let asked = theirs.hear(|heard| {
            let asked = matches!(heard.message.payload, Some(Theirs::RequestRelayBlocks(_)));
            asked.then_some(heard.message.request_id)
        });
        let asked = asked.await.context("no question")?;
        assert!(theirs.say(us, make_response!(Theirs::Block, their_block(1), asked)).await);
        let answer = soon(route.receive()).await?.context("the session has ended")?;
        assert_eq!(answer.kind(), Some(PayloadKind::Block));
    }
    Ok(())
}

#[tokio::test]
async fn when_they_leave_we_notice_and_they_may_come_again() -> Result<()> {
    for dialler in EITHER {
        let (mut ours, theirs, session) = in_session(dialler).await?;
        theirs.leave(theirs.one_active_peer().await?.key()).await;
        assert_eq!(soon(session.ended()).await?, EndCause::PeerClosed, "{dialler:?}");
        theirs.nobody_active().await?;
        ours.session(&theirs, dialler).await?;
    }
    Ok(())
}

#[tokio::test]
async fn when_we_leave_they_notice_and_we_may_come_again() -> Result<()> {
    for dialler in EITHER {
        let (mut ours, theirs, session) = in_session(dialler).await?;
        session.close();
        assert_eq!(soon(session.ended()).await?, EndCause::LocalClose);
        theirs.nobody_active().await?;
        ours.session(&theirs, dialler).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_reject_of_theirs_in_a_session_ends_it_with_its_text() -> Result<()> {
    for dialler in EITHER {
        let (_ours, theirs, session) = in_session(dialler).await?;
        let us = theirs.one_active_peer().await?.key();
        let reason = "misbehaving peer: it was asked to".to_owned();
        let reject = pb::RejectMessage { reason: reason.clone() };
        assert!(theirs.say(us, make_message!(Theirs::Reject, reject)).await);
        let EndCause::PeerRejected(heard) = soon(session.ended()).await? else {
            anyhow::bail!("not for the reject: {:?}", session.ended().await);
        };
        assert_eq!(heard.to_string(), reason);
        theirs.nobody_active().await?;
    }
    Ok(())
}
