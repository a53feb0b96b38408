// Buttons and keys of both pages: tools, zoom, showing masks, Space to move.
import { $ } from "/static/page.js";

/** Marks the tool that has the pointer. */
export function markTool(stage, name) {
  for (const button of $("tools").children) {
    const on = button.dataset.tool === name;
    button.setAttribute("aria-checked", on);
    button.tabIndex = on ? 0 : -1;
  }
  if (!$("tools").querySelector("[tabindex='0']")) $("tools").firstElementChild.tabIndex = 0; // a tool without a button here
  stage.canvas.dataset.tool = name;
}

/** The row of tools: clicks, and arrow keys as in any group of radio buttons. */
export function listenToTools(setTool) {
  const buttons = [...$("tools").children];
  $("tools").addEventListener("click", (event) => {
    const name = event.target.closest("button")?.dataset.tool;
    if (name) setTool(name);
  });
  $("tools").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const at = buttons.indexOf(document.activeElement);
    const chosen = buttons[(at + step + buttons.length) % buttons.length];
    setTool(chosen.dataset.tool);
    chosen.focus();
  });
}

/** A button that turns a field of the stage on and off. */
export function toggle(stage, id, field) {
  stage[field] = !stage[field];
  $(id).setAttribute("aria-pressed", stage[field]);
  stage.draw();
}

/** Zoom, fit and mask buttons; gives the keys that do the same. */
export function viewKeys(stage, fit) {
  const [closer, farther, mask] = [() => stage.zoomGently(1.3), () => stage.zoomGently(1 / 1.3), () => toggle(stage, "show-mask", "showMasks")];
  for (const [id, action] of [["zoom-in", closer], ["zoom-out", farther], ["fit", fit], ["show-mask", mask]]) $(id).addEventListener("click", action);
  document.addEventListener("keyup", (event) => { if (event.key === " ") stage.holdToPan = false; });
  return { "+": closer, "=": closer, "-": farther, f: fit, m: mask, " ": () => { stage.holdToPan = true; } };
}
