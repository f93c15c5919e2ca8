//! Whether this machine, and this user, can have a lab.

use std::process::Command;
use std::sync::OnceLock;

use rustix::process::geteuid;

use super::{Lab, LabError, LabSpec, Nat};

/// What a machine lacks for a lab. Its text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// Network namespaces belong to root.
    #[error("needs root: run the tests as root")]
    Root,
    /// A program is not installed.
    #[error("needs the program `{program}`: install the package {package}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The kernel, or a sandbox around this process, refuses.
    #[error("this kernel or sandbox refuses a lab: {0}")]
    Refused(#[source] LabError),
}

/// Tells whether a lab can be built here, by building one; asked once per process.
///
/// # Errors
///
/// What is missing.
pub fn capability() -> Result<(), &'static Missing> {
    static FOUND: OnceLock<Result<(), Missing>> = OnceLock::new();
    FOUND.get_or_init(look).as_ref().copied()
}

fn look() -> Result<(), Missing> {
    if !geteuid().is_root() {
        return Err(Missing::Root);
    }
    for (program, version, package) in PROGRAMS {
        if Command::new(program).arg(version).output().is_err() {
            return Err(Missing::Program { program, package });
        }
    }
    let smallest = LabSpec::new([Nat::PortPreserving]);
    Lab::build(&smallest).map(drop).map_err(Missing::Refused)
}

/// Programs without which there is no lab: name, how it is asked for its version, Debian package.
const PROGRAMS: [(&str, &str, &str); 3] = [
    ("ip", "-V", "iproute2"),
    ("nft", "--version", "nftables"),
    ("conntrack", "--version", "conntrack"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_what_to_do() {
        assert!(Missing::Root.to_string().contains("as root"));
        let tool = Missing::Program { program: "nft", package: "nftables" };
        assert!(tool.to_string().contains("install the package nftables"));
    }
}
