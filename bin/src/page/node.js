// A node: the path that bytes take, its streams' moves, round trips and throughput, its relays.

import { milliseconds, perSecond, picture, plot, strip } from "./draw.js";
import { clock, facts, list, made, place, say, seconds, short } from "./fill.js";

// What is remembered for curves, of how many peers; what is listed.
const SAMPLES_MAX = 120;
const SAMPLED_PEERS_MAX = 64;
const LISTED_MAX = 100;
const MOVES_MAX = 30;
const STRIP_SPAN = 120_000;

const samples = new Map();
let status = null;
let story = null;
let chosen = null;

const nameOf = (peer) => peer.name ?? short(peer.peer);
const wordOf = (transport) => (transport === "websocket" ? "a WebSocket" : transport.toUpperCase());
const natBox = (nat) => (!nat || nat === "unknown" ? "NAT?" : nat.startsWith("none") ? "no NAT" : "NAT");

// Notes a point of each curve.
export function measureNode(said) {
  status = said;
  const now = performance.now();
  for (const peer of status.peers.slice(0, SAMPLED_PEERS_MAX)) {
    const sent = peer.sent_direct_bytes + peer.sent_relayed_bytes;
    const received = peer.received_direct_bytes + peer.received_relayed_bytes;
    const known = samples.get(peer.peer) ?? { points: [] };
    const span = (now - known.at) / 1000;
    // Bytes are those of live streams: one that ended takes its own away.
    const rate = (total, before) => (known.at === undefined ? null : Math.max(total - before, 0) / span);
    known.points.push({
      round: peer.round_trip_ms ?? null, sent: rate(sent, known.sent), received: rate(received, known.received),
    });
    if (known.points.length > SAMPLES_MAX) known.points.shift();
    samples.set(peer.peer, { ...known, at: now, sent, received });
  }
  const here = new Set(status.peers.map(({ peer }) => peer));
  for (const peer of samples.keys()) if (!here.has(peer) && samples.size > SAMPLED_PEERS_MAX) samples.delete(peer);
}

export function showNode(said, heard) {
  [status, story] = [said, heard];
  const peer = choose();
  showPath(peer);
  showMoves(peer);
  showCurves(peer);
  showRelays();
}

export function choosePeer(peer) {
  chosen = peer;
}

// The peer that is shown: the one that was chosen, while it is there.
function choose() {
  const peers = status.peers.slice(0, LISTED_MAX);
  const select = place("peer");
  const wanted = peers.map(({ peer, path, name }) => [peer, `${name ?? short(peer)} (${path})`]);
  const options = [...select.options];
  const same = options.length === wanted.length
    && wanted.every(([peer, text], index) => options[index].value === peer && options[index].text === text);
  if (!same && document.activeElement !== select) {
    select.replaceChildren(...wanted.map(([value, text]) => Object.assign(made("option", text), { value })));
  }
  place("choice").hidden = peers.length < 2;
  const shown = peers.find(({ peer }) => peer === chosen) ?? peers[0];
  if (shown && document.activeElement !== select) select.value = shown.peer;
  return shown;
}

// Where the streams of a peer run; without any, where one would. Through a relay, if one of them does.
function pathOf(peer) {
  const streams = status.streams.filter((stream) => stream.peer === peer.peer);
  if (streams.length === 0) return peer;
  const flowing = streams.filter(({ waits }) => !waits);
  return flowing.find(({ path }) => path === "relayed") ?? flowing[0] ?? { path: undefined };
}

