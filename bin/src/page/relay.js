// A relay: whom it serves, what it carries, how full its limits are, whom it turned away.

import { bytes, perSecond, plot } from "./draw.js";
import { clock, counted, facts, list, made, place, say } from "./fill.js";

const SAMPLES_MAX = 120;
const LISTED_MAX = 20;

// Whose limits there are, in words.
const LIMITS_OF = {
  relay: "this relay for all", address: "one address or network", peer: "one peer", destination: "the peer that is asked for",
  ranges: "the ranges that are kept away",
};

const points = [];
let before = null;

const maxOf = (status, what) => status.limits.find((limit) => limit.what === what);

// Notes a point of the curve.
export function measureRelay({ relaying }) {
  const now = performance.now();
  const rate = before && (relaying.forwarded_bytes - before.bytes) / ((now - before.at) / 1000);
  points.push(before ? Math.max(rate, 0) : null);
  if (points.length > SAMPLES_MAX) points.shift();
  before = { at: now, bytes: relaying.forwarded_bytes };
}

export function showRelay(status, story) {
  const { relaying } = status;
  showServing(status);
  facts("relay-facts", [
    ["Reached at", relaying.external.join(", ") || "no address is known yet, so it holds no place for anybody"],
    ["Listens on", status.listening.join(", ")],
    ["Answers STUN at", relaying.stun.join(", ") || "nowhere"],
    ["Received, with its own talk", bytes(relaying.received_bytes)],
    ["Sent, with its own talk", bytes(relaying.sent_bytes)],
  ]);
  const now = perSecond(points.at(-1) ?? 0);
  say(place("carried-now"), now);
  const series = [{ kind: "relayed", values: points }];
  plot(place("carried"), { series, most: SAMPLES_MAX, label: `Bytes that circuits carry, now ${now}`, format: perSecond });
  list("limits", status.limits.map(limitItem), "It tells no limit.");
  list("refusals", story.refusals().slice(0, LISTED_MAX).map(refusalItem), "Nobody, as far as this page has heard.");
}

function showServing(status) {
  const { relaying } = status;
  const places = maxOf(status, "reservations");
  const circuits = maxOf(status, "circuits");
  const kept = relaying.kept > 0 ? `, and ${relaying.kept} kept for who left a moment ago` : "";
  const waiting = relaying.circuits_waiting > 0 ? `, ${relaying.circuits_waiting} being set up` : "";
  const tiles = [
    ["Places held", relaying.reservations, `${places ? `of ${places.limit}` : ""}${kept}`],
    ["Circuits", relaying.circuits, `${circuits ? `of ${circuits.limit}` : ""}${waiting}`],
    ["Connections", relaying.connections, "with all that come and go"],
    ["Carried", bytes(relaying.forwarded_bytes), "by circuits, since the start"],
  ];
  const items = tiles.map(([name, value, more]) => {
    const item = made("li");
    item.append(made("span", name, "name"), made("strong", String(value)), made("span", more, "more"));
    return item;
  });
  place("tiles").replaceChildren(...items);
  const none = "Nobody is behind this relay";
  const held = counted(relaying.reservations, "peer can be reached", "peers can be reached");
  const flows = counted(relaying.circuits, "circuit carries", "circuits carry");
  const words = relaying.reservations === 0 ? none : `${held} through this relay`;
  say(place("serving-text"), `${words}; ${relaying.circuits === 0 ? "no circuit is open" : `${flows} bytes`}.`);
}

function limitItem({ what, used, limit }) {
  const [name, format] = what.endsWith("_bytes") ? [what.slice(0, -6), bytes] : [what, String];
  const words = name.replaceAll("_", " ");
  const item = made("li", undefined, "limit");
  const meter = Object.assign(made("meter"), { max: limit, high: limit * 0.8, low: limit * 0.5, optimum: 0, value: used });
  meter.ariaLabel = words;
  item.append(made("span", words), meter, made("span", `${format(used)} of ${format(limit)}`, "value"));
  return item;
}

function refusalItem({ what, whose, count, at }) {
  const item = made("li");
  const limit = whose ? ` by the limit of ${LIMITS_OF[whose] ?? whose.replaceAll("_", " ")}` : "";
  item.append(made("strong", `${count} × ${what.replaceAll("_", " ")}`));
  item.append(made("span", `turned away${limit}; the last at ${clock(at)}`, "more"));
  return item;
}
