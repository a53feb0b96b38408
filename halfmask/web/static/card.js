// The current object: picture, card, its history and its comments.
import { get, post } from "/static/api.js";
import { showRecent } from "/static/classes.js";
import { currentCategory, desk, stage, WORDS } from "/static/desk.js";
import { loadOthers } from "/static/look.js";
import { $, cover, element, percent, say } from "/static/page.js";
import { colourOf, css } from "/static/palette.js";
import { forget } from "/static/queue.js";
import { beginEdit, edits, setTool } from "/static/redraw.js";
import { reviewer } from "/static/reviewer.js";

const DID = {
  accept: "accepted it", reject: "rejected it", redraw: "redrew the mask", class: "set the class", box: "moved the box", delete: "deleted it",
  add: "added it", split: "split it", merge: "merged it", undo: "undid a step", redo: "redid a step", revert: "took a decision back", comment: "commented",
};

/** Shows a fetched object on the stage. */
export function show({ item, picture, fault }) {
  cover();
  desk.item = item;
  const { width, height, row } = item.image;
  stage.moved = false;
  $("edit").hidden = true; // the strip of the object before would take room
  stage.show({ width, height, row, picture, objects: [], others: item.others }, item.box);
  beginEdit();
  stage.canvas.setAttribute("aria-label", `${item.category.name} in ${item.image.file_name}, score ${percent(item.mask_score)}, ${WORDS[item.state]}`);
  if (fault) cover("note", "The photograph cannot be shown", fault);
  else if (item.fault) cover("note", "This mask cannot be shown", item.fault);
  setTool("move");
  describe();
  loadOthers();
  showComments(item.comments ?? []);
  if (!$("history").hidden) showHistory();
}

/** Updates the card, and its buttons. */
export function describe() {
  const { item } = desk;
  if (!item) return edits();
  const category = currentCategory();
  document.body.classList.add("ready");
  $("name").textContent = $("name").title = desk.adding ? `New: ${category.name}` : category.name;
  $("swatch").style.backgroundColor = css(colourOf(category.label));
  $("state").textContent = desk.adding ? "not saved" : WORDS[item.state] ?? item.state;
  $("state").className = `state ${desk.adding ? "" : item.state}`;
  showScore(desk.edit?.state.draft);
  $("facts").textContent = $("facts").title = facts();
  showRecent();
  edits();
}

/** The score of a model's mask, or how doubtful a person's is. */
function showScore(draft) {
  const { item } = desk, score = draft ? draft.score : desk.adding ? null : item.mask_score;
  const doubt = draft || desk.adding ? null : item.doubt ?? null, shown = score ?? doubt;
  $("score-text").textContent = score === null && doubt !== null ? `doubt ${percent(doubt)}` : percent(score);
  $("score").style.inlineSize = `${(shown ?? 0) * 100}%`;
  $("meter").classList.toggle("none", shown === null);
  $("meter").title = score === null ? "How much the mask differs from the model's, and from what masks are like" : "The model's own estimate of the mask's IoU";
}

function facts() {
  const { item } = desk;
  if (desk.adding) return `a new object on ${item.image.file_name}`;
  const undecided = ["filled", "annotated", "missing"].includes(item.state);
  const who = item.by && !undecided ? `${WORDS[item.state]} by ${item.by}${item.when ? `, ${ago(item.when)}` : ""}` : { annotated: "drawn by a person", missing: "no mask yet" }[item.state] ?? "not reviewed yet";
  return [who, ...(item.box_alone ? ["the mask is of an earlier box"] : []), ...(item.parts > 1 ? [`${item.parts} parts`] : []),
    `${item.added ? "added here" : `annotation ${item.id}`}`, item.image.file_name].join(" · ");
}

export function ago(when) {
  const seconds = (Date.now() - Date.parse(when)) / 1000;
  if (!(seconds > 59)) return "just now";
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  return new Date(when).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

// ---- history ----

export async function showHistory() {
  const { item } = desk;
  if (!item) return $("history-list").replaceChildren();
  try {
    const { entries } = await get(`/api/items/${item.position}/history`);
    if (desk.item !== item) return;
    $("history-list").replaceChildren(...entries.map(historyRow));
    $("history-none").hidden = entries.length > 0;
  } catch (error) {
    say(error.message, "bad");
  }
}

function historyRow(entry) {
  const more = entry.what === "comment" ? entry.text : entry.what === "class" ? entry.category : entry.together > 1 ? `${entry.together.toLocaleString()} objects in one step` : "";
  return element("li", {}, element("i", { class: `dot ${entry.state ?? ""}` }), element("p", {}, element("b", { text: entry.by ?? "?" }), ` ${DID[entry.what] ?? entry.what}`, ...(more ? [": ", element("q", { text: more })] : []),
    element("small", { text: `${entry.when ? ago(entry.when) : ""}${entry.state ? ` · ${WORDS[entry.state] ?? entry.state}` : ""}` })));
}

// ---- comments ----

function showComments(comments) {
  const open = comments.filter((comment) => comment.open).length;
  $("comment-count").textContent = open ? String(open) : "";
  $("comment-list").replaceChildren(...comments.map((comment) => element("li", { class: comment.open ? "" : "closed" },
    element("p", {}, element("b", { text: comment.by }), element("small", { text: ` ${ago(comment.when)}` })), element("p", { class: "words", text: comment.text }),
    element("button", { text: comment.open ? "Resolve" : "Open again", "aria-label": `${comment.open ? "Resolve" : "Open again"}: ${comment.text.slice(0, 60)}`, onclick: () => send(`comments/${comment.number}`, { open: !comment.open }) }))));
  $("comment-none").hidden = comments.length > 0;
}

async function send(what, body) {
  const { item } = desk;
  if (!item) return false;
  try {
    const answer = await post(`/api/items/${item.position}/${what}`, { ...body, by: reviewer() });
    item.comments = answer.comments;
    forget(item.position);
    if (desk.item === item) showComments(answer.comments);
    return true;
  } catch (error) {
    say(`Not saved: ${error.message}`, "bad");
    return false;
  }
}

export function startComments() {
  $("comment-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = $("comment-text").value.trim();
    if (text && await send("comments", { text })) {
      $("comment-text").value = "";
      say("Comment saved", "good");
    }
  });
  $("comment-text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("comment-form").requestSubmit();
    if (event.key === "Escape") stage.canvas.focus({ preventScroll: true });
  });
}
