// The picture: a photograph with masks and boxes, zoom and pan, and a tool that takes the pointer.
import { Gestures } from "/static/gestures.js";
import { frame, paintObject } from "/static/paint.js";
import { css } from "/static/palette.js";

const MARGIN = 24;
const CLOSEST = 40; // screen pixels for a pixel of the photograph
const SECONDS = 0.16; // of a zoom by key or button
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Stage {
  /** canvas: fills its parent. The photograph lies on a canvas of its own below it, whose brightness can change. */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.ground = document.createElement("canvas");
    this.ground.setAttribute("aria-hidden", "true");
    canvas.before(this.ground);
    this.scene = null; // { width, height, picture, objects: [{ mask, box, colour, faint }], others: [box or the same as objects] }
    this.tool = null;
    this.showMasks = true;
    this.showOthers = false;
    this.contourOnly = false;
    this.layer = null; // draws sharper parts of a large photograph: { paint(context, stage) }
    this.view = { scale: 1, x: 0, y: 0 }; // screen = photograph × scale + (x, y), in CSS pixels
    this.cursor = null;
    this.covered = () => [0, 0]; // CSS pixels at the upper and lower edge that lie under buttons
    this.kept = [0, 0]; // what was covered when the view last took account of it
    this.onview = () => {};
    this.ondrawn = () => {};
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.gestures = new Gestures(this);
    this.#resize();
  }

  /** Shows a scene; focus: a box to look at closely, null for the whole photograph. */
  show(scene, focus = null) {
    this.scene = scene;
    this.focus = focus;
    this.lookAt(focus, { atOnce: true });
  }

  lookAt(box, { atOnce = false } = {}) {
    if (!this.scene) return this.draw();
    const { width, height } = this.scene;
    const [x, y, w, h] = box ?? [0, 0, width, height];
    const room = box ? 1.9 : 1; // surroundings are needed to judge a mask
    const across = Math.min(width, Math.max(w * room, box ? 24 : 0)), down = Math.min(height, Math.max(h * room, box ? 24 : 0));
    const [above, below] = (this.kept = this.covered()), cw = this.size[0], ch = Math.max(80, this.size[1] - above - below);
    const scale = Math.min((cw - 2 * MARGIN) / across, (ch - 2 * MARGIN) / down, CLOSEST);
    // The object in the middle, as far as the photograph reaches.
    const place = (side, length, middle) => (length * scale <= side ? (side - length * scale) / 2
      : Math.min(MARGIN, Math.max(side - MARGIN - length * scale, side / 2 - middle * scale)));
    const wanted = { scale, x: place(cw, width, x + w / 2), y: above + place(ch, height, y + h / 2) };
    this.near = Boolean(box);
    if (atOnce) this.#setView(wanted);
    else this.#glide(wanted);
    this.draw();
  }

  /** Between the object and the whole photograph. */
  toggleFit() {
    this.lookAt(this.near ? null : this.focus);
  }

  /** Call this when `covered` may have changed: an object that was in sight stays in sight, above the buttons. */
  keepClear() {
    const before = this.kept, now = this.covered();
    if (!this.scene || this.gestures.drag || String(before) === String(now)) return; // never under the pointer
    this.kept = now;
    const hidden = this.focus && this.#below(before) <= 0 && this.#below(now) > 0;
    if (hidden && this.moved && this.#below(now) <= this.#top(now)) this.#glide({ ...this.view, y: this.view.y - this.#below(now) });
    else if (hidden || (!this.moved && !this.tool)) this.lookAt(this.near || this.moved ? this.focus : null);
  }

  /** How far the object reaches below the free part of the view, in CSS pixels. */
  #below([, below]) {
    const { scale, y } = this.target ?? this.view, [, top, , height] = this.focus;
    return y + (top + height) * scale - (this.size[1] - below - MARGIN) - 1;
  }

  /** How much free room is above the object. */
  #top([above]) {
    const { scale, y } = this.target ?? this.view;
    return y + this.focus[1] * scale - above - MARGIN;
  }

  /** Zooms about a point of the screen, at once. */
  zoom(factor, at = [this.size[0] / 2, this.size[1] / 2]) {
    this.stop();
    this.#setView(this.#zoomed(this.view, factor, at));
    this.draw();
  }

  /** Zooms about the middle, gently. */
  zoomGently(factor) {
    this.moved = true;
    this.#glide(this.#zoomed(this.target ?? this.view, factor, [this.size[0] / 2, this.size[1] / 2]));
  }

  #zoomed({ scale, x, y }, factor, at) {
    const next = Math.min(CLOSEST, Math.max(this.#smallest(), scale * factor));
    return { scale: next, x: at[0] - ((at[0] - x) * next) / scale, y: at[1] - ((at[1] - y) * next) / scale };
  }

  pan(dx, dy) {
    this.stop();
    this.#setView({ ...this.view, x: this.view.x + dx, y: this.view.y + dy });
    this.draw();
  }

  /** Brings a point of the photograph into the middle. */
  centre([x, y]) {
    this.stop();
    const [cw, ch] = this.size, { scale } = this.view;
    this.moved = true;
    this.#setView({ scale, x: cw / 2 - x * scale, y: ch / 2 - y * scale });
    this.draw();
  }

  /** A point of the screen (CSS pixels of the canvas) in pixels of the photograph. */
  toPhoto([sx, sy]) {
    const { scale, x, y } = this.view;
    return [(sx - x) / scale, (sy - y) / scale];
  }

  /** The part of the photograph in sight: x, y, width, height. */
  get inSight() {
    const [x0, y0] = this.toPhoto([0, 0]), [x1, y1] = this.toPhoto(this.size), { width, height } = this.scene;
    const [left, top] = [Math.max(0, x0), Math.max(0, y0)];
    return [left, top, Math.min(width, x1) - left, Math.min(height, y1) - top];
  }

  /** Draws at the browser's next frame. */
  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.#render();
    });
  }

  get size() {
    return [this.canvas.clientWidth || 1, this.canvas.clientHeight || 1];
  }

  /** Ends a gentle zoom where it is. */
  stop() {
    cancelAnimationFrame(this.gliding);
    this.target = null;
  }

  #glide(to) {
    this.stop();
    if (still.matches) return this.#setView(to), this.draw();
    const from = this.view, began = performance.now();
    this.target = to;
    const step = (now) => {
      const t = Math.min(1, (now - began) / 1000 / SECONDS), eased = 1 - (1 - t) ** 3;
      const scale = from.scale * (to.scale / from.scale) ** eased;
      // Linear in 1 / scale, so that the point that both views share stays in its place.
      const share = to.scale === from.scale ? eased : (scale - from.scale) / (to.scale - from.scale);
      this.#setView(t < 1 ? { scale, x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share } : to);
      this.draw();
      if (t < 1) this.gliding = requestAnimationFrame(step);
      else this.target = null;
    };
    this.gliding = requestAnimationFrame(step);
  }

  #smallest() {
    if (!this.scene) return 0.01;
    return Math.min(this.size[0] / this.scene.width, this.size[1] / this.scene.height, 1) * 0.5;
  }

  #setView({ scale, x, y }) {
    if (this.scene) { // a part of the photograph stays in sight
      const [cw, ch] = this.size, keep = 48;
      x = Math.min(cw - keep, Math.max(keep - this.scene.width * scale, x));
      y = Math.min(ch - keep, Math.max(keep - this.scene.height * scale, y));
    }
    this.view = { scale, x, y };
    this.onview(scale);
  }

  #resize() {
    const ratio = window.devicePixelRatio || 1, [width, height] = this.size;
    for (const canvas of [this.canvas, this.ground]) Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    if (this.scene && !this.moved) this.lookAt(this.near ? this.focus : null, { atOnce: true });
    this.#render();
  }

  #render() {
    const { context, scene, view } = this, ratio = window.devicePixelRatio || 1, under = this.ground.getContext("2d");
    for (const each of [context, under]) {
      each.setTransform(1, 0, 0, 1, 0, 0);
      each.clearRect(0, 0, this.canvas.width, this.canvas.height);
      each.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, ratio * view.x, ratio * view.y);
    }
    if (scene) {
      this.#photograph(under);
      const thin = 1 / view.scale;
      if (this.showOthers) for (const other of scene.others ?? []) this.#other(other, thin);
      for (const object of scene.objects) paintObject(context, object, thin, this);
      this.tool?.paint?.(context, thin, this);
    }
    this.ondrawn();
  }

  #photograph(context) {
    const { scene, view } = this;
    context.imageSmoothingEnabled = view.scale * (scene.width / (scene.picture?.width ?? scene.width)) < 3;
    context.imageSmoothingQuality = "high";
    if (scene.picture) {
      context.drawImage(scene.picture, 0, 0, scene.width, scene.height);
      this.layer?.paint(context, this);
      return;
    }
    context.fillStyle = "#3a4048";
    context.fillRect(0, 0, scene.width, scene.height);
  }

  #other(other, thin) {
    if (Array.isArray(other)) return frame(this.context, other, "rgb(255 255 255 / .75)", thin, []);
    if (other.mask) paintObject(this.context, { mask: other.mask, colour: other.colour, faint: true }, thin, this);
    frame(this.context, other.box, css(other.colour, 0.9), thin, [2 * thin, 3 * thin]);
  }
}
