// The try-out page: a photograph, boxes, masks, downloads.
import { get, getPicture, post, postBytes } from "/static/api.js";
import { listenToTools, markTool, viewKeys } from "/static/controls.js";
import { Mask } from "/static/mask.js";
import { $, cover, download, element, listKeys, listenToKeys, percent, say, showHelp } from "/static/page.js";
import { colourOf, css } from "/static/palette.js";
import { Stage } from "/static/stage.js";
import { BoxTool } from "/static/tools.js";

const stage = new Stage($("stage"));
let model, photo = null; // { id, name, width, height, picture }
let objects = []; // { mask, box, label, score, rle, area, colour }
let chosen = null; // the object of the cut-out
let turn = 0, waiting = 0, unnamed = 0;

// ---- photograph ----

async function take(file, name = file.name || "photograph") {
  const mine = ++turn;
  cover("loading", "Reading the photograph…");
  try {
    const sent = await postBytes("/api/photos", file);
    const picture = await getPicture(`/api/photos/${sent.photo}`);
    if (mine !== turn) return;
    photo = { id: sent.photo, name, width: sent.width, height: sent.height, picture };
    objects = [];
    chosen = null;
    stage.moved = false;
    stage.show({ width: sent.width, height: sent.height, picture, objects });
    stage.canvas.setAttribute("aria-label", name);
    $("drop").hidden = true;
    cover();
    setTool("box");
    list();
    if (model?.can_detect) await detect();
  } catch (error) {
    if (mine === turn) cover();
    say(error.message, "bad");
  }
}

// ---- masks ----

function add(answer) {
  const colour = colourOf(answer.label || ++unnamed); // objects of no class differ in colour, too
  const mask = new Mask(photo.width, photo.height, answer.box, answer.mask, colour);
  objects.push({ mask, box: answer.box, label: answer.label, score: answer.score, rle: answer.mask, area: answer.area, colour });
}

async function ask(path, body, done) {
  const asked = photo;
  waiting++;
  cover("loading", "The model is drawing…");
  try {
    const answer = await post(`/api/photos/${asked.id}/${path}`, body);
    if (photo !== asked) return;
    done(answer);
    list();
  } catch (error) {
    say(error.message, "bad");
  } finally {
    if (!--waiting) cover();
  }
}

const segment = (box) => ask("segment", { box, label: Number($("category").value) }, (answer) => {
  add(answer);
  choose(objects.at(-1));
});

function detect() {
  if (!photo || !model.can_detect) return;
  const least = Math.min(1, Math.max(0, Number($("least").value) || 0));
  return ask("detect", { least }, (found) => {
    objects.length = 0;
    found.items.forEach(add);
    choose(objects[0] ?? null);
    if (!found.items.length) say("Nothing was found: lower the confidence, or draw a box");
  });
}

function choose(object) {
  chosen = object;
  for (const one of objects) one.faint = chosen !== null && one !== chosen;
  list();
}

function remove(object = chosen) {
  const at = objects.indexOf(object);
  if (at < 0) return;
  objects.splice(at, 1);
  choose(objects[Math.min(at, objects.length - 1)] ?? null);
}

const nameOf = (label) => (label ? model.categories[label - 1]?.name ?? `class ${label}` : "object");

function list() {
  $("list").replaceChildren(...objects.map((object, i) => element("li", {},
    element("button", { class: object === chosen ? "now" : "", "aria-pressed": object === chosen ? "true" : "false", onclick: () => choose(object === chosen ? null : object) },
      Object.assign(element("i", { class: "swatch" }), { style: `background-color:${css(object.colour)}` }),
      element("span", { class: "text", text: `${nameOf(object.label)} ${i + 1}`, title: nameOf(object.label) }), element("span", { class: "figures", text: percent(object.score) })),
    element("button", { class: "quiet remove", "aria-label": `Remove ${nameOf(object.label)} ${i + 1}`, text: "×", onclick: () => remove(object) }))));
  $("count").textContent = objects.length || "";
  $("hint").textContent = !photo ? "" : objects.length ? "" : "Drag a box around an object.";
  for (const id of ["save-coco", "save-overlay", "save-cutout"]) $(id).disabled = !objects.length;
  $("save-cutout").textContent = chosen && objects.length > 1 ? "Cut-out of one" : "Cut-out PNG";
  stage.draw();
}

// ---- downloads ----

const stem = () => photo.name.replace(/\.\w+$/, "");

