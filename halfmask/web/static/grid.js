// The grid page: many masks at once, sorted and filtered; every action on them is one step.
import { get } from "/static/api.js";
import { askAbove, askClass, askDelete, decide, listenToBatches, takeBack, whenChanged } from "/static/grid-batch.js";
import { inPlace, noteOrder, watchDoubts } from "/static/grid-doubts.js";
import { draw, grid, layOut, pickOnly, renewEntries, showOrder, whenPicked } from "/static/grid-list.js";
import { listenToPicks, pickKeys } from "/static/grid-pick.js";
import { showStatistics } from "/static/grid-statistics.js";
import { $, cover, element, listKeys, listenToKeys, say, showHelp } from "/static/page.js";
import { askName, reviewer } from "/static/reviewer.js";

const SORTS = { score: "Score", disagreement: "Disagreement", class: "Class", size: "Size", file: "File" };
const STATES = { filled: "to review", annotated: "people's", accepted: "accepted", confirmed: "confirmed", redrawn: "redrawn", rejected: "rejected", missing: "no mask", deleted: "deleted" };
const WORDS = { score: ["↑ lowest first", "↓ highest first"], disagreement: ["↑ most doubtful first", "↓ least doubtful first"], size: ["↑ smallest first", "↓ largest first"] };
const POLL = 5000;
let session = null, seq = 0, turn = 0, reverse = false;

/** The filter as query values; the same names as the batch takes. */
export function filter() {
  const [low, high] = ["low", "high"].map((id) => Math.min(1, Math.max(0, Number($(id).value) || 0)));
  const states = [...$("states").querySelectorAll("input:checked")].map((box) => box.value);
  const [least, most] = $("area").value.split("-");
  return {
    low, high, ...(states.length ? { state: states } : {}), ...($("category").value ? { category: [$("category").value] } : {}),
    ...($("origin").value ? { origin: [$("origin").value] } : {}), ...(least ? { least_area: Number(least) } : {}), ...(most ? { most_area: Number(most) } : {}),
  };
}

/** Fetches the order anew. keep: the selection and the place stay, and masks where new scores came meanwhile. */
export async function refresh({ keep = true } = {}) {
  const mine = ++turn;
  const slow = setTimeout(() => mine === turn && cover("loading", "Loading…"), 400);
  try {
    const stays = keep && $("sort").value === "disagreement";
    if (!stays) await noteOrder();
    const order = await get("/api/grid/order", { ...filter(), sort: $("sort").value, reverse });
    if (mine !== turn) return;
    cover();
    showOrder(stays ? inPlace(order, grid.positions) : order, { keep });
    const shown = order.positions.length, left = order.left_out;
    $("shown").textContent = `${shown.toLocaleString()} ${left ? `of ${(shown + left).toLocaleString()} ` : ""}mask${shown === 1 ? "" : "s"}`;
    if (!order.positions.length) cover("empty", "No mask fits the filter", "", element("button", { text: "Clear the filter", onclick: clearFilter }));
  } catch (error) {
    if (mine === turn) cover("fault", "The masks cannot be listed", error.message);
  } finally {
    clearTimeout(slow);
  }
}

function showPicked() {
  const count = grid.picked.size;
  $("picked").textContent = count ? `${count.toLocaleString()} selected` : "Nothing selected";
  for (const id of ["accept", "reject", "set-class", "delete", "pick-none"]) $(id).disabled = !count;
  for (const id of ["open", "pick-all"]) $(id).disabled = !grid.positions.length;
}

export function showProgress(states) {
  const review = ["filled", "annotated"].reduce((sum, state) => sum + (states[state] ?? 0), 0);
  const good = (states.accepted ?? 0) + (states.confirmed ?? 0);
  const counts = { accepted: good, redrawn: states.redrawn ?? 0, rejected: states.rejected ?? 0 };
  const done = Object.values(counts).reduce((a, b) => a + b, 0), all = Math.max(1, review + done);
  $("progress").setAttribute("aria-valuemax", all);
  $("progress").setAttribute("aria-valuenow", done);
  for (const [state, count] of Object.entries(counts)) $("progress").querySelector(`.${state}`).style.inlineSize = `${(count / all) * 100}%`;
  $("progress-text").textContent = `${done.toLocaleString()} of ${(review + done).toLocaleString()}`;
}

async function refreshProgress() {
  try {
    const wanted = filter();
    delete wanted.state;
    const progress = await get("/api/progress", wanted);
    showProgress(progress.all_states);
    for (const [state, count] of Object.entries(progress.states)) {
      const place = $(`count-${state}`);
      if (place) place.textContent = count.toLocaleString();
    }
  } catch {
    // the next request reports it
  }
}

/** Others' decisions: their tiles are fetched anew. */
async function poll() {
  if (document.hidden || !session) return;
  try {
    const news = await get("/api/changes", { since: seq, by: reviewer() || "?" });
    seq = news.seq;
    watchDoubts({ anew: news.reset });
    if (news.reset) return void (renewEntries(), refresh(), refreshProgress());
    if (!news.changes.length) return;
    for (const one of news.changes) if (grid.versions.has(one.position)) grid.versions.set(one.position, one.version);
    renewEntries(news.changes.map((one) => one.position));
    refreshProgress();
  } catch {
    // no answer: the next action says so
  }
}

function applyFilter() {
  sessionStorage.grid = JSON.stringify({ fields: Object.fromEntries([...$("filter").elements].filter((e) => e.id && e.type !== "button").map((e) => [e.id, e.type === "checkbox" ? e.checked : e.value])), sort: $("sort").value, reverse });
  refresh({ keep: false });
  refreshProgress();
}

