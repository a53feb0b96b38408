// Classes of boxes: the model's, and those that a visitor types.
import { $, element } from "/static/page.js";
import { colourOf } from "/static/palette.js";

const RECENT = 6; // classes at hand under the field
const typed = []; // classes that the model does not know
let known = [], recent = [], unnamed = 0; // the model's classes; the last ones used; objects of no class so far

/** Offers the model's classes in the field. */
export function offerClasses(categories) {
  known = categories;
  const named = known.toSorted((a, b) => a.name.localeCompare(b.name));
  $("classes").append(...named.map(({ name }) => element("option", { value: name })));
}

/** Colours of objects of no class start again with each photograph. */
export function startColours() {
  unnamed = 0;
}

/** The class of a text: one of the model, or one that the visitor made up, which the model draws as an object of no class. */
export function classOf(text) {
  const name = text.trim().replace(/\s+/g, " ").slice(0, 80);
  const found = known.find((one) => one.name === name) ?? known.find((one) => one.name.toLowerCase() === name.toLowerCase());
  if (found) return { label: found.label, name: found.name };
  if (name && !typed.includes(name)) {
    typed.push(name);
    $("classes").append(element("option", { value: name }));
  }
  return { label: 0, name };
}

export function colourOfClass({ label, name }) {
  if (label) return colourOf(label);
  return colourOf(name ? known.length + 1 + typed.indexOf(name) : ++unnamed); // objects of no class differ in colour, too
}

export function remember(name) {
  if (!name) return;
  if (!recent.includes(name)) recent = [name, ...recent].slice(0, RECENT);
  showRecent();
}

export function showRecent() {
  const now = $("category").value.trim();
  $("recent").replaceChildren(...recent.map((name) => element("button", { type: "button", "aria-pressed": name === now ? "true" : "false", text: name, title: name,
    onclick: () => { $("category").value = name === now ? "" : name; showRecent(); } })));
}
