// The review page: one object after another, worst score first.
import { decide, enter, exportFile, redo, redoAction, remove, split, undo, undoAction } from "/static/actions.js";
import { get } from "/static/api.js";
import { describe, show, showHistory, startComments } from "/static/card.js";
import { startChanges } from "/static/changes.js";
import { choose, chooseNumber, openClasses, startClasses } from "/static/classes.js";
import { listenToTools, viewKeys } from "/static/controls.js";
import { arrow, hideCrosshair, press } from "/static/crosshair.js";
import { desk, openStates, stage, STATES, WORDS } from "/static/desk.js";
import { startDoubts } from "/static/doubts.js";
import { fillHelp } from "/static/help.js";
import { refreshProgress, showList, startList } from "/static/list.js";
import { loadOthers, lookKeys, showOthers, startLook } from "/static/look.js";
import { objectAt } from "/static/click_tool.js";
import { $, cover, element, listenToKeys, say, showHelp } from "/static/page.js";
import { fetchItem, forget, queue } from "/static/queue.js";
import { cancel, edits, followBox, grow, setTool, shrink, smooth, stepBack, stepForward, stepped, tool, unsaved } from "/static/redraw.js";
import { askName, reviewer } from "/static/reviewer.js";

const trail = []; // positions seen, for Back
let opening = 0;

async function open(position, { remember = true, reload = false } = {}) {
  if (remember && position !== desk.item?.position && unsaved()) return;
  const turn = ++opening;
  if (reload) forget(position);
  const slow = setTimeout(() => cover("loading", "Loading…"), 250);
  try {
    const found = await fetchItem(position);
    if (turn !== opening) return;
    if (remember && desk.item && desk.item.position !== position) trail.push(desk.item.position);
    if ($("news").classList.contains("bad")) say("");
    show(found);
    history.replaceState(null, "", `#${position}`);
    showList();
  } catch (error) {
    if (turn === opening) cover("fault", "This mask cannot be shown", error.message);
  } finally {
    clearTimeout(slow);
  }
}

// ---- the next object ----

/** Opens what follows an object in the queue, whatever its order; −1: the first. */
async function next(beyond = desk.item?.position ?? -1) {
  try {
    let page = await queue(beyond < 0 ? { count: 2 } : { beyond, count: 2 });
    if (!page.items.length && beyond >= 0) page = await queue({ count: 2 }); // skipped objects
    const entry = page.items.find((e) => e.position !== desk.item?.position) ?? page.items[0];
    if (!entry) return finish();
    if (entry.position === desk.item?.position && !openStates().includes(desk.item.state)) return finish();
    if (entry.position === desk.item?.position) say("This is the last mask");
    await open(entry.position);
  } catch (error) {
    say(error.message, "bad");
  }
}

/** step: class or photo. */
async function nextOf(step) {
  if (!desk.item || unsaved()) return;
  const names = { class: `of the class ${desk.item.category.name}`, photo: "on another photograph" };
  try {
    const page = await queue({ beyond: desk.item.position, count: 1, step });
    if (page.items.length) await open(page.items[0].position);
    else say(`No further object ${names[step]} in this queue`);
  } catch (error) {
    say(error.message, "bad");
  }
}

async function finish() {
  opening++;
  desk.item = desk.edit = desk.adding = null;
  setTool("move");
  stage.show({ width: 1, height: 1, picture: null, objects: [] });
  stage.scene = null;
  stage.draw();
  stage.canvas.setAttribute("aria-label", "No mask");
  document.body.classList.remove("ready");
  for (const id of ["name", "state", "facts"]) $(id).textContent = "";
  $("score-text").textContent = "–";
  $("meter").classList.add("none");
  $("swatch").style.backgroundColor = "";
  $("state").className = "state";
  for (const id of ["list", "history-list", "comment-list", "recent"]) $(id).replaceChildren();
  history.replaceState(null, "", "#");
  edits();
  const progress = await refreshProgress();
  $("selected").textContent = "";
  const states = progress?.all_states ?? {}, left = openStates().reduce((sum, state) => sum + (states[state] ?? 0), 0);
  const save = element("button", { text: "Save the reviewed file", class: "accept", onclick: exportFile });
  const clear = element("button", { text: "Clear the filter", onclick: clearFilter });
  if (left) cover("empty", "No mask fits the filter", `${left.toLocaleString()} masks are still to review: the filter hides them, or another reviewer has them.`, clear);
  else cover("done", "Everything is reviewed", STATES.filter((s) => !openStates().includes(s) && states[s]).map((s) => `${states[s].toLocaleString()} ${WORDS[s]}`).join(", "), save);
}

