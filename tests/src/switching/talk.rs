//! The conversation: a message every few milliseconds, numbered, that the other program sends back.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::interval;
use tokio_util::task::AbortOnDropHandle;

/// Between two messages.
const EVERY: Duration = Duration::from_millis(20);

/// Of a message: its number, and filling.
const MESSAGE_BYTES: usize = 256;

/// Sends back whatever comes to a Unix socket at `path`.
pub(super) fn echo(path: &str) -> Result<()> {
    let target = UnixListener::bind(path)?;
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = target.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = socket.split();
                tokio::io::copy(&mut reader, &mut writer).await
            });
        }
    });
    Ok(())
}

/// The end of the client.
///
/// # Drop
///
/// Hangs up.
pub(super) struct Talk {
    heard: Arc<Mutex<Heard>>,
    _tasks: [AbortOnDropHandle<Result<()>>; 2],
}

#[derive(Debug)]
struct Heard {
    messages: u64,
    last: Instant,
    longest: Duration,
    broken: Option<String>,
}

impl Talk {
    /// Connects to a Unix socket and begins.
    pub(super) async fn begin(local: &Path) -> Result<Self> {
        let (reader, writer) = UnixStream::connect(local).await?.into_split();
        let heard = Heard { messages: 0, last: Instant::now(), longest: Duration::ZERO, broken: None };
        let heard = Arc::new(Mutex::new(heard));
        let tasks = [tokio::spawn(send(writer)), tokio::spawn(hear(reader, Arc::clone(&heard)))];
        Ok(Self { heard, _tasks: tasks.map(AbortOnDropHandle::new) })
    }

    /// Forgets silences so far.
    pub(super) fn listen_anew(&self) {
        let mut heard = lock(&self.heard);
        (heard.last, heard.longest) = (Instant::now(), Duration::ZERO);
    }

    /// The longest silence since then.
    pub(super) fn silence(&self) -> Duration {
        let heard = lock(&self.heard);
        heard.longest.max(heard.last.elapsed())
    }

    /// Waits until a message has come back after `moment`.
    pub(super) async fn heard_since(&self, moment: Instant) {
        let mut looks = interval(EVERY);
        while lock(&self.heard).last <= moment {
            looks.tick().await;
        }
    }

    /// Whether every message came back, once and in order, and the latest just now.
    pub(super) fn goes_on(&self) -> Result<()> {
        let heard = lock(&self.heard);
        if let Some(broken) = &heard.broken {
            bail!("after {} messages: {broken}", heard.messages);
        }
        ensure!(heard.last.elapsed() < GOES_ON, "silent for {:?}", heard.last.elapsed());
        Ok(())
    }
}

async fn send(mut writer: OwnedWriteHalf) -> Result<()> {
    let mut ticks = interval(EVERY);
    for number in 0_u64.. {
        ticks.tick().await;
        let mut message = [0; MESSAGE_BYTES];
        message[..8].copy_from_slice(&number.to_be_bytes());
        writer.write_all(&message).await?;
    }
    Ok(())
}

async fn hear(mut reader: OwnedReadHalf, heard: Arc<Mutex<Heard>>) -> Result<()> {
    let mut expected = [0; MESSAGE_BYTES];
    for number in 0_u64.. {
        let mut message = [0; MESSAGE_BYTES];
        let read = reader.read_exact(&mut message).await;
        expected[..8].copy_from_slice(&number.to_be_bytes());
        let mut heard = lock(&heard);
        match read {
            Ok(_) if message == expected => {}
            Ok(_) => heard.broken = Some("another message than the one that is next".to_owned()),
            Err(error) => heard.broken = Some(error.to_string()),
        }
        if heard.broken.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        heard.longest = heard.longest.max(now - heard.last);
        (heard.last, heard.messages) = (now, number + 1);
    }
    Ok(())
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A conversation that goes on is not silent for longer, be the machine ever so busy.
const GOES_ON: Duration = Duration::from_secs(1);
