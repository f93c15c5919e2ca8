//! The two programs and their drivers: what the real driver does, without I/O.

use std::sync::Arc;

use bytes::Bytes;
use punchline_stream::{
    frame::{Code, Decoder, Frame, Item as Decoded},
    machine::{Event, Farewell, LegEnd, LegId, LossCause, Machine, Transmit},
};

use super::{ACCEPTOR, Item, Link, World, bytes, note};

impl World {
    pub(super) fn notice(&mut self, leg: LegId, at: usize, cause: LossCause) {
        let now = self.now;
        if let Some(link) = self.links.get_mut(&leg) {
            link.uses[at] = false;
        }
        if let Some(machine) = &mut self.ends[at].machine {
            machine.leg_lost(leg, cause, now);
        }
    }

    pub(super) fn deliver(&mut self, leg: LegId, to: usize) {
        let Some(link) = self.links.get_mut(&leg) else {
            return;
        };
        match link.pipes[1 - to].pop_front() {
            None => {}
            Some(Item::End) => self.notice(leg, to, LossCause::Ended),
            Some(Item::Frame(frame)) => {
                let frame = over_the_wire(&frame);
                note(&mut self.log, || format!("    {:?} {frame:?}", self.now - self.start));
                let first = to == ACCEPTOR && !std::mem::replace(&mut link.greeted, true);
                if first {
                    self.greet(leg, frame);
                } else {
                    self.hear(leg, to, frame);
                }
            }
        }
    }

    fn hear(&mut self, leg: LegId, to: usize, frame: Frame) {
        let (now, end) = (self.now, &mut self.ends[to]);
        let Some(machine) = &mut end.machine else {
            return;
        };
        machine.heard(leg, now);
        let Frame::Data { offset, payload } = &frame else {
            let _ = machine.handle_frame(leg, frame, now);
            return;
        };
        let room = if end.paused || end.saw_end { 0 } else { self.script.room };
        if let Ok(past) = machine.handle_payload(leg, *offset, payload, room, now) {
            assert_eq!(&payload[..past], bytes(1 - to, end.read, past), "wrong at {}", end.read);
            end.read += past as u64;
        }
    }

