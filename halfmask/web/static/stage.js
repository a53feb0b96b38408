// The picture: a photograph with masks and boxes, zoom and pan, and a tool that takes the pointer.
import { css } from "./palette.js";

const MARGIN = 24;
const CLOSEST = 40; // screen pixels for a pixel of the photograph

export class Stage {
  /** canvas: fills its parent. */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.scene = null; // { width, height, picture, objects: [{ mask, box, colour, faint }], others }
    this.tool = null;
    this.showMasks = true;
    this.showOthers = false;
    this.view = { scale: 1, x: 0, y: 0 }; // screen = photograph × scale + (x, y), in CSS pixels
    this.pointers = new Map();
    this.cursor = null;
    this.onview = () => {};
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.#listen();
    this.#resize();
  }

  /** Shows a scene; focus: a box to look at closely, null for the whole photograph. */
  show(scene, focus = null) {
    this.scene = scene;
    this.focus = focus;
    this.lookAt(focus);
  }

  lookAt(box) {
    if (!this.scene) return this.draw();
    const { width, height } = this.scene;
    const [x, y, w, h] = box ?? [0, 0, width, height];
    const room = box ? 1.9 : 1; // surroundings are needed to judge a mask
    const across = Math.min(width, Math.max(w * room, box ? 24 : 0)), down = Math.min(height, Math.max(h * room, box ? 24 : 0));
    const [cw, ch] = this.size;
    const scale = Math.min((cw - 2 * MARGIN) / across, (ch - 2 * MARGIN) / down, CLOSEST);
    // The object in the middle, as far as the photograph reaches.
    const place = (side, length, middle) => (length * scale <= side ? (side - length * scale) / 2
      : Math.min(MARGIN, Math.max(side - MARGIN - length * scale, side / 2 - middle * scale)));
    this.#setView(scale, place(cw, width, x + w / 2), place(ch, height, y + h / 2));
    this.near = Boolean(box);
    this.draw();
  }

  /** Between the object and the whole photograph. */
  toggleFit() {
    this.lookAt(this.near ? null : this.focus);
  }

  zoom(factor, at = [this.size[0] / 2, this.size[1] / 2]) {
    const { scale, x, y } = this.view;
    const next = Math.min(CLOSEST, Math.max(this.#smallest(), scale * factor));
    this.#setView(next, at[0] - ((at[0] - x) * next) / scale, at[1] - ((at[1] - y) * next) / scale);
    this.draw();
  }

  pan(dx, dy) {
    this.#setView(this.view.scale, this.view.x + dx, this.view.y + dy);
    this.draw();
  }

  /** A point of the screen (CSS pixels of the canvas) in pixels of the photograph. */
  toPhoto([sx, sy]) {
    const { scale, x, y } = this.view;
    return [(sx - x) / scale, (sy - y) / scale];
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

  #smallest() {
    if (!this.scene) return 0.01;
    return Math.min(this.size[0] / this.scene.width, this.size[1] / this.scene.height, 1) * 0.5;
  }

  #setView(scale, x, y) {
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
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    if (this.scene && !this.moved) this.lookAt(this.near ? this.focus : null);
    this.#render();
  }

  #render() {
    const { context, scene, view } = this, ratio = window.devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!scene) return;
    context.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, ratio * view.x, ratio * view.y);
    context.imageSmoothingEnabled = view.scale < 3;
    context.imageSmoothingQuality = "high";
    if (scene.picture) context.drawImage(scene.picture, 0, 0, scene.width, scene.height);
    else this.#blank();
    const thin = 1 / view.scale;
    if (this.showOthers) for (const box of scene.others ?? []) this.#frame(box, "rgb(255 255 255 / .75)", thin, []);
    for (const object of scene.objects) this.#object(object, thin);
    this.tool?.paint?.(context, thin, this);
  }

  #object({ mask, box, colour, faint }, thin) {
    const { context } = this;
    if (mask && this.showMasks) {
      context.globalAlpha = faint ? 0.6 : 1;
      context.imageSmoothingEnabled = false;
      context.drawImage(mask.picture, mask.x, mask.y, mask.picture.width * mask.step, mask.picture.height * mask.step);
      context.lineCap = "square";
      context.setLineDash([]);
      for (const [style, width] of [["rgb(0 0 0 / .65)", 3.5], [css(colour), 1.75]]) {
        context.strokeStyle = style;
        context.lineWidth = width * thin;
        context.stroke(mask.outline);
      }
      context.globalAlpha = 1;
    }
    if (box) this.#frame(box, css(colour, faint ? 0.7 : 1), 1.5 * thin, [6 * thin, 4 * thin]);
  }

  #frame([x, y, w, h], style, width, dash) {
    const { context } = this;
    context.setLineDash([]);
    context.strokeStyle = "rgb(0 0 0 / .5)";
    context.lineWidth = width * 2;
    context.strokeRect(x, y, w, h);
    context.setLineDash(dash);
    context.strokeStyle = style;
    context.lineWidth = width;
    context.strokeRect(x, y, w, h);
    context.setLineDash([]);
  }

  #blank() {
    const { context, scene } = this;
    context.fillStyle = "#3a4048";
    context.fillRect(0, 0, scene.width, scene.height);
  }

  #at(event) {
    const frame = this.canvas.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (!this.scene) return;
      this.moved = true;
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), this.#at(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.#up(event));
    canvas.addEventListener("pointerleave", () => { this.cursor = null; this.draw(); });
    canvas.addEventListener("dblclick", () => this.scene && this.tool?.double?.());
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  #down(event) {
    if (!this.scene) return;
    const at = this.#at(event);
    try { this.canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that has gone already */ }
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size > 1) { // a second finger: zoom and pan, whatever the tool
      if (this.drag === "tool") this.tool?.cancel?.();
      this.drag = "pinch";
    } else if (this.tool && event.button === 0 && !this.holdToPan) {
      this.drag = "tool";
      this.tool.down(this.toPhoto(at), event);
    } else {
      this.drag = "pan";
    }
    this.cursor = at;
    this.draw();
  }

  #move(event) {
    const at = this.#at(event), before = this.pointers.get(event.pointerId);
    this.cursor = event.pointerType === "touch" && !before ? null : at;
    if (!before) {
      this.tool?.hover?.(this.toPhoto(at));
      return this.draw();
    }
    if (this.drag === "pinch") this.#pinch(event.pointerId, at);
    this.pointers.set(event.pointerId, at);
    if (this.drag === "pan") {
      this.moved = true;
      this.pan(at[0] - before[0], at[1] - before[1]);
    } else if (this.drag === "tool") this.tool?.move?.(this.toPhoto(at), event);
    this.draw();
  }

  #pinch(id, at) {
    const other = [...this.pointers].find(([key]) => key !== id)?.[1], before = this.pointers.get(id);
    if (!other) return;
    const length = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
    this.moved = true;
    this.zoom(length(at, other) / length(before, other), other);
    this.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
  }

  #up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.drag === "tool" && !this.pointers.size) this.tool?.up?.(this.toPhoto(this.#at(event)), event);
    if (!this.pointers.size) this.drag = null;
    this.draw();
  }
}
