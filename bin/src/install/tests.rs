//! What `deploy/` installs says nothing that this program does not take.

#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf};

use clap::CommandFactory as _;
use punchline_bridge::RelayAddr;
use serde_json::Value;

use crate::cli::Cli;

mod documents;
mod units;

fn deployed(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// This program takes these arguments, as far as they can be judged without files.
#[track_caller]
fn takes<'a>(arguments: impl IntoIterator<Item = &'a str>) {
    let arguments: Vec<_> = ["punchline"].into_iter().chain(arguments).collect();
    let parsed = Cli::command().try_get_matches_from(&arguments);
    parsed.unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
}

fn documents(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&deployed(path)).unwrap()
}

#[test]
fn completions_know_every_command_that_help_shows() {
    let command = Cli::command();
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
        let script = super::completions(shell);
        let script = String::from_utf8(script).unwrap();
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
        }
    }
}

#[test]
fn every_command_has_its_page() {
    let directory = tempfile::tempdir().unwrap();
    super::write_pages(directory.path()).unwrap();
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let page = directory.path().join(format!("punchline-{}.1", command.get_name()));
        let page = fs::read_to_string(&page).unwrap();
        assert!(page.contains(".TH PUNCHLINE-"), "{page}");
    }
    assert!(directory.path().join("punchline.1").exists());
}

#[test]
fn containers_take_their_arguments_and_probe_ports_that_they_have() {
    let documents = documents("kubernetes/relay.yaml");
    let deployments: Vec<_> =
        documents.iter().filter(|document| document["kind"] == "Deployment").collect();
    assert_eq!(deployments.len(), 2);
    for deployment in deployments {
        let pod = &deployment["spec"]["template"];
        assert_eq!(deployment["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"]);
        let container = &pod["spec"]["containers"][0];
        let arguments = container["args"].as_array().unwrap();
        let arguments: Vec<_> = arguments.iter().map(|argument| argument.as_str().unwrap()).collect();
        takes(arguments.iter().copied());
        let ports = container["ports"].as_array().unwrap();
        for port in ports.iter().filter(|port| port["name"] != "metrics") {
            assert_eq!(port["containerPort"], port["hostPort"], "{port}");
        }
        let port = |name: &str| ports.iter().find(|port| port["name"] == name).unwrap();
        let metrics = port(container["readinessProbe"]["httpGet"]["port"].as_str().unwrap());
        assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
        let told = format!("--metrics=0.0.0.0:{}", metrics["containerPort"]);
        assert!(arguments.contains(&told.as_str()) && arguments.contains(&"--metrics-public"));
        asks_its_loop(pod, &arguments);
        let listens = |text: &str| arguments.iter().any(|argument| argument.ends_with(text));
        assert!(listens("--listen=/ip4/0.0.0.0/tcp/4001") && listens("/udp/4001/quic-v1"));
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
    }
}

/// What starts it anew asks the process itself, on a socket that there is in a pod whose root may only be read: the kernel
/// takes connections for one that hangs, too.
#[track_caller]
fn asks_its_loop(pod: &Value, arguments: &[&str]) {
    let container = &pod["spec"]["containers"][0];
    let socket = arguments.iter().find(|argument| argument.starts_with("--control=")).unwrap();
    for probe in ["startupProbe", "livenessProbe"] {
        let command = container[probe]["exec"]["command"].as_array().unwrap();
        let command: Vec<_> = command.iter().map(|word| word.as_str().unwrap()).collect();
        takes(command[1..].iter().copied());
        assert_eq!(command, ["punchline", "health", socket], "{probe}");
    }
    let directory = socket.trim_start_matches("--control=").rsplit_once('/').unwrap().0;
    let mounts = container["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["mountPath"] == directory).unwrap();
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let volume = |name: &Value| volumes.iter().find(|volume| volume["name"] == *name).unwrap();
    assert!(volume(&mount["name"])["emptyDir"].is_object(), "{mount}");
    assert!(mounts.iter().all(|mount| volume(&mount["name"]).is_object()));
}

#[test]
fn what_scrapes_relays_in_a_cluster_finds_them_under_a_name_that_the_alerts_want() {
    let monitor = &documents("kubernetes/podmonitor.yaml")[0];
    let relays = documents("kubernetes/relay.yaml");
    let labels = &relays[0]["spec"]["template"]["metadata"]["labels"];
    let job = labels[monitor["spec"]["jobLabel"].as_str().unwrap()].as_str().unwrap();
    assert!(job.starts_with("punchline"), "{job}");
    assert_eq!(monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"], job);
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!((&endpoint["port"], &endpoint["path"]), (&"metrics".into(), &"/metrics".into()));
}

#[test]
fn relays_in_a_cluster_share_no_host_address_or_identity() {
    let documents = documents("kubernetes/relay.yaml");
    let pods = documents.iter().filter(|document| document["kind"] == "Deployment");
    let pods: Vec<_> = pods.map(|deployment| &deployment["spec"]["template"]["spec"]).collect();
    for differs in ["/nodeSelector", "/volumes/0/secret/secretName", "/containers/0/args"] {
        assert_ne!(pods[0].pointer(differs).unwrap(), pods[1].pointer(differs).unwrap(), "{differs}");
    }
    let name = Value::from("punchline-relay");
    let labels = |path: &str, kind: &str| {
        let found = documents.iter().find(|document| document["kind"] == kind).unwrap();
        found.pointer(path).unwrap()["app.kubernetes.io/name"].clone()
    };
    assert_eq!(labels("/spec/selector/matchLabels", "PodDisruptionBudget"), name);
    assert_eq!(labels("/spec/selector", "Service"), name);
}

#[test]
fn records_of_names_are_addresses_of_relays() {
    let records = documents("kubernetes/dnsaddr.yaml");
    let targets = records[0]["spec"]["endpoints"][0]["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 4);
    for target in targets {
        let address = target.as_str().unwrap().strip_prefix("dnsaddr=").unwrap();
        address.parse::<RelayAddr>().unwrap();
    }
}

#[test]
fn the_container_runs_as_nobody_and_says_how_it_is_asked_and_stopped() {
    let text = deployed("Containerfile");
    let after =
        |word: &str| text.lines().find_map(|line| line.split_once(word)).map(|(_, rest)| rest.trim());
    assert_eq!(after("STOPSIGNAL "), Some("SIGTERM"));
    assert!(after("USER ").unwrap().starts_with("65532"));
    let asked: Vec<String> = serde_json::from_str(after(" CMD ").unwrap()).unwrap();
    takes(asked.iter().skip(1).map(String::as_str));
    let (variable, _) = after("ENV ").unwrap().split_once('=').unwrap();
    assert!(crate::settings::unknown_variables([variable.to_owned()]).is_empty());
}

#[test]
fn the_router_has_settings_and_a_command_that_this_program_takes() {
    let text = deployed("openwrt.md");
    let block = |kind: &str| {
        text.split(&format!("```{kind}\n")).nth(1).and_then(|rest| rest.split("```").next())
    };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, block("toml").unwrap().as_bytes()).unwrap();
    let command =
        text.lines().find_map(|line| line.trim().strip_prefix("procd_set_param command /usr/bin/"));
    let command = command.unwrap().replace("/etc/punchline/relay.toml", file.path().to_str().unwrap());
    crate::settings::read(command.split(' ').map(Into::into).collect(), |_| None).unwrap();
}
