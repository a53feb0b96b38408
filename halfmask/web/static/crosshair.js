// The pointer by keyboard: in a tool, the arrow keys move a crosshair, and Space presses.
import { stage } from "/static/desk.js";
import { tool } from "/static/redraw.js";

const DRAGGED = ["box", "add", "brush", "eraser"];
const STEP = 8, LEAP = 40; // screen pixels
let at = null, pressed = false;

/** Moves the box, the chosen corner or the crosshair. */
export function arrow(name, dx, dy, leaps) {
  const has = tool();
  const moved = name === "box" && !at ? has.nudge(dx, dy, leaps) : name === "vertices" ? has.nudge(dx * (leaps ? 10 : 1), dy * (leaps ? 10 : 1)) : false;
  if (moved) return;
  const [width, height] = stage.size, step = leaps ? LEAP : STEP;
  at ??= stage.cursor ?? [width / 2, height / 2];
  at = [Math.min(width - 1, Math.max(0, at[0] + dx * step)), Math.min(height - 1, Math.max(0, at[1] + dy * step))];
  stage.cursor = at;
  if (pressed) has.move(stage.toPhoto(at), {});
  else has.hover?.(stage.toPhoto(at));
  stage.draw();
}

/** Presses at the crosshair, in tools that drag also lets go; false without a crosshair. */
export function press(name, event) {
  const has = tool();
  if (!at || !has) return false;
  const point = stage.toPhoto(at), as = { button: 0, pointerType: "keyboard", altKey: false, shiftKey: event.shiftKey };
  if (pressed) has.up(point, as);
  else has.down(point, as);
  pressed = DRAGGED.includes(name) && !pressed;
  if (!DRAGGED.includes(name)) has.up?.(point, as);
  stage.draw();
  return true;
}

/** Call this when the tool changes or the pointer is back. */
export function hideCrosshair() {
  if (pressed) tool()?.cancel?.();
  at = null;
  pressed = false;
}

export function paintCrosshair() {
  if (!at) return;
  const { context } = stage, ratio = window.devicePixelRatio || 1;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.beginPath();
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    context.moveTo(at[0] + 4 * dx, at[1] + 4 * dy);
    context.lineTo(at[0] + 16 * dx, at[1] + 16 * dy);
  }
  for (const [style, width] of [["#000", 4], ["#fff", 2]]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.stroke();
  }
}
