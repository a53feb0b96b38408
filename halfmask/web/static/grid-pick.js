// Selecting in the grid: pointer, frame, touch and keyboard.
import { $ } from "/static/page.js";
import { changed, goTo, grid, indicesIn, pickOnly, pickRange } from "/static/grid-list.js";

const MOVED = 6; // pixels from which a press is a drag
const EDGE = 40; // pixels at the border where a drag scrolls
let press = null;

const indexAt = (target) => Number(target.closest?.(".tile")?.dataset.index ?? -1);

const byTouch = (event) => (event.pointerType ? event.pointerType !== "mouse" : matchMedia("(pointer: coarse)").matches);

function down(event) {
  if (event.button !== 0 || event.pointerType !== "mouse") return;
  if (event.offsetX > $("scroller").clientWidth) return; // the scroll bar
  press = { x: event.clientX, y: event.clientY, top: $("scroller").scrollTop, before: new Set(event.ctrlKey || event.metaKey || event.shiftKey ? grid.picked : []), frame: false };
}

function move(event) {
  if (!press) return;
  if (!press.frame && Math.hypot(event.clientX - press.x, event.clientY - press.y) < MOVED) return;
  press.frame = true;
  const place = $("scroller"), box = place.getBoundingClientRect();
  if (event.clientY > box.bottom - EDGE) place.scrollTop += 14;
  if (event.clientY < box.top + EDGE) place.scrollTop -= 14;
  const startY = press.y + press.top - place.scrollTop;
  const [left, right] = [press.x, event.clientX].sort((a, b) => a - b), [top, bottom] = [startY, event.clientY].sort((a, b) => a - b);
  Object.assign($("rubber").style, { left: `${left}px`, top: `${Math.max(box.top, top)}px`, width: `${right - left}px`, height: `${Math.min(box.bottom, bottom) - Math.max(box.top, top)}px` });
  $("rubber").hidden = false;
  grid.picked = new Set([...press.before, ...indicesIn(left, top, right, bottom).map((index) => grid.positions[index])]);
  changed();
}

function up() {
  const dragged = press?.frame;
  press = null;
  $("rubber").hidden = true;
  if (!dragged) return;
  const swallow = (event) => event.stopPropagation(); // the click that ends the drag
  addEventListener("click", swallow, { capture: true });
  setTimeout(() => removeEventListener("click", swallow, { capture: true }));
}

function click(event) {
  const index = indexAt(event.target);
  if (index < 0) return;
  const position = grid.positions[index], touch = byTouch(event);
  $("scroller").focus({ preventScroll: true });
  if (event.shiftKey) pickRange(grid.anchor, index);
  else if (touch || event.ctrlKey || event.metaKey || event.target.closest(".tick")) {
    if (grid.picked.has(position)) grid.picked.delete(position);
    else grid.picked.add(position);
    grid.anchor = index;
  } else {
    pickOnly([position]);
    grid.anchor = index;
  }
  goTo(index);
  changed();
}

/** Moves by so many tiles; with Shift the way is selected. */
function step(by, event) {
  const from = grid.at;
  goTo(grid.at + by);
  if (event.shiftKey) pickRange(from, grid.at);
  else grid.anchor = grid.at;
}

function toggleNow() {
  const position = grid.positions[grid.at];
  if (position === undefined) return;
  if (grid.picked.has(position)) grid.picked.delete(position);
  else grid.picked.add(position);
  grid.anchor = grid.at;
  changed();
}

const rows = () => Math.max(1, Math.floor($("scroller").clientHeight / (($("scroller").scrollHeight / Math.max(1, Math.ceil(grid.positions.length / grid.columns))) || 1)));

/** Keys that move and select; Shift variants too. */
export function pickKeys() {
  const moves = {
    ArrowRight: () => 1, ArrowLeft: () => -1, ArrowDown: () => grid.columns, ArrowUp: () => -grid.columns,
    PageDown: () => grid.columns * rows(), PageUp: () => -grid.columns * rows(), Home: () => -grid.positions.length, End: () => grid.positions.length,
  };
  const keys = { " ": toggleNow, "Control+a": () => pickOnly(grid.positions), Escape: () => pickOnly([]) };
  for (const [name, by] of Object.entries(moves)) keys[name] = keys[`Shift+${name}`] = (event) => step(by(), event);
  return keys;
}

export function listenToPicks(open) {
  const place = $("scroller");
  place.addEventListener("pointerdown", down);
  addEventListener("pointermove", move);
  addEventListener("pointerup", up);
  addEventListener("pointercancel", up);
  place.addEventListener("click", click);
  place.addEventListener("dblclick", (event) => { const index = byTouch(event) ? -1 : indexAt(event.target); if (index >= 0) open(grid.positions[index]); });
  place.addEventListener("dragstart", (event) => event.preventDefault());
}
