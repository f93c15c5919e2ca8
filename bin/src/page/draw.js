// Pictures, as SVG in the width that there is. Text goes in as text.

const SVG = "http://www.w3.org/2000/svg";

// Narrower pictures have less in their boxes.
const NARROW = 560;

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function canvas(root, height, label) {
  const width = Math.max(root.clientWidth, 240);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  return { width, svg };
}

function line(points) {
  return points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
}

// This node, its NAT, the relay, the peer's NAT, the peer, and the ways between them. `path`: direct, relayed or nothing.
export function picture(root, { path, label, own, peer, relay, nats }) {
  const { width, svg } = canvas(root, 176, label);
  const wide = width >= NARROW;
  const box = Math.min(118, width / 5 - 6);
  const edge = box / 2 + 1;
  const [top, bottom, middle] = [28, 140, width / 2];
  const step = (width - 2 * edge) / 4;
  const at = [0, 1, 2, 3, 4].map((place) => edge + place * step);
  const direct = [[at[0], bottom], [at[4], bottom]];
  const relayed = [[at[0], bottom], [at[1], bottom], [middle, top], [at[3], bottom], [at[4], bottom]];
  svg.append(shape("polyline", { points: line(direct), class: "way" }));
  svg.append(shape("polyline", { points: line(relayed), class: "way" }));
  if (path) {
    const points = line(path === "direct" ? direct : relayed);
    svg.append(shape("polyline", { points, class: `live ${path}` }), shape("polyline", { points, class: "flow" }));
    const [y, words] = path === "direct" ? [bottom - 10, "direct"] : [top + 62, wide ? "through the relay" : "relayed"];
    svg.append(shape("text", { x: middle, y, class: path, "text-anchor": "middle" }, words));
  }
  const boxes = [
    [at[0], bottom, wide ? "this node" : "node", own, true],
    [at[1], bottom, nats[0], "", nats[0] === "NAT"],
    [middle, top, relay ? "relay" : "no relay", relay, path === "relayed"],
    [at[3], bottom, nats[1], "", nats[1] === "NAT"],
    [at[4], bottom, peer ? "peer" : "no peer", peer, Boolean(path)],
  ];
  for (const [x, y, title, id, on] of boxes) {
    svg.append(shape("rect", { x: x - box / 2, y: y - 22, width: box, height: 44, rx: 8, class: on ? "box on" : "box" }));
    svg.append(shape("text", { x, y: id ? y - 3 : y + 4, "text-anchor": "middle" }, title));
    if (id) svg.append(shape("text", { x, y: y + 13, class: "small", "text-anchor": "middle" }, wide || id.length <= 8 ? id : `…${id.slice(-5)}`));
  }
  root.replaceChildren(svg);
}

// Where streams ran in the last `span` milliseconds, and each move with its gap.
export function strip(root, { ways, moves, now, span }) {
  const { width, svg } = canvas(root, 62, `${moves.length} moves are remembered; the list below has the latest`);
  const x = (at) => Math.min(Math.max(1 - (now - at) / span, 0), 1) * width;
  svg.append(shape("rect", { x: 0, y: 20, width, height: 18, rx: 4, class: "none" }));
  for (const { from, to, path } of ways) {
    if (to < now - span) continue;
    svg.append(shape("rect", { x: x(from), y: 20, width: Math.max(x(to) - x(from), 1), height: 18, class: path }));
  }
  const recent = moves.filter(({ at }) => at >= now - span);
  for (const { at } of recent) svg.append(shape("line", { x1: x(at), x2: x(at), y1: 16, y2: 42, class: "move" }));
  // There is room for some gaps: the longest matter most.
  const placed = [];
  for (const { at, gap_ms } of recent.filter((move) => move.gap_ms > 0).sort((one, other) => other.gap_ms - one.gap_ms)) {
    const here = Math.min(Math.max(x(at), 26), width - 26);
    if (placed.some((there) => Math.abs(there - here) < 56)) continue;
    svg.append(shape("text", { x: here, y: 12, class: "small", "text-anchor": "middle" }, milliseconds(gap_ms)));
    placed.push(here);
  }
  for (const [part, anchor] of [[0, "start"], [0.5, "middle"], [1, "end"]]) {
    const ago = Math.round((span * (1 - part)) / 1000);
    const words = ago === 0 ? "now" : `${ago} s ago`;
    svg.append(shape("text", { x: part * width, y: 58, class: "small", "text-anchor": anchor }, words));
  }
  root.replaceChildren(svg);
}

// Curves of numbers, the latest at the right; `series` is [{kind, values}], a value may be missing.
export function plot(root, { series, most, label, format }) {
  const { width, svg } = canvas(root, 96, label);
  const [top, bottom] = [18, 88];
  const known = series.flatMap(({ values }) => values.filter((value) => value !== null));
  const highest = Math.max(...known, 0);
  const scale = highest > 0 ? highest * 1.1 : 1;
  svg.append(shape("line", { x1: 0, x2: width, y1: bottom, y2: bottom, class: "axis" }));
  svg.append(shape("line", { x1: 0, x2: width, y1: top, y2: top, class: "axis" }));
  svg.append(shape("text", { x: 0, y: top - 5, class: "small" }, known.length ? `highest ${format(highest)}` : "nothing yet"));
  svg.append(shape("text", { x: width, y: top - 5, class: "small", "text-anchor": "end" }, `the last ${most} s`));
  for (const { kind, values } of series) {
    const points = values.map((value, index) => value !== null && [
      width - 2 - ((values.length - 1 - index) / (most - 1)) * (width - 4),
      bottom - (value / scale) * (bottom - top),
    ]);
    svg.append(shape("polyline", { points: line(points.filter(Boolean)), class: `curve ${kind}` }));
  }
  root.replaceChildren(svg);
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0 ms";
  if (value >= 10_000) return `${(value / 1000).toFixed(0)} s`;
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return `${value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ms`;
}

export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; count >= 1000 && unit < units.length - 1; unit += 1) count /= 1000;
  return `${unit === 0 || count >= 100 ? count.toFixed(0) : count.toFixed(1)} ${units[unit]}`;
}

export const perSecond = (count) => `${bytes(count)}/s`;
