// The review page: one mask after another, worst score first.
import { get, getPicture, post } from "/static/api.js";
import { Mask } from "/static/mask.js";
import { $, element, listKeys, listenToKeys, percent, say, showHelp } from "/static/page.js";
import { colourOf, css } from "/static/palette.js";
import { Stage } from "/static/stage.js";
import { BoxTool, BrushTool, PolygonTool } from "/static/tools.js";

const STATES = ["filled", "accepted", "redrawn", "rejected"];
const WORDS = { filled: "to review", accepted: "accepted", redrawn: "redrawn", rejected: "rejected" };
const AHEAD = 2; // masks that are fetched before they are asked for
const LISTED = 12;
const CLIENT = sessionStorage.client ??= crypto.randomUUID?.() ?? String(Math.random());
const KEPT = 200; // decisions that can be taken back after a reload

const stage = new Stage($("stage"));
const fetched = new Map(); // position → promise of { item, picture, fault }
const trail = []; // positions seen, for Back
let mine = JSON.parse(sessionStorage.mine ?? "[]"); // [position, version] of own decisions, for Undo
let session, item, mask, draft, toolName = "move", busy = false, opening = 0;

// ---- fetching ----

function filter() {
  const states = [...$("states").querySelectorAll("input:checked")].map((box) => box.value);
  const category = $("category").value;
  const [low, high] = ["low", "high"].map((id) => Math.min(1, Math.max(0, Number($(id).value) || 0)));
  return { ...(states.length < 4 && states.length ? { state: states } : {}), ...(category ? { category } : {}), low, high };
}

function fetchItem(position) {
  if (!fetched.has(position)) {
    const promise = (async () => {
      const found = await get(`/api/items/${position}`);
      try {
        return { item: found, picture: await picture(found.image.row) };
      } catch (error) {
        return { item: found, picture: null, fault: error.message };
      }
    })();
    fetched.set(position, promise);
    promise.catch(() => fetched.delete(position));
    while (fetched.size > 8) fetched.delete(fetched.keys().next().value);
  }
  return fetched.get(position);
}

const pictures = new Map(); // row → promise; several masks share a photograph
function picture(row) {
  if (!pictures.has(row)) {
    const promise = getPicture(`/api/photos/${row}`);
    pictures.set(row, promise);
    promise.catch(() => pictures.delete(row));
    while (pictures.size > 4) pictures.delete(pictures.keys().next().value);
  }
  return pictures.get(row);
}

const queue = (after, more = {}) => get("/api/queue", { ...filter(), after, count: LISTED, client: CLIENT, ...more });

// ---- showing ----

