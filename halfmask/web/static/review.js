// The review page: one mask after another, worst score first.
import { get, post } from "/static/api.js";
import { listenToTools, toggle, viewKeys } from "/static/controls.js";
import { desk, stage, STATES, WORDS } from "/static/desk.js";
import { $, cover, element, listKeys, listenToKeys, say, showHelp } from "/static/page.js";
import { fetchItem, forget, queue } from "/static/queue.js";
import { cancel, edits, setTool, stepBack, tool, unsaved } from "/static/redraw.js";
import { askName, reviewer } from "/static/reviewer.js";
import { refreshProgress, show, showList, showProgress } from "/static/view.js";

const KEPT = 200; // decisions that can be undone after a reload
const trail = []; // positions seen, for Back
let mine = JSON.parse(sessionStorage.mine ?? "[]"); // [position, version] of own decisions, for Undo
let opening = 0;

async function open(position, { remember = true, reload = false } = {}) {
  const turn = ++opening;
  if (reload) forget(position);
  const slow = setTimeout(() => cover("loading", "Loading…"), 250);
  try {
    const found = await fetchItem(position);
    if (turn !== opening) return;
    if (remember && desk.item && desk.item.position !== position) trail.push(desk.item.position);
    desk.item = found.item;
    if ($("news").classList.contains("bad")) say("");
    show(found);
    history.replaceState(null, "", `#${position}`);
    showList(open);
  } catch (error) {
    if (turn === opening) cover("fault", "This mask cannot be shown", error.message);
  } finally {
    clearTimeout(slow);
  }
}

// ---- the next mask ----

async function next(after = desk.item?.rank ?? -1) {
  try {
    let page = await queue(after, { count: 2 });
    if (!page.items.length && after >= 0) page = await queue(-1, { count: 2 }); // skipped masks
    const entry = page.items.find((e) => e.position !== desk.item?.position) ?? page.items[0];
    if (!entry) return finish();
    if (entry.position === desk.item?.position && desk.item.state !== "filled") return finish();
    if (entry.position === desk.item?.position) say("This is the last mask");
    await open(entry.position);
  } catch (error) {
    say(error.message, "bad");
  }
}

async function finish() {
  opening++;
  desk.item = desk.mask = desk.draft = null;
  stage.show({ width: 1, height: 1, picture: null, objects: [] });
  stage.scene = null;
  stage.draw();
  stage.canvas.setAttribute("aria-label", "No mask");
  document.body.classList.remove("ready");
  for (const id of ["name", "state", "facts"]) $(id).textContent = "";
  $("score-text").textContent = "–";
  $("score").style.inlineSize = "0";
  $("swatch").style.backgroundColor = "";
  $("state").className = "state";
  $("list").replaceChildren();
  history.replaceState(null, "", "#");
  edits();
  const progress = await refreshProgress();
  $("selected").textContent = "";
  const left = progress?.all_states.filled ?? 0;
  const save = element("button", { text: "Save the reviewed file", class: "accept", onclick: exportFile });
  const clear = element("button", { text: "Clear the filter", onclick: clearFilter });
  if (left) cover("empty", "No mask fits the filter", `${left.toLocaleString()} masks are still to review: the filter hides them, or another reviewer has them.`, clear);
  else cover("done", "Everything is reviewed", STATES.slice(1).map((s) => `${progress?.all_states[s] ?? 0} ${s}`).join(", "), save);
}

async function back() {
  if (unsaved()) return;
  if (trail.length) return open(trail.pop(), { remember: false, reload: true });
  if (!desk.item) return;
  try {
    const page = await queue(desk.item.rank, { backwards: true, count: 1 });
    if (page.items.length) await open(page.items[0].position, { remember: false });
    else say("This is the first mask");
  } catch (error) {
    say(error.message, "bad");
  }
}

function skip() {
  if (desk.item && !unsaved()) next();
}

// ---- deciding ----

