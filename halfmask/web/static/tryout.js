// The try-out page: a photograph, boxes, masks, downloads.
import { get, getPicture, postBytes } from "/static/api.js";
import { listenToTools, markTool, viewKeys } from "/static/controls.js";
import { Mask } from "/static/mask.js";
import { $, cover, element, listKeys, listenToKeys, percent, say, showHelp } from "/static/page.js";
import { css } from "/static/palette.js";
import { Stage } from "/static/stage.js";
import { BoxTool } from "/static/tools.js";
import { readBoxes } from "/static/tryout_boxes.js";
import { classOf, colourOfClass, offerClasses, remember, showRecent, startColours } from "/static/tryout_classes.js";
import { saveCoco, saveCutout, saveOverlay, saveYolo } from "/static/tryout_files.js";
import { askAbout, MaskQueue } from "/static/tryout_queue.js";
import { showSample, showSamples } from "/static/tryout_samples.js";
import { faultOf, wordsOf } from "/static/tryout_words.js";

const stage = new Stage($("stage"));
let model = { categories: [], name: "", can_detect: false }, photo = null; // { id, file, name, width, height, picture, sample }
let objects = []; // { photo, box, label, name, state, fault, found, mask, score, rle, area, colour }
let chosen = null, saved = true, turn = 0, finding = 0;

// ---- photograph ----

async function take(file, { name = file.name || "photograph", sample = null } = {}) {
  const fault = faultOf(file, name, model.upload_bytes ?? Infinity);
  if (fault) return say(fault, "bad");
  if (!await mayReplace()) return;
  const mine = ++turn;
  if (photo) cover("loading", "Reading the photograph…");
  else say(`Reading ${name}…`);
  try {
    const sent = await postBytes("/api/photos", file);
    const picture = await getPicture(`/api/photos/${sent.photo}`);
    if (mine !== turn) return;
    photo = { id: sent.photo, file, name, width: sent.width, height: sent.height, picture, sample };
    queue.clear();
    objects = [];
    [chosen, saved] = [null, true];
    startColours();
    document.body.classList.remove("empty");
    stage.moved = false;
    stage.show({ width: sent.width, height: sent.height, picture, objects });
    stage.canvas.setAttribute("aria-label", sample ? `${name}: ${sample.caption}` : name);
    cover();
    say("");
    setTool("box");
    showSample(sample, addBoxes);
    list();
    if (model.can_detect) await detect();
  } catch (error) {
    if (mine === turn) cover();
    say(wordsOf(error, name), "bad");
  }
}

/** Asks before masks that nobody has downloaded are lost. */
function mayReplace() {
  if (saved || !objects.length) return true;
  $("replace-text").textContent = `${objects.length === 1 ? "The mask" : `The ${objects.length} masks`} of ${photo.name} will be gone: nothing was downloaded since the last change.`;
  const dialog = $("replace");
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => { dialog.addEventListener("close", () => done(dialog.returnValue === "open"), { once: true }); });
}

function takeFirst(files, event) {
  const found = [...files];
  if (!found.length) {
    if (event?.type === "drop") say("That is a link or a text, not a file. Save the photograph first, then drop the file.", "bad");
    return;
  }
  const first = found.find((file) => file.type.startsWith("image/")) ?? found[0];
  take(first).then(() => { if (found.length > 1 && photo?.file === first) say(`${first.name} is open: one photograph at a time, ${found.length - 1} left out`); });
}

// ---- masks ----

const queue = new MaskQueue({
  drawn: (object, answer) => {
    if (object.photo !== photo || !objects.includes(object)) return;
    if (!answer.area) return Object.assign(object, { state: "failed", mask: null, fault: "The model found no object in this box." });
    fill(object, answer);
    saved = false;
  },
  failed: (object, error) => {
    if (object.photo !== photo || !objects.includes(object)) return;
    Object.assign(object, { state: "failed", fault: wordsOf(error, "this box") });
    say(`No mask: ${object.fault}`, "bad");
  },
  changed: () => list(),
});

function fill(object, answer) {
  const mask = new Mask(photo.width, photo.height, answer.box, answer.mask, object.colour);
  Object.assign(object, { state: "drawn", fault: "", mask, box: answer.box, score: answer.score, rle: answer.mask, area: answer.area });
}

