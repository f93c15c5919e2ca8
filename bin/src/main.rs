//! The `punchline` command.

fn main() -> std::process::ExitCode {
    punchline::run(std::env::args_os().collect())
}