    /// The acceptor's driver meets the first frame on a leg.
    fn greet(&mut self, leg: LegId, frame: Frame) {
        let (now, end) = (self.now, &mut self.ends[ACCEPTOR]);
        let answer = match (frame, &mut end.machine, end.tombstone) {
            (Frame::Hello(_) | Frame::Move(_), _, Some(tombstone)) => Err(tombstone),
            (Frame::Hello(hello), Some(machine), _) => machine.handle_hello(leg, &hello, now),
            (Frame::Move(r#move), Some(machine), _) => machine.handle_move(leg, &r#move, now),
            (Frame::Hello(hello), None, None) => {
                let config = Arc::new(self.script.config.clone());
                let budget = &self.budgets[ACCEPTOR];
                end.machine = Some(Machine::accept(&hello, config, budget, leg, now));
                Ok(())
            }
            (Frame::Move(_), None, None) => Err(Farewell::Reset(Code::Unknown)),
            _ => Err(Farewell::Reset(Code::Protocol)),
        };
        if let (Err(farewell), Some(link)) = (answer, self.links.get_mut(&leg)) {
            link.pipes[ACCEPTOR].push_back(Item::Frame(farewell.frame()));
            link.pipes[ACCEPTOR].push_back(Item::End);
            link.uses[ACCEPTOR] = false;
        }
    }

    /// Both programs and drivers run until nothing changes.
    pub(crate) fn pump(&mut self) {
        loop {
            let mut active = false;
            for end in 0..2 {
                active |= self.run_program(end) | self.transmit(end);
                self.drain_events(end);
            }
            if !active {
                break;
            }
        }
    }

    /// The program at an end writes something now.
    pub(crate) fn write(&mut self, end: usize, length: usize) {
        let me = &mut self.ends[end];
        let machine = me.machine.as_mut().expect("the end exists");
        assert_eq!(machine.write(bytes(end, me.written, length)), Ok(length));
        me.written += length as u64;
        self.pump();
    }

    fn run_program(&mut self, end: usize) -> bool {
        let total = self.script.bytes[end];
        let wait = end == ACCEPTOR && self.script.answer_after_end && !self.ends[end].saw_end;
        let end_index = end;
        let end = &mut self.ends[end];
        let Some(machine) = &mut end.machine else {
            return false;
        };
        let mut active = false;
        let mut out = [0; 4096];
        while !end.paused && !end.saw_end {
            match machine.read(&mut out) {
                Ok(Some(0)) => end.saw_end = true,
                Ok(Some(read)) => {
                    let wanted = bytes(1 - end_index, end.read, read);
                    assert_eq!(&out[..read], wanted, "wrong at {}", end.read);
                    end.read += read as u64;
                }
                Ok(None) | Err(_) => break,
            }
            active = true;
        }
        while end.written < total {
            let length = (total - end.written).min(self.script.write_bytes as u64) as usize;
            let content = bytes(end_index, end.written, length);
            let leg = machine.leg().filter(|_| self.script.room > 0);
            let link = leg.and_then(|leg| Some((leg, self.links.get_mut(&leg)?)));
            let link = link.filter(|(_, link)| link.takes(end_index, self.script.queue));
            let sent =
                link.and_then(|(leg, link)| Some((machine.send(leg, content, || self.now)?, link)));
            if let Some((offset, link)) = sent {
                assert_eq!(offset, end.written);
                link.put(end_index, Frame::Data { offset, payload: content.into() });
                end.written += length as u64;
            } else {
                match machine.write(content) {
                    Ok(taken) if taken > 0 => end.written += taken as u64,
                    _ => break,
                }
            }
            active = true;
        }
        if end.written == total && !wait {
            machine.finish();
        }
        active
    }

    fn transmit(&mut self, end: usize) -> bool {
        let Some(machine) = &mut self.ends[end].machine else {
            return false;
        };
        let mut active = false;
        for (&leg, link) in &mut self.links {
            while link.takes(end, self.script.queue) {
                let Some(sent) = machine.poll_transmit(leg, self.now) else {
                    break;
                };
                let frame = sent.to_frame();
                if let Transmit::Data { image: Some(image), .. } = sent {
                    assert_eq!(image, encoded(&frame));
                }
                link.put(end, frame);
                active = true;
            }
        }
        active
    }

    fn drain_events(&mut self, end: usize) {
        let me = &mut self.ends[end];
        let Some(machine) = &mut me.machine else {
            return;
        };
        while let Some(event) = machine.poll_event() {
            match event {
                Event::DropLeg { leg, end: how } => {
                    note(&mut self.log, || format!("    end {end} drops {leg:?}"));
                    if let Some(link) = self.links.get_mut(&leg) {
                        link.uses[end] = false;
                        if how == LegEnd::Abort {
                            link.pipes[end].clear();
                        }
                        if !link.cut {
                            link.pipes[end].push_back(Item::End);
                        }
                    }
                }
                Event::Moved(moved) => me.moved.push(moved),
                Event::MoveFailed { cause, .. } => me.move_failed.push(cause),
                Event::NeedPath { until, .. } => me.need_path = Some(until),
                Event::Finished => me.finished = true,
                Event::Failed(error) => {
                    note(&mut self.log, || format!("    end {end} failed: {error}"));
                    me.failed = Some(error);
                }
                Event::Closed => {
                    assert!(!me.closed, "closed twice");
                    me.closed = true;
                    me.tombstone = machine.tombstone();
                }
                Event::Opened | Event::Readable | Event::Writable | Event::Delivered => {}
            }
            me.events.push(event);
        }
    }
}

impl Link {
    /// Whether it takes a frame from an end now.
    fn takes(&self, end: usize, queue: usize) -> bool {
        self.uses[end] && self.pipes[end].len() < queue
    }

    fn put(&mut self, end: usize, frame: Frame) {
        if !self.cut && !self.black_hole {
            self.pipes[end].push_back(Item::Frame(frame));
        }
    }
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

fn over_the_wire(frame: &Frame) -> Frame {
    let bytes = encoded(frame);
    let (mut decoder, mut bytes) = (Decoder::new(), &bytes[..]);
    let decoded = match decoder.decode(&mut bytes).expect("well-formed").expect("whole") {
        Decoded::Frame(frame) => frame,
        Decoded::Data { offset, payload } => {
            Frame::Data { offset, payload: Bytes::copy_from_slice(payload) }
        }
    };
    assert_eq!((&decoded, bytes), (frame, &[][..]));
    decoded
}