async function decide(state, version = desk.item?.version, more = null) {
  if (!desk.item || desk.busy) return;
  if (state === "rejected" && unsaved()) return;
  const redraws = desk.mask.changed && state === "accepted";
  if (redraws && desk.mask.empty) return say("The mask is empty: paint something, or reject it", "bad");
  if (!redraws && state === "accepted" && !desk.item.mask && !desk.draft) return say("There is no mask to accept: redraw it, or reject it", "bad");
  const body = more ?? (redraws ? { state: "redrawn", mask: desk.mask.runs() } : { state, ...(desk.draft && state === "accepted" ? { draft: desk.draft.draft } : {}) });
  const decided = desk.item;
  working(true);
  try {
    const answer = await post(`/api/items/${decided.position}/decision`, { ...body, version, by: reviewer() });
    saved(decided, answer, body.state);
    await next(decided.rank);
  } catch (error) {
    if (error.status === 409) conflict(error.body, body);
    else say(`Not saved: ${error.message}`, "bad");
  } finally {
    working(false);
  }
}

function saved(decided, answer, state) {
  forget(decided.position);
  mine = [...mine, [decided.position, answer.version]].slice(-KEPT);
  sessionStorage.mine = JSON.stringify(mine);
  showProgress(answer.all_states);
  flash(state);
  refreshProgress();
}

function flash(state) {
  say(`${state[0].toUpperCase()}${state.slice(1)}`, state === "rejected" ? "" : "good");
}

function conflict(body, asked) {
  const { current } = body;
  forget(current.position);
  if (current.by === reviewer() && current.state === asked.state) { // our own decision, whose answer was lost
    mine.push([current.position, current.version]);
    next(current.rank);
    return;
  }
  $("conflict-text").textContent = `${body.detail}. Your decision (${asked.state}) was not saved.`;
  const strokes = asked.mask ? asked : null;
  $("overrule").onclick = () => {
    $("conflict-dialog").close();
    decide(asked.state, current.version, asked);
  };
  $("leave").onclick = () => {
    $("conflict-dialog").close();
    next(current.rank);
  };
  if (!strokes) { // shows their mask behind the dialog
    desk.item = current;
    fetchItem(current.position).then((found) => desk.item === current && show(found)).catch(() => {});
  }
  $("conflict-dialog").showModal();
}

async function undo() {
  if (desk.busy || unsaved()) return;
  const [position, version] = mine.at(-1) ?? (desk.item?.version ? [desk.item.position, desk.item.version] : []);
  if (position === undefined) return say("Nothing to undo");
  working(true);
  try {
    const answer = await post(`/api/items/${position}/undo`, { version, by: reviewer() });
    mine.pop();
    showProgress(answer.all_states);
    say("Undone");
    refreshProgress();
    await open(position, { reload: true });
  } catch (error) {
    if (error.status === 409) mine.pop();
    say(error.status === 409 ? `Cannot undo: ${error.body.detail}` : `Not saved: ${error.message}`, "bad");
    if (error.status === 409) await open(position, { reload: true });
  } finally {
    sessionStorage.mine = JSON.stringify(mine);
    working(false);
  }
}

function working(now) {
  desk.busy = now;
  document.body.classList.toggle("busy", now);
}

function enter() {
  if (tool()?.busy) tool().finish();
  else if (desk.mask?.changed || desk.draft) decide("accepted");
}

// ---- the rest of the page ----

async function exportFile() {
  try {
    const answer = await post("/api/export");
    const counts = Object.entries(answer.counts).map(([state, count]) => `${count.toLocaleString()} ${state}`).join(", ");
    say(`Written: ${answer.out} (${counts || "no decisions yet"})`, "good");
  } catch (error) {
    say(error.message, "bad");
  }
}

function clearFilter() {
  $("filter").reset();
  applyFilter();
}

function applyFilter() {
  sessionStorage.filter = JSON.stringify(Object.fromEntries([...$("filter").elements].filter((e) => e.id).map((e) => [e.id, e.type === "checkbox" ? e.checked : e.value])));
  if (unsaved()) return;
  desk.item = null;
  refreshProgress();
  next(-1);
}

