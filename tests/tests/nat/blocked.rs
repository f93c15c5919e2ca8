//! A transport is blocked at an end, and both ends were given the relay's addresses over both transports.

use anyhow::Result;
use libtest_mimic::Trial;
use punchline_tests::lab::{Egress, LabSpec, Nat};
use punchline_tests::process::Event;
use punchline_tests::scene::{Cast, Scene, Transport};
use punchline_tests::trial::lab_trial;

use super::PUNCH_DEADLINE;

pub(crate) fn trials() -> Vec<Trial> {
    use Egress::{All, NoTcp, NoUdp};
    vec![
        lab_trial("a_server_without_tcp_becomes_direct_over_quic", || direct_over_quic([NoTcp, All])),
        lab_trial("a_client_without_tcp_becomes_direct_over_quic", || direct_over_quic([All, NoTcp])),
        lab_trial("a_server_without_tcp_behind_a_hard_nat_says_why_it_stays_relayed", || {
            says_why([Nat::Symmetric, Nat::PortPreserving], [NoTcp, All], "no hole punch is possible")
        }),
        lab_trial("a_server_without_tcp_and_a_client_without_udp_say_why_they_stay_relayed", || {
            says_why(EASY, [NoTcp, NoUdp], "relays see this node over")
        }),
    ]
}

/// What is given to the server, and what to the client.
type Pair<T> = [T; 2];

const EASY: Pair<Nat> = [Nat::PortPreserving; 2];

/// The session becomes direct over the other transport.
async fn direct_over_quic(egress: Pair<Egress>) -> Result<()> {
    let (_scene, cast) = meet(EASY, egress).await?;
    let over_quic = |event: &Event| event.has("transport", "quic");
    let direct = cast.both("upgrade_succeeded", over_quic, PUNCH_DEADLINE).await;
    cast.explain(direct.map_err(Into::into)).map(drop)
}

/// Each end says why it does not, in these words.
async fn says_why(nats: Pair<Nat>, egress: Pair<Egress>, why: &'static str) -> Result<()> {
    let (_scene, cast) = meet(nats, egress).await?;
    let because = |event: &Event| event.text("reason").is_some_and(|reason| reason.contains(why));
    let failed = cast.both("upgrade_failed", because, PUNCH_DEADLINE).await;
    cast.explain(failed.map_err(Into::into)).map(drop)
}

/// Server and client have a session, over the relay at least.
async fn meet(nats: Pair<Nat>, egress: Pair<Egress>) -> Result<(Scene, Cast)> {
    let mut spec = LabSpec::new(nats);
    for (router, egress) in spec.routers.iter_mut().zip(egress) {
        router.egress = egress;
    }
    let scene = Scene::prepare_over(&spec, &[Transport::Tcp, Transport::Quic]).await?;
    let cast = Cast::start(&scene, &[]).await?;
    let ready = cast.both("session_ready", |_| true, PUNCH_DEADLINE).await;
    cast.explain(ready.map_err(Into::into))?;
    Ok((scene, cast))
}
