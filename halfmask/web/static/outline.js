// The border of a bitmap: as lines to draw, as closed rings, and as rings with few corners.
import { bounds } from "./bitmap.js";

/** Calls line(x0, y0, x1, y1) for each straight piece of the border along pixels. */
export function eachBorder(pixels, width, height, line) {
  const at = (x, y) => (x >= 0 && y >= 0 && x < width && y < height ? pixels[y * width + x] : 0);
  const [left, top, right, bottom] = bounds(pixels, width) ?? [0, 0, -1, -1];
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x < right; x++) {
      if (at(x, y) === at(x, y - 1)) continue;
      const start = x;
      while (x + 1 < right && at(x + 1, y) !== at(x + 1, y - 1)) x++;
      line(start, y, x + 1, y);
    }
  }
  for (let x = left; x <= right; x++) {
    for (let y = top; y < bottom; y++) {
      if (at(x, y) === at(x - 1, y)) continue;
      const start = y;
      while (y + 1 < bottom && at(x, y + 1) !== at(x - 1, y + 1)) y++;
      line(x, start, x, y + 1);
    }
  }
}

/** Closed rings of corners along pixels, holes as rings of their own; the mask lies on the right hand. */
export function rings(pixels, width, height) {
  const at = (x, y) => (x >= 0 && y >= 0 && x < width && y < height ? pixels[y * width + x] : 0);
  const [left, top, right, bottom] = bounds(pixels, width) ?? [0, 0, -1, -1];
  const seen = new Set(), found = [];
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) { // upper edges of pixels begin every ring
      if (!at(x, y) || at(x, y - 1) || seen.has(y * width + x)) continue;
      found.push(ringFrom(x, y, at, (ex, ey) => seen.add(ey * width + ex)));
    }
  }
  return found;
}

function ringFrom(x0, y0, at, mark) {
  const ring = [];
  let [x, y, dx, dy] = [x0, y0, 1, 0];
  do {
    if (dx === 1) mark(x, y);
    x += dx;
    y += dy;
    // The two pixels ahead, on the right and on the left hand.
    const [rx, ry] = [x + (dx - dy - 1) / 2, y + (dy + dx - 1) / 2], [lx, ly] = [x + (dx + dy - 1) / 2, y + (dy - dx - 1) / 2];
    const turn = !at(rx, ry) ? 1 : at(lx, ly) ? -1 : 0; // right where the mask ends; pixels that touch by a corner stay apart
    if (turn) {
      ring.push([x, y]);
      [dx, dy] = turn > 0 ? [-dy, dx] : [dy, -dx];
    }
  } while (x !== x0 || y !== y0 || dx !== 1 || dy !== 0);
  return ring;
}

/** Which corners of a ring to keep (sorted indices), so that no other lies farther than `tolerance` from the simplified ring. */
export function simplified(ring, tolerance) {
  if (ring.length < 4) return ring.map((_, i) => i);
  const far = (from) => ring.reduce((best, [x, y], i) => {
    const d = (x - ring[from][0]) ** 2 + (y - ring[from][1]) ** 2;
    return d > best[1] ? [i, d] : best;
  }, [0, -1])[0];
  const a = far(0), b = far(a);
  const kept = new Set([a, b]), open = [[Math.min(a, b), Math.max(a, b)], [Math.max(a, b), Math.min(a, b) + ring.length]];
  while (open.length) { // Douglas and Peucker's way, without recursion
    const [from, to] = open.pop();
    let worst = tolerance, at = -1;
    for (let i = from + 1; i < to; i++) {
      const d = distance(ring[i % ring.length], ring[from % ring.length], ring[to % ring.length]);
      if (d > worst) [worst, at] = [d, i];
    }
    if (at < 0) continue;
    kept.add(at % ring.length);
    open.push([from, at], [at, to]);
  }
  if (kept.size < 3) kept.add([...ring.keys()].find((i) => !kept.has(i)));
  return [...kept].sort((i, j) => i - j);
}

/** Distance of a point from a piece of a line. */
export function distance([x, y], [ax, ay], [bx, by]) {
  const dx = bx - ax, dy = by - ay, length = dx * dx + dy * dy;
  const t = length ? Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / length)) : 0;
  return Math.hypot(x - ax - t * dx, y - ay - t * dy);
}
