// What holds for the program, and who said so; the file of settings is where it is changed.

import { list, made, place } from "./fill.js";

const PLACES = { flag: () => "a flag", environment: ({ variable }) => variable, file: ({ file, line }) => `${file}${line ? ` line ${line}` : ""}` };
let asked = false;

async function show() {
  if (asked || !place("settings").open) return;
  asked = true;
  try {
    const answer = await fetch("settings.json", { cache: "no-store" });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const all = await answer.json();
    // What somebody said comes first.
    const said = (setting) => Number(setting.source === "default");
    list("settings-list", all.sort((one, other) => said(one) - said(other)).map(item), "It has no settings.");
  } catch (error) {
    asked = false;
    list("settings-list", [], error instanceof TypeError ? "the node does not answer" : error.message);
  }
}

function item(setting) {
  const row = made("li");
  row.append(made("code", setting.key), " ", made("strong", setting.values.join(", ") || "–"));
  row.append(made("span", `said by ${PLACES[setting.source]?.(setting) ?? "nobody: the default"}`, "more"));
  return row;
}

place("settings").addEventListener("toggle", show);
// A browser may remember that it was open.
show();
