//! A picture: how fast each subject is beside TLS in the same rounds, longer is better.

use std::fmt::Write as _;

use serde_json::Value;

use crate::{subject::Subject, work::Work};

/// Of the whole, of names, of bars, and of what one ratio is long.
const WIDTH: f64 = 860.0;
const LEFT: f64 = 90.0;
const ONE: f64 = 300.0;

/// Longer bars are cut.
const RATIO_MAX: f64 = 2.0;

const ROW: f64 = 20.0;
const HEAD: f64 = 34.0;

/// As SVG, of the rows that the bench prints. What has no ratio to TLS is left out.
pub(crate) fn svg(rows: &[Value]) -> String {
    let mut body = String::new();
    let mut top = 0.0;
    for work in Work::ALL {
        let name = work.to_string();
        let bars: Vec<&Value> = rows
            .iter()
            .filter(|row| row["work"] == name.as_str() && speed(work, row).is_some())
            .collect();
        if bars.is_empty() {
            continue;
        }
        let unit = work.unit().split(';').next().unwrap_or_default();
        text(&mut body, (LEFT, top + 22.0), "start", &format!("{name} ({unit})"));
        top += HEAD;
        for row in bars {
            bar(&mut body, top, work, row);
            top += ROW;
        }
    }
    let end = LEFT + ONE;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {tall}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<title>Speed beside TLS to a public address, longer is better</title>\n\
         <rect width=\"{WIDTH}\" height=\"{tall}\" fill=\"#ffffff\"/>\n{body}\
         <line x1=\"{end}\" y1=\"{HEAD}\" x2=\"{end}\" y2=\"{top}\" stroke=\"#000000\"/>\n</svg>\n",
        tall = top + 12.0
    )
}

/// How many times as fast as TLS.
fn speed(work: Work, row: &Value) -> Option<f64> {
    let ratio = row["found"]["ratio_to_rustls"].as_f64()?;
    Some(if work.less_is_better() { 1.0 / ratio } else { ratio })
}

fn bar(svg: &mut String, top: f64, work: Work, row: &Value) {
    let subject = row["subject"].as_str().unwrap_or_default();
    let ours =
        [Subject::Tcp, Subject::Quic, Subject::Relayed].iter().any(|ours| ours.to_string() == subject);
    let colour = if ours { "#2a6fbb" } else { "#b8b8b8" };
    let ratio = speed(work, row).unwrap_or_default();
    let long = ratio.min(RATIO_MAX) * ONE;
    let _ = writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{top:.0}\" width=\"{long:.0}\" height=\"15\" fill=\"{colour}\"/>"
    );
    text(svg, (LEFT - 8.0, top + 12.0), "end", subject);
    let median = row["found"]["median"].as_f64().unwrap_or_default();
    let digits = usize::from(median < 100.0);
    let label = format!("{ratio:.2}  ({median:.digits$})");
    // Right of the line of TLS, which would cross it.
    text(svg, (LEFT + long.max(ONE) + 8.0, top + 12.0), "start", &label);
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{text}</text>");
}
