//! systemd itself, which judges the units.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use punchline_tests::process::{Launch, Place};

use crate::world::SOON;

pub(crate) fn missing() -> Option<String> {
    let found = Command::new("systemd-analyze").arg("--version").output().is_ok();
    (!found).then(|| "there is no systemd-analyze: apt-get install systemd".to_owned())
}

/// The programs that units start, which are not where they will be installed.
const PROGRAMS: [&str; 3] =
    ["/usr/bin/punchline", "/usr/lib/punchline/alert-on-change", "/usr/local/bin/kaspad"];

pub(crate) async fn units() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut units = Vec::new();
    for entry in fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd"))? {
        let path = entry?.path();
        let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
        if !name.contains('.') {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let text = PROGRAMS.iter().fold(text, |text, program| text.replace(program, "/bin/true"));
        let named = name.replace("@.", "@home.");
        for name in [&name, &named] {
            fs::write(directory.path().join(name), &text)?;
        }
        units.push(directory.path().join(named));
    }
    ensure!(units.len() == 8, "{units:?}");
    let path = format!("{}:", directory.path().display());
    let verify = Launch::program(Place::Host, "systemd-analyze").env("SYSTEMD_UNIT_PATH", path);
    let verdict = verify.args(["verify", "--man=no"]).args(&units).output(SOON).await?;
    let complaints = String::from_utf8_lossy(&verdict.stderr);
    ensure!(verdict.status.success() && complaints.is_empty(), "{complaints}");
    Ok(())
}
