//! What carries the connection.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use punchline_tests::{
    ports::free_port,
    process::{Launch, Place, Program, binary},
};
use tempfile::TempDir;

/// For a program to be ready.
const SOON: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Nothing.
    Plain,
    /// socat with large buffers, which encrypts nothing.
    Socat,
    /// OpenSSH with the fastest of its ciphers, AES-128-GCM.
    Ssh,
    /// Ours over TCP.
    Tcp,
    /// Ours over QUIC.
    Quic,
}

impl Subject {
    pub(crate) const ALL: [Self; 5] = [Self::Plain, Self::Socat, Self::Ssh, Self::Tcp, Self::Quic];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Socat => "socat",
            Self::Ssh => "ssh",
            Self::Tcp => "tcp",
            Self::Quic => "quic",
        }
    }
}

/// A way to the target that is ready.
pub(crate) struct Carrier {
    pub(crate) subject: Subject,
    address: SocketAddr,
    _others: Vec<Ends>,
    _ours: Vec<Program>,
    _directory: TempDir,
}

/// Of another's program: ends with this.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Carrier {
    /// # Errors
    ///
    /// If what the subject needs is not installed, or does not start.
    pub(crate) async fn start(subject: Subject, target: SocketAddr) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (mut others, mut ours) = (Vec::new(), Vec::new());
        let address = match subject {
            Subject::Plain => target,
            Subject::Socat => socat(target, &mut others)?,
            Subject::Ssh => ssh(target, directory.path(), &mut others)?,
            Subject::Tcp => punchline(target, "tcp/0", directory.path(), &mut ours).await?,
            Subject::Quic => punchline(target, "udp/0/quic-v1", directory.path(), &mut ours).await?,
        };
        Ok(Self { subject, address, _others: others, _ours: ours, _directory: directory })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn spawn(command: &mut Command) -> Result<Ends> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let program = command.get_program().to_owned();
    Ok(Ends(command.spawn().with_context(|| format!("{} does not start", program.display()))?))
}

/// It listens there.
fn listens(address: SocketAddr) -> Result<()> {
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        ensure!(began.elapsed() < SOON, "nothing listens at {address}");
        std::thread::yield_now();
    }
    Ok(())
}

fn socat(target: SocketAddr, others: &mut Vec<Ends>) -> Result<SocketAddr> {
    let address = free_port(Ipv4Addr::LOCALHOST)?;
    let listen = format!("TCP-LISTEN:{},bind=127.0.0.1,reuseaddr,nodelay,fork", address.port());
    let mut command = Command::new("socat");
    others.push(spawn(command.args(["-b65536", &listen, &format!("TCP:{target},nodelay")]))?);
    listens(address)?;
    Ok(address)
}

/// A server of its own, with keys of its own, and a client.
fn ssh(target: SocketAddr, directory: &Path, others: &mut Vec<Ends>) -> Result<SocketAddr> {
    let path = |name: &str| directory.join(name).display().to_string();
    for name in ["host", "user"] {
        let args = ["-q", "-t", "ed25519", "-N", "", "-f", &path(name)];
        let status = Command::new("ssh-keygen").args(args).status().context("there is no ssh-keygen")?;
        ensure!(status.success(), "ssh-keygen: {status}");
    }
    let server = free_port(Ipv4Addr::LOCALHOST)?;
    let config = format!(
        "ListenAddress {server}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
         PermitRootLogin prohibit-password\n",
        path("host"),
        path("user.pub"),
    );
    std::fs::write(path("config"), config)?;
    // Where it separates its privileges, on Debian.
    let _ = std::fs::create_dir_all("/run/sshd");
    others.push(spawn(Command::new("/usr/sbin/sshd").args(["-D", "-q", "-f", &path("config")]))?);
    listens(server)?;
    let local = free_port(Ipv4Addr::LOCALHOST)?;
    let mut client = Command::new("ssh");
    client.args(["-N", "-q", "-c", "aes128-gcm@openssh.com", "-o", "StrictHostKeyChecking=no"]);
    client.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "ExitOnForwardFailure=yes"]);
    client.args(["-i", &path("user"), "-p", &server.port().to_string()]);
    client.args(["-L", &format!("{local}:{target}"), "127.0.0.1"]);
    others.push(spawn(&mut client)?);
    listens(local)?;
    Ok(local)
}

async fn punchline(
    target: SocketAddr,
    transport: &str,
    directory: &Path,
    ours: &mut Vec<Program>,
) -> Result<SocketAddr> {
    let listen = format!("/ip4/127.0.0.1/{transport}");
    let identity = |name: &str| directory.join(name).display().to_string();
    let program = |args: &[&str]| -> Result<Launch> {
        Ok(Launch::program(Place::Host, binary("punchline")?).args(args))
    };
    let start = |name: &str| -> Result<Launch> {
        let launch = program(&[name, "--events", "-", "--identity", &identity(name)])?;
        Ok(launch.args(["--listen", &listen, "--mdns", "off"]))
    };
    let service = format!("bench={target}");
    let exposing = start("expose")?.args(["--service", &service, "--allow-any"]).spawn()?;
    let listening = exposing.wait_for("listening", |_| true, SOON).await?;
    let address = listening.text("address").context("an address")?.to_owned();
    let id = program(&["id", "--identity", &identity("expose")])?.output(SOON).await?;
    let peer = String::from_utf8(id.stdout)?.trim_end().to_owned();
    let way = ["--peer", &peer, "--addr", &address, "--service", "bench", "--local", "127.0.0.1:0"];
    let forwarding = start("forward")?.args(way).spawn()?;
    let listening = forwarding.wait_for("forward_listening", |_| true, SOON).await?;
    let local = listening.text("local").context("a place")?.parse()?;
    ours.extend([exposing, forwarding]);
    Ok(local)
}