function restoreFilter() {
  const { fields = {}, sort, reverse: turned = false } = JSON.parse(sessionStorage.grid ?? "{}");
  for (const [id, value] of Object.entries(fields)) {
    const field = $(id);
    if (field?.type === "checkbox") field.checked = value;
    else if (field && "value" in field) field.value = value;
  }
  if (sort && [...$("sort").options].some((option) => option.value === sort)) $("sort").value = sort;
  turnOrder(turned);
}

function clearFilter() {
  $("filter").reset();
  for (const box of $("states").querySelectorAll("input")) box.checked = false;
  applyFilter();
}

function turnOrder(to) {
  reverse = to;
  $("reverse").setAttribute("aria-pressed", reverse);
  const words = (WORDS[$("sort").value] ?? ["↑ first to last", "↓ last to first"])[Number(reverse)];
  $("reverse").replaceChildren(words[0], element("span", { class: "wide", text: words.slice(1) }));
  $("reverse").setAttribute("aria-label", words.slice(2));
}

/** Sorts by the scores that have come since, and goes to the first mask. */
async function sortAgain() {
  if ($("again").hidden) return;
  const picked = [...grid.picked];
  renewEntries();
  await refresh({ keep: false });
  pickOnly(picked.filter((position) => grid.versions.has(position)));
  $("scroller").focus({ preventScroll: true });
}

function panel(shown) {
  $("panel").classList.toggle("shown", shown);
  $("open-panel").setAttribute("aria-expanded", shown);
  if (shown) $("category").focus();
}

const open = (position) => { if (position !== undefined) location.href = `/#${position}`; };

const keys = {
  ...pickKeys(), Enter: () => open(grid.positions[grid.at]),
  a: () => decide("accept"), r: () => decide("reject"), c: () => askClass(session), l: () => askClass(session), Delete: askDelete, t: () => { if (!$("above").hidden) askAbove(session, filter); },
  "Control+z": () => takeBack("undo"), "Control+y": () => takeBack("redo"), "Control+Shift+z": () => takeBack("redo"), "?": showHelp,
  s: sortAgain, "Shift+g": () => { location.href = "/"; }, "Shift+f": () => panel(true), "Shift+x": clearFilter,
};

listKeys($("keys"), [
  ["← ↑ → ↓", "move; with Shift select on the way"], ["Space", "select or leave the current mask"], ["Ctrl+A", "select all that the filter shows"], ["Esc", "select nothing"],
  ["A", "accept the selected masks"], ["R", "reject them"], ["C L", "set their class"], ["Del", "delete them"], ["T", "accept all of a class above a score"],
  ["Ctrl+Z", "undo your last step"], ["Ctrl+Shift+Z Ctrl+Y", "do it again"], ["S", "sort again by new scores"], ["Enter", "open the mask in the single view"], ["Home End", "first, last mask"], ["Shift+F", "filter"], ["Shift+X", "clear the filter"], ["Shift+G", "single view"], ["?", "this list"],
]);
listenToKeys(keys, new Set(["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp", "PageDown", "PageUp"]));
listenToPicks(open);
listenToBatches(() => session);
whenPicked(showPicked);
whenChanged(async (answer) => {
  if (answer.all_states) showProgress(answer.all_states);
  renewEntries();
  await refresh();
  refreshProgress();
});

const clicks = {
  accept: () => decide("accept"), reject: () => decide("reject"), "set-class": () => askClass(session), delete: askDelete, above: () => askAbove(session, filter),
  open: () => open(grid.positions[grid.at]), "pick-all": () => pickOnly(grid.positions), "pick-none": () => pickOnly([]), undo: () => takeBack("undo"), redo: () => takeBack("redo"), "redo-narrow": () => takeBack("redo"),
  statistics: showStatistics, "statistics-narrow": showStatistics, who: askName, "who-narrow": askName, help: showHelp, clear: clearFilter, again: sortAgain,
  "open-panel": () => panel(true), "close-panel": () => panel(false), reverse: () => { turnOrder(!reverse); applyFilter(); },
};
for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
$("filter").addEventListener("change", applyFilter);
$("filter").addEventListener("submit", (event) => event.preventDefault());
$("sort").addEventListener("change", () => { turnOrder(false); applyFilter(); $("scroller").focus({ preventScroll: true }); });
$("tile-size").addEventListener("input", () => { localStorage.tile = $("tile-size").value; layOut(); });
setInterval(poll, POLL);

async function start() {
  cover("loading", "Loading…");
  if (localStorage.tile) $("tile-size").value = localStorage.tile;
  try {
    session = await get("/api/session");
  } catch (error) {
    return cover("fault", "The review cannot be opened", error.message);
  }
  seq = session.seq ?? 0;
  $("file").textContent = $("file").title = session.file;
  document.title = `${session.file} – halfmask review, grid`;
  for (const sort of session.sorts ?? ["score"]) $("sort").append(element("option", { value: sort, text: SORTS[sort] ?? sort }));
  $("above").hidden = session.origin === "person"; // people's masks have no score
  if (session.origin === "person" && session.sorts?.includes("disagreement")) $("sort").value = "disagreement";
  for (const one of session.categories.toSorted((a, b) => a.name.localeCompare(b.name))) $("category").append(element("option", { value: one.id, text: `${one.name} (${one.count.toLocaleString()})` }));
  for (const [state, words] of Object.entries(STATES)) {
    const box = element("input", { type: "checkbox", id: `state-${state}`, value: state });
    $("states").append(element("label", { class: state }, box, element("span", { text: words }), element("span", { class: "figures", id: `count-${state}` })));
  }
  restoreFilter();
  $("who").textContent = reviewer() || "Name?";
  if (!reviewer()) askName();
  await refresh({ keep: false });
  refreshProgress();
  $("scroller").focus({ preventScroll: true });
  draw();
  document.body.classList.add("ready");
}

start();
