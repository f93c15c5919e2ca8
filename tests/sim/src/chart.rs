//! The picture of `design/discovery-scale.md`: hops over the number of peers, and what real nodes were measured to need.

use std::fmt::Write as _;

use crate::scale::{Work, hops_by_doubling};
use crate::standard::{self, BUCKETS};

/// Real nodes of libp2p-kad 0.49 in one process, k = 8: how many, and requests for a lookup of the nearest peer, on
/// average. They count the requests that end the lookup too, so that they are no hops.
const REAL: [(f64, f64); 3] = [(50.0, 4.72), (100.0, 5.22), (300.0, 6.33)];

/// The picture, as SVG.
pub fn svg() -> String {
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<title>Hops of a lookup by the number of peers</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>"
    );
    axes(&mut svg);
    for (k, colour) in BUCKETS.into_iter().zip(COLOURS) {
        let rows: Vec<_> = standard::scale().iter().filter(|row| row.k == k).copied().collect();
        series(&mut svg, k, colour, &rows);
    }
    for (peers, requests) in REAL {
        let (x, y) = (x(peers), y(requests));
        let _ = writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\" fill=\"none\" stroke=\"#444444\" \
             stroke-width=\"2\"/>",
            x - 4.0,
            y - 4.0
        );
    }
    let (after, above) = REAL[REAL.len() - 1];
    label(&mut svg, x(after) + 12.0, y(above) + 4.0, "real nodes, k = 8: requests, not hops", "#444444");
    svg + "</svg>\n"
}

fn axes(svg: &mut String) {
    for hops in 0..=HOPS_MAX {
        let height = y(f64::from(hops));
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{height:.1}\" x2=\"{RIGHT}\" y2=\"{height:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{hops}</text>",
            LEFT - 8.0,
            height + 4.0
        );
    }
    for (peers, name) in
        [(10.0, "10"), (100.0, "100"), (1e3, "1,000"), (1e4, "10,000"), (1e5, "100,000")]
    {
        let place = x(peers);
        let _ = writeln!(
            svg,
            "<line x1=\"{place:.1}\" y1=\"{TOP}\" x2=\"{place:.1}\" y2=\"{BOTTOM}\" stroke=\"#eeeeee\"/>\n\
             <text x=\"{place:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
            BOTTOM + 20.0
        );
    }
    label(svg, LEFT, TOP - 14.0, "hops until the nearest peer is heard of (model)", "#000000");
    let _ = writeln!(
        svg,
        "<text x=\"{RIGHT}\" y=\"{}\" text-anchor=\"end\">peers (each step ten times as many)</text>",
        BOTTOM + 42.0
    );
}

/// The points of one bucket size, and the line through them.
fn series(svg: &mut String, k: usize, colour: &str, rows: &[Work]) {
    let line = hops_by_doubling(rows);
    let on_line = |peers: f64| y(line.at_zero + line.rise * peers.log2());
    let ends = [100.0, 100_000.0];
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        x(ends[0]),
        on_line(ends[0]),
        x(ends[1]),
        on_line(ends[1])
    );
    for row in rows {
        let (x, y) = (x(row.peers as f64), y(row.hops));
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>");
    }
    label(
        svg,
        x(ends[1]) + 10.0,
        on_line(ends[1]) + 4.0,
        &format!("k = {k}: +{:.2} each doubling", line.rise),
        colour,
    );
}

fn label(svg: &mut String, x: f64, y: f64, text: &str, colour: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{text}</text>");
}

fn x(peers: f64) -> f64 {
    LEFT + (peers.log10() - 1.0) / 4.0 * (RIGHT - LEFT)
}

fn y(hops: f64) -> f64 {
    BOTTOM - hops / f64::from(HOPS_MAX) * (BOTTOM - TOP)
}

const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 620.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 360.0;
const HOPS_MAX: u32 = 7;
/// Told apart by people who see no red or no green (Okabe and Ito).
const COLOURS: [&str; BUCKETS.len()] = ["#0072b2", "#d55e00", "#009e73"];
