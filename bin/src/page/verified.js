// What came of the latest verification of discovery: six steps, each with its verdict, and what to do.

import { list, made, place, say, seconds } from "./fill.js";

const LIGHTS = { pass: "healthy", warn: "degraded", fail: "down" };

export function showVerification(status) {
  const verification = status.verification;
  // Without a DHT there is nothing to verify.
  place("discovery").hidden = !status.dht;
  if (!status.dht) return;
  say(place("verified-when"), verification ? `${seconds(verification.ended_seconds)} ago` : "not verified yet");
  const items = (verification?.steps ?? []).map(({ step, name, verdict, found, advice }) => {
    const item = made("li");
    const light = made("span", undefined, "light");
    light.dataset.health = LIGHTS[verdict] ?? "unknown";
    light.ariaHidden = "true";
    item.append(light, " ", made("strong", verdict), ` ${step} ${name}`, made("span", found, "more"));
    if (advice) item.append(made("span", advice, "more"));
    return item;
  });
  list("verified", items, "It is verified when the node is in the DHT, and every 15 minutes.");
}
