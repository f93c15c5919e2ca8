//! Clients that nobody here wrote reach servers that nobody here wrote, through `punchline expose` and
//! `punchline forward`: gRPC from Python, HTTP/1.1 from curl, a WebSocket, and a terminal's single bytes. And Prometheus
//! and a browser read what the programs tell about themselves, and systemd judges the units. And libp2p's other
//! implementations, in Go and JavaScript, are relays, clients of relays and peers of our programs.
//!
//! The Python programs lie beside this file; they check what they get and fail if it is wrong.

mod browser;
mod grpc;
mod http;
mod javascript;
mod kubo;
mod ours;
mod page;
mod prometheus;
mod systemd;
mod terminal;
mod websocket;
mod world;

use std::process::ExitCode;

use punchline_tests::trial::{run, tool_trial, trial};

fn main() -> ExitCode {
    let mut trials = vec![
        tool_trial("grpc_from_python_works_in_every_shape_over_tcp", grpc::missing, grpc::over_tcp),
        tool_trial("grpc_from_python_works_over_a_unix_socket", grpc::missing, grpc::over_unix),
        tool_trial("http_from_curl_keeps_its_connection_alive", http::missing, http::keep_alive),
        tool_trial("http_from_curl_loads_10_mib_whole_or_in_chunks", http::missing, http::downloads),
        tool_trial("a_websocket_talks_and_closes_in_order", websocket::missing, websocket::talks),
        tool_trial("every_alert_fires_when_it_should", prometheus::missing, prometheus::alerts),
        tool_trial(
            "each_query_of_the_dashboard_is_answered_by_a_real_prometheus",
            prometheus::missing,
            prometheus::dashboard,
        ),
        tool_trial("systemd_understands_every_line_of_the_units", systemd::missing, systemd::units),
        tool_trial(
            "a_browser_shows_the_path_that_bytes_take",
            browser::missing,
            page::the_path_of_a_byte,
        ),
        tool_trial("a_browser_shows_what_a_relay_does", browser::missing, page::a_relay),
        tool_trial("a_browser_shows_the_dht_of_a_monitor", browser::missing, page::the_dht_of_a_monitor),
        tool_trial(
            "a_button_on_the_page_is_pressed_by_keyboard_and_has_the_node_try_again",
            browser::missing,
            page::a_button_by_keyboard,
        ),
        tool_trial(
            "what_peers_say_is_text_on_the_page_and_never_markup",
            browser::missing,
            page::what_peers_say_is_text,
        ),
        tool_trial(
            "what_clients_of_a_relay_say_is_text_on_its_page_and_never_markup",
            browser::missing,
            page::what_clients_of_a_relay_say_is_text,
        ),
        trial("single_bytes_are_echoed_while_the_stream_moves", terminal::keystrokes),
        trial("one_direction_ends_and_the_other_goes_on", terminal::half_close),
    ];
    trials.extend(kubo::trials());
    trials.extend(javascript::trials());
    run(trials)
}

/// What it takes to run one of the Python programs with these modules.
fn python_without(modules: &str, packages: &str) -> Option<String> {
    let run = std::process::Command::new(PYTHON).args(["-c", &format!("import {modules}")]).output();
    let there = run.is_ok_and(|output| output.status.success());
    (!there).then(|| format!("{PYTHON} has no {modules}: apt-get install {packages}"))
}

/// Debian's own, since its packages are for no other.
const PYTHON: &str = "/usr/bin/python3";