function restoreFilter() {
  for (const [id, value] of Object.entries(JSON.parse(sessionStorage.filter ?? "{}"))) {
    const field = $(id);
    if (field?.type === "checkbox") field.checked = value;
    else if (field && "value" in field) field.value = value;
  }
}

function panel(shown) {
  $("panel").classList.toggle("shown", shown);
  $("open-panel").setAttribute("aria-expanded", shown);
  if (shown) $("category").focus();
}

function resize(factor) {
  $("radius").value = Math.max(2, Math.min(80, Math.round(Number($("radius").value) * factor) || 2));
  stage.draw();
}

const keys = {
  a: () => decide("accepted"), r: () => decide("rejected"), n: skip, ArrowRight: skip, p: back, ArrowLeft: back,
  u: undo, "Control+z": stepBack, Enter: enter, s: enter, Escape: cancel,
  v: () => setTool("move"), x: () => setTool("box"), b: () => setTool("brush"), e: () => setTool("eraser"), g: () => setTool("polygon"),
  "[": () => resize(0.8), "]": () => resize(1.25), o: () => toggle(stage, "show-others", "showOthers"), "?": showHelp,
  ...viewKeys(stage, () => stage.toggleFit()),
};

listKeys($("keys"), [
  ["A", "accept the mask"], ["R", "reject it"], ["N →", "skip without a decision"], ["P ←", "previous mask"], ["U", "undo the last decision"],
  ["X", "drag a box: the model segments again"], ["B", "brush (Shift erases)"], ["E", "eraser"], ["G", "polygon (Shift cuts out)"], ["[ ]", "smaller, larger brush"],
  ["Ctrl+Z", "undo a stroke or corner"], ["Enter", "close the polygon; save the redrawn mask"], ["Esc", "discard the changes"],
  ["M", "show or hide the mask"], ["O", "show or hide the boxes of other objects"], ["F", "switch between object and whole photograph"], ["+ -", "zoom"], ["V", "move"], ["?", "this list"],
]);
listenToKeys(keys, new Set(["[", "]", "+", "=", "-"]));

const clicks = {
  accept: () => decide("accepted"), reject: () => decide("rejected"), next: skip, previous: back, undo, cancel, "step-back": stepBack,
  "show-others": keys.o, help: showHelp, who: askName,
  export: exportFile, "export-narrow": exportFile, "open-panel": () => panel(true), "close-panel": () => panel(false),
};
for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
listenToTools(setTool);
$("radius").addEventListener("input", () => stage.draw());
$("filter").addEventListener("change", (event) => {
  if (event.target === $("category")) stage.canvas.focus({ preventScroll: true }); // or letters would select a class
  applyFilter();
});
$("filter").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("beforeunload", (event) => { if (desk.mask?.changed) event.preventDefault(); });
window.addEventListener("hashchange", () => { const at = Number(location.hash.slice(1)); if (location.hash.length > 1 && at !== desk.item?.position && !unsaved()) open(at); });
setInterval(() => { if (!document.hidden && desk.session) refreshProgress(); }, 20_000);

async function start() {
  for (const state of STATES) {
    const box = element("input", { type: "checkbox", id: `state-${state}`, value: state, checked: state === "filled" });
    $("states").append(element("label", { class: state }, box, element("span", { text: WORDS[state] }), element("span", { class: "figures", id: `count-${state}` })));
  }
  cover("loading", "Loading…");
  setTool("move");
  try {
    desk.session = await get("/api/session");
  } catch (error) {
    return cover("fault", "The review cannot be opened", error.message);
  }
  $("file").textContent = $("file").title = desk.session.file;
  document.title = `${desk.session.file} – halfmask review`;
  for (const one of desk.session.categories.toSorted((a, b) => a.name.localeCompare(b.name))) {
    $("category").append(element("option", { value: one.id, text: `${one.name} (${one.count.toLocaleString()})` }));
  }
  restoreFilter();
  refreshProgress();
  $("who").textContent = reviewer() || "Name?";
  if (!reviewer()) askName();
  if (/^#\d+$/.test(location.hash)) await open(Number(location.hash.slice(1)));
  if (!desk.item) await next(-1);
}

start();
