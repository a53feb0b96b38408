// What a reviewer does to an object: every action is on the server's disk before the page shows it as done.
import { post } from "/static/api.js";
import { desk, untilIdle, working } from "/static/desk.js";
import { refreshProgress, showProgress } from "/static/list.js";
import { $, element, say } from "/static/page.js";
import { colourOf } from "/static/palette.js";
import { fetchItem, forget } from "/static/queue.js";
import { beginAdding, beginEdit, setTool, stepBack, stepForward, stepped, tool, unsaved } from "/static/redraw.js";
import { reviewer } from "/static/reviewer.js";
import { showOthers } from "/static/look.js";

const NAMES = {
  accept: "accepting", reject: "rejecting", redraw: "redrawing", class: "the change of class", box: "the change of the box", delete: "deleting",
  add: "adding", split: "splitting", merge: "merging", undo: "undoing", redo: "redoing", revert: "taking back", comment: "the comment",
};

/** Sends an action. at: the path. body: beside version and by. then(answer): what the page does once it is on the disk. */
async function send(at, body, then, { version = desk.item?.version } = {}) {
  if (!desk.item || desk.busy) return;
  working(true);
  try {
    const answer = await post(at, { ...body, ...(version === null ? {} : { version }), by: reviewer() });
    for (const position of [desk.item.position, answer.position, ...(answer.positions ?? [])]) forget(position);
    if (answer.all_states) showProgress(answer.all_states);
    refreshProgress();
    await then(answer);
  } catch (error) {
    if (error.status === 409 && error.body.current) conflict(error.body, (current) => send(at, body, then, { version: current }), body);
    else say(`Not saved: ${error.message}`, "bad");
  } finally {
    working(false);
  }
}

const path = (what) => `/api/items/${desk.item.position}/${what}`;
/** What to say of a saved mask. */
const word = (said, answer) => (answer.moved ? `${said}; the box moved with the mask` : said);
const onward = async (word, kind = "good") => { say(word, kind); desk.edit.past = []; await desk.next(desk.item.position); };
const stay = async (word, kind = "good") => { say(word, kind); desk.edit.past = []; await desk.open(desk.item.position, { reload: true, remember: false }); };

// ---- deciding ----

export function decide(state) {
  if (!desk.item || desk.busy) return;
  if (state === "rejected") return unsaved() ? undefined : send(path("decision"), { state }, () => onward("Rejected", ""));
  if (desk.edit.asked) return say("The model is still drawing");
  if (desk.adding) return saveNew();
  const { edit } = desk, { kind } = edit;
  if (kind === "redrawn" && edit.mask.empty) return say("The mask is empty: paint something, or reject it", "bad");
  if (!kind && !desk.item.mask) return say("There is no mask to accept: redraw it, or reject it", "bad");
  if (kind === "box") return send(path("box"), { box: edit.box }, () => stay("Box saved"));
  const drawn = kind === "redrawn" ? { mask: edit.mask.runs() } : kind === "draft" ? { draft: edit.state.draft.draft } : {};
  const said = kind === "redrawn" ? "Redrawn" : desk.item.origin === "person" && !kind ? "Confirmed" : "Accepted";
  if (edit.boxChanged) return send(path("box"), { box: edit.box, ...drawn }, (answer) => onward(word(said, answer)));
  return send(path("decision"), { state: kind === "redrawn" ? "redrawn" : "accepted", ...drawn }, (answer) => onward(word(said, answer)));
}

function saveNew() {
  const { edit, adding, item } = desk, { kind, box } = edit;
  if (!kind || (kind === "redrawn" && edit.mask.empty)) return say("Drag a box around the new object first", "bad");
  const drawn = kind === "redrawn" ? { mask: edit.mask.runs() } : kind === "draft" ? { draft: edit.state.draft.draft } : {};
  const body = { category: adding.category.id, ...(box ? { box } : {}), ...drawn };
  return send(`/api/photos/${item.image.row}/add`, body, async () => {
    say(`Added: ${adding.category.name}`, "good");
    beginAdding(adding.category);
    stepped();
    setTool("add");
    await showOthers(true);
  }, { version: null });
}

export function enter() {
  if (tool()?.busy) tool().finish();
  else if (desk.edit?.kind) decide("accepted");
}

// ---- class, delete, split, merge ----

export function setClass(category) {
  if (!desk.item) return;
  if (desk.adding) {
    desk.adding.category = desk.addCategory = category;
    desk.edit.mask.colour = colourOf(category.label);
    desk.edit.mask.repaint();
    return stepped();
  }
  if (unsaved()) return;
  if (category.id === desk.item.category.id) return say(`It is ${category.name} already`);
  return send(path("class"), { category: category.id }, () => stay(`Class: ${category.name}`));
}

export function remove() {
  if (tool()?.remove?.()) return;
  const clicks = desk.edit?.clicks ?? [];
  if (desk.toolName === "click" && clicks.length) return tool().changed(clicks.slice(0, -1));
  if (!desk.item || desk.adding || unsaved()) return;
  if (desk.item.state === "deleted") return say("It is deleted already: Ctrl+Z takes it back");
  return send(path("delete"), {}, () => onward("Deleted", ""));
}

