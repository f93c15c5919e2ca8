//! One TCP connection through `punchline expose` and `forward`, beside what else carries one: nothing, socat, `ssh -L`.
//!
//! `cargo bench -p punchline-tests --bench sidecar [-- [--rounds N] WORD…]` measures the subjects that a WORD names, all without
//! one, in turns: how much goes through in one direction, and how long one byte takes there and back. It prints a table with
//! medians and ratios to ssh in the same round, and a line of JSON. Everything is on loopback, bounded by time, and ends by
//! itself. What is not installed is left out.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod carrier;

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use self::carrier::{Carrier, Subject};

/// Odd, so that the median is one of them.
const ROUNDS: usize = 5;

/// How long each measurement goes on.
const LASTS: Duration = Duration::from_secs(2);

/// What is written at once.
const BLOCK_BYTES: usize = 64 << 10;

/// The first byte of a connection says what it is for.
const SINK: u8 = b's';
const ECHO: u8 = b'e';

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let at = words.iter().position(|word| *word == "--rounds");
    let rounds = at.map_or(ROUNDS, |at| words[at + 1].parse().unwrap());
    let named: Vec<Subject> =
        Subject::ALL.into_iter().filter(|subject| words.contains(&subject.name())).collect();
    let subjects = if named.is_empty() { Subject::ALL.to_vec() } else { named };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    std::thread::spawn(move || serve(&listener));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut carriers: Vec<Carrier> = Vec::new();
    for subject in subjects {
        match runtime.block_on(Carrier::start(subject, target)) {
            Ok(carrier) => carriers.push(carrier),
            Err(missing) => eprintln!("{} is left out: {missing:#}", subject.name()),
        }
    }
    let mut found = vec![(Vec::new(), Vec::new()); carriers.len()];
    for _ in 0..rounds {
        for (carrier, (through, echo)) in carriers.iter().zip(&mut found) {
            through.push(megabytes(carrier));
            echo.push(round_trip(carrier));
        }
    }
    print(&carriers, &found);
}

/// Takes connections until the process ends.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        std::thread::spawn(move || {
            let mut first = [0];
            // A carrier may connect and say nothing.
            if stream.read_exact(&mut first).is_ok() {
                let _ = if first[0] == SINK { sink(stream) } else { echo(stream) };
            }
        });
    }
}

fn sink(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut block, mut bytes) = (vec![0; BLOCK_BYTES], 0_u64);
    loop {
        match stream.read(&mut block)? {
            0 => return stream.write_all(&bytes.to_be_bytes()),
            read => bytes += read as u64,
        }
    }
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut byte = [0];
    while stream.read(&mut byte)? > 0 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

fn connected(carrier: &Carrier, what: u8) -> TcpStream {
    let mut stream = TcpStream::connect(carrier.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&[what]).unwrap();
    stream
}

/// MB a second in one direction, as the far end counts them.
fn megabytes(carrier: &Carrier) -> f64 {
    let mut stream = connected(carrier, SINK);
    let (block, began) = (vec![7; BLOCK_BYTES], Instant::now());
    while began.elapsed() < LASTS {
        stream.write_all(&block).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes).unwrap();
    u64::from_be_bytes(bytes) as f64 / 1e6 / began.elapsed().as_secs_f64()
}

/// Microseconds for one byte there and back, the median.
fn round_trip(carrier: &Carrier) -> f64 {
    let mut stream = connected(carrier, ECHO);
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < LASTS {
        let asked = Instant::now();
        stream.write_all(&[1]).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        took.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    median(&took)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn print(carriers: &[Carrier], found: &[(Vec<f64>, Vec<f64>)]) {
    let ssh = carriers.iter().position(|carrier| carrier.subject == Subject::Ssh);
    let mut rows: Vec<Value> = Vec::new();
    println!("{:<8} {:>8} {:>7} {:>14} {:>7}", "", "MB/s", "÷ ssh", "one byte, µs", "÷ ssh");
    for (carrier, (through, echo)) in carriers.iter().zip(found) {
        let ratio = |values: &[f64], of: &dyn Fn(usize) -> Vec<f64>| {
            let ratios =
                ssh.map(|ssh| values.iter().zip(of(ssh)).map(|(a, b)| a / b).collect::<Vec<_>>());
            ratios.map_or(f64::NAN, |ratios| median(&ratios))
        };
        let through_ratio = ratio(through, &|ssh| found[ssh].0.clone());
        let echo_ratio = ratio(echo, &|ssh| found[ssh].1.clone());
        let (name, through, echo) = (carrier.subject.name(), median(through), median(echo));
        println!("{name:<8} {through:>8.0} {through_ratio:>7.2} {echo:>14.1} {echo_ratio:>7.2}");
        rows.push(json!({
            "subject": name, "mb_a_second": through, "ratio_to_ssh": through_ratio,
            "round_trip_us": echo, "round_trip_ratio_to_ssh": echo_ratio,
        }));
    }
    println!("{}", Value::from(rows));
}
