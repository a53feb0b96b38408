// Helpers of both pages: elements by id, a line of news, dialogs, keys.

export const $ = (id) => document.getElementById(id);

/** Makes an element with text and attributes; text is never parsed as HTML. */
export function element(tag, { text, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** Covers the picture with a message. kind: "" (nothing), loading, note (at the top, the page goes on) or fault, done, empty (in the middle). */
export function cover(kind = "", title = "", text = "", ...more) {
  $("cover").hidden = !kind;
  $("cover").className = `cover ${kind}`;
  $("cover").replaceChildren(...(kind ? [element("div", {}, element("strong", { text: title }), ...(text ? [element("p", { text })] : []), ...more)] : []));
}

let timer;

/** Shows one line above the page's lower edge, also for screen readers. kind: "", "good" or "bad"; a bad one stays longer. */
export function say(text, kind = "") {
  const place = $("news");
  clearTimeout(timer);
  place.textContent = text;
  place.className = `news ${kind}`;
  place.hidden = !text;
  timer = setTimeout(() => { place.hidden = true; }, kind === "bad" ? 9000 : 2600);
}

/** Whether a key belongs to a field or a dialog now. A box to tick wants none of the page's keys, a slider only the arrows. */
export function typing(event) {
  const at = event.target;
  if (document.querySelector("dialog[open]")) return true;
  if (!(at instanceof HTMLElement)) return false;
  if (at.type === "checkbox") return false;
  if (at.type === "range") return event.key.startsWith("Arrow");
  return at.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName);
}

/** keys: { "a": action, "Shift+a": …, "Control+Shift+z": … }; a letter without an action of its own for Shift takes the plain one. A held key repeats only where `repeats` has it. */
export function listenToKeys(keys, repeats = new Set()) {
  document.addEventListener("keydown", (event) => {
    if (typing(event)) return;
    const control = event.ctrlKey || event.metaKey;
    if (event.altKey && !control) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const before = control ? "Control+" : "", shifted = keys[`${before}Shift+${name}`];
    const action = event.shiftKey ? shifted ?? (control || name.length > 1 ? undefined : keys[name]) : keys[`${before}${name}`];
    const pressesButton = (name === " " || name === "Enter") && /^(button|submit|checkbox)$/.test(event.target.type ?? "");
    if (!action || pressesButton || (event.repeat && !repeats.has(name))) return;
    event.preventDefault();
    action(event);
  });
}

/** Fills a list of keys: [[key, meaning], …]. */
export function listKeys(place, rows) {
  place.replaceChildren(...rows.flatMap(([keys, meaning]) => [
    element("dt", {}, ...keys.split(" ").map((key) => element("kbd", { text: key }))),
    element("dd", { text: meaning }),
  ]));
}

export function showHelp() {
  $("help-dialog").showModal();
  $("help-dialog").scrollTop = 0; // the button that has the focus is at its end
}

/** Hands a file to the visitor. */
export function download(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const percent = (value) => (value === null || value === undefined ? "–" : `${Math.round(value * 100)} %`);
