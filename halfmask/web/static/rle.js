// COCO's run lengths.

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
export function eachPiece(rle, visit) {
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
export function extent(rle) {
  let found = null;
  eachPiece(rle, (x, top, bottom) => {
    found ??= [x, top, x + 1, bottom];
    found = [found[0], Math.min(found[1], top), x + 1, Math.max(found[3], bottom)];
  });
  return found;
}

/** Uncompressed runs over a photograph [height, width] of pixels (0 or 1, row by row) that lie in an area { x, y, width, height }. */
export function runsOf(pixels, area, [height, width]) {
  const counts = [];
  let last = 0, run = 0;
  const add = (value, length) => {
    if (value === last) run += length;
    else { counts.push(run); last = value; run = length; }
  };
  add(0, area.x * height);
  for (let x = 0; x < area.width; x++) {
    add(0, area.y);
    for (let y = 0; y < area.height; y++) add(pixels[y * area.width + x], 1);
    add(0, height - area.y - area.height);
  }
  add(0, (width - area.x - area.width) * height);
  counts.push(run);
  return { size: [height, width], counts };
}