function showPath(peer) {
  const now = peer && pathOf(peer);
  const relay = now?.relay ?? peer?.relay ?? status.relays.find(({ state }) => state === "reserved")?.relay ?? status.relays[0]?.relay;
  const words = sentence(peer, now);
  say(place("path-text"), words);
  place("picture").dataset.path = now?.path ?? "none";
  const theirs = peer && story.natOf(peer.peer);
  picture(place("picture"), {
    path: now?.path,
    label: words,
    own: short(status.peer),
    peer: peer ? nameOf(peer) : "",
    relay: relay ? short(relay) : "",
    nats: [natBox(status.nat), natBox(theirs)],
  });
  facts("facts", [
    ["This node's NAT", status.nat || "not known yet"],
    ["Its NAT over IPv6", status.nat_v6],
    ["The peer's name", peer?.name],
    ["The peer", peer?.peer],
    ["The peer's address", peer?.path === "direct" && peer.address.split("/p2p/")[0]],
    ["The peer's NAT", peer && (theirs && theirs !== "unknown" ? theirs : "not known")],
    ["Relay", relay],
  ]);
}

function sentence(peer, now) {
  if (!peer) return status.hindrance ? `No peer is connected: ${status.hindrance}.` : "No peer is connected.";
  const trip = peer.round_trip_ms === undefined ? "" : `, ${milliseconds(peer.round_trip_ms)} there and back`;
  if (!now.path) return "Nothing flows: the streams of the peer wait for a path.";
  if (now.path === "direct") return `Bytes go directly to the peer over ${wordOf(peer.transport)}${trip}. No relay carries them.`;
  const why = peer.why_relayed ? `: ${peer.why_relayed}` : "";
  const next = peer.next_attempt_seconds;
  const again = next === undefined ? "" : ` A direct path is tried again in ${seconds(next)}.`;
  return `Bytes go through a relay${trip}${why}.${again}`;
}

function showMoves(peer) {
  const now = Date.now();
  const moves = peer ? story.moves(peer.peer) : [];
  strip(place("strip"), { ways: peer ? story.ways(peer.peer, now) : [], moves, now, span: STRIP_SPAN });
  const items = moves.slice(0, MOVES_MAX).map((move) => {
    const item = made("li");
    const why = move.cause ?? (move.to === "direct" ? "a better path" : "");
    item.append(made("span", clock(move.at)), made("strong", `${move.from} → ${move.to}`));
    item.append(made("span", `gap ${milliseconds(move.gap_ms)}`), made("span", why, "empty"));
    return item;
  });
  list("moves", items, "No stream of this peer has moved.");
}

function showCurves(peer) {
  const points = (peer && samples.get(peer.peer)?.points) ?? [];
  const of = (kind) => ({ kind, values: points.map((point) => point[kind]) });
  const last = points.at(-1);
  const trip = milliseconds(last?.round);
  say(place("round-now"), trip);
  plot(place("round"), {
    series: [of("round")], most: SAMPLES_MAX, label: `Round trip, now ${trip}`, format: milliseconds,
  });
  const [sent, received] = [last?.sent ?? 0, last?.received ?? 0].map(perSecond);
  say(place("rate-now"), `${sent} out, ${received} in`);
  const label = `Throughput, now ${sent} sent and ${received} received`;
  plot(place("rate"), { series: [of("sent"), of("received")], most: SAMPLES_MAX, label, format: perSecond });
}

function showRelays() {
  const items = status.relays.slice(0, LISTED_MAX).map((relay) => {
    const item = made("li");
    const light = made("span", undefined, "light");
    light.dataset.health = relay.health;
    light.ariaHidden = "true";
    item.append(light, " ", made("strong", relay.health), " ", made("code", relay.name ?? short(relay.relay)));
    const trip = relay.round_trip_ms === undefined ? "" : `, ${milliseconds(relay.round_trip_ms)}`;
    const heard = relay.heard_seconds === undefined ? ", not heard yet" : `, heard ${seconds(relay.heard_seconds)} ago`;
    item.append(made("span", `${relay.state}${relay.transport ? ` over ${wordOf(relay.transport)}` : ""}${trip}${heard}`, "more"));
    if (relay.retry_seconds !== undefined) item.append(made("span", `dialled again in ${seconds(relay.retry_seconds)}`, "more"));
    if (relay.last_error) item.append(made("span", relay.last_error, "more"));
    return item;
  });
  list("relays", items, "This node uses no relay.");
}
