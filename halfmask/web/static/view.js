// Shows the picture, the card, the list and the progress of the review page.
import { get } from "/static/api.js";
import { desk, stage, STATES, WORDS } from "/static/desk.js";
import { Mask } from "/static/mask.js";
import { $, cover, element, percent, say } from "/static/page.js";
import { colourOf, css } from "/static/palette.js";
import { AHEAD, fetchItem, filter, queue } from "/static/queue.js";
import { edits, setTool } from "/static/redraw.js";

/** Shows a fetched mask on the stage. */
export function show({ picture: photograph, fault }) {
  cover();
  desk.draft = null;
  const { width, height } = desk.item.image, colour = colourOf(desk.item.category.label);
  desk.mask = new Mask(width, height, desk.item.box, desk.item.mask, colour);
  const object = { mask: desk.mask, box: desk.item.box, colour };
  stage.moved = false;
  stage.show({ width, height, picture: photograph, objects: [object], others: desk.item.others }, desk.item.box);
  stage.canvas.setAttribute("aria-label", `${desk.item.category.name} in ${desk.item.image.file_name}, score ${percent(desk.item.mask_score)}, ${WORDS[desk.item.state]}`);
  if (fault) cover("note", "The photograph cannot be shown", fault);
  else if (desk.item.fault) cover("note", "This mask cannot be shown", desk.item.fault);
  describe();
  setTool("move");
}

/** Updates the card beside the picture, and its buttons. */
export function describe() {
  document.body.classList.add("ready");
  $("name").textContent = desk.item.category.name;
  $("name").title = desk.item.category.name;
  $("swatch").style.backgroundColor = css(colourOf(desk.item.category.label));
  $("state").textContent = WORDS[desk.item.state];
  $("state").className = `state ${desk.item.state}`;
  const score = desk.draft ? desk.draft.score : desk.item.mask_score;
  $("score-text").textContent = percent(score);
  $("score").style.inlineSize = `${score * 100}%`;
  const who = desk.item.by ? `${WORDS[desk.item.state]} by ${desk.item.by}${desk.item.when ? `, ${ago(desk.item.when)}` : ""}` : "not reviewed yet";
  $("facts").textContent = `${who} · annotation ${desk.item.id} · ${desk.item.image.file_name}`;
  $("facts").title = $("facts").textContent;
  edits();
}

function ago(when) {
  const seconds = (Date.now() - Date.parse(when)) / 1000;
  if (!(seconds > 59)) return "just now";
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  return new Date(when).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

/** Updates the list of the next masks. */
export async function showList(open) {
  try {
    const page = await queue(desk.item.rank);
    const row = (entry, now) => element("li", {}, element("button", { class: now ? "now" : "", "aria-current": now && "true", onclick: () => open(entry.position) },
      Object.assign(element("i", { class: "swatch" }), { style: `background-color:${css(colourOf(entry.label))}` }),
      element("span", { class: "text", text: entry.category, title: entry.category }),
      element("span", { class: "figures", text: percent(entry.score) }), element("span", { class: `dot ${entry.state}`, title: WORDS[entry.state] })));
    const now = { ...desk.item, category: desk.item.category.name, label: desk.item.category.label };
    $("list").replaceChildren(row(now, true), ...page.items.filter((entry) => entry.position !== desk.item.position).map((entry) => row(entry, false)));
    $("selected").textContent = `${page.selected.toLocaleString()} selected`;
    for (const entry of page.items.slice(0, AHEAD)) fetchItem(entry.position).catch(() => {});
  } catch (error) {
    say(error.message, "bad");
  }
}

export function showProgress(states) {
  const reviewed = desk.session.total - states.filled;
  const bar = $("progress");
  bar.setAttribute("aria-valuemax", desk.session.total);
  bar.setAttribute("aria-valuenow", reviewed);
  for (const state of ["accepted", "redrawn", "rejected"]) bar.querySelector(`.${state}`).style.inlineSize = `${(states[state] / desk.session.total) * 100}%`;
  $("progress-text").textContent = `${reviewed.toLocaleString()} of ${desk.session.total.toLocaleString()}`;
  bar.title = `${states.accepted} accepted, ${states.redrawn} redrawn, ${states.rejected} rejected, ${states.filled} to review`;
}

export async function refreshProgress() {
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
    return null; // the next request reports it
  }
}

desk.onchange = describe;
