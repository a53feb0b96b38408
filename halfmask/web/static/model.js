// Asks the model for the mask of a box, or to refine one by clicks.
import { post } from "/static/api.js";
import { currentCategory, desk, stage } from "/static/desk.js";
import { Mask } from "/static/mask.js";
import { cover, say } from "/static/page.js";
import { colourOf } from "/static/palette.js";
import { syncScene } from "/static/redraw.js";

let turn = 0;

/** Forgets a question: its answer will not be shown. */
export function forgetModel() {
  if (desk.edit?.asked) cover();
  turn++;
}

/** The model's mask becomes a step of the edit. clicks: [{ x, y, positive }]; without them it draws the box alone. */
export async function askModel(box, clicks = null) {
  const { edit, item, adding } = desk, mine = ++turn;
  if (clicks && !clicks.length) return withoutClicks(edit);
  const base = clicks ? edit.state.base ?? (edit.mask.empty ? null : edit.mask.runs()) : null;
  box ??= around(clicks);
  edit.begin();
  edit.asked = { clicks: clicks ?? [] };
  stage.scene.objects[0].box = box;
  stage.draw();
  const slow = setTimeout(() => cover("loading", "The model is drawing…"), 120);
  try {
    const answer = await ask({ item, adding, box, clicks, base });
    if (desk.edit !== edit || mine !== turn) return; // a later click counts the earlier ones in
    edit.asked = null;
    take(edit, answer, { box: answer.box ?? box, clicks: clicks ?? [], base });
  } catch (error) {
    if (desk.edit !== edit || mine !== turn) return;
    edit.asked = null;
    edit.abandon();
    syncScene();
    say(error.message, "bad");
  } finally {
    clearTimeout(slow);
    if (mine === turn) cover();
  }
}

function ask({ item, adding, box, clicks, base }) {
  const place = adding ? `/api/photos/${item.image.row}` : `/api/items/${item.position}`;
  const category = adding ? { category: currentCategory().id } : {};
  if (!clicks) return post(`${place}/segment`, { box, ...category });
  return post(`${place}/refine`, { box, ...category, clicks, ...(base ? { mask: base } : {}) });
}

function take(edit, answer, { box, clicks, base }) {
  const { width, height } = desk.item.image;
  const drawn = new Mask(width, height, box, answer.mask, colourOf(currentCategory().label));
  const old = edit.mask, same = ["x", "y", "width", "height"].every((side) => old[side] === drawn[side]);
  if (same) old.set(drawn.pixels);
  edit.commit({ box, clicks, base, touched: false, draft: { draft: answer.draft, score: answer.score } }, same ? old : drawn);
  desk.onstep();
}

/** The last click was removed: the mask as it was before the first one. */
function withoutClicks(edit) {
  while (edit.state.clicks.length && edit.past.length) edit.undo();
  edit.future = [];
  desk.onstep();
}

/** A box for clicks on a photograph without one: a quarter of what is in sight, around them. */
function around(clicks) {
  const [, , w, h] = stage.inSight, { width, height } = stage.scene, reach = Math.min(w, h) / 8;
  const xs = clicks.map(({ x }) => x), ys = clicks.map(({ y }) => y);
  const x0 = Math.max(0, Math.min(...xs) - reach), y0 = Math.max(0, Math.min(...ys) - reach);
  return [x0, y0, Math.min(width, Math.max(...xs) + reach) - x0, Math.min(height, Math.max(...ys) + reach) - y0];
}
