// The grid's rows: only those near the window exist; the order is a list of positions, the rest is fetched as it comes into view.
import { get } from "/static/api.js";
import { $, element, percent, say } from "/static/page.js";
import { colourOf, css } from "/static/palette.js";

const AROUND = 2; // rows above and below the window that exist too
const ASKED = 100; // entries in one request
const KEPT = 4000; // entries that are kept
const CAPTION = 24;
const BROKEN = 1; // the doubt of a mask that cannot be read

export const grid = { positions: [], versions: new Map(), picked: new Set(), at: 0, anchor: 0, columns: 1 };
const entries = new Map(); // position → entry of the server
const stale = new Set(); // positions whose entry is shown until a newer one comes
const wanted = new Set(); // positions that are asked for
const tiles = new Map(); // index → element
let drawn = 0, onchange = () => {};

export const WORDS = { filled: "to review", annotated: "to review", confirmed: "confirmed", accepted: "accepted", redrawn: "redrawn", rejected: "rejected", missing: "no mask", deleted: "deleted" };

export function whenPicked(call) {
  onchange = call;
}

/** Shows another order; keeps what is selected of it. */
export function showOrder({ positions, versions }, { keep = false } = {}) {
  grid.positions = positions;
  grid.versions = new Map(positions.map((position, k) => [position, versions[k]]));
  if (keep) grid.picked = new Set([...grid.picked].filter((position) => grid.versions.has(position)));
  else grid.picked.clear();
  grid.at = keep ? Math.min(grid.at, Math.max(0, positions.length - 1)) : 0;
  grid.anchor = grid.at;
  for (const tile of tiles.values()) tile.remove();
  tiles.clear();
  if (!keep) $("scroller").scrollTop = 0;
  layOut();
  onchange();
}

/** Fetches entries again, all without an argument; until then the old ones are shown. */
export function renewEntries(positions = entries.keys()) {
  for (const position of positions) stale.add(position);
  draw();
}

const across = () => $("scroller").clientWidth;
const tileWidth = () => Math.floor(across() / grid.columns);
const tileHeight = () => tileWidth() + CAPTION;

/** Chooses columns for the width, and draws. */
export function layOut() {
  const size = Number($("tile-size").value), narrow = window.innerWidth <= 760;
  const first = Math.floor($("scroller").scrollTop / Math.max(1, tileHeight())) * grid.columns;
  grid.columns = Math.max(narrow ? 3 : 2, Math.floor(across() / size));
  $("space").style.blockSize = `${Math.ceil(grid.positions.length / grid.columns) * tileHeight()}px`;
  for (const tile of tiles.values()) tile.remove();
  tiles.clear();
  $("scroller").scrollTop = Math.floor(first / grid.columns) * tileHeight();
  draw();
}

/** Draws the rows near the window, and removes the others. */
export function draw() {
  const place = $("scroller"), height = tileHeight();
  const first = Math.max(0, Math.floor(place.scrollTop / height) - AROUND) * grid.columns;
  const last = Math.min(grid.positions.length, (Math.ceil((place.scrollTop + place.clientHeight) / height) + AROUND) * grid.columns);
  for (const [index, tile] of tiles) if (index < first || index >= last) { tile.remove(); tiles.delete(index); }
  const missing = [];
  for (let index = first; index < last; index++) {
    const position = grid.positions[index];
    if (!tiles.has(index)) tiles.set(index, newTile(index));
    if (!entries.has(position) || stale.has(position)) missing.push(position);
    fill(tiles.get(index), index);
  }
  const now = tiles.get(grid.at);
  if (now) place.setAttribute("aria-activedescendant", now.id);
  else place.removeAttribute("aria-activedescendant");
  if (missing.length) fetchSoon(missing);
}

let timer = 0;

function fetchSoon(missing) {
  clearTimeout(timer);
  timer = setTimeout(() => fetchEntries(missing.filter((position) => !wanted.has(position))), 60);
}

async function fetchEntries(missing) {
  for (let start = 0; start < missing.length; start += ASKED) {
    const part = missing.slice(start, start + ASKED);
    for (const position of part) wanted.add(position);
    try {
      const page = await get("/api/grid/entries", { position: part, sort: $("sort").value || "score" });
      for (const position of part) stale.delete(position);
      for (const entry of page.items) entries.set(entry.position, entry);
      while (entries.size > KEPT) entries.delete(entries.keys().next().value);
    } catch (error) {
      say(`Some masks cannot be shown: ${error.message}. Scroll to try again`, "bad");
    } finally {
      for (const position of part) wanted.delete(position);
    }
  }
  for (const [index, tile] of tiles) fill(tile, index);
}

function newTile(index) {
  const width = tileWidth(), height = tileHeight();
  const tile = element("div", { class: "tile waiting", id: `tile-${index}`, role: "option", "aria-setsize": grid.positions.length, "aria-posinset": index + 1 },
    element("div", { class: "shown" }), element("div", { class: "caption" }));
  tile.dataset.index = index;
  Object.assign(tile.style, { inlineSize: `${width}px`, blockSize: `${height}px`, left: `${(index % grid.columns) * width}px`, top: `${Math.floor(index / grid.columns) * height}px` });
  tile.firstChild.style.blockSize = `${width - 8}px`;
  $("space").append(tile);
  return tile;
}

