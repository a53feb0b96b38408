// Tools that take the pointer on the stage. Points are in pixels of the photograph.
import { handle, strokeTwice } from "/static/paint.js";

const CLOSE = 12; // screen pixels within which a click closes a polygon
const SMALLEST_BOX = 3; // screen pixels

/** Drags a box. done([x, y, width, height]) with a box on the photograph. */
export class BoxTool {
  constructor(stage, done) {
    Object.assign(this, { stage, done, from: null, to: null });
  }

  down(point) {
    this.from = this.to = point;
  }

  move(point) {
    this.to = point;
  }

  up(point) {
    const { width, height } = this.stage.scene, scale = this.stage.view.scale, from = this.from;
    this.cancel();
    if (!from) return;
    const x0 = Math.max(0, Math.min(from[0], point[0])), x1 = Math.min(width, Math.max(from[0], point[0]));
    const y0 = Math.max(0, Math.min(from[1], point[1])), y1 = Math.min(height, Math.max(from[1], point[1]));
    if ((x1 - x0) * scale >= SMALLEST_BOX && (y1 - y0) * scale >= SMALLEST_BOX) this.done([x0, y0, x1 - x0, y1 - y0]);
  }

  cancel() {
    this.from = this.to = null;
  }

  paint(context, thin) {
    if (!this.from) return;
    context.beginPath();
    context.rect(this.from[0], this.from[1], this.to[0] - this.from[0], this.to[1] - this.from[1]);
    strokeTwice(context, thin);
  }
}

/** Paints or erases. radius() is in screen pixels, so that zooming in makes the brush finer. */
export class BrushTool {
  /** edit(): the current one. */
  constructor(stage, edit, radius, adds, changed) {
    Object.assign(this, { stage, edit, radius, adds, changed, last: null });
  }

  down(point, event) {
    this.on = event.altKey || event.shiftKey ? !this.adds : this.adds;
    this.edit().begin();
    this.move(point);
  }

  move(point) {
    this.edit().mask.stroke(this.last ?? point, point, this.radius() / this.stage.view.scale, this.on);
    this.last = point;
  }

  up() {
    if (!this.last) return;
    this.last = null;
    this.edit().mask.trace();
    this.edit().commitByHand();
    this.changed();
  }

  /** A second finger came: undoes the stroke of the first one. */
  cancel() {
    this.last = null;
    this.edit().abandon();
  }

  paint(context, thin, stage) {
    if (!stage.cursor) return;
    const [x, y] = stage.toPhoto(stage.cursor);
    context.setLineDash(this.adds ? [] : [4 * thin, 4 * thin]);
    context.beginPath();
    context.arc(x, y, this.radius() * thin, 0, 2 * Math.PI);
    strokeTwice(context, thin);
    context.setLineDash([]);
  }
}

/** Corners by clicks; a click on the first one, a double click or finish() closes. With Shift it cuts out. */
export class PolygonTool {
  constructor(stage, edit, changed) {
    Object.assign(this, { stage, edit, changed, points: [], next: null });
  }

  get busy() {
    return this.points.length > 0;
  }

  down(point, event) {
    this.cuts = event.shiftKey || event.altKey;
    if (this.points.length > 2 && this.#near(point, this.points[0])) return this.finish();
    if (!this.points.length || !this.#near(point, this.points.at(-1), 3)) this.points.push(point);
  }

  hover(point) {
    this.next = point;
  }

  move(point) {
    this.next = point;
  }

  double() {
    this.finish();
  }

  finish() {
    const points = this.points;
    this.points = [];
    if (points.length > 2) {
      this.edit().begin();
      this.edit().mask.polygon(points, !this.cuts);
      this.edit().commitByHand();
      this.changed();
    }
    this.stage.draw();
  }

  /** Removes the last corner; false if there is none. */
  back() {
    const had = this.points.pop();
    this.stage.draw();
    return Boolean(had);
  }

  cancel() {
    this.points.pop();
  }

  drop() {
    this.points = [];
    this.stage.draw();
  }

  #near(a, b, reach = CLOSE) {
    return Math.hypot(a[0] - b[0], a[1] - b[1]) * this.stage.view.scale < reach;
  }

  paint(context, thin) {
    if (!this.points.length) return;
    const line = [...this.points, ...(this.next ? [this.next] : [])];
    context.beginPath();
    line.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    strokeTwice(context, thin, 1.75);
    this.points.forEach((point, i) => handle(context, point, thin, i ? 3.5 : 6));
  }
}
