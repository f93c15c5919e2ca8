//! `punchline discovery verify`: asks the node that runs here, or verifies one that it starts for that.

use std::{sync::Arc, time::Duration};

use libp2p::identity::Keypair;
use punchline_discovery::keys::Namespace;
use tokio::time::{Instant, sleep, timeout};

use super::{NO_DHT, Question, screen, shape};
use crate::{
    Context, Unusable,
    asking::verification_json,
    cli::{self, Common, ControlSocket, discovery::Verify},
    control::{self, AskError, proto},
    finding::members,
    names::PeerRef,
    names_file,
    node::{self, Node, Wanted},
    plain::plain,
    progress,
    report::Reporter,
    stop,
};

/// Beyond the time that the operator gives, for the node's answer to arrive.
const SLACK: Duration = Duration::from_secs(2);

/// For a node that was started for this to get a place at its relays.
const READY: Duration = Duration::from_secs(10);

/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(100);

/// A verdict that is no pass, as the end of the process.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub(crate) struct Verdict {
    sentence: String,
    fails: bool,
}

impl Verdict {
    /// How the process exits: with 1 if something warns, with 2 if something fails.
    pub(crate) fn number(&self) -> u8 {
        if self.fails { 2 } else { 1 }
    }
}

/// Asks and prints.
///
/// # Errors
/// A [`Verdict`] if a step does not pass, or nothing could be verified.
pub(crate) async fn run(settings: Verify, common: &Common) -> anyhow::Result<()> {
    if common.check {
        return node::check(&settings.settings);
    }
    let json = settings.json;
    let doing = || "verifying discovery: table, publish, read, peers, directions, members".to_owned();
    let verifying = progress::beside(common.quiet, doing, verify(settings, common));
    let verified = tokio::select! {
        verified = verifying => verified,
        () = stop::told() => Err(anyhow::anyhow!("told to stop before discovery was verified")),
    };
    // That it could not be found out is no better than that it does not work.
    let verification = verified.map_err(|error| match error.downcast::<Unusable>() {
        Ok(unusable) => unusable.into(),
        Err(error) => anyhow::Error::from(Verdict { sentence: format!("{error:#}"), fails: true }),
    })?;
    match json {
        true => crate::print_line(&verification_json(&verification)?.to_string())?,
        false => crate::print_line(plain(&screen::of(&verification)).trim_end())?,
    }
    verdict(&verification)
}

fn verdict(verification: &proto::Verification) -> anyhow::Result<()> {
    let verdict = verification.verdict.as_str();
    if verdict == "pass" {
        return Ok(());
    }
    let of_verdict = verification.steps.iter().filter(|step| step.verdict == verdict);
    let sentences: Vec<String> = of_verdict
        .map(|step| {
            let advice = step.advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
            format!("step {} ({}) {verdict}s: {}{advice}", step.step, step.name, step.found)
        })
        .collect();
    let more = match sentences.len() {
        0 | 1 => String::new(),
        all => format!(" (and {} more)", all - 1),
    };
    let sentence = sentences.into_iter().next().unwrap_or_default() + &more;
    Err(Verdict { sentence, fails: verdict == "fail" }.into())
}

async fn verify(settings: Verify, common: &Common) -> anyhow::Result<proto::Verification> {
    let mut asking = settings.asking();
    asking.identity.clone_from(&common.identity);
    let deadline = settings.timeout.duration();
    match control::ask_within(&asking, deadline + SLACK).await {
        Ok(node) => ask(node, &settings).await,
        // Whoever names a socket or a node means that one.
        Err(error @ (AskError::NoNode { .. } | AskError::Silent { .. }))
            if takes_part(&settings.settings) && asking.control.is_none() && asking.node.is_none() =>
        {
            tracing::info!("{error}: one is started for this");
            own(settings, common).await
        }
        Err(AskError::NoNode { place }) => anyhow::bail!(
            "no node answers in {}; start one, name its socket with --control PATH, or say where the DHT is \
             (--bootstrap <the address of a node of it>), and one is started for this",
            place.display()
        ),
        Err(error) => Err(error.into()),
    }
}

