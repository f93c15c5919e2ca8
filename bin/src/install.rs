//! `punchline settings`, `completions` and `man-pages`: all made from the definition of the command line.

use std::{ffi::OsString, io::Write as _, path::Path};

use clap::CommandFactory as _;

use crate::{
    Unusable,
    cli::{self, Cli, Common, Install},
    settings::{SettingsError, example::example, show},
};

/// Prints or writes what is asked for.
///
/// # Errors
/// If the settings to be shown are unusable, or it cannot be written.
pub(crate) fn run(what: Install, common: &Common) -> anyhow::Result<()> {
    match what {
        Install::Settings(what) => print_settings(what, common),
        Install::Completions { shell } => print(&completions(shell)),
        Install::ManPages { directory } => write_pages(&directory),
    }
}

fn print_settings(what: cli::Settings, common: &Common) -> anyhow::Result<()> {
    let form = "say punchline settings --example, or punchline settings --show COMMAND [FLAGS]";
    match (what.example, what.show, what.command.is_empty()) {
        (true, false, true) => print(example().as_bytes()),
        (false, true, false) => print(shown(what, common)?.as_bytes()),
        (false, true, true) => Err(Unusable(format!("of which command? {form}")).into()),
        _ => Err(Unusable(form.to_owned()).into()),
    }
}

fn shown(what: cli::Settings, common: &Common) -> Result<String, Unusable> {
    let mut arguments: Vec<OsString> = vec!["punchline".into()];
    arguments.extend(what.command);
    if let Some(file) = &common.config {
        arguments.extend(["--config".into(), file.into()]);
    }
    let settings = show::settings(arguments, crate::environment).map_err(unusable)?;
    Ok(match what.json {
        true => {
            let settings: serde_json::Value = settings.iter().map(show::Setting::json).collect();
            format!("{settings}\n")
        }
        false => settings.iter().map(|setting| format!("{setting}\n")).collect(),
    })
}

fn unusable(error: SettingsError) -> Unusable {
    let text = error.to_string();
    Unusable(text.trim_start_matches("error: ").trim_end().to_owned())
}

fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "punchline", &mut script);
    script
}

fn write_pages(directory: &Path) -> anyhow::Result<()> {
    let mut root = Cli::command();
    root.build();
    write_page(&root, directory).map_err(|cause| {
        anyhow::anyhow!("cannot write to {}: {cause}; name a directory of yours", directory.display())
    })
}

/// The page of a command, and those of the ones below it.
fn write_page(command: &clap::Command, directory: &Path) -> std::io::Result<()> {
    if command.is_hide_set() || command.get_name() == "help" {
        return Ok(());
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let page = clap_mangen::Man::new(command.clone()).title(name.to_uppercase());
    let page = page.source(concat!("punchline ", env!("CARGO_PKG_VERSION"))).manual("Punchline");
    page.render(&mut std::fs::File::create(directory.join(format!("{name}.1")))?)?;
    command.get_subcommands().try_for_each(|below| write_page(below, directory))
}

/// Whoever reads only the first lines, as `head` does, is no failure.
fn print(text: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::anyhow!("cannot print the answer: {cause}; let somebody read standard output"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
