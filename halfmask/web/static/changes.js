// Other reviewers' changes appear here a moment after they are made.
import { get } from "/static/api.js";
import { desk } from "/static/desk.js";
import { refreshProgress, showList } from "/static/list.js";
import { say } from "/static/page.js";
import { forget, forgetAll } from "/static/queue.js";
import { reviewer } from "/static/reviewer.js";

const SECONDS = 4;
const DID = {
  accept: "accepted", reject: "rejected", redraw: "redrew", class: "changed the class of", box: "moved the box of", delete: "deleted", add: "added",
  split: "split", merge: "merged", undo: "undid a step of", redo: "redid a step of", revert: "took back a decision on", comment: "commented on",
};

export function startChanges() {
  desk.seq = desk.session.seq ?? 0;
  setInterval(() => { if (!document.hidden) look(); }, SECONDS * 1000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
}

let looking = false;

async function look() {
  if (looking || desk.busy) return;
  looking = true;
  try {
    const answer = await get("/api/changes", { since: desk.seq, by: reviewer() });
    desk.seq = answer.seq;
    if (answer.reset) forgetAll();
    else if (!answer.changes.length) return;
    for (const { position } of answer.changes) forget(position);
    const here = answer.changes.findLast((change) => change.position === desk.item?.position && (change.version > desk.item.version || change.what === "comment"));
    if (here) await told(here);
    refreshProgress();
    showList();
  } catch { /* the next request reports it */ } finally {
    looking = false;
  }
}

async function told(change) {
  say(`${change.by ?? "Another reviewer"} ${DID[change.what] ?? "changed"} this object`);
  if (!desk.edit?.changed && !desk.adding && !desk.busy) await desk.open(desk.item.position, { reload: true, remember: false });
}