async function open(position, { remember = true, anew = false } = {}) {
  const turn = ++opening;
  if (anew) fetched.delete(position);
  const slow = setTimeout(() => cover("loading", "Loading…"), 250);
  try {
    const found = await fetchItem(position);
    if (turn !== opening) return;
    if (remember && item && item.position !== position) trail.push(item.position);
    ({ item } = found);
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

function show({ picture: photograph, fault }) {
  cover();
  draft = null;
  const { width, height } = item.image, colour = colourOf(item.category.label);
  mask = new Mask(width, height, item.box, item.mask, colour);
  const object = { mask, box: item.box, colour };
  stage.moved = false;
  stage.show({ width, height, picture: photograph, objects: [object], others: item.others }, item.box);
  stage.canvas.setAttribute("aria-label", `${item.category.name} in ${item.image.file_name}, score ${percent(item.mask_score)}, ${WORDS[item.state]}`);
  if (fault) cover("note", "The photograph cannot be shown", fault);
  else if (item.fault) cover("note", "There is no mask that could be shown", item.fault);
  describe();
  setTool("move");
}

function describe() {
  document.body.classList.add("ready");
  $("name").textContent = item.category.name;
  $("name").title = item.category.name;
  $("swatch").style.backgroundColor = css(colourOf(item.category.label));
  $("state").textContent = WORDS[item.state];
  $("state").className = `state ${item.state}`;
  const score = draft ? draft.score : item.mask_score;
  $("score-text").textContent = percent(score);
  $("score").style.inlineSize = `${score * 100}%`;
  const who = item.by ? `${WORDS[item.state]} by ${item.by}${item.when ? `, ${ago(item.when)}` : ""}` : "not reviewed yet";
  $("facts").textContent = `${who} · annotation ${item.id} · ${item.image.file_name}`;
  $("facts").title = $("facts").textContent;
  edits();
}

function ago(when) {
  const seconds = (Date.now() - Date.parse(when)) / 1000;
  if (!(seconds > 59)) return "just now";
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  return new Date(when).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

/** What lies over the picture. kind: "" (nothing), loading, note (at the top, the page goes on) or fault, done, empty (in the middle). */
function cover(kind = "", title = "", text = "", ...more) {
  $("cover").hidden = !kind;
  $("cover").className = `cover ${kind}`;
  $("cover").replaceChildren(...(kind ? [element("div", {}, element("strong", { text: title }), ...(text ? [element("p", { text })] : []), ...more)] : []));
}

async function showList() {
  try {
    const page = await queue(item.rank);
    const row = (entry, now) => element("li", {}, element("button", { class: now ? "now" : "", "aria-current": now && "true", onclick: () => open(entry.position) },
      Object.assign(element("i", { class: "swatch" }), { style: `background-color:${css(colourOf(entry.label))}` }),
      element("span", { class: "text", text: entry.category, title: entry.category }),
      element("span", { class: "figures", text: percent(entry.score) }), element("span", { class: `dot ${entry.state}`, title: WORDS[entry.state] })));
    const now = { ...item, category: item.category.name, label: item.category.label };
    $("list").replaceChildren(row(now, true), ...page.items.filter((entry) => entry.position !== item.position).map((entry) => row(entry, false)));
    $("selected").textContent = `${page.selected.toLocaleString()} selected`;
    for (const entry of page.items.slice(0, AHEAD)) fetchItem(entry.position).catch(() => {});
  } catch (error) {
    say(error.message, "bad");
  }
}

function showProgress(states) {
  const reviewed = session.total - states.filled;
  const bar = $("progress");
  bar.setAttribute("aria-valuemax", session.total);
  bar.setAttribute("aria-valuenow", reviewed);
  for (const state of ["accepted", "redrawn", "rejected"]) bar.querySelector(`.${state}`).style.inlineSize = `${(states[state] / session.total) * 100}%`;
  $("progress-text").textContent = `${reviewed.toLocaleString()} of ${session.total.toLocaleString()}`;
  bar.title = `${states.accepted} accepted, ${states.redrawn} redrawn, ${states.rejected} rejected, ${states.filled} to review`;
}

async function refreshProgress() {
  try {
    const wanted = filter();
    delete wanted.state;
    const progress = await get("/api/progress", wanted);
    showProgress(progress.all_states);
    for (const state of STATES) $(`count-${state}`).textContent = progress.states[state].toLocaleString();
    const people = Object.entries(progress.reviewers).map(([name, counts]) => [name, Object.values(counts).reduce((a, b) => a + b, 0)]);
    people.sort((a, b) => b[1] - a[1]);
    $("reviewers").replaceChildren(...people.slice(0, 8).map(([name, count]) => element("li", {}, element("span", { class: "text", text: name, title: name }), element("span", { class: "figures", text: count.toLocaleString() }))));
    $("people").hidden = !people.length;
    return progress;
  } catch {
    return null; // said by whatever is done next
  }
}

// ---- going on ----

async function next(after = item?.rank ?? -1) {
  try {
    let page = await queue(after, { count: 2 });
    if (!page.items.length && after >= 0) page = await queue(-1, { count: 2 }); // what was skipped
    const entry = page.items.find((e) => e.position !== item?.position) ?? page.items[0];
    if (!entry) return finish();
    if (entry.position === item?.position && item.state !== "filled") return finish();
    if (entry.position === item?.position) say("This is the last one");
    await open(entry.position);
  } catch (error) {
    say(error.message, "bad");
  }
}

async function finish() {
  opening++;
  item = mask = draft = null;
  stage.show({ width: 1, height: 1, picture: null, objects: [] });
  stage.scene = null;
  stage.draw();
  stage.canvas.setAttribute("aria-label", "No mask is shown");
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
  if (left) cover("empty", "No mask fits the filter", `${left.toLocaleString()} masks are still to review, or somebody else looks at them.`, clear);
  else cover("done", "Everything is reviewed", STATES.slice(1).map((s) => `${progress?.all_states[s] ?? 0} ${s}`).join(", "), save);
}

async function back() {
  if (unsaved()) return;
  if (trail.length) return open(trail.pop(), { remember: false, anew: true });
  if (!item) return;
  try {
    const page = await queue(item.rank, { backwards: true, count: 1 });
    if (page.items.length) await open(page.items[0].position, { remember: false });
    else say("This is the first one");
  } catch (error) {
    say(error.message, "bad");
  }
}

function skip() {
  if (item && !unsaved()) next();
}

// ---- deciding ----

async function decide(state, version = item?.version, more = null) {
  if (!item || busy) return;
  if (state === "rejected" && unsaved()) return;
  const redraws = mask.changed && state === "accepted";
  if (redraws && mask.empty) return say("The mask is empty: paint something, or reject it", "bad");
  if (!redraws && state === "accepted" && !item.mask && !draft) return say("There is no mask to accept: redraw it, or reject it", "bad");
  const body = more ?? (redraws ? { state: "redrawn", mask: mask.runs() } : { state, ...(draft && state === "accepted" ? { draft: draft.draft } : {}) });
  const decided = item;
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
  fetched.delete(decided.position);
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
  fetched.delete(current.position);
  if (current.by === reviewer() && current.state === asked.state) { // our own, whose answer got lost on the way
    mine.push([current.position, current.version]);
    next(current.rank);
    return;
  }
  $("conflict-text").textContent = `${body.detail}. Yours (${asked.state}) was not saved.`;
  const strokes = asked.mask ? asked : null;
  $("overrule").onclick = () => {
    $("conflict-dialog").close();
    decide(asked.state, current.version, asked);
  };
  $("leave").onclick = () => {
    $("conflict-dialog").close();
    next(current.rank);
  };
  if (!strokes) { // theirs is shown beneath the question
    item = current;
    fetchItem(current.position).then((found) => item === current && show(found)).catch(() => {});
  }
  $("conflict-dialog").showModal();
}

async function undo() {
  if (busy || unsaved()) return;
  const [position, version] = mine.at(-1) ?? (item?.version ? [item.position, item.version] : []);
  if (position === undefined) return say("Nothing to take back");
  working(true);
  try {
    const answer = await post(`/api/items/${position}/undo`, { version, by: reviewer() });
    mine.pop();
    showProgress(answer.all_states);
    say("Taken back");
    refreshProgress();
    await open(position, { anew: true });
  } catch (error) {
    if (error.status === 409) mine.pop();
    say(error.status === 409 ? `Cannot be taken back: ${error.body.detail}` : `Not saved: ${error.message}`, "bad");
    if (error.status === 409) await open(position, { anew: true });
  } finally {
    sessionStorage.mine = JSON.stringify(mine);
    working(false);
  }
}

function unsaved() {
  if (!mask?.changed && !tool()?.busy) return false;
  say("The redrawn mask is not saved: Enter saves it, Esc drops it", "bad");
  return true;
}

function working(now) {
  busy = now;
  document.body.classList.toggle("busy", now);
}

// ---- redrawing ----

function tool() {
  return stage.tool;
}

function setTool(name) {
  if (!item && name !== "move") return;
  if (tool()?.busy && name !== toolName) tool().drop();
  toolName = name;
  const radius = () => Number($("radius").value);
  const changed = () => { draft = null; describe(); };
  stage.tool = {
    move: () => null,
    box: () => new BoxTool(stage, segment),
    brush: () => new BrushTool(stage, mask, radius, true, changed),
    eraser: () => new BrushTool(stage, mask, radius, false, changed),
    polygon: () => new PolygonTool(stage, mask, changed),
  }[name]();
  for (const button of $("tools").children) {
    const on = button.dataset.tool === name;
    button.setAttribute("aria-checked", on);
    button.tabIndex = on ? 0 : -1;
  }
  stage.canvas.dataset.tool = name;
  edits();
  stage.draw();
}

/** The strip below the picture, and what Accept means now. */
function edits() {
  const paints = ["brush", "eraser"].includes(toolName), changed = Boolean(mask?.changed);
  const texts = {
    box: "Drag a box: the model draws its mask",
    brush: "Paint what is missing",
    eraser: "Rub out what is too much",
    polygon: "Click corners; Enter closes",
  };
  $("edit").hidden = !item || (toolName === "move" && !changed && !draft);
  $("edit-text").textContent = changed ? "Redrawn, not saved" : draft ? `The model's mask, score ${percent(draft.score)}` : texts[toolName] ?? "";
  $("brush-size").hidden = !paints;
  $("step-back").hidden = !changed;
  $("cancel").textContent = changed || draft ? "Cancel" : "Close";
  $("accept").firstElementChild.textContent = changed ? "Save redrawn" : draft ? "Accept this" : "Accept";
  $("accept").lastElementChild.textContent = changed ? "↵" : "A";
  for (const id of ["accept", "reject", "next"]) $(id).disabled = !item;
}

async function segment(box) {
  const asked = item;
  stage.scene.objects[0].box = box;
  stage.draw();
  cover("loading", "The model draws…");
  try {
    const answer = await post(`/api/items/${asked.position}/segment`, { box });
    if (item !== asked) return;
    cover();
    showDraft(answer);
  } catch (error) {
    if (item !== asked) return;
    cover();
    stage.scene.objects[0].box = item.box;
    stage.draw();
    say(error.message, "bad");
  }
}

function showDraft(answer) {
  draft = answer;
  const { width, height } = item.image;
  mask = new Mask(width, height, answer.box, answer.mask, colourOf(item.category.label));
  Object.assign(stage.scene.objects[0], { mask, box: answer.box });
  describe();
  stage.draw();
}

function stepBack() {
  if (tool()?.busy) return tool().back();
  if (mask?.back()) {
    stage.draw();
    describe();
  }
}

function cancel() {
  if (!item) return;
  if (tool()?.busy) return tool().drop();
  if (!mask.changed && !draft) return setTool("move");
  draft = null;
  mask = new Mask(item.image.width, item.image.height, item.box, item.mask, colourOf(item.category.label));
  Object.assign(stage.scene.objects[0], { mask, box: item.box });
  describe();
  setTool("move");
}

function enter() {
  if (tool()?.busy) tool().finish();
  else if (mask?.changed || draft) decide("accepted");
}

// ---- the rest of the page ----

function reviewer() {
  return localStorage.reviewer ?? "";
}

function askName() {
  $("name-input").value = reviewer();
  $("name-dialog").showModal();
  $("name-input").select();
}

$("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("name-input").value.trim().replace(/\s+/g, " ");
  if (!name) return;
  localStorage.reviewer = name;
  $("who").textContent = name;
  $("name-dialog").close();
});
$("name-dialog").addEventListener("cancel", (event) => { if (!reviewer()) event.preventDefault(); });

async function exportFile() {
  try {
    const answer = await post("/api/export");
    const counts = Object.entries(answer.counts).map(([state, count]) => `${count.toLocaleString()} ${state}`).join(", ");
    say(`Written: ${answer.out} (${counts || "nothing was decided yet"})`, "good");
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
  item = null;
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

function toggle(id, field) {
  stage[field] = !stage[field];
  $(id).setAttribute("aria-pressed", stage[field]);
  stage.draw();
}

function resize(factor) {
  $("radius").value = Math.max(2, Math.min(80, Math.round(Number($("radius").value) * factor) || 2));
  stage.draw();
}

const keys = {
  a: () => decide("accepted"), r: () => decide("rejected"), n: skip, ArrowRight: skip, p: back, ArrowLeft: back,
  u: undo, "Control+z": stepBack, Enter: enter, s: enter, Escape: cancel,
  v: () => setTool("move"), x: () => setTool("box"), b: () => setTool("brush"), e: () => setTool("eraser"), g: () => setTool("polygon"),
  "[": () => resize(0.8), "]": () => resize(1.25), "+": () => stage.zoom(1.3), "=": () => stage.zoom(1.3), "-": () => stage.zoom(1 / 1.3),
  f: () => stage.toggleFit(), m: () => toggle("show-mask", "showMasks"), o: () => toggle("show-others", "showOthers"),
  "?": showHelp, " ": () => { stage.holdToPan = true; },
};

listKeys($("keys"), [
  ["A", "accept the mask"], ["R", "reject it"], ["N →", "go on without a decision"], ["P ←", "the one before"], ["U", "take the last decision back"],
  ["X", "drag a box: the model segments again"], ["B", "brush (Shift erases)"], ["E", "eraser"], ["G", "polygon (Shift cuts out)"], ["[ ]", "smaller, larger brush"],
  ["Ctrl+Z", "take a stroke or corner back"], ["Enter", "close the polygon; save the redrawn mask"], ["Esc", "leave the mask as it was"],
  ["M", "mask on and off"], ["O", "boxes of the other objects"], ["F", "object or whole photograph"], ["+ -", "zoom"], ["V", "move"], ["?", "this list"],
]);
listenToKeys(keys, new Set(["[", "]", "+", "=", "-"]));
document.addEventListener("keyup", (event) => { if (event.key === " ") stage.holdToPan = false; });

const clicks = {
  accept: () => decide("accepted"), reject: () => decide("rejected"), next: skip, previous: back, undo, cancel, "step-back": stepBack,
  "zoom-in": keys["+"], "zoom-out": keys["-"], fit: keys.f, "show-mask": keys.m, "show-others": keys.o, help: keys["?"], who: askName,
  export: exportFile, "export-narrow": exportFile, "open-panel": () => panel(true), "close-panel": () => panel(false),
};
for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
$("tools").addEventListener("click", (event) => {
  const name = event.target.closest("button")?.dataset.tool;
  if (name) setTool(name);
});
$("tools").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  event.stopPropagation();
  const buttons = [...$("tools").children], at = buttons.findIndex((button) => button.dataset.tool === toolName);
  const chosen = buttons[(at + step + buttons.length) % buttons.length];
  setTool(chosen.dataset.tool);
  chosen.focus();
});
$("radius").addEventListener("input", () => stage.draw());
$("filter").addEventListener("change", applyFilter);
$("filter").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("beforeunload", (event) => { if (mask?.changed) event.preventDefault(); });
window.addEventListener("hashchange", () => { const at = Number(location.hash.slice(1)); if (location.hash.length > 1 && at !== item?.position && !unsaved()) open(at); });
setInterval(() => { if (!document.hidden && session) refreshProgress(); }, 20_000);

async function start() {
  for (const state of STATES) {
    const box = element("input", { type: "checkbox", id: `state-${state}`, value: state, checked: state === "filled" });
    $("states").append(element("label", { class: state }, box, element("span", { text: WORDS[state] }), element("span", { class: "figures", id: `count-${state}` })));
  }
  cover("loading", "Loading…");
  setTool("move");
  try {
    session = await get("/api/session");
  } catch (error) {
    return cover("fault", "The review cannot be opened", error.message);
  }
  $("file").textContent = $("file").title = session.file;
  document.title = `${session.file} – halfmask review`;
  for (const one of session.categories.toSorted((a, b) => a.name.localeCompare(b.name))) {
    $("category").append(element("option", { value: one.id, text: `${one.name} (${one.count.toLocaleString()})` }));
  }
  restoreFilter();
  refreshProgress();
  $("who").textContent = reviewer() || "Name?";
  if (!reviewer()) askName();
  if (/^#\d+$/.test(location.hash)) await open(Number(location.hash.slice(1)));
  if (!item) await next(-1);
}

start();
