//! Asks the name servers of this host. Their settings are read anew each time: networks change.

use std::{
    fmt,
    time::{Duration, Instant},
};

use hickory_resolver::{TokioResolver, proto::rr::RData};
use tokio::time::timeout;

use super::follow::{Answer, NoAnswer};

/// For one answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// What the TXT records of `_dnsaddr.<name>` say.
pub(super) async fn records(name: String) -> Result<Answer, NoAnswer> {
    let fail =
        |cause: &dyn fmt::Display| NoAnswer::Unresolved { name: name.clone(), cause: cause.to_string() };
    let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
    let resolver = resolver.map_err(|error| fail(&error))?;
    let lookup = resolver.txt_lookup(format!("_dnsaddr.{name}."));
    let answer = match timeout(DEADLINE, lookup).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if error.is_no_records_found() || error.is_nx_domain() => {
            return Err(NoAnswer::NoRecord { name });
        }
        Ok(Err(error)) => return Err(fail(&error)),
        Err(_) => return Err(fail(&format_args!("nobody answered within {} s", DEADLINE.as_secs()))),
    };
    let texts = answer.answers().iter().filter_map(|record| match &record.data {
        RData::TXT(text) => String::from_utf8(text.txt_data.concat()).ok(),
        _ => None,
    });
    Ok(Answer {
        addresses: texts.filter_map(|text| text.strip_prefix("dnsaddr=")?.parse().ok()).collect(),
        lasts: answer.valid_until().saturating_duration_since(Instant::now()),
    })
}