async function back() {
  if (unsaved()) return;
  if (trail.length) return open(trail.pop(), { remember: false, reload: true });
  if (!desk.item) return;
  try {
    const page = await queue({ beyond: desk.item.position, backwards: true, count: 1 });
    if (page.items.length) await open(page.items[0].position, { remember: false });
    else say("This is the first mask");
  } catch (error) {
    say(error.message, "bad");
  }
}

function skip() {
  if (desk.item && !unsaved()) next();
}

// ---- filter and panel ----

function clearFilter() {
  $("filter").reset();
  applyFilter();
}

function applyFilter() {
  sessionStorage.filter = JSON.stringify(Object.fromEntries([...$("filter").elements].filter((e) => e.id).map((e) => [e.id, e.type === "checkbox" ? e.checked : e.value])));
  if (unsaved()) return;
  desk.item = null;
  tellNarrowed();
  refreshProgress();
  next(-1);
}

/** Says beside More what hides there. */
function tellNarrowed() {
  const set = [Number($("low").value) > 0 || Number($("high").value) < 1, $("by").value, $("commented").checked].filter(Boolean).length;
  $("narrowed").textContent = set ? `(${set} set)` : "";
  if (set) $("more").open = true;
}

function restoreFilter() {
  for (const [id, value] of Object.entries(JSON.parse(sessionStorage.filter ?? "{}"))) {
    const field = $(id);
    if (id === "by" && value) field.append(element("option", { value, text: value }));
    if (field?.type === "checkbox") field.checked = value;
    else if (field && "value" in field) field.value = value;
  }
}

function panel(shown) {
  $("panel").classList.toggle("shown", shown);
  $("open-panel").setAttribute("aria-expanded", shown);
  if (!shown) $("open-panel").focus();
}

/** name: queue, history or comments. */
function tab(name, focus = true) {
  for (const each of ["queue", "history", "comments"]) {
    const on = each === name;
    $(each).hidden = !on;
    $(`${each}-tab`).setAttribute("aria-selected", on);
    $(`${each}-tab`).tabIndex = on ? 0 : -1;
  }
  if (innerWidth <= 760) panel(true);
  if (name === "history") showHistory();
  if (name === "queue") showList();
  if (focus) (name === "comments" ? $("comment-text") : $(`${name}-tab`)).focus();
}

// ---- keys ----

function bracket(step) {
  if (tool()?.choose) tool().choose(step);
  else $("radius").value = Math.max(2, Math.min(80, Math.round(Number($("radius").value) * (step > 0 ? 1.25 : 0.8)) || 2));
  stage.draw();
}

function sign() {
  if (desk.toolName !== "click") setTool("click");
  if (tool()) tool().negative = !tool().negative;
  edits();
}

function towards(dx, dy, leaps, otherwise = () => {}) {
  if (desk.toolName === "move" || !tool()) return otherwise();
  arrow(desk.toolName, dx, dy, leaps);
}

function escape() {
  if (!$("look").hidden) return lookKeys.y();
  hideCrosshair();
  cancel();
}

const tools = { v: "move", x: "box", c: "click", b: "brush", e: "eraser", g: "polygon", d: "vertices", i: "add", j: "merge" };
const view = viewKeys(stage, () => stage.toggleFit());
const keys = {
  a: () => decide("accepted"), r: () => decide("rejected"), n: skip, p: back, "Shift+n": () => nextOf("photo"), "Shift+l": () => nextOf("class"),
  u: undoAction, "Shift+u": redoAction, "Control+z": undo, "Control+Shift+z": redo, "Control+y": redo, Enter: enter, Escape: escape,
  l: openClasses, Delete: remove, Backspace: remove, k: split, h: () => tab("history"), t: () => tab("comments"), q: () => tab("queue"),
  s: followBox, ".": grow, ",": shrink, "/": smooth, "[": () => bracket(-1), "]": () => bracket(1), "Shift+c": sign,
  o: () => showOthers(!stage.showOthers), "?": showHelp, "Control+s": exportFile, "Shift+w": askName, "Shift+x": clearFilter,
  "Shift+f": () => { tab("queue"); $("category").focus(); }, "Shift+g": () => { if (!unsaved()) location.href = "/grid"; },
  ...view, ...lookKeys, ...Object.fromEntries(Object.entries(tools).map(([key, name]) => [key, () => setTool(name)])),
  " ": (event) => { if (!press(desk.toolName, event)) view[" "](event); },
};
for (let number = 1; number <= 9; number++) keys[number] = () => chooseNumber(number);
for (const [name, dx, dy, otherwise] of [["Left", -1, 0, back], ["Right", 1, 0, skip], ["Up", 0, -1], ["Down", 0, 1]]) {
  keys[`Arrow${name}`] = () => towards(dx, dy, false, otherwise);
  keys[`Shift+Arrow${name}`] = () => towards(dx, dy, true);
}
listenToKeys(keys, new Set(["[", "]", "+", "=", "-", ".", ",", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]));
fillHelp();

