//! `confined DENIED… -- PROGRAM ARGS…`: runs a program that may not open some kinds of sockets, as in a
//! strict container. DENIED is `netlink`, `ipv6` or `udp`.

use std::{env, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result, bail};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    for denied in args.by_ref().take_while(|arg| arg != "--") {
        deny(&denied)?;
    }
    let program = args.next().context("no program is named after --")?;
    // It only returns if there is no such program.
    Err(Command::new(&program).args(args).exec()).context(program)
}

fn deny(denied: &str) -> Result<()> {
    let (argument, condition, value, errno) = match denied {
        "netlink" => (FAMILY, SeccompCmpOp::Eq, libc::AF_NETLINK, libc::EPERM),
        "ipv6" => (FAMILY, SeccompCmpOp::Eq, libc::AF_INET6, libc::EAFNOSUPPORT),
        "udp" => (TYPE, SeccompCmpOp::MaskedEq(TYPE_BITS), libc::SOCK_DGRAM, libc::EPERM),
        _ => bail!("{denied}: say netlink, ipv6 or udp"),
    };
    let is_denied = SeccompCondition::new(argument, Dword, condition, u64::try_from(value)?)?;
    let rules = vec![SeccompRule::new(vec![is_denied])?];
    let filter = SeccompFilter::new(
        [(libc::SYS_socket, rules)].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(u32::try_from(errno)?),
        env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

/// The arguments of `socket`, by position.
const FAMILY: u8 = 0;
const TYPE: u8 = 1;

/// The rest of the type are flags.
const TYPE_BITS: u64 = 0xf;
