// What the events of a node say about its peers. No page here: events in, answers out.

// Events that are remembered, and lines that are known to have been heard.
const EVENTS_MAX = 2048;
const LINES_MAX = 4096;

const OF_STREAMS = ["stream_opened", "stream_moved", "stream_closed"];
const OF_UPGRADES = ["upgrade_succeeded", "upgrade_failed"];

// What went wrong, in words.
const FAILURES = {
  listen_failed: "cannot listen",
  reservation_failed: "no place at a relay",
  reservation_lost: "the place at a relay is lost",
  clock_differs: "a clock is wrong",
  network_blocks: "the network blocks",
  port_mapping_unusable: "the router's port is of no use",
  external_unanswered: "nobody answers at --external",
  upgrade_failed: "no direct path",
  peer_unreachable: "a peer is not reached",
  waiting: "still waiting",
  relay_name_failed: "the name of relays cannot be looked up",
  way_failed: "one way to a peer failed",
  dial_failed: "a peer is not reached",
  handshake_failed: "a handshake failed",
  session_ended: "a session ended",
  stream_refused: "a stream was refused",
  access_refused: "a peer was not let in",
  target_failed: "the program behind a service does not answer",
  forward_failed: "a local connection came to nothing",
  refused: "a limit was reached",
  circuit_closed: "a circuit was cut",
  events_lost: "events are missing",
  suppressed: "more of the same",
};

// What is waited for, in words.
const STAGES = {
  relay_link: "the answer of a relay",
  name: "DNS to answer for the name of relays",
  reservation: "a place at a relay",
  relay_again: "the next attempt at a relay",
  dial: "an answer at its addresses",
  circuit: "a relay to connect it",
  circuit_again: "the next attempt through a relay",
  next_attempt: "the next attempt",
  answer: "its answer for a service",
  room: "the end of another stream",
  direct_path: "a direct path",
};

export class Story {
  #lines = new Set();
  #events = [];

  // Takes the line of an event; false if it was heard before, since whoever listens again hears the latest again.
  add(line) {
    if (this.#lines.has(line)) return false;
    this.#lines.add(line);
    if (this.#lines.size > LINES_MAX) this.#lines.delete(this.#lines.values().next().value);
    let event;
    try {
      event = JSON.parse(line);
    } catch {
      return false;
    }
    const at = Date.parse(event.ts);
    if (Number.isNaN(at)) return false;
    if (event.event === "circuit_closed" && !event.cause) return false;
    const matters = OF_STREAMS.includes(event.event) || OF_UPGRADES.includes(event.event)
      || Object.hasOwn(FAILURES, event.event) || event.event === "relay_health";
    if (!matters) return false;
    this.#events.push({ ...event, at });
    if (this.#events.length > EVENTS_MAX) this.#events.shift();
    return true;
  }

  // The moves of a peer's streams, the latest first.
  moves(peer) {
    return this.#events.filter((event) => event.event === "stream_moved" && event.peer === peer).reverse();
  }

  // When the streams of a peer ran where: [{from, to, path}], where path is that of the latest change.
  ways(peer, now) {
    const open = new Set();
    const ways = [];
    for (const event of this.#events) {
      if (event.peer !== peer || !OF_STREAMS.includes(event.event)) continue;
      const last = ways.at(-1);
      if (event.event === "stream_closed") open.delete(event.stream);
      else open.add(event.stream);
      const path = event.event === "stream_closed" ? (open.size > 0 ? last?.path : null) : event.to ?? event.path;
      if (last && last.path === path) continue;
      if (last) last.to = event.at;
      ways.push({ from: event.at, to: now, path });
    }
    return ways.filter((way) => way.path);
  }

  // What a peer is behind, as it said last.
  natOf(peer) {
    const said = this.#events.findLast((event) => OF_UPGRADES.includes(event.event) && event.peer === peer);
    return said?.remote_nat;
  }

  // Whom limits turned away, the latest first: [{what, whose, count, at}], one for each limit.
  refusals() {
    const found = new Map();
    for (const { event, what, whose, count, at } of this.#events) {
      if (event !== "refused") continue;
      const key = JSON.stringify([what, whose]);
      const times = (found.get(key)?.count ?? 0) + (Number(count) || 1);
      found.delete(key);
      found.set(key, { what: String(what), whose: whose && String(whose), count: times, at });
    }
    return [...found.values()].reverse();
  }

  // What failed, the latest first: [{at, kind, what, why, about}].
  failures() {
    const failed = this.#events.filter((event) => Object.hasOwn(FAILURES, event.event) || isIll(event));
    return failed.reverse().map((event) => ({
      at: event.at,
      kind: event.event,
      what: isIll(event) ? `a relay is ${event.health}` : FAILURES[event.event],
      why: event.event === "waiting" ? awaited(event) : String(event.cause ?? event.reason ?? event.what ?? event.limit ?? ""),
      about: event.peer ?? event.relay ?? event.name ?? event.source ?? event.address ?? "",
    }));
  }
}

// For how long, and for what.
function awaited({ waited_ms, awaits }) {
  const word = ({ stage }) => (Object.hasOwn(STAGES, stage) ? STAGES[stage] : String(stage));
  const stages = (Array.isArray(awaits) ? awaits : []).map(word);
  const seconds = Math.round(Number(waited_ms) / 1000) || 0;
  return `for ${seconds} s: ${[...new Set(stages)].join(", ") || "the peer"}`;
}

function isIll(event) {
  return event.event === "relay_health" && ["degraded", "down"].includes(event.health);
}
