// Boxes: drags a side or a corner of the object's own, or a new one beside it.
import { handle, strokeTwice } from "/static/paint.js";
import { BoxTool } from "/static/tools.js";

const REACH = 9, REACH_TOUCH = 20; // screen pixels around a side
const SMALLEST = 1; // pixels of the photograph

/** Which sides a point holds: { left, top, right, bottom } of true, or null. */
function sidesAt([px, py], [x, y, w, h], reach) {
  if (px < x - reach || px > x + w + reach || py < y - reach || py > y + h + reach) return null;
  const near = { left: Math.abs(px - x), right: Math.abs(px - x - w), top: Math.abs(py - y), bottom: Math.abs(py - y - h) };
  const sides = {};
  const [across, down] = [near.left < near.right ? "left" : "right", near.top < near.bottom ? "top" : "bottom"];
  if (near[across] <= reach) sides[across] = true;
  if (near[down] <= reach) sides[down] = true;
  return Object.keys(sides).length ? sides : null;
}

export class BoxEditTool extends BoxTool {
  /** box(): the current one. changed(box): after a drag of a side. done(box): a new box. */
  constructor(stage, { box, changed, done }) {
    super(stage, done);
    Object.assign(this, { box, changed, sides: null, shown: null });
  }

  down(point, event) {
    const box = this.box(), reach = (event.pointerType === "touch" ? REACH_TOUCH : REACH) / this.stage.view.scale;
    this.sides = box && sidesAt(point, box, Math.min(reach, Math.max(2 / this.stage.view.scale, Math.min(box[2], box[3]) / 3)));
    if (this.sides) this.shown = box;
    else super.down(point, event);
  }

  hover(point) {
    const box = this.box(), sides = box && sidesAt(point, box, REACH / this.stage.view.scale);
    const corner = sides && Object.keys(sides).length === 2;
    this.stage.canvas.dataset.over = !sides ? "" : !corner ? (sides.left || sides.right ? "ew" : "ns") : Boolean(sides.left) === Boolean(sides.top) ? "nwse" : "nesw";
  }

  move(point, event) {
    if (!this.sides) return super.move(point, event);
    this.shown = this.#dragged(point);
  }

  up(point, event) {
    if (!this.sides) return super.up(point, event);
    const box = this.#dragged(point);
    this.cancel();
    this.changed(box);
  }

  cancel() {
    this.sides = this.shown = null;
    super.cancel();
  }

  /** Moves the box, or with `resizes` its right and lower sides, by pixels of the photograph. */
  nudge(dx, dy, resizes) {
    const box = this.box(), { width, height } = this.stage.scene;
    if (!box) return false;
    const [x, y, w, h] = box;
    this.changed(resizes
      ? [x, y, Math.min(width - x, Math.max(SMALLEST, w + dx)), Math.min(height - y, Math.max(SMALLEST, h + dy))]
      : [Math.min(width - w, Math.max(0, x + dx)), Math.min(height - h, Math.max(0, y + dy)), w, h]);
    return true;
  }

  #dragged([px, py]) {
    const { width, height } = this.stage.scene;
    let [x0, y0, w, h] = this.box(), [x1, y1] = [x0 + w, y0 + h];
    [px, py] = [Math.min(width, Math.max(0, px)), Math.min(height, Math.max(0, py))];
    if (this.sides.left) x0 = Math.min(px, x1 - SMALLEST);
    if (this.sides.right) x1 = Math.max(px, x0 + SMALLEST);
    if (this.sides.top) y0 = Math.min(py, y1 - SMALLEST);
    if (this.sides.bottom) y1 = Math.max(py, y0 + SMALLEST);
    return [x0, y0, x1 - x0, y1 - y0];
  }

  paint(context, thin) {
    super.paint(context, thin);
    if (this.from) return;
    const box = this.shown ?? this.box();
    if (!box) return;
    const [x, y, w, h] = box;
    if (this.shown) {
      context.beginPath();
      context.rect(x, y, w, h);
      strokeTwice(context, thin);
    }
    for (const [i, j] of [[0, 0], [1, 0], [2, 0], [0, 1], [2, 1], [0, 2], [1, 2], [2, 2]]) {
      handle(context, [x + (i * w) / 2, y + (j * h) / 2], thin, i === 1 || j === 1 ? 3.5 : 5);
    }
  }
}
