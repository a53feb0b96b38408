// Corners of the outline: moves, inserts and deletes them. Parts of the outline that nobody touches keep every pixel.
import { fillRings } from "/static/bitmap.js";
import { distance, rings, simplified } from "/static/outline.js";
import { handle, strokeTwice } from "/static/paint.js";

const TOLERANCE = 2.5; // screen pixels that the simplified outline may miss; zooming in gives more corners
const REACH = 10, REACH_TOUCH = 22; // screen pixels

export class VertexTool {
  /** edit(): the current one. changed(): after a step. */
  constructor(stage, edit, changed) {
    Object.assign(this, { stage, edit, changed, dragged: null, chosen: null });
    this.refresh();
  }

  /** Finds the corners of the mask as it is now. */
  refresh() {
    const { mask } = this.edit(), tolerance = Math.max(0.75, TOLERANCE / this.stage.view.scale);
    this.of = mask;
    this.pixels = mask.pixels;
    this.rings = rings(mask.pixels, mask.width, mask.height).map((exact) => {
      const points = exact.map(([x, y]) => ({ x: x + mask.x, y: y + mask.y, key: false }));
      for (const i of simplified(exact, tolerance)) points[i].key = true;
      return points;
    });
    this.chosen = null;
  }

  get corners() {
    return this.rings.flatMap((ring) => ring.filter((point) => point.key).map((point) => ({ ring, point })));
  }

  down([x, y], event) {
    const reach = (event.pointerType === "touch" ? REACH_TOUCH : REACH) / this.stage.view.scale;
    let best = null;
    for (const corner of this.corners) {
      const far = Math.hypot(corner.point.x - x, corner.point.y - y);
      if (far <= (best?.far ?? reach)) best = { ...corner, far };
    }
    if (best && event.altKey) {
      this.chosen = best;
      return this.remove();
    }
    best ??= this.#inserted([x, y], reach);
    this.chosen = best;
    this.dragged = best && { ...best, from: [best.point.x, best.point.y], moved: false };
  }

  /** A new corner on the nearest piece of the outline; null if none is near. */
  #inserted([x, y], reach) {
    let best = null;
    for (const ring of this.rings) {
      ring.forEach((point, i) => {
        const next = ring[(i + 1) % ring.length], far = distance([x, y], [point.x, point.y], [next.x, next.y]);
        if (far <= (best?.far ?? reach)) best = { ring, i, far };
      });
    }
    if (!best) return null;
    const point = { x, y, key: true };
    return { ring: best.ring, point, after: best.i };
  }

  move([x, y]) {
    if (!this.dragged) return;
    const { dragged } = this;
    if (!dragged.moved) {
      if (Math.hypot(x - dragged.from[0], y - dragged.from[1]) * this.stage.view.scale < 2) return;
      dragged.moved = true;
      if (dragged.after !== undefined) dragged.ring.splice(dragged.after + 1, 0, dragged.point);
      straighten(dragged.ring, dragged.point);
    }
    [dragged.point.x, dragged.point.y] = this.#inside([x, y]);
  }

  up() {
    const { dragged } = this;
    this.dragged = null;
    if (dragged?.moved) this.#apply();
    else if (dragged?.after !== undefined) { // a click on the outline: a corner that can be dragged later
      dragged.ring.splice(dragged.after + 1, 0, dragged.point);
      [dragged.point.x, dragged.point.y] = dragged.from;
    }
  }

  cancel() {
    this.dragged = null;
    this.refresh();
  }

  /** Deletes the chosen corner; false if none is chosen. */
  remove() {
    if (!this.chosen) return false;
    const { ring, point } = this.chosen;
    straighten(ring, point);
    ring.splice(ring.indexOf(point), 1);
    if (ring.filter((each) => each.key).length < 3) this.rings.splice(this.rings.indexOf(ring), 1);
    this.chosen = null;
    this.#apply();
    return true;
  }

  /** Chooses the next corner, or the one before. */
  choose(step) {
    const all = this.corners, at = all.findIndex(({ point }) => point === this.chosen?.point);
    this.chosen = all[(at + step + all.length) % all.length] ?? null;
  }

  nudge(dx, dy) {
    if (!this.chosen) return false;
    const { ring, point } = this.chosen;
    straighten(ring, point);
    [point.x, point.y] = this.#inside([point.x + dx, point.y + dy]);
    this.#apply();
    return true;
  }

  #inside([x, y]) {
    const { mask } = this.edit();
    return [Math.min(mask.x + mask.width, Math.max(mask.x, x)), Math.min(mask.y + mask.height, Math.max(mask.y, y))];
  }

  #apply() {
    const edit = this.edit(), { mask } = edit;
    edit.begin();
    const pixels = new Uint8Array(mask.pixels.length);
    fillRings(pixels, mask.width, mask.height, this.rings.map((ring) => ring.map(({ x, y }) => [x - mask.x, y - mask.y])));
    mask.set(pixels);
    this.pixels = mask.pixels;
    edit.commitByHand();
    this.changed();
  }

  paint(context, thin) {
    if (this.of !== this.edit().mask || this.pixels !== this.of.pixels) this.refresh();
    const path = new Path2D();
    for (const ring of this.rings) {
      ring.forEach(({ x, y }, i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
      path.closePath();
    }
    if (this.dragged?.moved) strokeTwice(context, thin, 1.5, path);
    for (const { point } of this.corners) handle(context, [point.x, point.y], thin, point === this.chosen?.point ? 6 : 4, point === this.chosen?.point ? "#ff9f1c" : "#fff");
  }
}

/** Takes out the points between a corner and its two neighbours, so that straight lines lead to it. */
function straighten(ring, point) {
  for (const step of [1, -1]) {
    let at = (ring.indexOf(point) + step + ring.length) % ring.length;
    while (!ring[at].key) {
      ring.splice(at, 1);
      at = (ring.indexOf(point) + step + ring.length) % ring.length;
    }
  }
}
