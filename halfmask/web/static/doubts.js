// How many of people's masks the model has looked at. Their order changes while it looks; what is shown stays.
import { get } from "/static/api.js";
import { desk } from "/static/desk.js";
import { showList } from "/static/list.js";
import { $ } from "/static/page.js";

const SECONDS = 3;
let turn = -1, timer;

/** Call this once, when the session is there. */
export function startDoubts() {
  if (!desk.session.sorts?.includes("disagreement")) return;
  timer = setInterval(() => { if (!document.hidden) look(); }, SECONDS * 1000);
  look();
}

async function look() {
  try {
    const now = await get("/api/doubts");
    $("looked-at").hidden = now.state === "off";
    $("looked-at").textContent = words(now);
    $("looked-at").title = now.fault;
    if (now.state !== "looking") clearInterval(timer);
    if (turn >= 0 && turn !== now.turn && $("sort").value === "disagreement") showList();
    turn = now.turn;
  } catch { /* the next request reports it */ }
}

function words({ state, looked_at, total, skipped, fault }) {
  const count = `${looked_at.toLocaleString()} of ${total.toLocaleString()} looked at by the model`;
  if (state === "no model") return `No model to compare with: ${fault.split("; ")[0]}`; // the rest is in the title
  if (state === "stopped") return `${count}; stopped: ${fault}`;
  return skipped ? `${count}; ${skipped.toLocaleString()} cannot be` : count;
}
