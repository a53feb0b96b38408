// Redrawing a mask: brush, eraser, polygon, and the model's answer to a box.
import { post } from "/static/api.js";
import { markTool } from "/static/controls.js";
import { desk, stage } from "/static/desk.js";
import { Mask } from "/static/mask.js";
import { $, cover, percent, say } from "/static/page.js";
import { colourOf } from "/static/palette.js";
import { BoxTool, BrushTool, PolygonTool } from "/static/tools.js";

/** Returns the tool that has the pointer. */
export function tool() {
  return stage.tool;
}

export function setTool(name) {
  if (!desk.item && name !== "move") return;
  if (tool()?.busy && name !== desk.toolName) tool().drop();
  desk.toolName = name;
  const radius = () => Number($("radius").value);
  const changed = () => { desk.draft = null; desk.onchange(); };
  stage.tool = {
    move: () => null,
    box: () => new BoxTool(stage, segment),
    brush: () => new BrushTool(stage, desk.mask, radius, true, changed),
    eraser: () => new BrushTool(stage, desk.mask, radius, false, changed),
    polygon: () => new PolygonTool(stage, desk.mask, changed),
  }[name]();
  markTool(stage, name);
  edits();
  stage.draw();
}

/** Updates the strip below the picture, and the meaning of Accept. */
export function edits() {
  const paints = ["brush", "eraser"].includes(desk.toolName), changed = Boolean(desk.mask?.changed);
  const texts = {
    box: "Drag a box: the model draws its mask",
    brush: "Paint missing parts",
    eraser: "Erase wrong parts",
    polygon: "Click corners; Enter closes the polygon",
  };
  $("edit").hidden = !desk.item || (desk.toolName === "move" && !changed && !desk.draft);
  $("edit-text").textContent = changed ? "Redrawn, not saved" : desk.draft ? `The model's mask, score ${percent(desk.draft.score)}` : texts[desk.toolName] ?? "";
  $("brush-size").hidden = !paints;
  $("step-back").hidden = !changed;
  $("cancel").textContent = changed || desk.draft ? "Cancel" : "Close";
  $("accept").firstElementChild.textContent = changed ? "Save redrawn" : desk.draft ? "Accept this" : "Accept";
  $("accept").lastElementChild.textContent = changed ? "↵" : "A";
  for (const id of ["accept", "reject", "next"]) $(id).disabled = !desk.item;
}

async function segment(box) {
  const asked = desk.item;
  stage.scene.objects[0].box = box;
  stage.draw();
  cover("loading", "The model is drawing…");
  try {
    const answer = await post(`/api/items/${asked.position}/segment`, { box });
    if (desk.item !== asked) return;
    cover();
    showDraft(answer);
  } catch (error) {
    if (desk.item !== asked) return;
    cover();
    stage.scene.objects[0].box = desk.item.box;
    stage.draw();
    say(error.message, "bad");
  }
}

function showDraft(answer) {
  desk.draft = answer;
  const { width, height } = desk.item.image;
  desk.mask = new Mask(width, height, answer.box, answer.mask, colourOf(desk.item.category.label));
  Object.assign(stage.scene.objects[0], { mask: desk.mask, box: answer.box });
  desk.onchange();
  stage.draw();
}

export function stepBack() {
  if (tool()?.busy) return tool().back();
  if (desk.mask?.back()) {
    stage.draw();
    desk.onchange();
  }
}

/** Discards the changes. */
export function cancel() {
  if (!desk.item) return;
  if (tool()?.busy) return tool().drop();
  if (!desk.mask.changed && !desk.draft) return setTool("move");
  desk.draft = null;
  desk.mask = new Mask(desk.item.image.width, desk.item.image.height, desk.item.box, desk.item.mask, colourOf(desk.item.category.label));
  Object.assign(stage.scene.objects[0], { mask: desk.mask, box: desk.item.box });
  desk.onchange();
  setTool("move");
}

/** Returns whether strokes would be lost, and says so. */
export function unsaved() {
  if (!desk.mask?.changed && !tool()?.busy) return false;
  say("The redrawn mask is not saved: Enter saves it, Esc discards it", "bad");
  return true;
}
