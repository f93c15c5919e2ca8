//! The picture of `design/discovery-scale.md`: hops and tables over the number of peers, and what real nodes have and need.

use std::fmt::Write as _;

use crate::scale::{Line, Work, by_doubling};
use crate::standard::{self, BUCKETS};

/// One of the two plots, below each other.
struct Plot {
    top: f64,
    name: &'static str,
    value: fn(&Work) -> f64,
    /// At the upper end of the axis, and between two of its lines.
    scale: (f64, f64),
    /// Peers, and what was measured of real nodes.
    real: &'static [(f64, f64)],
    note: &'static str,
    /// Beside each line.
    by_doubling: fn(usize, &Line) -> String,
}

const PLOTS: [Plot; 2] = [
    Plot {
        top: 40.0,
        name: "hops until the nearest peer is heard of (model)",
        value: |work| work.hops,
        scale: (7.0, 1.0),
        // Nodes of libp2p-kad 0.49, k = 8: requests for a lookup of the nearest peer, on average. They count the requests that
        // end the lookup too, so that they are no hops.
        real: &[(50.0, 4.72), (100.0, 5.22), (300.0, 6.33)],
        note: "real nodes, k = 8: requests, not hops",
        by_doubling: |k, line| format!("k = {k}: +{:.2} each doubling", line.rise),
    },
    Plot {
        top: 460.0,
        name: "peers in a table",
        value: |work| work.table,
        scale: (300.0, 50.0),
        // Our own nodes, medians: logs/2026-11-30-dht-swarm.md.
        real: &REAL_TABLES,
        note: "real nodes: k = 20; at 60 and 1,000, k = 8",
        by_doubling: |k, line| format!("k = {k}: +{:.0} each doubling", line.rise),
    },
];

/// Nodes of this repository over memory: how many, and the median of peers in their tables.
const REAL_TABLES: [(f64, f64); 4] = [(60.0, 30.0), (100.0, 63.0), (300.0, 99.0), (1000.0, 63.0)];

/// The picture, as SVG.
pub fn svg() -> String {
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<title>Hops of a lookup, and peers in a table, by the number of peers</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>"
    );
    PLOTS.iter().for_each(|plot| plot.draw(&mut svg));
    svg + "</svg>\n"
}

impl Plot {
    fn draw(&self, svg: &mut String) {
        self.axes(svg);
        for (k, colour) in BUCKETS.into_iter().zip(COLOURS) {
            let rows: Vec<_> = standard::scale().iter().filter(|row| row.k == k).copied().collect();
            self.series(svg, k, colour, &rows);
        }
        for (peers, value) in self.real {
            let (x, y) = (x(*peers), self.y(*value));
            let _ = writeln!(
                svg,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\" fill=\"none\" stroke=\"#444444\" \
                 stroke-width=\"2\"/>",
                x - 4.0,
                y - 4.0
            );
        }
        if let Some((after, above)) = self.real.last() {
            label(svg, x(*after) + 12.0, self.y(*above) + 4.0, self.note, "#444444");
        }
    }

    fn axes(&self, svg: &mut String) {
        let (most, step) = self.scale;
        for line in 0..=(most / step) as u32 {
            let value = f64::from(line) * step;
            let height = self.y(value);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{height:.1}\" x2=\"{RIGHT}\" y2=\"{height:.1}\" stroke=\"#dddddd\"/>\n\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
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
                "<line x1=\"{place:.1}\" y1=\"{}\" x2=\"{place:.1}\" y2=\"{}\" stroke=\"#eeeeee\"/>\n\
                 <text x=\"{place:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
                self.top,
                self.top + TALL,
                self.top + TALL + 20.0
            );
        }
        label(svg, LEFT, self.top - 14.0, self.name, "#000000");
        let _ = writeln!(
            svg,
            "<text x=\"{RIGHT}\" y=\"{}\" text-anchor=\"end\">peers (each step ten times as many)</text>",
            self.top + TALL + 42.0
        );
    }

    /// The points of one bucket size, and the line through them.
    fn series(&self, svg: &mut String, k: usize, colour: &str, rows: &[Work]) {
        let line = by_doubling(rows, self.value);
        let on_line = |peers: f64| self.y(line.at_zero + line.rise * peers.log2());
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
            let (x, y) = (x(row.peers as f64), self.y((self.value)(row)));
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>");
        }
        let text = (self.by_doubling)(k, &line);
        label(svg, x(ends[1]) + 10.0, on_line(ends[1]) + 4.0, &text, colour);
    }

    fn y(&self, value: f64) -> f64 {
        self.top + TALL - value / self.scale.0 * TALL
    }
}

fn label(svg: &mut String, x: f64, y: f64, text: &str, colour: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{text}</text>");
}

fn x(peers: f64) -> f64 {
    LEFT + (peers.log10() - 1.0) / 4.0 * (RIGHT - LEFT)
}

const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 840.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 620.0;
const TALL: f64 = 320.0;
/// Told apart by people who see no red or no green (Okabe and Ito).
const COLOURS: [&str; BUCKETS.len()] = ["#0072b2", "#d55e00", "#009e73"];
