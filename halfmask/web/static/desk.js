// The state of the review page: the session, the current mask, and its unsaved changes.
import { $ } from "/static/page.js";
import { Stage } from "/static/stage.js";

export const STATES = ["filled", "accepted", "redrawn", "rejected"];
export const WORDS = { filled: "to review", accepted: "accepted", redrawn: "redrawn", rejected: "rejected" };

export const stage = new Stage($("stage"));

/** item: from the server. mask: with the reviewer's strokes. draft: the model's answer to a box. onchange: called after a stroke or an answer. */
export const desk = { session: null, item: null, mask: null, draft: null, toolName: "move", busy: false, onchange: () => {} };
