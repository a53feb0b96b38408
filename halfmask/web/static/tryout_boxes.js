// Boxes that a visitor typed or pasted. A box is [x, y, width, height] in pixels.

const MOST = 300;

/**
 * Reads lines `x y width height class`, or lines of a YOLO label file (class number, centre and size as shares).
 * Returns { boxes: [{ box, name }], fault }: fault says which line is wrong, and is "" where none is.
 */
export function readBoxes(text, width, height, names) {
  const lines = text.split(/\r?\n/).map((line, i) => [line.trim(), i + 1]).filter(([line]) => line);
  if (!lines.length) return { boxes: [], fault: "There is no box yet: type one a line." };
  if (lines.length > MOST) return { boxes: [], fault: `${lines.length} boxes: at most ${MOST} at a time.` };
  const boxes = [];
  for (const [line, number] of lines) {
    const found = readLine(line, width, height, names);
    if (found.fault) return { boxes: [], fault: `Line ${number}: ${found.fault}` };
    boxes.push(found);
  }
  return { boxes, fault: "" };
}

function readLine(line, width, height, names) {
  const parts = line.split(/[\s,;]+/), values = parts.slice(0, 5).map(Number);
  if (isYolo(parts, values)) {
    const [number, x, y, w, h] = values;
    if (names.length && number >= names.length) return { fault: `class number ${number}, but the model has classes 0 to ${names.length - 1}.` };
    return clipped([(x - w / 2) * width, (y - h / 2) * height, w * width, h * height], names[number] ?? `class ${number}`, width, height);
  }
  if (parts.length < 4 || !values.slice(0, 4).every(Number.isFinite)) return { fault: `expected four numbers, x y width height, found “${line.slice(0, 40)}”.` };
  return clipped(values.slice(0, 4), parts.slice(4).join(" "), width, height);
}

/** Five numbers, a class number and four shares of at most 1. */
function isYolo(parts, values) {
  return parts.length === 5 && values.every(Number.isFinite) && Number.isInteger(values[0]) && values[0] >= 0
    && values.slice(1).every((value) => value >= 0 && value <= 1);
}

function clipped([x, y, w, h], name, width, height) {
  if (!(w > 0 && h > 0)) return { fault: "width and height must be more than 0." };
  const x0 = Math.max(0, x), y0 = Math.max(0, y), x1 = Math.min(width, x + w), y1 = Math.min(height, y + h);
  if (!(x1 > x0 && y1 > y0)) return { fault: `the box lies outside the photograph, which has ${width} × ${height} pixels.` };
  return { box: [x0, y0, x1 - x0, y1 - y0], name };
}
