//! Serving peers: who is let in, and what is between them and the target.

use std::{
    num::NonZeroUsize,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use libp2p::PeerId;
use punchline_bridge::{Endpoint, Request, Requests, Service, error::Refusal, stream::frame::Code};
use tokio::task::{JoinSet, block_in_place};

use super::{
    Closing,
    event::{Counted, GatewayEvent},
    seats::{Full, Seat, Seats},
    share::Share,
    splice::{End, splice},
    target,
};
use crate::{
    Unusable,
    access::{Gate, Pass, Rules},
    cli::{self, Patience, SocketName},
    control::{Offered, Reread},
    names::NamesFile,
    report::Reporter,
    stop,
};

/// A service that is to be exposed.
#[derive(Clone, Debug)]
pub(super) struct Exposure {
    pub(super) service: Service,
    target: SocketName,
    rules: Rules,
    max_connections: usize,
    /// None: as many as one peer may have streams.
    pub(super) max_connections_per_peer: Option<usize>,
    /// None: the node's.
    pub(super) patience: Option<Duration>,
    /// What is printed for the other side.
    pub(super) share: Option<Share>,
}

impl Exposure {
    /// Every service that the flags of `expose` name. `identity`: the file, if it is not the usual one.
    pub(super) fn of_flags(
        flags: &cli::Expose,
        names: &NamesFile,
        identity: Option<&Path>,
    ) -> Result<Vec<Self>, Unusable> {
        let services = cli::all(&flags.service).into_iter();
        let services =
            services.map(|named| Self::new(named.service, named.target, &flags.access, names));
        let mut exposures = services.collect::<Result<Vec<Self>, _>>()?;
        if let (Some(service), Some(target)) = (&flags.name, &flags.target) {
            exposures.push(Self::of_name(service, target, flags, names, identity)?);
        }
        if exposures.is_empty() {
            let remedy =
                "say what to expose, by a name of your choice and its port: punchline expose web 8000";
            return Err(Unusable(remedy.to_owned()));
        }
        if flags.qr && exposures.iter().all(|exposure| exposure.share.is_none()) {
            let remedy = "--qr draws the command of `punchline expose NAME PORT`, which is printed if nobody is named with \
                          --allow, --allow-file, --allow-any or --tickets";
            return Err(Unusable(remedy.to_owned()));
        }
        Ok(exposures)
    }

    /// `punchline expose NAME PORT`: if nobody is named, for whoever has the ticket that is printed.
    fn of_name(
        service: &Service,
        target: &SocketName,
        flags: &cli::Expose,
        names: &NamesFile,
        identity: Option<&Path>,
    ) -> Result<Self, Unusable> {
        let nobody = flags.access.is_empty();
        let access = cli::Access { tickets: nobody || flags.access.tickets, ..flags.access.clone() };
        let mut exposure = Self::new(service.clone(), target.clone(), &access, names)?;
        exposure.share = nobody.then(|| Share {
            service: service.clone(),
            target: target.to_string(),
            local: exposure.local(),
            lifetime: flags.expires.duration(),
            qr: flags.qr,
            identity: identity.map(Path::to_owned),
        });
        Ok(exposure)
    }

    /// The service of one table.
    pub(super) fn of_table(table: &cli::ExposeTable, names: &NamesFile) -> Result<Self, Unusable> {
        let patience = table.patience.map(Patience::duration);
        let (service, target) = (table.service.clone(), table.target.clone());
        Ok(Self { patience, ..Self::new(service, target, &table.access, names)? })
    }

    fn new(
        service: Service,
        target: SocketName,
        access: &cli::Access,
        names: &NamesFile,
    ) -> Result<Self, Unusable> {
        Ok(Self {
            rules: rules(&service, access, names)?,
            service,
            target,
            max_connections: access.max_connections.get(),
            max_connections_per_peer: access.max_connections_per_peer.map(NonZeroUsize::get),
            patience: None,
            share: None,
        })
    }

    /// Whether a ticket opens it.
    pub(super) fn takes_tickets(&self) -> bool {
        self.rules.tickets
    }

    /// The gate in front of it. Reads the allow file.
    pub(super) fn gate(&self, issuer: PeerId, ledger: &Path) -> Result<Gate, Unusable> {
        Gate::open(self.rules.clone(), issuer, ledger.to_owned())
            .map_err(|error| Unusable(error.to_string()))
    }

    /// What is to be run elsewhere, ready to copy.
    pub(super) fn invitation(&self, peer: PeerId, ways: &str) -> String {
        let Self { service, target, rules, share, .. } = self;
        let local = self.local();
        if share.is_some() {
            return format!("`{service}` leads to {target}, for whoever has the ticket that is printed");
        }
        if rules.allow.is_empty() && rules.allow_file.is_none() && !rules.allow_any {
            return format!(
                "for a ticket to `{service}` run: punchline ticket new --service {service}{ways}; its holder runs: PUNCHLINE_TICKET=<TICKET> punchline forward {local}"
            );
        }
        format!("peers use: punchline forward --peer {peer} --service {service}{ways} {local}")
    }

    /// Where the other side is to listen.
    fn local(&self) -> String {
        let port = match &self.target {
            SocketName::Tcp { port, .. } => port.checked_add(PORT_STEP).unwrap_or(*port),
            SocketName::Unix(_) => 0,
        };
        format!("--local 127.0.0.1:{port}")
    }
}

/// From the port of a target to the one proposed for the other side: 16111 becomes 26111, which is
/// free there even if the same program runs there too.
const PORT_STEP: u16 = 10_000;

fn rules(service: &Service, access: &cli::Access, names: &NamesFile) -> Result<Rules, Unusable> {
    let cli::Access { allow_file, allow_any, tickets, .. } = access;
    let allow = cli::all(&access.allow);
    let allow: Result<Vec<PeerId>, _> = allow.iter().map(|peer| names.resolve(peer)).collect();
    let allow = allow.map_err(|error| Unusable(format!("--allow: {error}")))?;
    let listed = !allow.is_empty() || allow_file.is_some();
    if *allow_any && listed {
        return Err(Unusable(format!(
            "`{service}`: --allow-any lets every peer in, so --allow and --allow-file mean nothing beside it; leave one of the two out"
        )));
    }
    if !listed && !allow_any && !tickets {
        return Err(Unusable(format!(
            "nobody may use `{service}`: name peers with --allow <ID> (`punchline id --of forward` prints it there) or --allow-file, or let \
             holders of a ticket in with --tickets. --allow-any lets in every peer that learns this node's id and a relay of it: \
             the program behind the service is then as open as on a public port"
        )));
    }
    // A ticket that this node issued is taken unless everybody is let in anyway.
    let (allow_file, names) = (allow_file.clone(), names.clone());
    Ok(Rules { allow, allow_file, names, allow_any: *allow_any, tickets: !allow_any })
}

/// An exposed service.
pub(super) struct Exposed {
    exposure: Exposure,
    gate: Gate,
    seats: Seats,
    reporter: Reporter,
    closing: Closing,
}

/// A stream that may be carried.
struct Admitted {
    request: Request,
    pass: Pass,
    seat: Seat,
}

impl Exposed {
    pub(super) fn new(exposure: Exposure, gate: Gate, reporter: Reporter, closing: Closing) -> Self {
        let of_peer = exposure.max_connections_per_peer.unwrap_or(usize::MAX);
        let seats = Seats::new(exposure.max_connections, of_peer);
        Self { exposure, gate, seats, reporter, closing }
    }

    /// What it is called.
    pub(super) fn service(&self) -> &Service {
        &self.exposure.service
    }

    /// How long its streams wait for a path; none: as long as the node's.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.exposure.patience
    }

    /// The peers on its allow list.
    pub(super) fn listed(&self) -> Vec<PeerId> {
        self.gate.listed()
    }

    /// Reads the allow list again, if it is in a file.
    pub(super) fn reload(&self) {
        if self.exposure.rules.allow_file.is_none() {
            return;
        }
        let error = block_in_place(|| self.gate.reload()).err().map(|error| error.to_string());
        self.reporter.knows(self.listed());
        let service = self.exposure.service.clone();
        self.reporter.report(GatewayEvent::AccessReloaded { service, error });
    }

    /// What it is, for those who ask.
    pub(super) fn offered(&self) -> Offered {
        let Exposure { service, target, rules, max_connections, .. } = &self.exposure;
        Offered {
            service: service.clone(),
            target: Some(target.to_string()),
            anybody: rules.allow_any,
            tickets: rules.tickets,
            allowed: self.listed(),
            connections_max: Some(*max_connections),
        }
    }

    /// The allow list, if it is in a file: read, and not in force yet.
    ///
    /// # Errors
    /// What is wrong with the file, and where.
    pub(super) fn reread(self: &Arc<Self>, endpoint: &Endpoint) -> Result<Option<Reread>, String> {
        let Some(path) = &self.exposure.rules.allow_file else { return Ok(None) };
        let listed = self.gate.reread().map_err(|error| error.to_string())?;
        let service = self.exposure.service.clone();
        let said = format!("{} peers may use `{service}`, with {}", listed.count(), path.display());
        let (exposed, endpoint) = (self.clone(), endpoint.clone());
        let apply = async move {
            exposed.gate.relist(listed);
            exposed.reporter.knows(exposed.listed());
            endpoint.welcome(service.clone(), exposed.listed()).await;
            exposed.reporter.report(GatewayEvent::AccessReloaded { service, error: None });
        };
        Ok(Some(Reread { said, apply: Box::pin(apply) }))
    }

    /// Serves peers until the process is told to stop, and then those that it serves already.
    pub(super) async fn serve(self: Arc<Self>, mut requests: Requests) {
        let mut connections = JoinSet::new();
        let mut stopping = false;
        while !stopping || !connections.is_empty() {
            tokio::select! {
                request = requests.next() => match request {
                    Some(request) if stopping => request.refuse(Refusal::Shutdown),
                    Some(request) => {
                        if let Some(admitted) = self.admit(request).await {
                            connections.spawn(self.clone().carry(admitted));
                        }
                    }
                    None => break,
                },
                Some(_) = connections.join_next() => {}
                () = stop::told(), if !stopping => stopping = true,
            }
        }
        while connections.join_next().await.is_some() {}
    }

    /// Decides before anything else is done for the peer. One at a time, so that a crowd of strangers
    /// costs no more than their queue.
    async fn admit(&self, request: Request) -> Option<Admitted> {
        let (peer, service) = (request.peer(), self.exposure.service.clone());
        // It may look into files.
        let admitted =
            block_in_place(|| self.gate.admit(peer, &service, request.ticket(), SystemTime::now()));
        match admitted {
            Err(denial) => {
                let reason = denial.to_string();
                self.reporter.report(GatewayEvent::AccessRefused { peer, service, reason });
                request.refuse(denial.refusal());
                None
            }
            Ok(pass) => match self.seats.take(peer) {
                Ok(seat) => Some(Admitted { request, pass, seat }),
                Err(full) => {
                    self.put_back(&pass);
                    let (what, limit) = match full {
                        Full::Service { limit } => (Counted::ServiceConnection, limit),
                        Full::Peer { limit } => (Counted::ServiceConnectionOfPeer, limit),
                    };
                    self.reporter.report(GatewayEvent::Refused { peer, what, limit });
                    request.refuse(Refusal::Busy);
                    None
                }
            },
        }
    }

    /// One connection, from the target's answer to its end.
    async fn carry(self: Arc<Self>, admitted: Admitted) {
        let Admitted { request, pass, seat: _seat } = admitted;
        let peer = request.peer();
        let reached = tokio::select! {
            reached = target::connect(&self.exposure.target, peer) => reached,
            () = self.closing.closed() => {
                self.put_back(&pass);
                return request.refuse(Refusal::Shutdown);
            }
        };
        let mut socket = match reached {
            Ok(socket) => socket,
            Err(error) => {
                self.put_back(&pass);
                self.target_failed(peer, error.to_string());
                return request.refuse(error.refusal());
            }
        };
        let Some(mut stream) = request.accept().await else { return self.put_back(&pass) };
        let end = tokio::select! {
            end = splice(&mut socket, &mut stream, || self.gate.stands(&pass)) => end,
            () = self.closing.closed() => return stream.reset(Code::Shutdown),
        };
        match end {
            End::Finished => socket.settle(),
            End::Near(error) => {
                tracing::debug!(%peer, %error, "the target broke its connection");
                stream.reset(Code::TargetReset);
            }
            End::Far(error) => tracing::debug!(%peer, %error, "the peer's stream broke"),
            End::Cut => {
                stream.reset(Code::Revoked);
                let service = self.exposure.service.clone();
                self.reporter.report(GatewayEvent::AccessRevoked { peer, service });
            }
        }
    }

    /// A ticket for one use that came to nothing is not used up.
    fn put_back(&self, pass: &Pass) {
        block_in_place(|| self.gate.put_back(pass));
    }

    fn target_failed(&self, peer: PeerId, reason: String) {
        let Exposure { service, target, .. } = &self.exposure;
        let (service, target) = (service.clone(), target.to_string());
        self.reporter.report(GatewayEvent::TargetFailed { peer, service, target, reason });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{Args as _, FromArgMatches as _};
    use punchline_bridge::RelayAddr;

    use super::*;

    const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

    fn exposures(args: &[&str]) -> Result<Vec<Exposure>, Unusable> {
        let command = cli::Expose::augment_args(clap::Command::new("expose"));
        let command = command.mut_args(|flag| flag.env(None::<&'static str>));
        let service: &[&str] = match args.first() {
            Some(first) if !first.starts_with('-') => &[],
            _ => &["--service", "kaspad=127.0.0.1:16111"],
        };
        let args = [&["expose"], service, args].concat();
        let matches = command.try_get_matches_from(args).unwrap();
        let flags = cli::Expose::from_arg_matches(&matches).unwrap();
        Exposure::of_flags(&flags, &NamesFile::default(), None)
    }

    #[test]
    fn a_name_and_a_port_let_in_whoever_has_the_printed_ticket_and_nobody_else() {
        let [exposure] = exposures(&["web", "8000"]).unwrap().try_into().unwrap();
        assert_eq!(exposure.target.to_string(), "127.0.0.1:8000");
        assert!(exposure.rules.tickets && exposure.rules.allow.is_empty() && !exposure.rules.allow_any);
        let share = exposure.share.unwrap();
        assert_eq!((share.local.as_str(), share.lifetime.as_secs()), ("--local 127.0.0.1:18000", 3600));
        for rule in [&["--allow", PEER][..], &["--allow-any"], &["--tickets"]] {
            let named = exposures(&[&["web", "8000"], rule].concat()).unwrap();
            assert!(named[0].share.is_none(), "{rule:?}: no ticket is made unasked");
            let error = exposures(&[&["web", "8000", "--qr"], rule].concat()).unwrap_err().to_string();
            assert!(error.contains("--qr draws the command"), "{error}");
        }
    }

    #[test]
    fn without_a_rule_nobody_is_served_and_the_price_of_allow_any_is_named() {
        let error = exposures(&[]).unwrap_err().to_string();
        for hint in ["--allow <ID>", "--allow-file", "--tickets", "--allow-any", "public port"] {
            assert!(error.contains(hint), "{hint}: {error}");
        }
        for rule in [&["--allow", PEER][..], &["--allow-file=x"], &["--allow-any"], &["--tickets"]] {
            assert_eq!(exposures(rule).unwrap().len(), 1, "{rule:?}");
        }
        let error = exposures(&["--allow-any", "--allow", PEER]).unwrap_err().to_string();
        assert!(error.contains("leave one of the two out"), "{error}");
    }

    #[test]
    fn tickets_are_taken_beside_a_list() {
        assert!(exposures(&["--allow", PEER]).unwrap()[0].rules.tickets);
        assert!(!exposures(&["--allow-any"]).unwrap()[0].rules.tickets);
    }

    #[test]
    fn the_invitation_is_a_whole_command() {
        let relay: RelayAddr = format!("/ip4/203.0.113.7/tcp/4001/p2p/{PEER}").parse().unwrap();
        let peer = PeerId::random();
        let ways = format!(" --relay {relay}");
        let invitation = |rule| exposures(&[rule]).unwrap()[0].invitation(peer, &ways);
        let wanted = format!(
            "punchline forward --peer {peer} --service kaspad --relay {relay} --local 127.0.0.1:26111"
        );
        assert_eq!(invitation("--allow-any"), format!("peers use: {wanted}"));
        let ticket = invitation("--tickets");
        assert!(
            ticket.contains(&format!("punchline ticket new --service kaspad --relay {relay};")),
            "{ticket}"
        );
        assert!(
            ticket.contains("PUNCHLINE_TICKET=<TICKET> punchline forward --local 127.0.0.1:26111"),
            "{ticket}"
        );
    }
}
