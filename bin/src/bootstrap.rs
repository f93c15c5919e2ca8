//! `punchline bootstrap`: a node of the DHT that others begin with, and nothing else.

use std::time::Instant;

use libp2p::{Multiaddr, PeerId};
use punchline_bridge::addr::GlobalScope;
use punchline_discovery::kad::Dht;

use crate::{
    Context, cautions, cli,
    control::{AnsweringBootstrap, Board, Bound, DhtKeeper, Files, Keeper, Reloader, Wellness},
    finding::{dht, event::tell_all},
    metrics::serve::{self, Subject},
    node, stop, supervised,
};

/// Runs it until the process is told to stop.
///
/// # Errors
/// If the settings make no sense, or an address cannot be listened on.
pub(crate) async fn run(settings: cli::Bootstrap, context: Context) -> anyhow::Result<()> {
    let ranges = node::ranges(&settings.nets)?;
    let config = dht::of_bootstrap(&settings, ranges, &context)?;
    let global = GlobalScope::with_assumed(cli::all(&settings.assume_global));
    if context.check {
        Bound::check(settings.control.as_ref())?;
        return crate::usable();
    }
    cautions::of_root(settings.rights.allow_root);
    cautions::of_loopback(&config.listen, config.external.iter().cloned());
    let control = Bound::new(settings.control.as_ref(), &context.control).await?;
    let metrics = serve::Bound::new(&settings.metrics).await?;
    let peer = context.keypair.public().to_peer_id();
    let external = config.external.clone();
    let dht = Dht::start(config)?;
    let reporter = context.reporter.clone();
    let telling = tokio::spawn(tell_all(dht.events(), reporter.clone()));
    let files = Files {
        nets: settings.nets.clone(),
        keeper: Keeper::Dht(DhtKeeper { dht: dht.clone(), global }),
        names: context.names.clone(),
        reporter: reporter.clone(),
    };
    let (reloader, reloading) = Reloader::start(files, Board::default(), stop::reloads());
    let (begun, answering) = (Instant::now(), reloader.clone());
    let answering = AnsweringBootstrap {
        dht: dht.clone(),
        peer,
        begun,
        reporter: reporter.clone(),
        reloader: answering,
    };
    let _control = control.map(|bound| bound.serve(answering, Wellness::Dht(dht.clone())));
    let subject = Subject::Bootstrap(dht.clone());
    let _metrics = metrics.map(|bound| bound.serve(subject, context.command, &reporter));
    let lines = vec![format!("this bootstrap node is {peer}"), invitation(peer, &external)];
    reporter.say_ready(&lines);
    tokio::select! {
        () = supervised::attend(async || dht.status().await.map(|_| None)) => {}
        () = stop::told() => {}
    }
    reloading.abort();
    drop(reloader);
    telling.abort();
    stop::drain(dht.stop()).await;
    Ok(())
}

/// What to copy to the other machines.
fn invitation(peer: PeerId, external: &[Multiaddr]) -> String {
    match external {
        [] => format!("nodes use: --bootstrap /ip4/<its public address>/tcp/<port>/p2p/{peer}"),
        some => {
            let flags: String =
                some.iter().map(|address| format!(" --bootstrap {address}/p2p/{peer}")).collect();
            format!("nodes use:{flags}")
        }
    }
}
