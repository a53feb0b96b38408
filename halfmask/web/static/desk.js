// The state of the review page: the session, the current object, and its unsaved changes.
import { $ } from "/static/page.js";
import { Stage } from "/static/stage.js";

export const STATES = ["filled", "annotated", "missing", "accepted", "confirmed", "redrawn", "rejected", "deleted"];
export const WORDS = {
  filled: "to review", annotated: "to check", missing: "no mask", accepted: "accepted", confirmed: "confirmed",
  redrawn: "redrawn", rejected: "rejected", deleted: "deleted",
};

export const stage = new Stage($("stage"));

/**
 * item: from the server. edit: its unsaved changes, or those of a new object. adding: { category } while a new object is drawn.
 * seq: of the last change on the server that is shown here. The functions are set by review.js and redraw.js.
 */
export const desk = {
  session: null, item: null, edit: null, adding: null, toolName: "move", busy: false, seq: 0,
  open: async () => {}, next: async () => {}, onchange: () => {},
};

/** The class that a new object gets, and the current object's otherwise. */
export function currentCategory() {
  return desk.adding?.category ?? desk.item?.category;
}

/** States of objects that nobody decided. */
export function openStates() {
  return desk.session?.origin === "person" ? ["annotated", "missing"] : ["filled"];
}

let finished = () => {};
let idle = Promise.resolve();

export function working(now) {
  if (now) idle = new Promise((done) => { finished = done; });
  else finished();
  desk.busy = now;
  document.body.classList.toggle("busy", now);
}

/** Waits until no action is on its way, in the order of the calls. */
export async function untilIdle() {
  while (desk.busy) await idle;
}
