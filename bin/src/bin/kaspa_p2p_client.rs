//! `punchline client`, configured purely by the environment: `LIBP2P_*` and `PUNCHLINE_*`.

fn main() -> std::process::ExitCode {
    punchline::run_by_environment("client", std::env::args_os().collect())
}
