//! Names of namespaces, which tell whose they are, and the removal of those whose process is no more.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::command::{LabError, ip, run};
use super::namespace;

/// Removes the namespaces of processes that are no more; [`super::Lab::build`] does the same.
///
/// # Errors
///
/// If `ip` does not list them.
pub fn sweep() -> Result<(), LabError> {
    let listed = run(ip().args(["netns", "list"]), None)?;
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    let is_gone = |pid| test_kill_process(pid) == Err(Errno::SRCH);
    names.filter(|name| owner(name).is_some_and(is_gone)).for_each(namespace::remove);
    Ok(())
}

/// The test process that made the namespace called `name`, if a lab made it.
fn owner(name: &str) -> Option<Pid> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    Pid::from_raw(pid.parse().ok()?)
}

/// What the names of another lab's namespaces begin with.
pub(super) fn unique_prefix() -> String {
    static LABS: AtomicU32 = AtomicU32::new(0);
    let lab = LABS.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{lab}-", std::process::id())
}

const PREFIX: &str = "punchline-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_of_labs_have_an_owner() {
        assert_eq!(owner("punchline-7-0-relay"), Pid::from_raw(7));
        assert_eq!(owner("punchline-x-0-relay"), None);
        assert_eq!(owner("somebody-7-0-relay"), None);
    }

    #[test]
    fn two_labs_of_a_process_have_different_names() {
        assert_ne!(unique_prefix(), unique_prefix());
    }
}
