//! What helps to install it: settings, completions, manual pages.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Subcommand, builder::BoolishValueParser};

/// What helps to install it.
#[derive(Debug, Subcommand)]
pub enum Install {
    /// All settings: as a commented file, or those of a command with what holds and who said so.
    Settings(Settings),
    /// Print what a shell needs to complete commands and flags.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command.
    #[command(hide = true)]
    ManPages {
        /// Where to.
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
    },
}

impl Install {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Settings(_) => "settings",
            Self::Completions { .. } => "completions",
            Self::ManPages { .. } => "man-pages",
        }
    }
}

/// `punchline settings`.
#[derive(Args, Debug)]
#[command(
    override_usage = "punchline settings --example\n       punchline settings --show COMMAND [FLAGS]…"
)]
pub struct Settings {
    /// Print a settings file with every key, each commented out.
    #[arg(long, env = "PUNCHLINE_EXAMPLE", value_parser = BoolishValueParser::new())]
    pub example: bool,
    /// Print what holds for COMMAND, were it run with FLAGS, and who said so: a flag, a variable, a line of the file, or
    /// the default.
    #[arg(long, env = "PUNCHLINE_SHOW", value_parser = BoolishValueParser::new())]
    pub show: bool,
    /// Print that as one JSON array.
    #[arg(long, env = "PUNCHLINE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    /// A command and its flags.
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}
