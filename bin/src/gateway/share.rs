//! What `punchline expose NAME PORT` prints: one command for the other side, with a fresh ticket in it.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use libp2p::identity::Keypair;
use punchline_bridge::Service;
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};

use crate::{
    access::{Ledger, Routes},
    report::{self, Reporter},
    ticket,
};

/// A command that is printed once the node is usable.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) service: Service,
    /// Where it is proposed to listen there, as `--local 127.0.0.1:18000`.
    pub(super) local: String,
    pub(super) lifetime: Duration,
    /// As a QR code, too.
    pub(super) qr: bool,
    /// As whom, if not as the usual one.
    pub(super) identity: Option<PathBuf>,
}

impl Share {
    /// Prints the command when the node is ready; until then nobody could use it. The ticket's time begins then.
    pub(super) async fn print(
        self,
        routes: Routes,
        keypair: Keypair,
        ledger: PathBuf,
        reporter: Reporter,
    ) {
        reporter.ready().await;
        let to_stdout = !reporter.has_stdout();
        // It writes to the disk, and to whoever reads.
        let printed =
            tokio::task::spawn_blocking(move || self.print_now(routes, &keypair, ledger, to_stdout));
        if let Ok(Err(error)) = printed.await {
            tracing::warn!("no ticket could be made: {error:#}; `punchline ticket new` makes one later");
        }
    }

    fn print_now(
        self,
        routes: Routes,
        keypair: &Keypair,
        ledger: PathBuf,
        to_stdout: bool,
    ) -> anyhow::Result<()> {
        let Self { service, local, lifetime, qr, identity } = self;
        let (ticket, terms) = ticket::make(
            service.clone(),
            lifetime,
            false,
            routes,
            keypair,
            &Ledger::at(ledger),
            SystemTime::now(),
        )?;
        let command = format!("punchline forward --ticket {ticket} {local}");
        let identity =
            identity.map(|path| format!(" --identity {}", path.display())).unwrap_or_default();
        report::say(&format!(
            "the next command is for the other machine: until {}, whoever has it may use `{service}`, and nobody else; \
             what is open then stays. To take it back: punchline ticket revoke {}{identity}",
            ticket::time(terms.expires),
            terms.id
        ));
        let code = if qr { qr_code(&command, io::stdout().is_terminal())? } else { String::new() };
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
        let command = format!("punchline forward --ticket punchline-ticket:{}", "a".repeat(440));
        let drawn = qr_code(&command, false).unwrap();
        let width = drawn.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(width <= 100, "{width} columns");
        assert!(drawn.lines().all(|line| line.chars().all(|letter| " ▀▄█".contains(letter))), "{drawn}");
        assert!(qr_code(&"a".repeat(4000), true).is_err());
    }
}
