// The part that a node, a relay or a bootstrap node takes in a DHT.

import { milliseconds } from "./draw.js";
import { counted, facts, list, made, place, say, seconds } from "./fill.js";

const LISTED_MAX = 32;

const sum = (all, of) => all.reduce((total, one) => total + of(one), 0);
const perSecond = (value) => `${value.toFixed(1)}/s`;
const spread = (found) =>
  found && `half within ${milliseconds(found.median_ms)}, 95 % within ${milliseconds(found.p95_ms)}, 99 % within ${milliseconds(found.p99_ms)}`;
const reasons = (counts) => counts.map(({ what, count }) => `${count} ${what.replaceAll("_", " ")}`).join(", ");

export function showDht(status) {
  const { dht } = status;
  for (const part of document.querySelectorAll(".of-dht")) part.hidden = !dht;
  if (!dht) return;
  const nodes = sum(dht.buckets, (bucket) => bucket.nodes);
  const lookups = dht.lookups_found + dht.lookups_missed;
  say(place("dht-text"), sentence(dht, nodes));
  showTiles(dht, nodes, lookups);
  facts("dht-facts", [
    ["Lookups took", spread(dht.lookup)],
    ["Round trips to nodes", spread(dht.round_trip)],
    ["Nodes in the network", dht.nodes_estimated !== undefined && `about ${dht.nodes_estimated}`],
    ["Density alarm", dht.density_alarm && "nodes crowd round where others keep its address: somebody may be hiding it; others are told as well"],
    ["Requests since the start", `${dht.requests_sent} sent, ${dht.requests_received} answered`],
    ["Dials that led to nobody", dht.dials_failed > 0 && String(dht.dials_failed)],
    ["Others keep what it says", dht.published_seconds !== undefined && `since ${seconds(dht.published_seconds)}`],
    ["Refused to keep", reasons(dht.refused)],
    ["Not let into the table", reasons(dht.denied)],
    ["Listens for nodes on", dht.listening.join(", ")],
  ]);
  list("buckets", dht.buckets.filter((bucket) => bucket.nodes > 0).map((bucket) => bucketItem(bucket, dht)), "It knows no node.");
  list("bootstraps", dht.bootstraps.slice(0, LISTED_MAX).map(bootstrapItem), "It was told of none: others begin with it.");
  const spaces = dht.namespaces.slice(0, LISTED_MAX).map(namespaceItem);
  // Those of a namespace that is shown by its name are shown with that.
  const named = new Map(dht.namespaces.map(({ hash, name }) => [hash, name]));
  const keys = dht.announced.slice(0, LISTED_MAX).map((key) => announcedItem(key, named.get(key.hash)));
  list("namespaces", [...spaces, ...keys], "It is in none, and keeps nothing of any.");
}

function sentence(dht, nodes) {
  // Whoever only asks is in nobody's table.
  if (nodes === 0 && dht.mode === "server" && dht.bootstraps.length === 0)
    return `This node is the first of the DHT “${dht.network}”: others begin with it.`;
  const how = dht.joined ? "has joined" : "has not joined yet";
  const does = dht.mode === "server" ? "answers others" : "only asks";
  return `This node ${how} the DHT “${dht.network}”, knows ${counted(nodes, "other node", "other nodes")} and ${does}.`;
}

function showTiles(dht, nodes, lookups) {
  const found = lookups > 0 ? `${Math.round((dht.lookups_found / lookups) * 100)} %` : "–";
  const tiles = [
    ["Nodes in the table", nodes, `in ${counted(dht.buckets.filter((bucket) => bucket.nodes > 0).length, "bucket", "buckets")}`],
    ["Lookups that found", found, `of ${lookups} since the start`],
    ["Requests", perSecond(dht.sent_per_second), `sent; ${perSecond(dht.received_per_second)} answered`],
    ["Kept for others", dht.records + dht.content + dht.providers, `${counted(dht.records, "record", "records")}, ${counted(dht.providers, "membership", "memberships")}`],
  ];
  const items = tiles.map(([name, value, more]) => {
    const item = made("li");
    item.append(made("span", name, "name"), made("strong", String(value)), made("span", more, "more"));
    return item;
  });
  place("dht-tiles").replaceChildren(...items);
}

// Half of all ids are in the farthest bucket: where it is full, the network has many nodes.
function bucketItem({ index, nodes }, dht) {
  const most = Math.max(...dht.buckets.map((bucket) => bucket.nodes), 20);
  const item = made("li", undefined, "limit");
  const meter = Object.assign(made("meter"), { max: most, value: nodes });
  meter.ariaLabel = `nodes at a distance from 2^${index}`;
  item.append(made("span", `from 2^${index}`), meter, made("span", String(nodes), "value"));
  return item;
}

function bootstrapItem({ address, health, round_trip_ms, last_answer_seconds, failures }) {
  const item = made("li");
  const light = made("span", undefined, "light");
  light.dataset.health = health;
  light.ariaHidden = "true";
  item.append(light, " ", made("strong", health), " ", made("code", address));
  const answers = last_answer_seconds === undefined ? "never answered" : `answered ${seconds(last_answer_seconds)} ago`;
  const trip = round_trip_ms === undefined ? "" : `, ${milliseconds(round_trip_ms)}`;
  const missed = failures > 0 ? `, ${counted(failures, "look", "looks")} in a row failed` : "";
  item.append(made("span", `${answers}${trip}${missed}`, "more"));
  return item;
}

function namespaceItem({ name, hash, joined, members }) {
  const item = made("li");
  item.append(made("strong", name), " ", made("code", hash));
  const part = joined ? "this node is in it" : "looked at";
  item.append(made("span", `${part}; ${counted(members, "other member is", "other members are")} known`, "more"));
  return item;
}

// Which namespace it is, nobody can tell from its key.
function announcedItem({ hash, peers }, name) {
  const item = made("li");
  const whose = name ? `, which is ${name}` : "";
  item.append(made("code", hash), made("span", `${counted(peers, "peer", "peers")} announced under this key${whose}`, "more"));
  return item;
}
