//! What our stream costs: the same work on a raw substream and on a stream over another substream of
//! the same connection, in turns, so that the machine's noise hits both.
//!
//! `cargo bench -p punchline-tests --bench stream [-- WORD…]` runs the cases whose names hold every
//! WORD (`tcp bulk`); prints a table, and a line of JSON for machines.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod link;
mod work;

use serde_json::json;

use self::{
    link::{Ends, Link, Transport},
    work::{BULK_BYTES, PINGS, bulk, pings},
};

/// Rounds of bulk, each one transfer on either; odd, so that the median is one of them.
const BULK_ROUNDS: usize = 45;

/// Turns in which the pings are sent.
const PING_TURNS: usize = 400;

/// What each round trip of a turn took: on raw, on stream.
type Turn = (Vec<f64>, Vec<f64>);

/// A figure of both, and stream ÷ raw, in pairs where there are pairs.
struct Row {
    case: String,
    unit: &'static str,
    raw: f64,
    stream: f64,
    ratio: f64,
}

/// The allocator gives memory back between rounds and faults it in again in the next: noise that hits
/// whoever comes later. So it keeps it here, for both.
const KEEP_MEMORY: [(&str, &str); 2] =
    [("MALLOC_TRIM_THRESHOLD_", "536870912"), ("MALLOC_TOP_PAD_", "67108864")];

fn main() {
    // Read by the allocator when a process starts.
    if KEEP_MEMORY.iter().any(|(name, _)| std::env::var_os(name).is_none()) {
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let status = again.args(std::env::args_os().skip(1)).envs(KEEP_MEMORY).status().unwrap();
        std::process::exit(status.code().unwrap_or(1));
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |case: &str| words.iter().all(|word| case.contains(word.as_str()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let rows = runtime.unwrap().block_on(async {
        let mut rows = Vec::new();
        for transport in [Transport::Tcp, Transport::Quic] {
            let link = Link::new(transport).await;
            if wanted(&format!("{transport} bulk")) {
                rows.push(throughput(&link).await);
            }
            if wanted(&format!("{transport} ping")) {
                rows.extend(latency(&link).await);
            }
        }
        rows
    });
    print(&rows);
}

async fn throughput(link: &Link) -> Row {
    let rate = |took: std::time::Duration| BULK_BYTES as f64 / took.as_secs_f64() / 1e6;
    let (mut raw, mut stream, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=BULK_ROUNDS {
        let (a, b) = both(link, round, async |ends| rate(bulk(ends).await)).await;
        // The first warms up.
        if round > 0 {
            raw.push(a);
            stream.push(b);
            ratios.push(b / a);
        }
    }
    let case = format!("{} bulk", link.transport);
    Row {
        case,
        unit: "MB/s",
        raw: at(&mut raw, 0.5),
        stream: at(&mut stream, 0.5),
        ratio: at(&mut ratios, 0.5),
    }
}

async fn latency(link: &Link) -> [Row; 2] {
    let quantiles = [("p50", 0.5), ("p99", 0.99)];
    let mut turns = Vec::new();
    for turn in 0..=PING_TURNS {
        let both = both(link, turn, async |ends| pings(ends, PINGS / PING_TURNS).await).await;
        if turn > 0 {
            turns.push(both);
        }
    }
    quantiles.map(|(name, quantile)| {
        let one = |took: &[f64]| at(&mut took.to_vec(), quantile);
        let mut ratios: Vec<f64> = turns.iter().map(|(raw, stream)| one(stream) / one(raw)).collect();
        let all = |side: fn(&Turn) -> &Vec<f64>| {
            at(&mut turns.iter().flat_map(side).copied().collect::<Vec<_>>(), quantile)
        };
        let (raw, stream) = (all(|(raw, _)| raw), all(|(_, stream)| stream));
        let case = format!("{} ping {name}", link.transport);
        Row { case, unit: "µs", raw, stream, ratio: at(&mut ratios, 0.5) }
    })
}

/// Does it on both, in turns: A B, B A, A B, …
async fn both<T>(link: &Link, turn: usize, work: impl AsyncFn(&Ends) -> T) -> (T, T) {
    if turn.is_multiple_of(2) {
        let raw = work(&link.raw).await;
        (raw, work(&link.stream).await)
    } else {
        let stream = work(&link.stream).await;
        (work(&link.raw).await, stream)
    }
}

/// The value at a quantile.
fn at(values: &mut [f64], quantile: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * quantile).round() as usize]
}

fn print(rows: &[Row]) {
    println!("{:<16} {:>10} {:>10}  {:<5} stream ÷ raw", "case", "raw", "stream", "unit");
    for Row { case, unit, raw, stream, ratio } in rows {
        println!("{case:<16} {raw:>10.1} {stream:>10.1}  {unit:<5} {ratio:.3}");
    }
    let cases: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "case": row.case, "unit": row.unit, "raw": row.raw, "stream": row.stream,
                "stream_to_raw": row.ratio,
            })
        })
        .collect();
    println!("{}", json!({ "bench": "stream", "cases": cases }));
}
