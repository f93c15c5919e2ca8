//! `punchline client`, configured purely by the environment: `LIBP2P_*` and `PUNCHLINE_*`.

fn main() -> std::process::ExitCode {
    punchline::run(vec!["kaspa_p2p_client".into(), "client".into()])
}
