//! `punchline ticket`: makes, shows and revokes the tickets of this node.

use std::{
    io::Write as _,
    path::Path,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use libp2p::{PeerId, identity::Keypair};
use punchline_bridge::Service;
use serde::Serialize;

use crate::{
    Unusable,
    access::{self, Entry, Ledger, Routes, Standing, Terms, TicketId, unix_seconds},
    cli::{
        self, Common, Role,
        ticket::{Command, New, Revoke},
    },
    names::Names,
};

/// Does what was asked for and returns.
///
/// # Errors
/// If the settings make no sense, the ledger cannot be used, or there is no such ticket.
pub fn run(command: Command, common: &Common) -> anyhow::Result<()> {
    let ledger = Ledger::at(crate::ledger(common, Role::Expose)?);
    let now = SystemTime::now();
    match command {
        Command::New(new) => issue(new, common, &ledger, now),
        Command::Revoke(revoke) if revoke.ids.is_empty() && !revoke.all => {
            Err(Unusable("say which tickets: their ids, or --all".to_owned()).into())
        }
        Command::Revoke(revoke) if !revoke.ids.is_empty() && revoke.all => {
            Err(Unusable("--all means every ticket; leave it or the ids out".to_owned()).into())
        }
        _ if common.check => ledger.read().map_err(anyhow::Error::from).and_then(|_| crate::usable()),
        Command::List(list) => {
            // Without names it is shown as well.
            let names = crate::names_file(common)?.read().unwrap_or_default();
            show(list.json, &ledger, unix_seconds(now), &names)
        }
        Command::Revoke(revoke) => take_back(&revoke, &ledger, unix_seconds(now)),
    }
}

fn issue(new: New, common: &Common, ledger: &Ledger, now: SystemTime) -> anyhow::Result<()> {
    let New { service, expires, once, relay, addr } = new;
    let routes = Routes { relays: cli::all(&relay), addrs: cli::all(&addr) };
    let identity = crate::identity(common, Role::Expose)?;
    if common.check {
        sign(service, expires.duration(), once, routes, &identity, now)?;
        ledger.read()?;
        return crate::usable();
    }
    let (ticket, terms) = make(service, expires.duration(), once, routes, &identity, ledger, now)?;
    crate::print_line(&ticket.to_string())?;
    explain(&terms, common.identity.as_deref());
    Ok(())
}

fn make(
    service: Service,
    lifetime: Duration,
    once: bool,
    routes: Routes,
    identity: &Keypair,
    ledger: &Ledger,
    now: SystemTime,
) -> anyhow::Result<(access::Ticket, Terms)> {
    let (ticket, terms) = sign(service, lifetime, once, routes, identity, now)?;
    ledger.change(|book| book.issue(&terms, unix_seconds(now)))??;
    Ok((ticket, terms))
}

/// The ticket that a program prints for those who are to reach `target`, and what it grants: the ticket that it printed
/// before and did not take back, with another end, or a new one.
///
/// # Errors
/// If it would lead nowhere, or the ledger cannot be used.
pub(crate) fn print(
    (service, target): (Service, &str),
    lifetime: Duration,
    routes: Routes,
    identity: &Keypair,
    ledger: &Ledger,
    now: SystemTime,
) -> anyhow::Result<(access::Ticket, Terms)> {
    let (_, wanted) = sign(service, lifetime, false, routes.clone(), identity, now)?;
    let terms = ledger.change(|book| book.print(wanted, target, unix_seconds(now)))??;
    Ok((access::Ticket::issue(terms.clone(), routes, identity)?, terms))
}

fn sign(
    service: Service,
    lifetime: Duration,
    once: bool,
    routes: Routes,
    identity: &Keypair,
    now: SystemTime,
) -> Result<(access::Ticket, Terms), Unusable> {
    let terms = Terms { id: TicketId::random(), service, expires: end(now, lifetime), once };
    let ticket = access::Ticket::issue(terms.clone(), routes, identity);
    Ok((ticket.map_err(|error| Unusable(error.to_string()))?, terms))
}

/// The first whole second at which a lifetime is over: it is never shorter than was said.
fn end(now: SystemTime, lifetime: Duration) -> u64 {
    let end =
        now.checked_add(lifetime).and_then(|end| end.checked_add(Duration::from_nanos(999_999_999)));
    end.map_or(0, unix_seconds)
}

/// What to do with the ticket; standard output has the ticket alone, for pipes.
fn explain(terms: &Terms, identity: Option<&Path>) {
    let Terms { id, service, expires, once } = terms;
    let uses = if *once { "one connection" } else { "any number of connections" };
    let identity = identity.map(|path| format!(" --identity {}", path.display())).unwrap_or_default();
    let text = format!(
        "\nUntil {}, whoever has this ticket may open {uses} to `{service}` of this node, while\n\
         `punchline expose` runs here with --tickets, --allow or --allow-file. On the other machine:\n\
         \n    PUNCHLINE_TICKET=<the ticket> punchline forward --local 127.0.0.1:<a free port>\n\
         \nTo take it back:\n\
         \n    punchline ticket revoke {id}{identity}\n",
        time(*expires),
    );
    // The ticket is out already; that nobody reads this is no failure.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A ticket as `punchline ticket list --json` shows it.
#[derive(Serialize)]
struct Row<'a> {
    id: TicketId,
    service: &'a Service,
    issued: String,
    expires: String,
    once: bool,
    standing: Standing,
    used_by: Option<PeerId>,
    used_at: Option<String>,
    revoked_at: Option<String>,
    printed_for: Option<&'a str>,
}

impl<'a> Row<'a> {
    fn of(entry: &'a Entry, now: u64) -> Self {
        let Entry { id, service, issued, expires, once, used, revoked, printed_for } = entry;
        Self {
            id: *id,
            service,
            issued: time(*issued),
            expires: time(*expires),
            once: *once,
            standing: entry.standing(now),
            used_by: used.as_ref().map(|used| used.peer),
            used_at: used.as_ref().map(|used| time(used.at)),
            revoked_at: revoked.map(time),
            printed_for: printed_for.as_deref(),
        }
    }
}

fn show(json: bool, ledger: &Ledger, now: u64, names: &Names) -> anyhow::Result<()> {
    let book = ledger.read()?;
    let rows: Vec<Row<'_>> = book.entries().iter().map(|entry| Row::of(entry, now)).collect();
    if json {
        return crate::print_line(&serde_json::to_string(&rows)?);
    }
    if rows.is_empty() {
        let _ = writeln!(std::io::stderr(), "there are no tickets; `punchline ticket new` makes one");
        return Ok(());
    }
    let width = rows.iter().map(|row| row.service.as_str().len()).fold("SERVICE".len(), usize::max);
    let line = |id: &str, service: &str, expires: &str, uses: &str, standing: &str| {
        crate::print_line(&format!("{id:<32}  {service:<width$}  {expires:<20}  {uses:<4}  {standing}"))
    };
    line("ID", "SERVICE", "EXPIRES", "USES", "STANDING")?;
    for row in &rows {
        let uses = if row.once { "one" } else { "any" };
        let by = row.used_by.map(|peer| format!(", used by {}", names.shown(peer))).unwrap_or_default();
        let standing = match row.standing {
            Standing::Used => by.trim_start_matches(", ").to_owned(),
            other => format!("{other}{by}"),
        };
        let standing = match (row.printed_for, row.standing) {
            (Some(target), Standing::Valid) => {
                format!("{standing}, printed by `punchline expose` for {target}")
            }
            _ => standing,
        };
        line(&row.id.to_string(), row.service.as_str(), &row.expires, uses, &standing)?;
    }
    Ok(())
}

fn take_back(revoke: &Revoke, ledger: &Ledger, now: u64) -> anyhow::Result<()> {
    let Revoke { ids, all } = revoke;
    let revoked = ledger.change(|book| {
        let every = book.entries().iter().filter(|entry| entry.revoked.is_none());
        let ids = if *all { every.map(|entry| entry.id).collect() } else { ids.clone() };
        book.revoke(&ids, now).map(|()| ids)
    })??;
    for id in &revoked {
        crate::print_line(&format!("revoked {id}"))?;
    }
    if revoked.is_empty() {
        let _ = writeln!(std::io::stderr(), "there was no ticket to revoke");
    }
    Ok(())
}

/// A Unix second for people and programs: RFC 3339.
pub(crate) fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| format!("second {seconds}"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_ticket_never_ends_before_its_time() {
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        assert_eq!(end(at(5_000), Duration::from_secs(1)), 6);
        assert_eq!(end(at(5_001), Duration::from_secs(1)), 7);
        assert_eq!(end(at(5_999), Duration::from_secs(1)), 7);
    }

    #[test]
    fn a_time_that_no_calendar_has_is_shown_all_the_same() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(u64::MAX), format!("second {}", u64::MAX));
    }
}
