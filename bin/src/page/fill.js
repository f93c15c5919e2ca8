// Words, and what they are put into. Text goes in as text.

export const place = (id) => document.getElementById(id);
export const short = (id) => (id.length > 14 ? `${id.slice(0, 4)}…${id.slice(-6)}` : id);
export const clock = (at) => new Date(at).toLocaleTimeString([], { hour12: false });
export const seconds = (value) => {
  if (value < 120) return `${value.toFixed(0)} s`;
  if (value < 7200) return `${(value / 60).toFixed(0)} min`;
  return value < 172_800 ? `${(value / 3600).toFixed(0)} h` : `${(value / 86_400).toFixed(0)} d`;
};
export const counted = (count, one, more) => `${count} ${count === 1 ? one : more}`;

// Says a text; what stands there already is left alone, so that nobody hears it again.
export function say(where, text) {
  if (where.textContent !== text) where.textContent = text;
}

export function made(name, text, kind) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

export function list(id, items, none) {
  place(id).replaceChildren(...(items.length > 0 ? items : [made("li", none, "empty")]));
}

// Names and what is known by them; what is empty is left out.
export function facts(id, all) {
  const rows = all.filter(([, fact]) => fact).flatMap(([name, fact]) => [made("dt", name), made("dd", fact)]);
  place(id).replaceChildren(...rows);
}
