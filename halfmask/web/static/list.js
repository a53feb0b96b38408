// The list of the next objects, the progress and the reviewers.
import { get } from "/static/api.js";
import { desk, openStates, STATES, WORDS } from "/static/desk.js";
import { $, element, percent, say } from "/static/page.js";
import { colourOf, css } from "/static/palette.js";
import { AHEAD, fetchItem, filter, queue } from "/static/queue.js";

const ROW = 34, ROW_TOUCH = 48; // CSS pixels
const FEWEST = 4, LONGEST = 90;

/** As many rows as the list has room for. */
function rows() {
  const row = matchMedia("(pointer: coarse)").matches || innerWidth <= 760 ? ROW_TOUCH : ROW;
  return Math.min(LONGEST, Math.max(FEWEST, Math.floor($("list").clientHeight / row)));
}

/** Updates the list of the next objects. */
export async function showList() {
  const { item } = desk;
  if (!item) return;
  try {
    const page = await queue({ beyond: item.position, count: rows() });
    if (desk.item !== item) return;
    const row = (entry, now) => element("li", {}, element("button", { class: now ? "now" : "", "aria-current": now && "true", onclick: () => desk.open(entry.position) },
      Object.assign(element("i", { class: "swatch" }), { style: `background-color:${css(colourOf(entry.label))}` }),
      element("span", { class: "text", text: entry.category, title: entry.category }), ...(entry.comments > 0 ? [element("span", { class: "figures", text: `${entry.comments} ✎`, title: "Open comments" })] : []),
      element("span", { class: "figures", text: percent(entry.value ?? entry.score) }), element("span", { class: `dot ${entry.state}`, title: WORDS[entry.state] })));
    const value = $("sort").value === "disagreement" ? item.doubt : null;
    const now = { ...item, value, category: item.category.name, label: item.category.label, comments: (item.comments ?? []).filter((one) => one.open).length };
    const others = page.items.filter((entry) => entry.position !== item.position);
    $("list").replaceChildren(row(now, true), ...others.slice(0, rows() - 1).map((entry) => row(entry, false)));
    $("selected").textContent = `${page.selected.toLocaleString()} selected`;
    for (const entry of others.slice(0, AHEAD)) fetchItem(entry.position).catch(() => {});
  } catch (error) {
    say(error.message, "bad");
  }
}

export function showProgress(states) {
  const count = (names) => names.reduce((sum, name) => sum + (states[name] ?? 0), 0);
  const total = count(STATES) || 1, left = count(openStates()), done = { accepted: ["accepted", "confirmed"], redrawn: ["redrawn"], rejected: ["rejected", "deleted"] };
  const bar = $("progress");
  bar.setAttribute("aria-valuemax", total);
  bar.setAttribute("aria-valuenow", total - left);
  for (const [name, names] of Object.entries(done)) bar.querySelector(`.${name}`).style.inlineSize = `${(count(names) / total) * 100}%`;
  $("progress-text").textContent = `${(total - left).toLocaleString()} of ${total.toLocaleString()}`;
  bar.title = STATES.filter((name) => states[name]).map((name) => `${states[name].toLocaleString()} ${WORDS[name]}`).join(", ");
}

export async function refreshProgress() {
  try {
    const wanted = filter();
    for (const key of ["state", "sort", "reverse"]) delete wanted[key];
    const progress = await get("/api/progress", wanted), usual = desk.session.origin === "person" ? "confirmed" : "accepted";
    showProgress(progress.all_states);
    for (const state of STATES) {
      const count = progress.states[state] ?? 0;
      $(`count-${state}`).textContent = count.toLocaleString();
      $(`state-${state}`).parentElement.hidden = !progress.all_states[state] && !$(`state-${state}`).checked && ![usual, "rejected"].includes(state);
    }
    const people = Object.entries(progress.reviewers).map(([name, counts]) => [name, Object.values(counts).reduce((a, b) => a + b, 0)]);
    people.sort((a, b) => b[1] - a[1]);
    $("reviewers").replaceChildren(...people.slice(0, 8).map(([name, count]) => element("li", {}, element("span", { class: "text", text: name, title: name }), element("span", { class: "figures", text: count.toLocaleString() }))));
    $("people").hidden = !people.length;
    const chosen = $("by").value;
    $("by").replaceChildren(element("option", { value: "", text: "Anybody" }), ...people.map(([name]) => element("option", { value: name, text: name })));
    if (chosen && !people.some(([name]) => name === chosen)) $("by").append(element("option", { value: chosen, text: chosen }));
    $("by").value = chosen;
    return progress;
  } catch {
    return null; // the next request reports it
  }
}

export function startList() {
  let before = 0, timer;
  new ResizeObserver(() => {
    if (rows() === before) return;
    before = rows();
    clearTimeout(timer);
    timer = setTimeout(showList, 80);
  }).observe($("list"));
}