function saveCoco() {
  const used = new Set(objects.map((object) => object.label));
  const categories = used.has(0) ? [{ id: 0, name: "object" }] : [];
  categories.push(...model.categories.filter((c) => used.has(c.label)).map(({ id, name }) => ({ id, name })));
  const taken = categories.slice(used.has(0) ? 1 : 0).map((c) => c.id);
  if (used.has(0)) categories[0].id = taken.includes(0) ? Math.max(...taken) + 1 : 0;
  const document = {
    info: { description: "made with halfmask serve", halfmask: { model: model.name, version: model.version } },
    images: [{ id: 1, file_name: photo.name, width: photo.width, height: photo.height }],
    categories,
    annotations: objects.map((object, i) => ({
      id: i + 1, image_id: 1, category_id: object.label ? model.categories[object.label - 1].id : categories[0].id,
      bbox: object.box.map((v) => Math.round(v * 100) / 100), area: object.area, iscrowd: 0, segmentation: object.rle,
      halfmask: { model: model.name, score: object.score, state: "filled" },
    })),
  };
  download(new Blob([JSON.stringify(document)], { type: "application/json" }), `${stem()}.json`);
}

/** A canvas as large as the server's picture, in the photograph's coordinates. */
function sheet() {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: photo.picture.width, height: photo.picture.height });
  const context = canvas.getContext("2d");
  context.scale(canvas.width / photo.width, canvas.height / photo.height);
  return [canvas, context];
}

const place = (context, { mask }) => context.drawImage(mask.picture, mask.x, mask.y, mask.picture.width * mask.step, mask.picture.height * mask.step);
const saveCanvas = (canvas, name) => canvas.toBlob((blob) => download(blob, name), "image/png");

function saveOverlay() {
  const [canvas, context] = sheet(), line = Math.max(photo.width, photo.height) / 400;
  context.drawImage(photo.picture, 0, 0, photo.width, photo.height);
  for (const object of objects) {
    place(context, object);
    context.strokeStyle = css(object.colour);
    context.lineWidth = line;
    context.stroke(object.mask.outline);
  }
  saveCanvas(canvas, `${stem()}-overlay.png`);
}

/** Saves the selected object, or all objects, on a transparent ground, cut to their size. */
function saveCutout() {
  const wanted = chosen ? [chosen] : objects, [stencil, on] = sheet();
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
  saveCanvas(canvas, `${stem()}-cutout.png`);
}

function solid(mask) {
  const canvas = Object.assign(document.createElement("canvas"), { width: mask.width, height: mask.height });
  const image = new ImageData(mask.width, mask.height);
  mask.pixels.forEach((on, i) => { image.data[4 * i + 3] = on * 255; });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// ---- the page ----

function setTool(name) {
  stage.tool = name === "box" && photo ? new BoxTool(stage, segment) : null;
  markTool(stage, name);
}

const keys = {
  v: () => setTool("move"), x: () => setTool("box"), d: detect, Delete: () => remove(), Backspace: () => remove(),
  "?": showHelp, o: () => $("chosen").click(), Escape: () => choose(null), ...viewKeys(stage, () => stage.lookAt(null)),
};
listKeys($("keys"), [["O", "open a photograph"], ["X", "drag a box"], ["V", "move"], ["D", "find objects, if the model can"], ["Del", "remove the selected object"],
  ["Esc", "select none"], ["M", "show or hide the masks"], ["F", "whole photograph"], ["+ -", "zoom"], ["?", "this list"]]);
listenToKeys(keys, new Set(["+", "=", "-"]));
const clicks = { open: keys.o, choose: keys.o, help: showHelp, detect,
  "save-coco": saveCoco, "save-overlay": saveOverlay, "save-cutout": saveCutout };
for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
listenToTools(setTool);
$("chosen").addEventListener("change", () => { if ($("chosen").files[0]) take($("chosen").files[0]); $("chosen").value = ""; });
$("options").addEventListener("submit", (event) => { event.preventDefault(); detect(); });
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => { if (event.clipboardData.files[0]) take(event.clipboardData.files[0]); });

async function start() {
  setTool("move");
  try {
    model = await get("/api/model");
  } catch (error) {
    return say(error.message, "bad");
  }
  $("model").textContent = $("model").title = model.name;
  document.title = `${model.name} – halfmask serve`;
  const named = model.categories.toSorted((a, b) => a.name.localeCompare(b.name));
  $("category").append(...named.map((c) => element("option", { value: c.label, text: c.name })));
  $("detecting").hidden = !model.can_detect;
  list();
}

start();