/** Adds a box; its mask follows. */
function addBox(box, text) {
  const kind = classOf(text), object = { photo, box, ...kind, colour: colourOfClass(kind), found: false, mask: null };
  objects.push(object);
  remember(kind.name);
  queue.add(object);
  return object;
}

function addBoxes(rows) {
  for (const { box, name } of rows) addBox(box, name);
  choose(null);
}

async function detect() {
  if (!photo || !model.can_detect || finding) return;
  const asked = photo, least = Math.min(1, Math.max(0, Number($("least").value) || 0));
  finding++;
  cover("loading", "Looking for objects…");
  try {
    const { items } = await askAbout(asked, "detect", { least });
    if (photo !== asked) return;
    objects = objects.filter((object) => !object.found); // boxes that the visitor drew stay
    for (const answer of items) {
      const kind = { label: answer.label, name: model.categories[answer.label - 1]?.name ?? "" };
      const object = { photo, ...kind, colour: colourOfClass(kind), found: true };
      fill(object, answer);
      objects.push(object);
    }
    saved = !objects.length;
    choose(null);
    if (!items.length) say("Nothing was found. Lower the confidence, or drag a box.");
  } catch (error) {
    say(wordsOf(error, asked.name), "bad");
  } finally {
    finding--;
    cover();
  }
}

function choose(object) {
  chosen = object;
  for (const one of objects) one.faint = chosen !== null && one !== chosen;
  list();
}

function remove(object = chosen) {
  const at = objects.indexOf(object);
  if (at < 0) return;
  queue.remove(object);
  objects.splice(at, 1);
  saved = !objects.length;
  choose(objects[Math.min(at, objects.length - 1)] ?? null);
}

/** Another class of an object: the model draws it again where its classes have masks of their own. */
function rename(object, text) {
  const kind = classOf(text);
  if (kind.label === object.label && kind.name === object.name) return;
  Object.assign(object, kind, { colour: colourOfClass(kind) });
  remember(kind.name);
  queue.add(object);
  list();
}

// ---- the list ----

const titleOf = (object, i) => `${object.name || "object"} ${i + 1}`;

function row(object, i) {
  const now = object === chosen, title = titleOf(object, i);
  const state = { waiting: element("span", { class: "wait", text: "drawing" }), failed: element("span", { class: "figures", text: "no mask" }) }[object.state]
    ?? element("span", { class: "figures", text: percent(object.score), title: "the model's own estimate of the mask's IoU" });
  return element("li", { class: now ? "now" : "" },
    element("button", { class: now ? "now" : "", "aria-pressed": now ? "true" : "false", onclick: () => choose(now ? null : object) },
      Object.assign(element("i", { class: "swatch" }), { style: `background-color:${css(object.colour)}` }),
      element("span", { class: "text", text: title, title: object.name || "no class" }), state),
    element("button", { class: "quiet remove", "aria-label": `Remove ${title}`, text: "×", onclick: () => remove(object) }),
    ...(object.state === "failed" ? [element("p", { class: "fault", text: object.fault }, element("button", { text: "Try again", onclick: () => { queue.add(object); list(); } }))] : []),
    ...(now ? [element("label", { class: "change" }, element("span", { text: "Class" }), element("input", {
      list: "classes", value: object.name, maxlength: 80, autocomplete: "off", "aria-label": `Class of ${title}`, onchange: (event) => rename(object, event.target.value),
      onkeydown: (event) => { if (event.key === "Enter") stage.canvas.focus(); } }))] : []));
}

function hintOf() {
  const waiting = objects.filter(({ state }) => state === "waiting").length;
  if (waiting) return `${waiting} ${waiting === 1 ? "box waits" : "boxes wait"} for the model. Go on drawing.`;
  return objects.length ? "" : "Drag a box around an object, then another: masks follow one by one.";
}

/** Fills the list; the focus stays on its button. A field with the focus is left alone: see focusout. */
function fillList() {
  const place = $("list"), at = document.activeElement, line = place.contains(at) ? at.closest("li") : null;
  if (line && at.tagName === "INPUT") return;
  const [i, k] = line ? [[...place.children].indexOf(line), [...line.querySelectorAll("button")].indexOf(at)] : [-1, -1];
  place.replaceChildren(...objects.map(row));
  if (line) (place.children[i]?.querySelectorAll("button")[k] ?? stage.canvas).focus();
}

