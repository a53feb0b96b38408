// A mask on the screen: a bitmap over an area of the photograph, in its pixels, with a picture and an outline.
import { bounds, fillRings, patchBetween } from "./bitmap.js";
import { eachBorder } from "./outline.js";
import { eachPiece, extent, runsOf } from "./rle.js";

const WHOLE = 8_000_000; // photographs of at most so many pixels are edited as a whole; of larger ones the surroundings of the object
const SHOWN = 4_000_000; // a larger area is drawn at a fraction of its size

function workArea(width, height, box, rle) {
  if (width * height <= WHOLE) return [0, 0, width, height];
  const [x, y, w, h] = box;
  const held = (rle && extent(rle)) ?? [x, y, x + w, y + h];
  const area = [Math.min(x, held[0]), Math.min(y, held[1]), Math.max(x + w, held[2]), Math.max(y + h, held[3])];
  const reach = Math.max(128, area[2] - area[0], area[3] - area[1]) / 2;
  return [
    Math.max(0, Math.floor(area[0] - reach)), Math.max(0, Math.floor(area[1] - reach)),
    Math.min(width, Math.ceil(area[2] + reach)), Math.min(height, Math.ceil(area[3] + reach)),
  ];
}

export class Mask {
  /** How opaque masks are drawn, 0–255; call repaint() of those in sight after a change. */
  static alpha = 0x6e;

  /** width, height: of the photograph. box: x, y, width, height. rle: compressed, or null for an empty mask. tight: holds the mask alone, to show it only. */
  constructor(width, height, box, rle, colour, tight = false) {
    this.imageSize = [height, width];
    const [x0, y0, x1, y1] = tight ? (rle && extent(rle)) ?? [0, 0, 1, 1] : workArea(width, height, box, rle);
    Object.assign(this, { x: x0, y: y0, width: x1 - x0, height: y1 - y0, colour });
    this.pixels = new Uint8Array(this.width * this.height);
    this.step = Math.max(1, Math.ceil(Math.sqrt((this.width * this.height) / SHOWN)));
    this.picture = document.createElement("canvas");
    this.picture.width = Math.ceil(this.width / this.step);
    this.picture.height = Math.ceil(this.height / this.step);
    if (rle) this.#fill(rle);
    this.refresh();
  }

  #fill(rle) {
    eachPiece(rle, (x, top, bottom) => {
      const column = x - this.x;
      if (column < 0 || column >= this.width) return;
      for (let y = Math.max(top, this.y); y < Math.min(bottom, this.y + this.height); y++) {
        this.pixels[(y - this.y) * this.width + column] = 1;
      }
    });
  }

  get empty() {
    return !this.pixels.includes(1);
  }

  /** The box of the mask itself, x, y, width, height; null for an empty one. */
  get ownBox() {
    const found = bounds(this.pixels, this.width);
    return found && [this.x + found[0], this.y + found[1], found[2] - found[0], found[3] - found[1]];
  }

  /** Paints a round stroke between two points of the photograph. */
  stroke(from, to, radius, on) {
    const r = Math.max(0.5, radius), value = on ? 1 : 0;
    const [ax, ay, bx, by] = [from[0] - this.x, from[1] - this.y, to[0] - this.x, to[1] - this.y];
    const left = Math.max(0, Math.floor(Math.min(ax, bx) - r)), right = Math.min(this.width, Math.ceil(Math.max(ax, bx) + r));
    const top = Math.max(0, Math.floor(Math.min(ay, by) - r)), bottom = Math.min(this.height, Math.ceil(Math.max(ay, by) + r));
    const dx = bx - ax, dy = by - ay, length = dx * dx + dy * dy;
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        const px = x + 0.5 - ax, py = y + 0.5 - ay;
        const t = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
        if ((px - t * dx) ** 2 + (py - t * dy) ** 2 <= r * r) this.pixels[y * this.width + x] = value;
      }
    }
    if (right > left && bottom > top) this.#paint(left, top, right, bottom);
  }

  /** Fills a polygon of points of the photograph. */
  polygon(points, on) {
    fillRings(this.pixels, this.width, this.height, [points.map(([x, y]) => [x - this.x, y - this.y])], on ? 1 : 0);
    this.refresh();
  }

  /** Replaces all pixels, of the same area. */
  set(pixels) {
    this.pixels = pixels;
    this.refresh();
  }

  /** What changed since a copy of the pixels; null if nothing did. */
  patchSince(before) {
    return patchBetween(before, this.pixels, this.width);
  }

  /** Puts one side of a patch back. */
  apply(patch, side) {
    for (let y = 0; y < patch.height; y++) {
      this.pixels.set(patch[side].subarray(y * patch.width, (y + 1) * patch.width), (patch.y + y) * this.width + patch.x);
    }
    this.#paint(patch.x, patch.y, patch.x + patch.width, patch.y + patch.height);
    this.trace();
  }

  /** Draws the whole mask again. */
  refresh() {
    this.repaint();
    this.trace();
  }

  repaint() {
    this.#paint(0, 0, this.width, this.height);
  }

  #paint(left, top, right, bottom) {
    const step = this.step, [red, green, blue] = this.colour;
    const x0 = Math.floor(left / step), y0 = Math.floor(top / step);
    const x1 = Math.min(this.picture.width, Math.ceil(right / step)), y1 = Math.min(this.picture.height, Math.ceil(bottom / step));
    const image = new ImageData(x1 - x0, y1 - y0);
    const words = new Uint32Array(image.data.buffer);
    const ink = (Mask.alpha << 24 | blue << 16 | green << 8 | red) >>> 0;
    for (let y = y0, k = 0; y < y1; y++) {
      const row = Math.min(this.height - 1, y * step) * this.width;
      for (let x = x0; x < x1; x++, k++) words[k] = this.pixels[row + Math.min(this.width - 1, x * step)] ? ink : 0;
    }
    this.picture.getContext("2d").putImageData(image, x0, y0);
  }

  /** The border of the mask as lines along pixels, in pixels of the photograph. */
  trace() {
    const path = new Path2D();
    eachBorder(this.pixels, this.width, this.height, (x0, y0, x1, y1) => {
      path.moveTo(this.x + x0, this.y + y0);
      path.lineTo(this.x + x1, this.y + y1);
    });
    this.outline = path;
  }

  /** COCO's uncompressed run lengths over the whole photograph. */
  runs() {
    return runsOf(this.pixels, this, this.imageSize);
  }
}
