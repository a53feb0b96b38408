// The tools of the review page, their strip below the picture, and unsaved changes.
import { grown, shrunk, smoothed } from "/static/bitmap.js";
import { BoxEditTool } from "/static/box_tool.js";
import { ClickTool, PickTool } from "/static/click_tool.js";
import { markTool } from "/static/controls.js";
import { currentCategory, desk, stage } from "/static/desk.js";
import { Edit } from "/static/edit.js";
import { Mask } from "/static/mask.js";
import { askModel, forgetModel } from "/static/model.js";
import { $, percent, say } from "/static/page.js";
import { colourOf } from "/static/palette.js";
import { BoxTool, BrushTool, PolygonTool } from "/static/tools.js";
import { VertexTool } from "/static/vertex_tool.js";

const PAINTS = ["brush", "eraser"], DRAWS = [...PAINTS, "polygon", "vertices"];
const TEXTS = {
  box: "Drag a side, or a new box", click: "Click inside; Alt-click outside", brush: "Paint missing parts",
  eraser: "Erase wrong parts", polygon: "Click corners; Enter closes the polygon", vertices: "Drag corners or the outline", merge: "Click another part of the same object",
};
if (matchMedia("(pointer: coarse)").matches) Object.assign(TEXTS, { click: "Tap inside the object", polygon: "Tap corners; the first one closes it" });
const radius = () => Number($("radius").value);
const edit = () => desk.edit;

/** Returns the tool that has the pointer. */
export function tool() {
  return stage.tool;
}

/** Begins the unsaved changes of the current object, none so far. */
export function beginEdit() {
  forgetModel();
  const { width, height } = desk.item.image;
  desk.adding = null;
  desk.edit = new Edit(new Mask(width, height, desk.item.box, desk.item.mask, colourOf(desk.item.category.label)), desk.item.box);
  syncScene();
}

/** Begins a new object on the current photograph. */
export function beginAdding(category) {
  forgetModel();
  const { width, height } = desk.item.image;
  desk.adding = { category };
  desk.edit = new Edit(new Mask(width, height, stage.inSight, null, colourOf(category.label)), null);
  syncScene();
}

/** Shows the edited object on the stage. */
export function syncScene() {
  if (!stage.scene) return;
  const shown = { mask: desk.edit.mask, box: desk.edit.box, colour: colourOf(currentCategory().label) };
  stage.scene.objects = [shown];
  stage.focus = desk.edit.box ?? stage.focus;
  stage.draw();
}

/** Call this after a step: shows it, and what can be done now. */
export function stepped() {
  tool()?.refresh?.();
  syncScene();
  desk.onchange();
}

const made = {
  move: () => null,
  box: () => new BoxEditTool(stage, { box: () => edit().box, changed: setBox, done: (box) => askModel(box) }),
  add: () => new BoxTool(stage, (box) => askModel(box)),
  click: () => new ClickTool(stage, () => edit().clicks, (clicks) => askModel(edit().box, clicks)),
  brush: () => new BrushTool(stage, edit, radius, true, stepped),
  eraser: () => new BrushTool(stage, edit, radius, false, stepped),
  polygon: () => new PolygonTool(stage, edit, stepped),
  vertices: () => new VertexTool(stage, edit, () => { syncScene(); desk.onchange(); }),
  merge: () => new PickTool(stage, (other) => desk.merge(other)),
};

export function setTool(name) {
  if (!desk.item && name !== "move") return;
  if (name === "add" && !desk.adding) {
    if (unsaved()) return;
    beginAdding(desk.addCategory ?? desk.item.category);
  }
  if (desk.adding && ["move", "merge", "add"].includes(name)) {
    if (name === "merge" && unsaved()) return;
    if (name !== "add" && !desk.edit.changed) beginEdit();
  }
  if (tool()?.busy && name !== desk.toolName) tool().drop();
  desk.toolName = name;
  stage.tool = made[name]();
  markTool(stage, name);
  stage.canvas.dataset.over = "";
  desk.ontool?.(name);
  desk.onchange();
  stage.draw();
}