const clicks = {
  accept: keys.a, reject: keys.r, next: skip, previous: back, undo: undoAction, redo: redoAction, cancel, "step-back": stepBack, "step-forward": stepForward,
  class: openClasses, delete: remove, split, merge: () => setTool("merge"), segment: followBox, grow, shrink, smooth, corner: remove, sign,
  "next-photo": keys["Shift+n"], "next-class": keys["Shift+l"], help: showHelp, who: askName, export: exportFile, "export-narrow": exportFile,
  "open-panel": () => panel(true), "close-panel": () => panel(false), "clear-filter": clearFilter,
  "queue-tab": () => tab("queue", false), "history-tab": () => tab("history", false), "comments-tab": () => tab("comments", false),
};
for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", () => action());
listenToTools(setTool);
$("tabs").addEventListener("keydown", (event) => {
  const names = ["queue", "history", "comments"], step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.stopPropagation();
  const at = names.findIndex((name) => !$(name).hidden), to = names[(at + step + 3) % 3];
  tab(to, false);
  $(`${to}-tab`).focus();
});
$("radius").addEventListener("input", () => stage.draw());
$("filter").addEventListener("change", (event) => {
  if (event.target.tagName === "SELECT") stage.canvas.focus({ preventScroll: true }); // or letters would select an option
  applyFilter();
});
$("filter").addEventListener("submit", (event) => event.preventDefault());
$("stage").addEventListener("pointermove", hideCrosshair);
$("grid-link").addEventListener("click", (event) => { if (unsaved()) event.preventDefault(); });
window.addEventListener("beforeunload", (event) => { if (desk.edit?.changed) event.preventDefault(); });
window.addEventListener("hashchange", () => { const at = Number(location.hash.slice(1)); if (location.hash.length > 1 && at !== desk.item?.position && !unsaved()) open(at); });

// ---- start ----

let forced = false; // others are shown because the tool needs them

Object.assign(desk, { open, next, show, onchange: describe, onstep: stepped, choose });
desk.ontool = (name) => {
  hideCrosshair();
  $("merge").setAttribute("aria-pressed", name === "merge");
  const needs = Boolean(desk.adding) || name === "merge";
  if (needs && !stage.showOthers) showOthers(forced = true);
  else if (!needs && forced) showOthers(forced = false);
  else loadOthers();
};
stage.ontap = (point) => {
  const other = stage.showOthers && desk.toolName === "move" && stage.scene ? objectAt(stage.scene.others ?? [], point) : null;
  if (other && other.position !== desk.item?.position) open(other.position);
};

async function start() {
  for (const state of STATES) {
    const box = element("input", { type: "checkbox", id: `state-${state}`, value: state });
    $("states").append(element("label", { class: state }, box, element("span", { text: WORDS[state] }), element("span", { class: "figures", id: `count-${state}` })));
  }
  cover("loading", "Loading…");
  setTool("move");
  try {
    desk.session = await get("/api/session");
  } catch (error) {
    return cover("fault", "The review cannot be opened", error.message);
  }
  for (const state of openStates()) $(`state-${state}`).setAttribute("checked", ""); // also what Clear goes back to
  $("file").textContent = $("file").title = desk.session.file;
  document.title = `${desk.session.file} – halfmask review`;
  for (const one of desk.session.categories.toSorted((a, b) => a.name.localeCompare(b.name))) {
    $("category").append(element("option", { value: one.id, text: `${one.name} (${one.count.toLocaleString()})` }));
  }
  for (const option of [...$("sort").options]) if (!(desk.session.sorts ?? ["score"]).includes(option.value.split(" ")[0])) option.remove();
  if (desk.session.origin === "person") $("sort").querySelector("[value=disagreement]")?.setAttribute("selected", ""); // also what Clear goes back to
  restoreFilter();
  tellNarrowed();
  startLook();
  startClasses();
  startComments();
  startList();
  startChanges();
  startDoubts();
  refreshProgress();
  $("who").textContent = reviewer() || "Name?";
  if (!reviewer()) askName();
  if (/^#\d+$/.test(location.hash)) await open(Number(location.hash.slice(1)));
  if (!desk.item) await next(-1);
}

start();
