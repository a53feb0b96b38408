// What the grid does to many masks at once. Each call is one step: undo takes all of it back.
import { get, post } from "/static/api.js";
import { grid } from "/static/grid-list.js";
import { $, element, say } from "/static/page.js";
import { askName, reviewer } from "/static/reviewer.js";

const DONE = { accept: "accepted", reject: "rejected", class: "given another class", delete: "deleted" };
const BACK = { undo: "Undone", redo: "Done again" };
let onchange = async () => {}, last = Promise.resolve(), waiting = 0, turn = 0, session = () => null, within = () => ({});

export function whenChanged(call) {
  onchange = call;
}

const masks = (count) => `${count.toLocaleString()} mask${count === 1 ? "" : "s"}`;

/** Runs a step after those before it, when the page shows what they did. */
function inTurn(step) {
  if (!reviewer()) return askName();
  waiting++;
  document.body.classList.add("working");
  last = last.then(step).finally(() => {
    waiting--;
    document.body.classList.toggle("working", waiting > 0);
  });
  return last;
}

/** Runs an action on a selection or a filter, and says what came of it. */
async function run({ positions, ...body }) {
  const chosen = positions ? { positions, versions: positions.map((position) => grid.versions.get(position) ?? 0) } : {};
  try {
    const answer = await post("/api/batch", { by: reviewer(), ...body, ...chosen });
    const parts = [`${masks(answer.changed)} ${DONE[body.action]}`];
    if (answer.unchanged) parts.push(`${answer.unchanged.toLocaleString()} were so already`);
    if (answer.conflict_count) {
      const { detail, by, id } = answer.conflicts[0] ?? {};
      parts.push(`${answer.conflict_count.toLocaleString()} left as they are (annotation ${id}: ${detail || `${by} changed it`})`);
    }
    say(`${parts.join("; ")}${answer.changed ? ". Undo takes it back" : ""}`, answer.conflict_count ? "bad" : "good");
    await onchange(answer);
  } catch (error) {
    say(`Not saved: ${error.message}`, "bad");
  }
}

const selection = () => ({ positions: [...grid.picked] });

/** Accepts or rejects the selected masks. */
export function decide(action) {
  if (!grid.picked.size) return say("Select masks first: click, drag, or Ctrl+A");
  const chosen = selection();
  inTurn(() => run({ action, ...chosen }));
}

export function askDelete() {
  if (!grid.picked.size) return say("Select masks first: click, drag, or Ctrl+A");
  $("delete-text").textContent = `Delete ${masks(grid.picked.size)} with their boxes? Undo brings them back.`;
  $("delete-dialog").showModal();
}

export function askClass(known) {
  if (!grid.picked.size) return say("Select masks first: click, drag, or Ctrl+A");
  const all = known.all_categories ?? known.categories;
  $("class-names").replaceChildren(...all.map((one) => element("option", { value: one.name })));
  $("class-text").textContent = `For ${masks(grid.picked.size)}.`;
  $("class-search").value = "";
  $("class-dialog").showModal();
}

/** Opens the dialog that accepts all of a class above a score. */
export function askAbove(known, filter) {
  within = filter;
  $("above-class").replaceChildren(element("option", { value: "", text: "All classes" }), ...known.categories.toSorted((a, b) => a.name.localeCompare(b.name)).map((one) => element("option", { value: one.id, text: one.name })));
  $("above-class").value = filter().category?.[0] ?? "";
  $("above-dialog").showModal();
  expect();
}

function aboveFilter() {
  const category = $("above-class").value, { origin, least_area, most_area } = within();
  return {
    state: ["filled"], low: Number($("above-score").value), high: 1, ...(category ? { category: [Number(category)] } : {}),
    ...(origin ? { origin } : {}), ...(least_area ? { least_area } : {}), ...(most_area ? { most_area } : {}),
  };
}

/** Says how many masks the dialog would accept, and how many of them are probably bad. */
async function expect() {
  const mine = ++turn;
  $("above-value").textContent = Number($("above-score").value).toFixed(2);
  $("above-go").disabled = true;
  try {
    const found = await get("/api/batch/preview", aboveFilter());
    if (mine !== turn) return;
    $("above-go").disabled = !found.count;
    $("above-go").textContent = `Accept ${masks(found.count)}`;
    const bad = found.expected_bad;
    const share = bad === null || !found.count ? "" : ` (${((100 * bad) / found.count).toFixed(bad / found.count < 0.1 ? 1 : 0)} %)`;
    $("above-text").replaceChildren(...(found.count
      ? ["This accepts ", element("b", { text: masks(found.count) }), ". ", ...(bad === null ? ["How many are bad is unknown: they have no score."] : ["About ", element("b", { text: `${bad < 10 ? bad.toFixed(1) : Math.round(bad).toLocaleString()}${share}` }), ` of them are expected to be bad: an IoU with the true mask below ${found.threshold}.`])]
      : ["No mask to review has such a score."]));
    $("above-ground").textContent = found.ground ?? "";
  } catch (error) {
    if (mine === turn) $("above-text").textContent = error.message;
  }
}

/** Others changed some masks of the step since: asks whether to leave those as they are. */
function askSkip(what, { detail, count }) {
  $("skip-title").textContent = what === "undo" ? "Undo the rest?" : "Do the rest again?";
  $("skip-text").textContent = `${detail.split(";")[0]}${count > 1 ? `; ${masks(count - 1)} more changed, too` : ""}. The others of this step can still be changed.`;
  $("skip-go").onclick = () => { $("skip-dialog").close(); takeBack(what, true); };
  $("skip-dialog").showModal();
}

/** Takes back this reviewer's last step, or does it again. */
export function takeBack(what, skip = false) {
  return inTurn(async () => {
    try {
      const answer = await post(`/api/${what}`, { by: reviewer(), skip });
      const left = answer.left_out ? `; ${answer.left_out.toLocaleString()} stay, which others changed since` : "";
      say(`${BACK[what]}: ${answer.what} of ${masks(answer.count)}${left}`, "good");
      await onchange(answer);
    } catch (error) {
      if (error.status === 409) askSkip(what, error.body);
      else say(error.status === 422 ? error.message : `Not saved: ${error.message}`, error.status === 422 ? "" : "bad");
    }
  });
}

export function listenToBatches(known) {
  session = known;
  $("above-class").addEventListener("change", expect);
  $("above-score").addEventListener("input", expect);
  $("above-form").addEventListener("submit", (event) => {
    event.preventDefault();
    $("above-dialog").close();
    const filter = aboveFilter();
    inTurn(() => run({ action: "accept", filter }));
  });
  $("class-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = $("class-search").value.trim().toLowerCase();
    const all = session().all_categories ?? session().categories;
    const found = all.find((one) => one.name.toLowerCase() === name) ?? all.find((one) => one.name.toLowerCase().startsWith(name));
    if (!found) {
      $("class-text").textContent = `The file has no class “${$("class-search").value}”.`;
      return;
    }
    $("class-dialog").close();
    const chosen = selection();
    inTurn(() => run({ action: "class", category: found.id, ...chosen }));
  });
  $("delete-go").addEventListener("click", () => {
    $("delete-dialog").close();
    const chosen = selection();
    inTurn(() => run({ action: "delete", ...chosen }));
  });
  for (const name of ["above", "class", "delete", "skip"]) $(`${name}-cancel`).addEventListener("click", () => $(`${name}-dialog`).close());
}
