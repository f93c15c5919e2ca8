//! A link between two machines whose frames pass through this process, where they wait as a [`Line`] says.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::line::{Direction, Line};
use super::{LabError, Namespace};

/// A running link.
///
/// # Drop
///
/// Removes both ends.
#[derive(Debug)]
pub(super) struct Forwarder {
    /// Closed to end the thread.
    open: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Makes a link of the given name on each of two machines, and forwards between them.
    pub(super) fn start(line: Line, ends: [(&Namespace, &str); 2]) -> Result<Self, LabError> {
        let [near, far] = [device(ends[0].0, ends[0].1)?, device(ends[1].0, ends[1].1)?];
        let failed = |source: io::Error| LabError::Link {
            namespace: ends[0].0.name().to_owned(),
            link: ends[0].1.to_owned(),
            source,
        };
        // A program that is started meanwhile must not keep it open.
        let (closed, open) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let directions = [0, 1].map(|seed| Direction::new(line, seed));
        let mut both = Both { devices: [near, far], directions };
        let work = move || both.forward_until(&closed);
        let thread = std::thread::Builder::new().name("lab line".to_owned());
        let thread = thread.spawn(work).map_err(failed)?;
        Ok(Self { open: Some(open), thread: Some(thread) })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        drop(self.open.take());
        if let Some(thread) = self.thread.take() {
            let _: Result<(), _> = thread.join();
        }
    }
}

/// A device of the kernel whose frames this process reads and writes; gone when it is dropped.
fn device(on: &Namespace, link: &str) -> Result<SyncDevice, LabError> {
    let make = || {
        let device = DeviceBuilder::new().name(link).layer(Layer::L2);
        let device = device.with(|device| _ = device.tx_queue_len(FRAMES_UNREAD)).build_sync()?;
        device.set_nonblocking(true)?;
        io::Result::Ok(device)
    };
    on.within(make)?.map_err(|source| LabError::Link {
        namespace: on.name().to_owned(),
        link: link.to_owned(),
        source,
    })
}

/// Both ends, and what is under way from each to the other.
struct Both {
    devices: [SyncDevice; 2],
    directions: [Direction; 2],
}

impl Both {
    fn forward_until(&mut self, closed: &OwnedFd) {
        while self.wait(closed) {
            for from in [0, 1] {
                self.take_in(from);
                let now = Instant::now();
                while let Some(frame) = self.directions[from].leave(now) {
                    self.deliver(1 - from, &frame);
                }
            }
        }
    }

    /// Waits for a frame to come, or one to be due; `false` once the link is to end.
    fn wait(&self, closed: &OwnedFd) -> bool {
        let due = self.directions.iter().filter_map(Direction::next_due).min();
        let left = due.map(|due| timespec(due.saturating_duration_since(Instant::now())));
        let [near, far] = &self.devices;
        let mut ready = [near.as_fd(), far.as_fd(), closed.as_fd()]
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut ready, left.as_ref()) {
            // An end of the link that is down is no reason to stop: it may be set up again.
            Ok(_) => ready[2].revents().is_empty(),
            Err(errno) => errno == rustix::io::Errno::INTR,
        }
    }

    /// Takes in what has come from one end, but for so much only that the rest is not forgotten.
    fn take_in(&mut self, from: usize) {
        let mut buffer = [0; FRAME_BYTES_MAX];
        for _ in 0..FRAMES_AT_ONCE {
            let Ok(length) = self.devices[from].recv(&mut buffer) else { return };
            let frame = &buffer[..length];
            match is_arp(frame) {
                // Who has which address is not what a lab measures: asking is free.
                true => self.deliver(1 - from, frame),
                false => self.directions[from].enter(frame.to_vec(), Instant::now()),
            }
        }
    }

    /// A frame that the kernel does not take is lost, as on a cable.
    fn deliver(&self, to: usize, frame: &[u8]) {
        let _: io::Result<usize> = self.devices[to].send(frame);
    }
}

fn is_arp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x08, 0x06])
}

fn timespec(wait: Duration) -> Timespec {
    let seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: wait.subsec_nanos().into() }
}

/// An Ethernet frame of the usual size, with room to spare: the devices take nothing larger.
const FRAME_BYTES_MAX: usize = 2_048;

/// Frames that the kernel keeps until they are read: a burst of a fast sender that falls between two turns of this thread
/// must be lost where the line says so, and not here.
const FRAMES_UNREAD: u32 = 4_096;

/// Frames read from one end before the other one has its turn.
const FRAMES_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_arp_is_arp() {
        let mut frame = [0; 60];
        assert!(!is_arp(&frame) && !is_arp(&[]));
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        assert!(is_arp(&frame));
    }
}
