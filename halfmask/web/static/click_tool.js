// Clicks: positive and negative ones that refine a mask, and clicks on other objects.
import { frame, handle } from "/static/paint.js";
import { css } from "/static/palette.js";

const REACH = 10, REACH_TOUCH = 20; // screen pixels

/** Each click is a point inside the object, or with Alt, Shift or the right button outside. A click on one removes it. */
export class ClickTool {
  /** clicks(): the current ones. changed(clicks): with one more or less. */
  constructor(stage, clicks, changed) {
    Object.assign(this, { stage, clicks, changed, negative: false, takesRight: true });
  }

  down(point, event) {
    const { width, height } = this.stage.scene, reach = (event.pointerType === "touch" ? REACH_TOUCH : REACH) / this.stage.view.scale;
    const all = this.clicks(), old = all.findIndex(({ x, y }) => Math.hypot(x - point[0], y - point[1]) < reach);
    if (old >= 0) return this.changed(all.filter((_, i) => i !== old));
    if (point[0] < 0 || point[1] < 0 || point[0] >= width || point[1] >= height) return;
    const away = event.altKey || event.shiftKey || event.button === 2;
    this.changed([...all, { x: point[0], y: point[1], positive: away === this.negative }]);
  }

  paint(context, thin) {
    for (const { x, y, positive } of this.clicks()) {
      handle(context, [x, y], thin, 8, positive ? "#0a6e4a" : "#b3321a");
      context.strokeStyle = "#fff";
      context.lineWidth = 2 * thin;
      context.beginPath();
      context.moveTo(x - 4 * thin, y);
      context.lineTo(x + 4 * thin, y);
      if (positive) {
        context.moveTo(x, y - 4 * thin);
        context.lineTo(x, y + 4 * thin);
      }
      context.stroke();
    }
  }
}

/** The object of `others` at a point: the smallest whose mask, or else whose box, holds it. */
export function objectAt(others, [x, y]) {
  const inMask = ({ mask }) => {
    const [column, row] = [Math.floor(x) - (mask?.x ?? 0), Math.floor(y) - (mask?.y ?? 0)];
    return mask && column >= 0 && row >= 0 && column < mask.width && row < mask.height && mask.pixels[row * mask.width + column];
  };
  const inBox = ({ box }) => x >= box[0] && y >= box[1] && x < box[0] + box[2] && y < box[1] + box[3];
  const smallest = (found) => found.sort((a, b) => a.box[2] * a.box[3] - b.box[2] * b.box[3])[0];
  const drawn = others.filter((other) => !Array.isArray(other));
  return smallest(drawn.filter(inMask)) ?? smallest(drawn.filter(inBox)) ?? null;
}

/** Picks another object. */
export class PickTool {
  constructor(stage, done) {
    Object.assign(this, { stage, done, chosen: null });
  }

  get others() {
    return (this.stage.scene.others ?? []).filter((other) => !Array.isArray(other));
  }

  hover(point) {
    this.chosen = objectAt(this.others, point);
  }

  down(point) {
    const found = objectAt(this.others, point);
    if (found) this.done(found);
  }

  choose(step) {
    const all = this.others, at = all.indexOf(this.chosen);
    this.chosen = all[(at + step + all.length) % all.length] ?? null;
  }

  finish() {
    if (this.chosen) this.done(this.chosen);
  }

  get busy() {
    return Boolean(this.chosen);
  }

  back() {
    this.chosen = null;
  }

  drop() {
    this.chosen = null;
  }

  paint(context, thin) {
    if (this.chosen) frame(context, this.chosen.box, css(this.chosen.colour), 3 * thin, []);
  }
}
