// Operations on a bitmap: a Uint8Array of 0 and 1, row by row, with its width and height.

/** The rows and columns that hold something: [left, top, right, bottom], the last two exclusive; null for none. */
export function bounds(pixels, width) {
  const first = pixels.indexOf(1);
  if (first < 0) return null;
  const top = Math.floor(first / width), bottom = Math.floor(pixels.lastIndexOf(1) / width) + 1;
  let left = width, right = 0;
  for (let y = top; y < bottom; y++) {
    const row = pixels.subarray(y * width, (y + 1) * width), x = row.indexOf(1);
    if (x < 0) continue;
    left = Math.min(left, x);
    right = Math.max(right, row.lastIndexOf(1) + 1);
  }
  return [left, top, right, bottom];
}

/** Sets pixels whose neighbourhood of 2 × reach + 1 pixels keeps(set, counted); what lies outside the bitmap is not counted. */
function filtered(pixels, width, height, reach, keeps) {
  const found = bounds(pixels, width), after = pixels.slice();
  if (!found) return after;
  const x0 = Math.max(0, found[0] - reach), x1 = Math.min(width, found[2] + reach);
  const y0 = Math.max(0, found[1] - reach), y1 = Math.min(height, found[3] + reach);
  const columns = new Uint16Array(width); // set pixels of each column within reach of the row
  const addRow = (y, sign) => {
    if (y < 0 || y >= height) return;
    for (let x = Math.max(0, x0 - reach); x < Math.min(width, x1 + reach); x++) columns[x] += sign * pixels[y * width + x];
  };
  for (let y = y0 - reach; y < y0 + reach; y++) addRow(y, 1);
  for (let y = y0; y < y1; y++) {
    addRow(y + reach, 1);
    const tall = Math.min(height, y + reach + 1) - Math.max(0, y - reach);
    let sum = 0;
    for (let x = Math.max(0, x0 - reach); x < Math.min(width, x0 + reach); x++) sum += columns[x];
    for (let x = x0; x < x1; x++) {
      if (x + reach < width) sum += columns[x + reach];
      const wide = Math.min(width, x + reach + 1) - Math.max(0, x - reach);
      after[y * width + x] = keeps(sum, tall * wide) ? 1 : 0;
      if (x - reach >= 0) sum -= columns[x - reach];
    }
    addRow(y - reach, -1);
  }
  return after;
}

/** One pixel wider on every side. */
export const grown = (pixels, width, height) => filtered(pixels, width, height, 1, (set) => set > 0);

/** One pixel narrower on every side, except along the bitmap's own edges. */
export const shrunk = (pixels, width, height) => filtered(pixels, width, height, 1, (set, counted) => set === counted);

/** Corners rounded, specks and pinholes gone: each pixel as most of its 5 × 5 neighbours. */
export const smoothed = (pixels, width, height) => filtered(pixels, width, height, 2, (set, counted) => 2 * set > counted);

/** Labels connected parts (diagonals count) from 1, largest first. Returns { labels, areas }; areas[k] is that of part k + 1. */
export function parts(pixels, width, height) {
  const labels = new Int32Array(pixels.length), areas = [], stack = [];
  const [left, top, right, bottom] = bounds(pixels, width) ?? [0, 0, 0, 0];
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const start = y * width + x;
      if (!pixels[start] || labels[start]) continue;
      areas.push(0);
      labels[start] = areas.length;
      stack.push(start);
      while (stack.length) {
        const at = stack.pop(), ax = at % width, ay = (at - ax) / width;
        areas[areas.length - 1]++;
        for (let ny = Math.max(0, ay - 1); ny <= Math.min(height - 1, ay + 1); ny++) {
          for (let nx = Math.max(0, ax - 1); nx <= Math.min(width - 1, ax + 1); nx++) {
            const next = ny * width + nx;
            if (pixels[next] && !labels[next]) { labels[next] = areas.length; stack.push(next); }
          }
        }
      }
    }
  }
  const order = areas.map((_, k) => k).sort((a, b) => areas[b] - areas[a]);
  const renamed = new Int32Array(areas.length + 1);
  order.forEach((old, k) => { renamed[old + 1] = k + 1; });
  for (let i = 0; i < labels.length; i++) if (labels[i]) labels[i] = renamed[labels[i]];
  return { labels, areas: order.map((k) => areas[k]) };
}

/** What changed between two bitmaps: { x, y, width, height, before, after }; null if nothing did. */
export function patchBetween(before, after, width) {
  let left = width, right = -1, top = -1, bottom = -1;
  for (let start = 0, y = 0; start < before.length; start += width, y++) {
    let x = 0;
    while (x < width && before[start + x] === after[start + x]) x++;
    if (x === width) continue;
    let last = width - 1;
    while (before[start + last] === after[start + last]) last--;
    left = Math.min(left, x);
    right = Math.max(right, last);
    top = top < 0 ? y : top;
    bottom = y;
  }
  if (top < 0) return null;
  const patch = { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
  const cut = (pixels) => {
    const piece = new Uint8Array(patch.width * patch.height);
    for (let y = 0; y < patch.height; y++) {
      const start = (top + y) * width + left;
      piece.set(pixels.subarray(start, start + patch.width), y * patch.width);
    }
    return piece;
  };
  return { ...patch, before: cut(before), after: cut(after) };
}

/** Sets pixels inside closed rings [[x, y], …], even-odd, at pixel centres. */
export function fillRings(pixels, width, height, rings, value = 1) {
  const rows = new Map();
  for (const ring of rings) {
    ring.forEach(([x0, y0], i) => {
      const [x1, y1] = ring[(i + 1) % ring.length];
      const top = Math.max(0, Math.ceil(Math.min(y0, y1) - 0.5)), bottom = Math.min(height, Math.ceil(Math.max(y0, y1) - 0.5));
      for (let row = top; row < bottom; row++) {
        const x = x0 + ((row + 0.5 - y0) * (x1 - x0)) / (y1 - y0);
        const crossings = rows.get(row);
        if (crossings) crossings.push(x);
        else rows.set(row, [x]);
      }
    });
  }
  for (const [row, crossings] of rows) {
    crossings.sort((a, b) => a - b);
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const start = Math.max(0, Math.ceil(crossings[i] - 0.5)), end = Math.min(width, Math.ceil(crossings[i + 1] - 0.5));
      if (end > start) pixels.fill(value, row * width + start, row * width + end);
    }
  }
}
