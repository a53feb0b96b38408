// What lies on the reviewer's desk: the session, the mask that is looked at, and what was done to it but not saved.
import { $ } from "/static/page.js";
import { Stage } from "/static/stage.js";

export const STATES = ["filled", "accepted", "redrawn", "rejected"];
export const WORDS = { filled: "to review", accepted: "accepted", redrawn: "redrawn", rejected: "rejected" };

export const stage = new Stage($("stage"));

/** item: as the server tells it. mask: as it is drawn. draft: the model's answer to a box. onchange: after a stroke or an answer. */
export const desk = { session: null, item: null, mask: null, draft: null, toolName: "move", busy: false, onchange: () => {} };
