//! What the units of systemd say, and what their alert does.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::{deployed, takes};

/// The units that run a node or a relay.
const NODES: [&str; 2] = ["punchline-relay.service", "punchline@.service"];

/// Those that look at it, with its timer.
const LOOKS: [(&str, &str); 2] = [
    ("punchline-relay-health.service", "punchline-relay-health.timer"),
    ("punchline-health@.service", "punchline-health@.timer"),
];

fn unit(name: &str) -> String {
    deployed(&format!("systemd/{name}"))
}

/// What stands after `key=` in a unit, once for each time.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let assigned = unit.lines().filter_map(|line| line.split_once('='));
    assigned.filter(|(name, _)| *name == key).map(|(_, value)| value).collect()
}

#[test]
fn what_units_start_is_what_this_program_takes() {
    let units = NODES.into_iter().chain(LOOKS.map(|(look, _)| look));
    for name in units {
        let text = unit(name);
        let started = values(&text, "ExecStart");
        let [started] = started[..] else { panic!("{name} starts {started:?}") };
        let line = started.strip_prefix("/usr/bin/punchline ").unwrap();
        let line = line.replace("%i", "home").replace(['%', '"'], "/dir");
        takes(line.split(' '));
    }
}

#[test]
fn units_that_run_a_node_are_watched_and_not_started_again_for_settings_that_cannot_be_used() {
    for name in NODES {
        let text = unit(name);
        for (key, value) in [
            ("Type", "notify"),
            ("WatchdogSec", "30"),
            ("Restart", "on-failure"),
            ("RestartPreventExitStatus", "2"),
            ("DynamicUser", "yes"),
        ] {
            assert_eq!(values(&text, key), [value], "{name} {key}");
        }
    }
}

#[test]
fn each_node_is_looked_at_on_its_socket_by_its_user_every_minute_and_the_alert_hears_of_each_look() {
    for (node, (look, timer)) in NODES.into_iter().zip(LOOKS) {
        let (node, text) = (unit(node), unit(look));
        let wanted = timer.replace("@.", "@%i.");
        assert!(values(&node, "Wants")[0].ends_with(&wanted), "{timer}");
        assert_eq!(values(&unit(timer), "OnCalendar"), ["minutely"]);
        let socket = |unit: &str| {
            let line = values(unit, "ExecStart")[0].to_owned();
            line.split_once("--control ").unwrap().1.to_owned()
        };
        assert_eq!(socket(&node), socket(&text));
        assert_eq!(values(&node, "User"), values(&text, "User"));
        assert_eq!(values(&text, "OnFailure"), ["punchline-alert@failed-%n.service"]);
        assert_eq!(values(&text, "OnSuccess"), ["punchline-alert@well-%n.service"]);
    }
    let alert = unit("punchline-alert@.service");
    assert_eq!(values(&alert, "ExecStart"), ["/usr/lib/punchline/alert-on-change %i"]);
    assert_eq!(values(&alert, "StateDirectory"), ["punchline-alert"]);
}

/// Where a look has been, and what the operator's program was told.
struct Alert {
    state: tempfile::TempDir,
}

impl Alert {
    /// With a program that writes down what it is told, and fails while there is a file `broken`.
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let hook = "#!/bin/sh\n[ ! -e \"$STATE_DIRECTORY/broken\" ] && echo \"$@\" >> \"$STATE_DIRECTORY/calls\"\n";
        let place = state.path().join("hook");
        fs::write(&place, hook).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).unwrap();
        Self { state }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    /// As systemd does after a look. Whether it succeeds.
    fn hears(&self, instance: &str) -> bool {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/alert-on-change");
        let mut command = Command::new("sh");
        command.arg(script).arg(instance);
        command.env("STATE_DIRECTORY", self.state.path()).env("PUNCHLINE_ALERT", self.path("hook"));
        command.status().unwrap().success()
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }
}

#[test]
fn an_outage_of_a_night_rings_when_it_begins_and_when_it_ends() {
    let (alert, home, relay) =
        (Alert::new(), "punchline-health@home.service", "punchline-relay-health.service");
    let night = ["well", "failed", "failed", "failed", "failed", "well", "well"];
    for is in night {
        assert!(alert.hears(&format!("{is}-{home}")));
    }
    // Each unit has a state of its own.
    for _ in 0..2 {
        assert!(alert.hears(&format!("failed-{relay}")));
    }
    let told = [(home, "failed"), (home, "well"), (relay, "failed")];
    assert_eq!(alert.calls(), told.map(|(unit, is)| format!("{unit} {is}")));
}

#[test]
fn one_look_that_fails_is_a_restart_and_no_alarm() {
    let alert = Alert::new();
    for is in ["failed", "well", "failed", "well"] {
        assert!(alert.hears(&format!("{is}-a.service")));
    }
    assert!(alert.calls().is_empty(), "{:?}", alert.calls());
}

#[test]
fn a_program_that_could_not_tell_is_called_again_after_the_next_look() {
    let alert = Alert::new();
    assert!(alert.hears("failed-a.service"));
    fs::write(alert.path("broken"), "").unwrap();
    assert!(!alert.hears("failed-a.service"));
    fs::remove_file(alert.path("broken")).unwrap();
    assert!(alert.hears("failed-a.service"));
    assert!(alert.hears("failed-a.service"));
    assert_eq!(alert.calls(), ["a.service failed"]);
}

#[test]
fn kaspad_and_its_sidecar_agree_on_their_ports_in_the_unit_and_in_the_guide() {
    let text = unit("kaspad-punchline.service");
    assert!(values(&text, "Wants")[0].ends_with(" punchline@kaspad.service"));
    assert_eq!(values(&text, "PropagatesStopTo"), ["punchline@kaspad.service"]);
    let guide = include_str!("../../../../design/operate.md");
    let settings = guide.split("### kaspad under systemd").nth(1).unwrap();
    let settings = settings.split("```toml run\n").nth(1).unwrap().split("```").next().unwrap();
    let settings: toml::Table = settings.parse().unwrap();
    let variables = values(&text, "Environment").join(" ");
    for (variable, table, key) in
        [("KASPAD_LISTEN", "expose", "target"), ("KASPAD_ADDPEERS", "forward", "local")]
    {
        let there = settings[table][0][key].as_str().unwrap();
        assert!(variables.split(' ').any(|set| set == format!("{variable}={there}")), "{variables}");
    }
}
