// Masks: COCO's run lengths and back, painting, outlines. A mask is a bitmap over an area of the photograph, in its pixels.

const WHOLE = 8_000_000; // photographs of at most so many pixels are edited as a whole; of larger ones the surroundings of the object
const SHOWN = 4_000_000; // a larger area is drawn at a fraction of its size

/** COCO's compressed counts to run lengths. */
export function decodeCounts(text) {
  const runs = [];
  let at = 0;
  while (at < text.length) {
    let value = 0, shift = 0, digit;
    do {
      digit = text.charCodeAt(at++) - 48;
      value += (digit & 31) * 2 ** shift;
      shift += 5;
    } while (digit & 32);
    if (digit & 16) value -= 2 ** shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}

/** Calls visit(x, top, bottom) for each upright piece of a mask; bottom is the first row below it. */
function eachPiece(rle, visit) {
  const height = rle.size[0];
  let at = 0, on = false;
  for (const run of decodeCounts(rle.counts)) {
    for (let start = at, end = at + run; on && start < end;) {
      const x = Math.floor(start / height), top = start - x * height;
      const bottom = Math.min(height, top + end - start);
      visit(x, top, bottom);
      start += bottom - top;
    }
    at += run;
    on = !on;
  }
}

/** The smallest area [x0, y0, x1, y1] that holds a mask; null for none. */
function extent(rle) {
  let found = null;
  eachPiece(rle, (x, top, bottom) => {
    found ??= [x, top, x + 1, bottom];
    found = [found[0], Math.min(found[1], top), x + 1, Math.max(found[3], bottom)];
  });
  return found;
}

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
  /** width, height: of the photograph. box: x, y, width, height. rle: compressed, or null for an empty mask. */
  constructor(width, height, box, rle, colour) {
    this.imageSize = [height, width];
    const [x0, y0, x1, y1] = workArea(width, height, box, rle);
    Object.assign(this, { x: x0, y: y0, width: x1 - x0, height: y1 - y0, colour });
    this.pixels = new Uint8Array(this.width * this.height);
    this.past = [];
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

  get changed() {
    return this.past.length > 0;
  }

  /** Saves the mask, so that the next change can be undone. */
  remember() {
    this.past.push(this.pixels.slice());
    if (this.past.length * this.pixels.length > 2e8 && this.past.length > 2) this.past.splice(1, 1);
  }

  /** Undoes the last change; false if there is none. */
  back() {
    if (!this.past.length) return false;
    this.pixels = this.past.pop();
    this.refresh();
    return true;
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

  /** Fills a polygon of points of the photograph, even-odd, at pixel centres. */
  polygon(points, on) {
    const value = on ? 1 : 0;
    const corners = points.map(([x, y]) => [x - this.x, y - this.y]);
    for (let row = 0; row < this.height; row++) {
      const y = row + 0.5, crossings = [];
      corners.forEach(([x0, y0], i) => {
        const [x1, y1] = corners[(i + 1) % corners.length];
        if (y0 <= y !== y1 <= y) crossings.push(x0 + ((y - y0) * (x1 - x0)) / (y1 - y0));
      });
      crossings.sort((a, b) => a - b);
      for (let i = 0; i + 1 < crossings.length; i += 2) {
        const start = Math.max(0, Math.ceil(crossings[i] - 0.5)), end = Math.min(this.width, Math.ceil(crossings[i + 1] - 0.5));
        if (end > start) this.pixels.fill(value, row * this.width + start, row * this.width + end);
      }
    }
    this.refresh();
  }

  /** Draws the whole mask again. */
  refresh() {
    this.#paint(0, 0, this.width, this.height);
    this.trace();
  }

  #paint(left, top, right, bottom) {
    const step = this.step, [red, green, blue] = this.colour;
    const x0 = Math.floor(left / step), y0 = Math.floor(top / step);
    const x1 = Math.min(this.picture.width, Math.ceil(right / step)), y1 = Math.min(this.picture.height, Math.ceil(bottom / step));
    const image = new ImageData(x1 - x0, y1 - y0);
    const words = new Uint32Array(image.data.buffer);
    const ink = (0x6e << 24 | blue << 16 | green << 8 | red) >>> 0;
    for (let y = y0, k = 0; y < y1; y++) {
      const row = Math.min(this.height - 1, y * step) * this.width;
      for (let x = x0; x < x1; x++, k++) words[k] = this.pixels[row + Math.min(this.width - 1, x * step)] ? ink : 0;
    }
    this.picture.getContext("2d").putImageData(image, x0, y0);
  }

  /** The border of the mask as lines along pixels, in pixels of the photograph. */
  trace() {
    const path = new Path2D(), { pixels, width, height } = this;
    const at = (x, y) => (x >= 0 && y >= 0 && x < width && y < height ? pixels[y * width + x] : 0);
    const [top, bottom, left, right] = this.#bounds();
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x < right; x++) {
        if (at(x, y) === at(x, y - 1)) continue;
        const start = x;
        while (x + 1 < right && at(x + 1, y) !== at(x + 1, y - 1)) x++;
        path.moveTo(this.x + start, this.y + y);
        path.lineTo(this.x + x + 1, this.y + y);
      }
    }
    for (let x = left; x <= right; x++) {
      for (let y = top; y < bottom; y++) {
        if (at(x, y) === at(x - 1, y)) continue;
        const start = y;
        while (y + 1 < bottom && at(x, y + 1) !== at(x - 1, y + 1)) y++;
        path.moveTo(this.x + x, this.y + start);
        path.lineTo(this.x + x, this.y + y + 1);
      }
    }
    this.outline = path;
  }

  #bounds() {
    const { pixels, width, height } = this;
    const first = pixels.indexOf(1);
    if (first < 0) return [0, -1, 0, -1];
    const top = Math.floor(first / width), bottom = Math.floor(pixels.lastIndexOf(1) / width) + 1;
    let left = width, right = 0;
    for (let y = top; y < bottom; y++) {
      const row = pixels.subarray(y * width, (y + 1) * width), x = row.indexOf(1);
      if (x < 0) continue;
      left = Math.min(left, x);
      right = Math.max(right, row.lastIndexOf(1) + 1);
    }
    return [top, Math.min(bottom, height), left, right];
  }

  /** COCO's uncompressed run lengths over the whole photograph. */
  runs() {
    const [height, width] = this.imageSize, counts = [];
    let last = 0, run = 0;
    const add = (value, length) => {
      if (value === last) run += length;
      else { counts.push(run); last = value; run = length; }
    };
    add(0, this.x * height);
    for (let x = 0; x < this.width; x++) {
      add(0, this.y);
      for (let y = 0; y < this.height; y++) add(this.pixels[y * this.width + x], 1);
      add(0, height - this.y - this.height);
    }
    add(0, (width - this.x - this.width) * height);
    counts.push(run);
    return { size: [height, width], counts };
  }
}
