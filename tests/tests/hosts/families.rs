//! Hosts with IPv4, IPv6 or both, whose families are not those of everybody else.

use std::time::Duration;

use anyhow::{Result, ensure};
use punchline_tests::lab::{Families, LabSpec, Nat};
use punchline_tests::process::Event;
use punchline_tests::scene::{Cast, Scene, Transport, same_load};

use crate::world::SOON;

/// Over IPv4 no punch can succeed between these hosts. `relay`: where it has no IPv6 address, it tells nobody how it
/// sees their IPv6 addresses.
pub(crate) async fn only_v6_can_be_punched(transport: Transport, relay: Families) -> Result<()> {
    let spec = LabSpec::new([Nat::Symmetric; 2]).families(Families::Both).relay_families(relay);
    becomes_direct(spec, transport, "/ip6/").await
}

/// The pair becomes direct over an address that begins like this, and a load goes there.
async fn becomes_direct(spec: LabSpec, transport: Transport, prefix: &str) -> Result<()> {
    let scene = Scene::prepare(&spec.delay(ONE_WAY), transport).await?;
    let load = ["--load-mib", &LOAD_MIB.to_string(), "--load-after-direct"];
    let cast = Cast::start(&scene, &load).await?;
    cast.explain(load_goes_by(&scene, &cast, prefix).await)
}

async fn load_goes_by(scene: &Scene, cast: &Cast, prefix: &str) -> Result<()> {
    let (at_server, at_client) = cast.both("upgrade_succeeded", |_| true, SOON).await?;
    for upgraded in [at_server, at_client] {
        let took = upgraded.number("took_ms").map(Duration::from_millis);
        ensure!(took.is_some_and(|took| took < DIRECT_DEADLINE), "{upgraded}");
    }
    let opened = |event: &Event| event.has("path", "direct") && event.has("peer", &scene.server_id);
    let opened = cast.client.wait_for("connection_opened", opened, SOON).await?;
    ensure!(opened.text("address").is_some_and(|address| address.starts_with(prefix)), "{opened}");
    let (arrived, sent) = cast.both("load_done", |_| true, LOAD_DEADLINE).await?;
    ensure!(arrived.has("path", "direct") && sent.has("path", "direct"), "{arrived} {sent}");
    ensure!(same_load(&arrived, &sent, LOAD_MIB), "{arrived} {sent}");
    let direct = scene.lab.direct_bytes(0, 1)?;
    ensure!(direct >= LOAD_MIB << 20, "only {direct} bytes on the direct path");
    cast.one_session()
}

const ONE_WAY: Duration = Duration::from_micros(12_500);
const LOAD_MIB: u64 = 4;
/// Time for a second and a third attempt. The rule is far less.
const DIRECT_DEADLINE: Duration = Duration::from_secs(5);
const LOAD_DEADLINE: Duration = Duration::from_secs(60);
