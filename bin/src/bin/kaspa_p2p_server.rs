//! `punchline server`, configured purely by the environment: `LIBP2P_*` and `PUNCHLINE_*`.

fn main() -> std::process::ExitCode {
    punchline::run_by_environment("server", std::env::args_os().collect())
}
