//! Tests that need the lab, or a stock node: run by `libtest-mimic`, because the built-in harness
//! cannot say at run time that a test was skipped.
//!
//! A test target of such tests has `harness = false` and a `main` like
//! `trial::run(vec![lab_trial("a_claim", a_claim)])`. Where there can be no lab the trials count
//! as ignored, each with the reason, and where a lab is required (`CI=true` or
//! `PUNCHLINE_REQUIRE_LAB=1`) as failed. So do those of [`kaspad_trial`] where there is no kaspad;
//! when that is a failure says [`kaspad::required`].

use std::env;
use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime;
use tokio::time::timeout;

use crate::{kaspad, lab};

/// A test that runs in the lab: an async function on a tokio runtime of its own, for at most
/// [`TRIAL_DEADLINE`].
pub fn lab_trial<Body, Running>(name: &str, body: Body) -> Trial
where
    Body: FnOnce() -> Running + Send + 'static,
    Running: Future<Output = anyhow::Result<()>>,
{
    with(name, &[the_lab], body)
}

/// Like [`lab_trial`], for a test that needs a stock kaspad and no lab.
pub fn kaspad_trial<Body, Running>(name: &str, body: Body) -> Trial
where
    Body: FnOnce() -> Running + Send + 'static,
    Running: Future<Output = anyhow::Result<()>>,
{
    with(name, &[a_kaspad], body)
}

/// Like [`lab_trial`], for a test that needs a stock kaspad as well.
pub fn kaspad_lab_trial<Body, Running>(name: &str, body: Body) -> Trial
where
    Body: FnOnce() -> Running + Send + 'static,
    Running: Future<Output = anyhow::Result<()>>,
{
    with(name, &[a_kaspad, the_lab], body)
}

/// Like [`lab_trial`], for a test that needs a router which forwards ports: `miniupnpd`.
pub fn miniupnpd_trial<Body, Running>(name: &str, body: Body) -> Trial
where
    Body: FnOnce() -> Running + Send + 'static,
    Running: Future<Output = anyhow::Result<()>>,
{
    with(name, &[the_lab, a_miniupnpd], body)
}

/// A test that needs no lab, run beside those that do.
pub fn trial<Body, Running>(name: &str, body: Body) -> Trial
where
    Body: FnOnce() -> Running + Send + 'static,
    Running: Future<Output = anyhow::Result<()>>,
{
    Trial::test(name, move || complete(body()))
}

/// Like [`trial`], for a test that needs programs which not every machine has; `missing` names those
/// that are not there. Where nothing may be left out (`CI=true`), their absence is a failure.
pub fn tool_trial<Body, Running>(name: &str, missing: fn() -> Option<String>, body: Body) -> Trial
where
    Body: FnOnce() -> Running + Send + 'static,
    Running: Future<Output = anyhow::Result<()>>,
{
    let claim = name.to_owned();
    Trial::ignorable_test(name, move || match missing() {
        None => complete(body()).map(|()| Completion::Completed),
        Some(missing) => skip(&claim, missing, lab_required()),
    })
}

/// Runs the trials that the command line selects; takes the flags of the built-in harness.
pub fn run(trials: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Whether a machine that cannot have a lab is a failure rather than a reason to skip.
pub fn lab_required() -> bool {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|set| set == value);
    is("CI", "true") || is("PUNCHLINE_REQUIRE_LAB", "1")
}

/// Something that not every machine has. `Err` carries the verdict on a trial that needs it.
type Need = fn(&str) -> Result<(), Result<Completion, Failed>>;

fn with<Body, Running>(name: &str, needs: &'static [Need], body: Body) -> Trial
where
    Body: FnOnce() -> Running + Send + 'static,
    Running: Future<Output = anyhow::Result<()>>,
{
    let claim = name.to_owned();
    Trial::ignorable_test(name, move || match needs.iter().try_for_each(|need| need(&claim)) {
        Ok(()) => complete(body()).map(|()| Completion::Completed),
        Err(verdict) => verdict,
    })
}

fn the_lab(name: &str) -> Result<(), Result<Completion, Failed>> {
    lab::capability().map_err(|missing| skip(name, missing, lab_required()))
}

fn a_miniupnpd(name: &str) -> Result<(), Result<Completion, Failed>> {
    let missing = "needs the program `miniupnpd`: install the package miniupnpd-nftables";
    lab::Miniupnpd::is_installed().then_some(()).ok_or_else(|| skip(name, missing, lab_required()))
}

fn a_kaspad(name: &str) -> Result<(), Result<Completion, Failed>> {
    let skip = |missing| skip(name, &missing, kaspad::required(&missing));
    kaspad::binary().map(drop).map_err(skip)
}

fn complete(running: impl Future<Output = anyhow::Result<()>>) -> Result<(), Failed> {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async { timeout(TRIAL_DEADLINE, running).await });
    // A blocked reader of a child's output must not hold up the verdict.
    runtime.shutdown_background();
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{error:#}").into()),
        Err(_) => Err(format!("not done within {TRIAL_DEADLINE:?}").into()),
    }
}

#[expect(clippy::print_stderr, reason = "whoever reads the run must see what it did not show")]
fn skip(name: &str, missing: impl Display, required: bool) -> Result<Completion, Failed> {
    if required {
        return Err(format!("required, but {missing}").into());
    }
    eprintln!("SKIPPED {name}: {missing}");
    Ok(Completion::ignored_with(format!("skipped, {missing}")))
}

/// How long a trial may take: longer than the longest scenario (a relay that is away for a
/// minute), short enough that a hang is noticed.
pub const TRIAL_DEADLINE: Duration = Duration::from_secs(240);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_lab_is_ignored_or_failed_but_never_passed() {
        let ignored = skip("a_claim", lab::Missing::Root, false);
        assert!(
            matches!(ignored, Ok(Completion::Ignored { reason: Some(reason) }) if reason.contains("root"))
        );
        assert!(skip("a_claim", lab::Missing::Root, true).is_err());
    }

    #[test]
    fn a_failed_body_says_why() {
        let failed = complete(async { anyhow::bail!("because") });
        assert_eq!(failed.err().as_ref().and_then(Failed::message), Some("because"));
    }
}