export function split() {
  if (!desk.item || desk.adding || unsaved()) return;
  if (!(desk.item.parts > 1)) return say("The mask is of one piece: there is nothing to split", "bad");
  return send(path("split"), {}, async (answer) => {
    await stay(`Split into ${answer.positions.length} objects`);
    await showOthers(true);
  });
}

desk.merge = (other) => {
  if (unsaved()) return;
  if (other.category_id !== undefined && other.category_id !== desk.item.category.id) {
    return say(`${other.category} and ${desk.item.category.name} are of two classes: change one first`, "bad");
  }
  return send("/api/merge", { positions: [desk.item.position, other.position], versions: [desk.item.version, other.version] }, () => stay("Merged"), { version: null });
};

// ---- undo and redo ----

/** Ctrl+Z: the last step of the edit, or the reviewer's last action. */
export const undo = () => (stepBack() ? undefined : walk("undo"));
export const redo = () => (stepForward() ? undefined : walk("redo"));

/** U: the reviewer's last action. */
export const undoAction = () => (unsaved() ? undefined : walk("undo"));
export const redoAction = () => (unsaved() ? undefined : walk("redo"));

let walks = Promise.resolve();

/** Ten quick presses are ten steps, one after another: two that wait would both find the page idle. */
function walk(which, skip = false) {
  walks = walks.then(() => walkOnce(which, skip));
  return walks;
}

async function walkOnce(which, skip) {
  await untilIdle();
  if (!desk.session) return;
  if (desk.adding && !desk.edit.changed) beginEdit();
  working(true);
  try {
    const answer = await post(`/api/${which}`, { by: reviewer(), skip });
    for (const position of answer.positions) forget(position);
    showProgress(answer.all_states);
    say(`${which === "undo" ? "Undone" : "Done again"}: ${NAMES[answer.what] ?? answer.what}${answer.count > 1 ? ` (${answer.count.toLocaleString()} objects)` : ""}`);
    refreshProgress();
    await showAfter(answer.positions);
  } catch (error) {
    if (error.status === 409) blocked(which, error.body);
    else if (error.status === 422) say(which === "undo" ? "Nothing to undo" : "Nothing to redo");
    else say(`Not saved: ${error.message}`, "bad");
  } finally {
    working(false);
  }
}

/** Opens what an undo changed: the current object if it is among it, else the first that still exists. */
async function showAfter(positions) {
  const here = desk.item?.position;
  const wanted = positions.includes(here) ? [here, ...positions] : positions;
  for (const position of wanted.slice(0, 5)) {
    const found = await fetchItem(position).catch(() => null);
    if (found && (found.item.state !== "deleted" || !found.item.added)) return desk.open(position, { reload: true, remember: false });
  }
  return here === undefined || positions.includes(here) ? desk.next(-1) : desk.open(here, { reload: true, remember: false });
}

function blocked(which, body) {
  const names = body.conflicts.map(({ id, by, what }) => element("li", { text: `annotation ${id}: ${by}, ${NAMES[what] ?? what}` }));
  ask({
    title: "Another reviewer changed this since", text: body.detail, rows: names,
    yes: which === "undo" ? "Undo the rest" : "Redo the rest", no: "Leave everything", run: () => walk(which, true),
  });
}

// ---- conflicts ----

function conflict(body, again, asked) {
  const { current } = body;
  forget(current.position);
  const mine = current.by === reviewer() && asked.state && current.state === asked.state;
  if (mine) return onward(`Saved: ${asked.state}`); // our own decision, whose answer was lost
  const what = asked.state ? `decision (${asked.state})` : "change";
  if (!asked.mask) { // shows their mask behind the dialog
    fetchItem(current.position).then((found) => { if (desk.item?.position === current.position) desk.show({ ...found, item: current }); }).catch(() => {});
  }
  ask({
    title: "Another reviewer decided first", text: `${body.detail}. Your ${what} was not saved.`,
    yes: asked.state ? "Decide anyway" : "Change it anyway", no: "Keep theirs", run: () => again(current.version), leave: () => onward("", ""),
  });
}

function ask({ title, text, rows = [], yes, no, run, leave = () => {} }) {
  $("conflict-title").textContent = title;
  $("conflict-text").textContent = text;
  $("conflict-rows").replaceChildren(...rows);
  $("overrule").textContent = yes;
  $("leave").textContent = no;
  $("overrule").onclick = () => { $("conflict-dialog").close(); run(); };
  $("leave").onclick = () => { $("conflict-dialog").close(); leave(); };
  $("conflict-dialog").showModal();
}

// ---- the file ----

export async function exportFile() {
  try {
    const answer = await post("/api/export");
    const more = { "class changed": answer.classes_changed, "box changed": answer.boxes_changed, added: answer.added, deleted: answer.deleted };
    const counts = [...Object.entries(answer.counts).map(([state, count]) => [state, count]), ...Object.entries(more)];
    const text = [...new Map(counts.filter(([, count]) => count))].map(([state, count]) => `${count.toLocaleString()} ${state}`).join(", ");
    say(`Written: ${answer.out} (${text || "no decisions yet"})`, "good");
  } catch (error) {
    say(error.message, "bad");
  }
}
