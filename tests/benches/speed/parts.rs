//! The processes of one measurement.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::Ipv4Addr,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use punchline_tests::{lab::Lab, ports::free_port};

use crate::{
    subject::Subject,
    work::{OWN_ADDRESS, PEERS, Work},
};

/// Names the program of `tests/iroh`.
const IROH: &str = "PUNCHLINE_IROH";

/// Clock ticks of `/proc/<pid>/stat` in a second, on every Linux.
const TICKS: f64 = 100.0;

/// For socat to listen.
const SOON: Duration = Duration::from_secs(10);

/// What one needs that is not there.
pub(crate) fn missing(subject: Subject) -> Option<String> {
    match subject {
        Subject::Iroh if std::env::var_os(IROH).is_none() => Some(format!("{IROH} names no program")),
        Subject::Socat if Command::new("socat").arg("-V").output().is_err() => {
            Some("there is no socat".to_owned())
        }
        _ => None,
    }
}

/// Where the two ends are.
#[derive(Clone, Copy)]
pub(crate) enum Place<'lab> {
    /// Both on this machine.
    Loopback,
    /// The one that serves on the first host of a lab, the one that asks on the second.
    Lab(&'lab Lab),
}

impl Place<'_> {
    /// A program of the host of this index.
    fn program(self, subject: Subject, host: usize) -> Command {
        match self {
            Self::Loopback => Command::new(path(subject)),
            Self::Lab(lab) => {
                let host = lab.host(host);
                let mut command = host.command(path(subject));
                command.env(OWN_ADDRESS, host.address().to_string());
                command
            }
        }
    }
}

/// All of them; the one that serves is first.
pub(crate) struct Parts<'lab> {
    all: Vec<Part>,
    place: Place<'lab>,
    /// Where who asks goes.
    address: String,
    /// What the one that asked last says.
    asked: Option<BufReader<ChildStdout>>,
}

impl<'lab> Parts<'lab> {
    /// Starts all but the one that asks. What is between the two is on this machine only.
    pub(crate) fn serving(subject: Subject, place: Place<'lab>) -> Self {
        let serves = || place.program(subject, 0);
        match subject {
            Subject::Relayed => {
                let (relay, mut told) = child(serves().arg("relay"));
                let relay_address = line(&mut told);
                let serve = ["serve", &subject.to_string(), &relay_address];
                let (server, mut told) = child(serves().args(serve));
                Self { all: vec![server, relay], place, address: line(&mut told), asked: None }
            }
            Subject::Socat => {
                let (server, mut told) = child(serves().args(["serve", "rustls"]));
                let address = line(&mut told);
                let (server_address, certificate) = address.split_once(' ').unwrap();
                let (between, port) = socat(server_address);
                let address = format!("127.0.0.1:{port} {certificate}");
                Self { all: vec![server, between], place, address, asked: None }
            }
            _ => {
                let (server, mut told) = child(serves().args(["serve", &subject.to_string()]));
                Self { all: vec![server], place, address: line(&mut told), asked: None }
            }
        }
    }

    /// Starts the one that asks; what it said when its work was done. It stays.
    pub(crate) fn ask(&mut self, subject: Subject, work: Work, peers: usize) -> String {
        let subject_name = match subject {
            Subject::Socat => Subject::Rustls.to_string(),
            subject => subject.to_string(),
        };
        let ask = ["ask", &subject_name, &work.to_string(), &self.address];
        let mut program = self.place.program(subject, 1);
        let (asks, mut told) = child(program.args(ask).env(PEERS, peers.to_string()));
        self.all.push(asks);
        let said = line(&mut told);
        self.asked = Some(told);
        said
    }

    /// How many of the peers of whoever asked last answer now.
    pub(crate) fn alive(&mut self) -> usize {
        let (asks, told) = (self.all.last_mut().unwrap(), self.asked.as_mut().unwrap());
        asks.0.stdin.as_mut().unwrap().write_all(b"?").unwrap();
        line(told).parse().unwrap()
    }

    pub(crate) fn server(&self) -> &Part {
        &self.all[0]
    }

    /// Seconds of a core that all have used so far.
    pub(crate) fn cpu(&self) -> f64 {
        self.all.iter().map(Part::cpu).sum()
    }
}

fn path(subject: Subject) -> PathBuf {
    match subject {
        Subject::Iroh => std::env::var_os(IROH).map(PathBuf::from).unwrap(),
        _ => std::env::current_exe().unwrap(),
    }
}

fn child(command: &mut Command) -> (Part, BufReader<ChildStdout>) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let told = child.stdout.take().unwrap();
    (Part(child), BufReader::new(told))
}

/// One that forwards with large buffers, and the port on which it does.
fn socat(to: &str) -> (Part, u16) {
    let port = free_port(Ipv4Addr::LOCALHOST).unwrap().port();
    let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,nodelay");
    let mut command = Command::new("socat");
    let command = command.args(["-b65536", &listen, &format!("TCP:{to},nodelay")]);
    let between = Part(command.stdin(Stdio::null()).spawn().unwrap());
    let began = Instant::now();
    while !listens(port) {
        assert!(began.elapsed() < SOON, "socat does not listen");
        std::thread::yield_now();
    }
    (between, port)
}

/// Read from the system: it takes one connection only.
fn listens(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!("0100007F:{port:04X} 00000000:0000 0A");
    sockets.contains(&local)
}

fn line(told: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// A process, which ends with this.
pub(crate) struct Part(Child);

impl Part {
    /// Seconds of a core it has used so far.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
    }

    /// KiB of memory that it has.
    pub(crate) fn resident(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