fn takes_part(node: &cli::Node) -> bool {
    let flags = &node.finding.dht;
    !flags.bootstrap.is_empty() || !flags.dht_listen.is_empty()
}

/// The first namespace that the settings name, and its secret.
fn namespace(settings: &cli::Node) -> Result<(Option<String>, Option<Vec<u8>>), Unusable> {
    let flags = &settings.finding.dht;
    let name = cli::all(&flags.namespace).into_iter().next();
    let secret = flags.namespace_secret.as_deref().filter(|_| name.is_some());
    Ok((name, secret.map(members::secret).transpose()?))
}

async fn ask(mut node: control::Asked, settings: &Verify) -> anyhow::Result<proto::Verification> {
    let (namespace, namespace_secret) = namespace(&settings.settings)?;
    let peer = settings.peer.as_ref().map(PeerRef::to_string);
    let namespace_secret = namespace_secret.map(Into::into);
    let asked = node.verify(proto::VerifyRequest { namespace, namespace_secret, peer });
    let seconds = settings.timeout.duration().as_secs();
    let answer = timeout(settings.timeout.duration(), asked).await;
    let answer = answer.map_err(|_| anyhow::anyhow!("the node did not answer within {seconds} s"))?;
    Ok(answer
        .map_err(|error| anyhow::anyhow!("the node does not verify: {}", error.message()))?
        .into_inner())
}

/// Verifies a passing node with these settings, of which nothing is left.
async fn own(settings: Verify, common: &Common) -> anyhow::Result<proto::Verification> {
    let Verify { settings: mut node, peer, timeout: given, .. } = settings;
    node.control = Some(ControlSocket::Off);
    (node.metrics.metrics, node.page.page) = (None, None);
    let folder = tempfile::tempdir()?;
    let names = names_file(common)?;
    let peer = peer.map(|peer| names.resolve(&peer)).transpose();
    let peer = peer.map_err(|error| Unusable(format!("--peer: {error}")))?;
    let beside = |suffix: &str| folder.path().join(format!("identity{suffix}"));
    let context = Context {
        keypair: Keypair::generate_ed25519(),
        ledger: beside(".tickets"),
        control: beside(control::SUFFIX),
        peer_cache: beside(".peers"),
        dht_cache: beside(".dht"),
        dht_number: beside(".dht-number"),
        names,
        named_identity: None,
        shown: Vec::new(),
        command: "discovery",
        certificate: beside(".tls"),
        reporter: Reporter::none(),
        check: false,
        claim: None,
    };
    let namespaces: Vec<Namespace> = members::namespaces(&node)?;
    let started = Node::start(&node, &context, Wanted::default()).await?;
    let verified = timeout(given.duration(), async {
        started.join_namespaces(&node, &[], Vec::new()).await?;
        ready(&started).await;
        let verifier = started.verifier().ok_or_else(|| anyhow::anyhow!(NO_DHT))?;
        let namespace = namespaces.into_iter().next();
        let verified = verifier.verify(Question { namespace, peer }).await?;
        anyhow::Ok(Arc::clone(&verified))
    })
    .await;
    started.shutdown().await;
    let seconds = given.duration().as_secs();
    let verified = verified.map_err(|_| {
        anyhow::anyhow!("nothing came of it within {seconds} s; give it longer with --timeout")
    })??;
    Ok(shape::verification(&verified))
}

/// It is in the DHT, and its relays hold a place for it, or have had the time to.
async fn ready(node: &Node) {
    let until = Instant::now() + READY;
    while Instant::now() < until {
        let joined = match node.finder.dht() {
            Some(dht) => dht.status().await.is_some_and(|status| {
                status.joined && (status.published.is_some() || node.relays.is_empty())
            }),
            None => true,
        };
        if joined {
            return;
        }
        sleep(LOOK).await;
    }
}