function list() {
  fillList();
  $("count").textContent = objects.length || "";
  const hint = hintOf();
  if ($("hint").textContent !== hint) $("hint").textContent = hint;
  const drawn = objects.filter(({ state }) => state === "drawn");
  for (const id of ["save-coco", "save-yolo", "save-overlay", "save-cutout"]) $(id).disabled = !drawn.length;
  // The box of a mask is in sight while it is chosen, so that many masks stay legible.
  if (photo) stage.scene.objects = objects.map((object) => (object.state === "drawn" && object !== chosen ? { ...object, box: null } : object));
  $("save-cutout").textContent = chosen?.state === "drawn" && drawn.length > 1 ? "Cut-out of one" : "Cut-out PNG";
  stage.draw();
}

// ---- downloads ----

async function save(how, wanted = objects.filter(({ state }) => state === "drawn")) {
  if (!wanted.length) return;
  const left = objects.filter(({ state }) => state !== "drawn").length;
  try {
    await how(photo, wanted, model);
    saved = true;
    if (left) say(`${left === 1 ? "One box has" : `${left} boxes have`} no mask yet and ${left === 1 ? "is" : "are"} not in the file`);
  } catch (error) {
    say(wordsOf(error, photo.name), "bad");
  }
}

// ---- the page ----

function setTool(name) {
  stage.tool = name === "box" && photo ? new BoxTool(stage, (box) => choose(addBox(box, $("category").value))) : null;
  markTool(stage, name);
}

function sendTyped(event) {
  event.preventDefault();
  const { boxes, fault } = readBoxes($("typed").value, photo.width, photo.height, model.categories.map(({ name }) => name));
  $("typed-fault").textContent = fault;
  if (fault) return $("typed").focus();
  $("typed").value = "";
  addBoxes(boxes);
}

const open = () => $("chosen").click();
const keys = {
  v: () => setTool("move"), x: () => setTool("box"), d: detect, Delete: () => remove(), Backspace: () => remove(), c: () => $("category").focus(),
  "?": showHelp, o: open, Escape: () => choose(null), ...viewKeys(stage, () => stage.lookAt(null)),
};
listKeys($("keys"), [["O", "open a photograph"], ["X", "drag boxes"], ["V", "move"], ["C", "class of the next box"], ["D", "find objects, if the model can"],
  ["Del", "remove the selected object"], ["Esc", "select none"], ["M", "show or hide the masks"], ["F", "whole photograph"], ["+ -", "zoom"], ["?", "this list"]]);
listenToKeys(keys, new Set(["+", "=", "-"]));
const clicks = {
  open, choose: open, help: showHelp, detect, "save-coco": () => save(saveCoco), "save-yolo": () => save(saveYolo), "save-overlay": () => save(saveOverlay),
  "save-cutout": () => save(saveCutout, chosen?.state === "drawn" ? [chosen] : undefined),
};
for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", () => action());
listenToTools(setTool);
$("chosen").addEventListener("change", () => { const [file] = $("chosen").files; $("chosen").value = ""; if (file) take(file); });
$("options").addEventListener("submit", (event) => event.preventDefault());
$("options").addEventListener("keydown", (event) => { // a form of two fields does not take Enter by itself
  if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
  event.preventDefault();
  if (event.target.id === "least") detect();
  stage.canvas.focus();
});
$("list").addEventListener("focusout", (event) => { // of a field that stays: one that is removed has lost its place
  if (event.target.tagName === "INPUT" && event.target.isConnected && !$("list").contains(event.relatedTarget)) setTimeout(list);
});
$("category").addEventListener("focus", () => $("category").select());
$("category").addEventListener("input", showRecent);
$("typed-form").addEventListener("submit", sendTyped);
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  takeFirst(event.dataTransfer.files, event);
});
document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) takeFirst(event.clipboardData.files); });

async function start() {
  setTool("move");
  try {
    model = await get("/api/model");
    $("model").textContent = $("model").title = model.name;
    document.title = `${model.name} – halfmask serve`;
    offerClasses(model.categories);
    $("detecting").hidden = !model.can_detect;
    list();
    showSamples(await get("/api/samples"), take);
  } catch (error) {
    say(error.message, "bad");
  }
}

start();
