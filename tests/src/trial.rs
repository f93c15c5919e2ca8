//! Tests that need the lab: run by `libtest-mimic`, because the built-in harness cannot say at
//! run time that a test was skipped.
//!
//! A test target of such tests has `harness = false` and a `main` like
//! `trial::run(vec![lab_trial("a_claim", a_claim)])`. Where there can be no lab the trials count
//! as ignored, each with the reason, and where a lab is required (`CI=true` or
//! `PUNCHLINE_REQUIRE_LAB=1`) as failed.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime;
use tokio::time::timeout;

use crate::lab;

/// A test that runs in the lab: an async function on a tokio runtime of its own, for at most
/// [`TRIAL_DEADLINE`].
pub fn lab_trial<Body, Running>(name: &str, body: Body) -> Trial
where
    Body: FnOnce() -> Running + Send + 'static,
    Running: Future<Output = anyhow::Result<()>>,
{
    let skipped = name.to_owned();
    Trial::ignorable_test(name, move || match lab::capability() {
        Ok(()) => complete(body()).map(|()| Completion::Completed),
        Err(missing) => skip(&skipped, missing, lab_required()),
    })
}

/// A test that needs no lab, run beside those that do.
pub fn trial<Body, Running>(name: &str, body: Body) -> Trial
where
    Body: FnOnce() -> Running + Send + 'static,
    Running: Future<Output = anyhow::Result<()>>,
{
    Trial::test(name, move || complete(body()))
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
fn skip(name: &str, missing: &lab::Missing, required: bool) -> Result<Completion, Failed> {
    if required {
        return Err(format!("the lab is required, but {missing}").into());
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
        let ignored = skip("a_claim", &lab::Missing::Root, false);
        assert!(
            matches!(ignored, Ok(Completion::Ignored { reason: Some(reason) }) if reason.contains("root"))
        );
        assert!(skip("a_claim", &lab::Missing::Root, true).is_err());
    }

    #[test]
    fn a_failed_body_says_why() {
        let failed = complete(async { anyhow::bail!("because") });
        assert_eq!(failed.err().as_ref().and_then(Failed::message), Some("because"));
    }
}