function fill(tile, index) {
  const position = grid.positions[index], entry = entries.get(position);
  tile.setAttribute("aria-selected", grid.picked.has(position));
  tile.classList.toggle("now", index === grid.at);
  const key = entry ? `${position}:${entry.version}:${entry.state}:${entry.value}` : `${position}`;
  if (tile.dataset.key === key) return;
  tile.dataset.key = key;
  tile.className = `tile ${entry ? entry.state : "waiting"}${index === grid.at ? " now" : ""}`;
  if (!entry) {
    tile.setAttribute("aria-label", "loading");
    tile.firstChild.replaceChildren();
    tile.lastChild.replaceChildren();
    return;
  }
  const value = entry.score === null ? "" : percent(entry.score);
  const doubt = entry.value === null || entry.value === undefined ? "" : percent(entry.value), shown = doubt || value;
  const state = WORDS[entry.state] ?? entry.state, done = !["filled", "annotated", "missing"].includes(entry.state);
  const words = [entry.category, value && `score ${value}`, doubt && `doubt ${doubt}`, state].filter(Boolean);
  const broken = entry.value === BROKEN && $("sort").value === "disagreement" ? "unreadable" : "";
  // A name begins with the text in sight, so that it can be spoken to choose the mask.
  const inSight = [done ? state : broken, entry.category, shown].filter(Boolean).join(" ");
  tile.setAttribute("aria-label", [doubt ? `${inSight} doubt` : inSight, doubt && value && `score ${value}`, !done && state].filter(Boolean).join(", "));
  tile.title = `${words.join(", ")} · annotation ${entry.id}`;
  const picture = element("img", { alt: "", draggable: "false", decoding: "async", src: `/api/items/${position}/thumb?side=${Math.min(320, Math.ceil((tileWidth() * Math.min(2, devicePixelRatio)) / 80) * 80)}&version=${entry.version}` });
  picture.addEventListener("error", () => retry(picture, tile), { once: true });
  tile.firstChild.replaceChildren(picture, element("span", { class: "tick", "aria-hidden": "true", text: "✓" }),
    ...(done || broken ? [element("span", { class: `badge ${done ? entry.state : "broken"}`, text: `${done ? state : broken} ` })] : []));
  const swatch = element("i", { class: "swatch" });
  swatch.style.backgroundColor = css(colourOf(entry.label));
  tile.lastChild.replaceChildren(swatch, element("span", { class: "text", text: entry.category }), " ", element("span", { class: "figures", text: shown }), element("span", { class: `dot ${entry.state}` }));
}

/** The server may have been busy: one more try, then a line of text. */
function retry(picture, tile) {
  const address = picture.src;
  picture.addEventListener("error", () => picture.replaceWith(element("span", { class: "none", text: "the photograph cannot be shown" })), { once: true });
  setTimeout(() => { if (tile.isConnected) picture.src = `${address}&again=1`; }, 700 + Math.random() * 800);
}

/** Scrolls to an index, and makes it the current one. */
export function goTo(index) {
  const place = $("scroller"), height = tileHeight();
  grid.at = Math.min(Math.max(0, index), Math.max(0, grid.positions.length - 1));
  const top = Math.floor(grid.at / grid.columns) * height;
  if (top < place.scrollTop) place.scrollTop = top;
  else if (top + height > place.scrollTop + place.clientHeight) place.scrollTop = top + height - place.clientHeight;
  draw();
}

/** Selects or leaves the positions of a range of indices. */
export function pickRange(from, to, on = true) {
  const [first, last] = from < to ? [from, to] : [to, from];
  for (let index = first; index <= last; index++) {
    const position = grid.positions[index];
    if (position === undefined) continue;
    if (on) grid.picked.add(position);
    else grid.picked.delete(position);
  }
  changed();
}

export function pickOnly(positions) {
  grid.picked = new Set(positions);
  changed();
}

export function changed() {
  draw();
  onchange();
}

/** Indices of the tiles that a frame touches; the frame is in pixels of the window. */
export function indicesIn(left, top, right, bottom) {
  const place = $("scroller"), box = place.getBoundingClientRect(), width = tileWidth(), height = tileHeight();
  const y0 = top - box.top + place.scrollTop, y1 = bottom - box.top + place.scrollTop;
  const columns = [Math.max(0, Math.floor((left - box.left) / width)), Math.min(grid.columns - 1, Math.floor((right - box.left) / width))];
  const found = [];
  for (let row = Math.max(0, Math.floor(y0 / height)); row <= Math.floor(y1 / height); row++) {
    for (let column = columns[0]; column <= columns[1]; column++) {
      const index = row * grid.columns + column;
      if (index < grid.positions.length) found.push(index);
    }
  }
  return found;
}

$("scroller").addEventListener("scroll", () => { if (!drawn) drawn = requestAnimationFrame(() => { drawn = 0; draw(); }); }, { passive: true });
new ResizeObserver(() => layOut()).observe($("scroller"));