/** Updates the strip below the picture, and the meaning of Accept. */
export function edits() {
  const name = desk.toolName, changed = Boolean(desk.edit?.changed), kind = desk.edit?.kind ?? "";
  const adding = desk.adding ? `New ${desk.adding.category.name}` : "";
  $("edit").hidden = !desk.item || (name === "move" && !changed && !adding);
  $("edit-text").textContent = kind ? `${adding ? `${adding}: ` : ""}${{ redrawn: "Redrawn, not saved", draft: `The model's mask, score ${percent(desk.edit.state.draft?.score)}`, box: "Box moved: S lets the mask follow" }[kind]}`
    : adding ? `${adding}: ${name === "add" ? "drag a box" : TEXTS[name] ?? ""}` : TEXTS[name] ?? "";
  $("brush-size").hidden = !PAINTS.includes(name);
  $("shapes").hidden = !DRAWS.includes(name);
  $("corner").hidden = name !== "vertices";
  $("sign").hidden = name !== "click";
  $("sign").textContent = tool()?.negative ? "− Outside" : "+ Inside";
  $("segment").hidden = !(name === "box" || kind === "box") || !desk.edit?.box;
  $("step-back").hidden = $("step-forward").hidden = !changed && !desk.edit?.future.length;
  $("step-back").disabled = !changed;
  $("step-forward").disabled = !desk.edit?.future.length;
  $("cancel").textContent = changed || desk.edit?.asked ? "Cancel" : "Done";
  const words = adding ? "Add" : { redrawn: "Save redrawn", draft: "Accept this", box: "Save box" }[kind];
  $("accept").querySelector("b").textContent = words ?? ((desk.item ?? desk.session)?.origin === "person" ? "Confirm" : "Accept");
  $("accept").querySelector("kbd").textContent = words ? "↵" : "A";
  $("accept").disabled = !desk.item || (!kind && (Boolean(adding) || desk.item.can_accept === false));
  for (const id of ["reject", "next", "class", "delete", "split", "merge"]) $(id).disabled = !desk.item || Boolean(adding && id !== "class");
  $("split").disabled ||= !(desk.item?.parts > 1);
  stage.keepClear();
}

function setBox(box) {
  if (desk.edit.commit({ box, draft: null })) stepped();
}

/** One press: the model draws the mask of the box as it is now. */
export function followBox() {
  if (desk.item && desk.edit.box) askModel(desk.edit.box);
}

/** Replaces the mask's pixels as one step. */
function reshape(change, words) {
  if (!desk.item) return;
  const { mask } = desk.edit;
  if (mask.empty) return say("There is no mask to change", "bad");
  desk.edit.begin();
  mask.set(change(mask.pixels, mask.width, mask.height));
  if (mask.empty) {
    desk.edit.abandon();
    return say("Nothing of the mask would remain", "bad");
  }
  if (desk.edit.commitByHand()) say(words);
  stepped();
}

export const grow = () => reshape(grown, "Grown by a pixel");
export const shrink = () => reshape(shrunk, "Shrunk by a pixel");
export const smooth = () => reshape(smoothed, "Smoothed");

/** Undoes the last corner or step; false if there is none. */
export function stepBack() {
  if (tool()?.busy && tool().back()) return true;
  if (!desk.edit?.undo()) return false;
  stepped();
  return true;
}

/** Does the step that was undone last again; false if there is none. */
export function stepForward() {
  if (!desk.edit?.redo()) return false;
  stepped();
  return true;
}

/** Discards the changes; the second time leaves the tool. */
export function cancel() {
  if (!desk.item) return;
  if (tool()?.busy) return tool().drop();
  const pending = desk.edit.changed || desk.edit.asked;
  if (desk.adding && pending) {
    beginAdding(desk.adding.category);
    return stepped();
  }
  if (pending || desk.adding) beginEdit();
  setTool("move");
}

/** Returns whether changes would be lost, and says so. */
export function unsaved() {
  if (!desk.edit?.changed && !desk.edit?.asked && !(tool()?.busy && desk.toolName === "polygon")) return false;
  say(desk.adding ? "The new object is not saved: Enter saves it, Esc discards it" : "The change is not saved: Enter saves it, Esc discards it", "bad");
  return true;
}
