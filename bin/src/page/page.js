// Asks the node or relay how it is, listens to what happens, and shows both.

import { clock, counted, list, made, place, say, seconds, short } from "./fill.js";
import { showDht } from "./dht.js";
import { choosePeer, measureNode, showNode } from "./node.js";
import { measureRelay, showRelay } from "./relay.js";
import "./settings.js";
import { Story } from "./story.js";
import { showVerification } from "./verified.js";

const ASK_EVERY = 1000;
const ASK_DEADLINE = 6000;
// After an event: what follows from several is asked for once.
const ASK_AFTER_EVENT = 150;
const LISTEN_AGAIN = 5000;
const FAILURES_MAX = 8;

const story = new Story();
let status = null;
let missing = "asking the node…";

async function ask() {
  try {
    const answer = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(ASK_DEADLINE) });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    status = await answer.json();
    missing = null;
  } catch (error) {
    missing = error instanceof TypeError || error.name === "TimeoutError" ? "the node does not answer" : error.message;
  }
  show();
}

async function keepAsking() {
  if (!document.hidden) {
    await ask();
    if (!missing) (status.relaying ? measureRelay : measureNode)(status);
  }
  setTimeout(keepAsking, ASK_EVERY);
}

function listen() {
  const events = new EventSource("events");
  events.onmessage = ({ data }) => {
    if (!story.add(data)) return;
    showSoon();
    askSoon();
  };
  events.onerror = () => {
    // It comes again by itself, unless it was told that there is no place.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, LISTEN_AGAIN);
  };
}

let asking = null;
// What happened shows in what the node says.
function askSoon() {
  asking ??= setTimeout(() => {
    asking = null;
    if (!document.hidden) ask();
  }, ASK_AFTER_EVENT);
}

let due = false;
function showSoon() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    show();
  });
}

function show() {
  showHeader();
  if (!status) return;
  const relay = Boolean(status.relaying);
  for (const part of document.querySelectorAll(".of-node")) part.hidden = relay;
  for (const part of document.querySelectorAll(".of-relay")) part.hidden = !relay;
  if (relay) showRelay(status, story);
  else showNode(status, story);
  showDht(status);
  if (!relay) showVerification(status);
  showFailures(relay);
}

function showHeader() {
  // What was said last stays, and is not taken for what is.
  document.querySelector("main").classList.toggle("stale", Boolean(missing && status));
  const health = missing ? "down" : status.hindrance ? "degraded" : "healthy";
  place("light").dataset.health = status || health !== "down" ? health : "unknown";
  say(place("state-text"), missing ?? (status.hindrance ? `not usable: ${status.hindrance}` : "usable"));
  if (!status) return;
  document.title = `${status.command} ${short(status.peer)} – Punchline`;
  say(place("own-id"), status.peer);
  say(place("command"), `${status.command} ${status.version}, up ${seconds(status.uptime_seconds)}`);
}

function showFailures(relay) {
  place("failures").classList.toggle("wide", relay);
  // Whom a relay turned away is shown for itself.
  const failures = story.failures().filter(({ kind }) => !relay || kind !== "refused");
  const items = failures.slice(0, FAILURES_MAX).map(({ at, what, why, about }) => {
    const item = made("li");
    item.append(made("strong", what), ` ${clock(at)}`);
    if (about) item.append(" ", made("code", short(about)));
    if (why) item.append(made("span", why, "more"));
    return item;
  });
  list("failed", items, "Nothing that this page has heard of.");
}

// Has the node try now what waits for its next attempt.
async function retry() {
  const [button, said] = [place("retry"), place("retry-said")];
  button.disabled = true;
  say(said, "asking the node…");
  try {
    const answer = await fetch("retry", { method: "POST", signal: AbortSignal.timeout(ASK_DEADLINE) });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    say(said, tried(await answer.json()));
  } catch (error) {
    say(said, error instanceof TypeError || error.name === "TimeoutError" ? "the node does not answer" : error.message);
  }
  button.disabled = false;
  button.focus();
  askSoon();
}

function tried({ upgrades, relays, peers }) {
  const parts = [
    upgrades > 0 && counted(upgrades, "direct path", "direct paths"),
    relays > 0 && counted(relays, "relay", "relays"),
    peers > 0 && counted(peers, "missing peer", "missing peers"),
  ].filter(Boolean);
  return parts.length > 0 ? `Tried at ${clock(Date.now())}: ${parts.join(", ")}.` : "Nothing was waiting for its next attempt.";
}

place("retry").addEventListener("click", retry);
place("peer").addEventListener("change", ({ target }) => {
  choosePeer(target.value);
  target.blur();
  show();
});
new ResizeObserver(showSoon).observe(document.body);
document.addEventListener("visibilitychange", () => document.hidden || ask());
listen();
keepAsking();
