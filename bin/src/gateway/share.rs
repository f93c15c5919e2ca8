//! What `punchline expose NAME PORT` prints: one command for the other side, with a ticket in it that ends with this process.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use libp2p::identity::Keypair;
use punchline_bridge::Service;
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use tokio::task::{JoinSet, spawn_blocking};

use super::expose::Exposure;
use crate::{
    access::{Ledger, LedgerError, Routes, Terms, Ticket, unix_seconds},
    report::{self, Reporter},
    ticket,
};

/// A command that is printed once the node is usable.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) service: Service,
    /// Where the service leads here.
    pub(super) target: String,
    /// Where it is proposed to listen there, as `--local 127.0.0.1:18000`.
    pub(super) local: String,
    pub(super) lifetime: Duration,
    /// As a QR code, too.
    pub(super) qr: bool,
    /// As whom, if not as the usual one.
    pub(super) identity: Option<PathBuf>,
}

/// Makes void what a process printed that could not do so itself, for it was killed: tickets for these services, unless the
/// same is to be printed again, so that the command works that the other side has.
///
/// # Errors
/// If the ledger cannot be used: a ticket for another program might be good here.
pub(super) fn settle(exposures: &[Exposure], ledger: &Ledger) -> Result<(), LedgerError> {
    let now = unix_seconds(SystemTime::now());
    // A ledger without such tickets is not touched, nor a lock made beside none.
    let with_tickets: Vec<_> = exposures.iter().filter(|exposure| exposure.takes_tickets()).collect();
    if with_tickets.is_empty() || ledger.read()?.entries().iter().all(|at| at.printed_for.is_none()) {
        return Ok(());
    }
    ledger.change(|book| {
        for Exposure { service, share, .. } in with_tickets {
            let kept = share.as_ref().map(|share| &*share.target);
            for id in book.revoke_printed(service, kept, now) {
                tracing::info!(
                    "ticket {id} for `{service}`, printed before for another target, is revoked"
                );
            }
        }
    })
}

/// Commands that are printed, and taken back when the process stops in order.
pub(super) struct Sharing {
    printing: JoinSet<()>,
    services: Vec<Service>,
    ledger: Ledger,
    /// No ticket is made any more. Locked while one is.
    ended: Arc<Mutex<bool>>,
}

impl Sharing {
    /// Nothing yet.
    pub(super) fn new(ledger: Ledger) -> Self {
        Self { printing: JoinSet::new(), services: Vec::new(), ledger, ended: Arc::default() }
    }

    /// Prints the command when the node is ready; until then nobody could use it. The ticket's time begins then.
    pub(super) fn add(&mut self, share: Share, routes: Routes, keypair: Keypair, reporter: Reporter) {
        self.services.push(share.service.clone());
        let (ledger, ended) = (self.ledger.clone(), self.ended.clone());
        self.printing.spawn(async move {
            reporter.ready().await;
            let to_stdout = !reporter.has_stdout();
            // It writes to the disk, and to whoever reads.
            let printed =
                spawn_blocking(move || match share.make(routes, &keypair, &ledger, &ended)? {
                    Some(made) => share.print(&made, to_stdout),
                    None => Ok(()),
                });
            if let Ok(Err(error)) = printed.await {
                tracing::warn!(
                    "no ticket could be made: {error:#}; `punchline ticket new` makes one later"
                );
            }
        });
    }

    /// The process stops: what it printed opens nothing any more.
    pub(super) async fn end(self) {
        let Self { printing, services, ledger, ended } = self;
        if services.is_empty() {
            return;
        }
        drop(printing);
        let revoked = spawn_blocking(move || {
            *ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
            let now = unix_seconds(SystemTime::now());
            ledger.change(|book| {
                let of = |service: &Service| (service.clone(), book.revoke_printed(service, None, now));
                services.iter().map(of).collect::<Vec<_>>()
            })
        });
        match revoked.await {
            Ok(Ok(revoked)) => {
                for (service, _) in revoked.iter().filter(|(_, ids)| !ids.is_empty()) {
                    report::say(&format!(
                        "the command that was printed for `{service}` opens nothing any more; the next start prints another. For one that \
                         lasts, `punchline ticket new` and `punchline expose --tickets`"
                    ));
                }
            }
            Ok(Err(error)) => tracing::warn!(
                "the ticket that was printed stays good until its time is over: {error}; `punchline ticket list` shows it"
            ),
            // The program is about to end.
            Err(_) => {}
        }
    }
}

impl Share {
    /// None if the process stops: what is made then would outlive it.
    fn make(
        &self,
        routes: Routes,
        keypair: &Keypair,
        ledger: &Ledger,
        ended: &Mutex<bool>,
    ) -> anyhow::Result<Option<(Ticket, Terms)>> {
        let ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
        if *ended {
            return Ok(None);
        }
        let what = (self.service.clone(), &*self.target);
        ticket::print(what, self.lifetime, routes, keypair, ledger, SystemTime::now()).map(Some)
    }

    fn print(&self, (ticket, terms): &(Ticket, Terms), to_stdout: bool) -> anyhow::Result<()> {
        let Self { service, local, qr, identity, .. } = self;
        // In the environment: what stands in the arguments, every user of the machine can read.
        let command = format!("PUNCHLINE_TICKET={ticket} punchline forward {local}");
        let identity = identity.as_ref().map(|path| format!(" --identity {}", path.display()));
        report::say(&format!(
            "the next command is for the other machine: until {}, or until this program is stopped, whoever has it may use \
             `{service}`, and nobody else. To take it back before: punchline ticket revoke {}{}",
            ticket::time(terms.expires),
            terms.id,
            identity.unwrap_or_default()
        ));
        let code = if *qr { qr_code(&command, io::stdout().is_terminal())? } else { String::new() };
        let text = format!("{command}\n{code}");
        match to_stdout {
            true => io::stdout().write_all(text.as_bytes())?,
            // Standard output is for events then.
            false => io::stderr().write_all(text.as_bytes())?,
        }
        Ok(())
    }
}

/// A QR code of half blocks. On a terminal it is black on white, whatever its colours are; else what is light in the code
/// is drawn, as for a dark terminal.
fn qr_code(text: &str, is_terminal: bool) -> anyhow::Result<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L)
        .map_err(|error| anyhow::anyhow!("the command does not fit into a QR code ({error})"))?;
    let mut renderer = code.render::<Dense1x2>();
    if !is_terminal {
        renderer.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark);
        return Ok(renderer.build() + "\n");
    }
    let drawn = renderer.dark_color(Dense1x2::Dark).light_color(Dense1x2::Light).build();
    Ok(drawn.lines().map(|line| format!("\x1b[30;107m{line}\x1b[0m\n")).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_qr_code_of_the_longest_usual_command_fits_a_terminal() {
        let command = format!(
            "PUNCHLINE_TICKET=punchline-ticket:{} punchline forward --local 127.0.0.1:18000",
            "a".repeat(440)
        );
        let drawn = qr_code(&command, false).unwrap();
        let width = drawn.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(width <= 100, "{width} columns");
        assert!(drawn.lines().all(|line| line.chars().all(|letter| " ▀▄█".contains(letter))), "{drawn}");
        assert!(qr_code(&"a".repeat(4000), true).is_err());
    }
}
