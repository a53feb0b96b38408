// What a visitor takes away: COCO JSON, a YOLO data set, an overlay and a cut-out.
import { postForFile } from "/static/api.js";
import { download } from "/static/page.js";
import { css } from "/static/palette.js";
import { askAbout } from "/static/tryout_queue.js";

const OBJECT = "object"; // the class of objects without one

const stem = (photo) => photo.name.replace(/\.\w+$/, "");

/** A COCO file of one photograph. Ids of the model's classes stay; classes that the visitor typed follow them. */
export function cocoDocument(photo, objects, model) {
  const used = new Set(objects.map(({ label }) => label));
  const categories = model.categories.filter(({ label }) => used.has(label)).map(({ id, name }) => ({ id, name }));
  const typed = new Map();
  let free = Math.max(0, ...model.categories.map(({ id }) => id));
  for (const { label, name } of objects) {
    if (label || typed.has(name || OBJECT)) continue;
    typed.set(name || OBJECT, ++free);
    categories.push({ id: free, name: name || OBJECT });
  }
  const idOf = ({ label, name }) => (label ? model.categories[label - 1].id : typed.get(name || OBJECT));
  const { sample } = photo;
  const image = { id: 1, file_name: photo.name, width: photo.width, height: photo.height };
  return {
    info: { description: "made with halfmask serve", halfmask: { model: model.name, version: model.version } },
    ...(sample && { licenses: [{ id: 1, name: sample.licence, url: sample.licence_url }] }),
    images: [sample ? { ...image, license: 1, flickr_url: sample.source } : image],
    categories,
    annotations: objects.map((object, i) => ({
      id: i + 1, image_id: 1, category_id: idOf(object),
      bbox: object.box.map((v) => Math.round(v * 100) / 100), area: object.area, iscrowd: 0, segmentation: object.rle,
      halfmask: { model: model.name, score: object.score, state: "filled" },
    })),
  };
}

export function saveCoco(photo, objects, model) {
  const text = JSON.stringify(cocoDocument(photo, objects, model));
  download(new Blob([text], { type: "application/json" }), `${stem(photo)}.json`);
}

/** Numbers of the model's classes are the model's own, so that the label files of several photographs fit together. */
export async function saveYolo(photo, objects, model) {
  const classes = model.categories.map(({ name }) => name), known = classes.length;
  const numberOf = ({ label, name }) => {
    if (label) return label - 1;
    const at = classes.indexOf(name || OBJECT, known);
    return at < 0 ? classes.push(name || OBJECT) - 1 : at;
  };
  const rows = objects.map((object) => ({ number: numberOf(object), size: object.rle.size, counts: object.rle.counts }));
  const asked = { name: photo.name, classes, objects: rows };
  download(await askAbout(photo, "yolo", asked, postForFile), `${stem(photo)}-yolo.zip`);
}

/** A canvas as large as the server's picture, in the photograph's coordinates. */
function sheet(photo, below = 0) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: photo.picture.width, height: photo.picture.height + below });
  const context = canvas.getContext("2d");
  context.scale(photo.picture.width / photo.width, photo.picture.height / photo.height);
  return [canvas, context];
}

const saveCanvas = (canvas, name) => canvas.toBlob((blob) => download(blob, name), "image/png");

export function saveOverlay(photo, objects) {
  const { sample } = photo, size = Math.max(12, Math.round(Math.max(photo.picture.width, photo.picture.height) / 50));
  const [canvas, context] = sheet(photo, sample ? 2 * size : 0), line = Math.max(photo.width, photo.height) / 400;
  context.drawImage(photo.picture, 0, 0, photo.width, photo.height);
  for (const { mask, colour } of objects) {
    context.drawImage(mask.picture, mask.x, mask.y, mask.picture.width * mask.step, mask.picture.height * mask.step);
    context.strokeStyle = css(colour);
    context.lineWidth = line;
    context.stroke(mask.outline);
  }
  if (sample) credit(canvas, context, sample, size);
  saveCanvas(canvas, `${stem(photo)}-overlay.png`);
}

/** Source and licence of a sample on a strip below the picture. */
function credit(canvas, context, sample, size) {
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = "#18191c";
  context.fillRect(0, canvas.height - 2 * size, canvas.width, 2 * size);
  context.fillStyle = "#d6d9dd";
  context.font = `${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const text = `Photo: ${sample.source.replace("https://", "")} · ${sample.licence} · drawn on by halfmask`;
  context.fillText(text, size * 0.7, canvas.height - size, canvas.width - size * 1.4);
}

/** Saves the chosen object, or all objects, on a transparent ground, cut to their size. */
export function saveCutout(photo, wanted) {
  const [stencil, on] = sheet(photo);
  for (const { mask } of wanted) on.drawImage(solid(mask), mask.x, mask.y, mask.width, mask.height);
  on.globalCompositeOperation = "source-in";
  on.drawImage(photo.picture, 0, 0, photo.width, photo.height);
  const frames = wanted.map(({ box: [x, y, w, h] }) => [x, y, x + w, y + h]);
  const fit = stencil.width / photo.width;
  const [x0, y0] = [0, 1].map((k) => Math.max(0, Math.floor(Math.min(...frames.map((f) => f[k])) * fit)));
  const x1 = Math.min(stencil.width, Math.ceil(Math.max(...frames.map((f) => f[2])) * fit));
  const y1 = Math.min(stencil.height, Math.ceil(Math.max(...frames.map((f) => f[3])) * fit));
  const canvas = Object.assign(document.createElement("canvas"), { width: x1 - x0, height: y1 - y0 });
  canvas.getContext("2d").drawImage(stencil, -x0, -y0);
  saveCanvas(canvas, `${stem(photo)}-cutout.png`);
}

function solid(mask) {
  const canvas = Object.assign(document.createElement("canvas"), { width: mask.width, height: mask.height });
  const image = new ImageData(mask.width, mask.height);
  mask.pixels.forEach((on, i) => { image.data[4 * i + 3] = on * 255; });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
