// The statistics of a review: by class, reviewer and hour, and how far reviewers agree.
import { get } from "/static/api.js";
import { $, element, percent, say } from "/static/page.js";

const GOOD = ["accepted", "confirmed"];
const count = (value) => (value ?? 0).toLocaleString();

function table(heads, rows) {
  const body = rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell instanceof Node ? cell : document.createTextNode(cell)))));
  return element("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": `Table: ${heads.join(", ")}` }, element("table", { class: "counts" }, element("thead", {}, element("tr", {}, ...heads.map((text) => element("th", { scope: "col", text })))), element("tbody", {}, ...body)));
}

/** A bar of the decided shares, with its numbers for screen readers. */
function share(states) {
  const good = GOOD.reduce((sum, state) => sum + (states[state] ?? 0), 0);
  const parts = { accepted: good, redrawn: states.redrawn ?? 0, rejected: (states.rejected ?? 0) + (states.deleted ?? 0) };
  const all = Math.max(1, good + parts.redrawn + parts.rejected + (states.filled ?? 0) + (states.annotated ?? 0));
  const bar = element("span", { class: "share track", role: "img", "aria-label": Object.entries(parts).map(([state, n]) => `${n} ${state}`).join(", ") });
  for (const [state, n] of Object.entries(parts)) {
    const part = element("i", { class: state });
    part.style.inlineSize = `${(100 * n) / all}%`;
    bar.append(part);
  }
  return bar;
}

function classes(rows) {
  const shown = rows.map(({ name, states, mean_score: score }) => [
    name, share(states), count((states.filled ?? 0) + (states.annotated ?? 0)), count(GOOD.reduce((sum, state) => sum + (states[state] ?? 0), 0)),
    count(states.redrawn), count(states.rejected), count(states.deleted), percent(score),
  ]);
  return table(["Class", "Share done", "To review", "Accepted", "Redrawn", "Rejected", "Deleted", "Mean score"], shown);
}

function reviewers(rows) {
  const when = (text) => (text ? new Date(text).toLocaleString([], { dateStyle: "short", timeStyle: "short" }) : "–");
  const rate = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString());
  return table(["Reviewer", "Actions", "An hour", "First", "Last"], rows.map((row) => [row.name, count(row.actions), rate(row.per_hour), when(row.first), when(row.last)]));
}

function hours(rows) {
  const shown = rows.slice(-48).map((row) => [row, Object.values(row.by).reduce((a, b) => a + b, 0)]);
  const most = Math.max(1, ...shown.map(([, n]) => n));
  return element("div", { class: "hours" }, ...shown.map(([row, n]) => {
    const at = new Date(row.hour.length === 17 ? row.hour.replace("Z", ":00Z") : row.hour), bar = element("i");
    bar.style.blockSize = `${(100 * n) / most}%`;
    const who = Object.entries(row.by).map(([name, k]) => `${name} ${k}`).join(", ");
    return element("div", { title: `${at.toLocaleString()}: ${who}`, role: "img", "aria-label": `${at.toLocaleString()}: ${who}` }, element("b", { text: count(n) }), bar, element("span", { text: at.toLocaleTimeString([], { hour: "2-digit" }) }));
  }));
}

function agreement(found) {
  const all = found.second_decisions;
  if (!all) return element("p", { text: "Nobody has decided about a mask that another reviewer had decided before." });
  const line = element("p", { text: `${count(all)} masks were decided by a second reviewer: ${count(found.same)} alike (${percent(found.same / all)}), ${count(found.differs)} otherwise.` });
  if (!found.pairs?.length) return line;
  return element("div", {}, line, table(["First", "Then", "Alike", "Otherwise"], found.pairs.map((pair) => [pair.first, pair.second, count(pair.same), count(pair.differs)])));
}

/** Opens the statistics. */
export async function showStatistics() {
  try {
    const found = await get("/api/statistics");
    const part = (title, ...content) => [element("h3", { text: title }), ...content];
    const notes = [`${count(found.comments?.open)} open comments, ${count(found.comments?.closed)} closed`, ...(found.damaged_lines ? [`${count(found.damaged_lines)} damaged lines in the journal`] : [])];
    $("statistics-body").replaceChildren(
      ...part("By class", found.classes.length ? classes(found.classes) : element("p", { text: "No mask is in the review." })),
      ...part("By reviewer", found.reviewers.length ? reviewers(found.reviewers) : element("p", { text: "Nobody has decided yet." })),
      ...(found.hours.length ? part("Actions by hour", hours(found.hours)) : []),
      ...part("Agreement", agreement(found.agreement)), element("p", { text: notes.join("; ") }));
    if (!$("statistics-dialog").open) $("statistics-dialog").showModal();
    $("statistics-dialog").scrollTop = 0;
  } catch (error) {
    say(error.message, "bad");
  }
}

$("statistics-close").addEventListener("click", () => $("statistics-dialog").close());
