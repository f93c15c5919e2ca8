//! What a person does with a forward.

use punchline_bridge::Service;

/// What to do with a forward, ready to copy.
pub(crate) fn next_step(service: &Service, local: &str) -> String {
    match (service.as_str(), local.strip_prefix("unix:")) {
        ("kaspad" | "kaspa-p2p", None) => format!("run: kaspad --addpeer={local}"),
        ("grpc", None) => format!("run: grpcurl -plaintext {local} list"),
        ("grpc", Some(path)) => format!("run: grpcurl -plaintext -unix {path} list"),
        _ => format!("`{service}` is at {local}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_next_step_suits_the_service() {
        for (service, local, wanted) in [
            ("kaspad", "127.0.0.1:26111", "run: kaspad --addpeer=127.0.0.1:26111"),
            ("kaspa-p2p", "[::1]:26111", "run: kaspad --addpeer=[::1]:26111"),
            ("grpc", "127.0.0.1:50051", "run: grpcurl -plaintext 127.0.0.1:50051 list"),
            ("grpc", "unix:/run/g", "run: grpcurl -plaintext -unix /run/g list"),
            ("ssh", "127.0.0.1:2222", "`ssh` is at 127.0.0.1:2222"),
        ] {
            assert_eq!(next_step(&service.parse().unwrap(), local), wanted);
        }
    }
}
