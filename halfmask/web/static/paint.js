// Draws masks, boxes and handles on a canvas whose unit is a pixel of the photograph; `thin` is a pixel of the screen in it.
import { css } from "/static/palette.js";

/** A mask with its contour, and a box. */
export function paintObject(context, { mask, box, colour, faint }, thin, { showMasks, contourOnly }) {
  if (mask && showMasks) {
    context.globalAlpha = faint ? 0.6 : 1;
    context.imageSmoothingEnabled = false;
    if (!contourOnly) context.drawImage(mask.picture, mask.x, mask.y, mask.picture.width * mask.step, mask.picture.height * mask.step);
    context.lineCap = "square";
    context.setLineDash([]);
    for (const [style, width] of [["rgb(0 0 0 / .65)", 3.5], [css(colour), 1.75]]) {
      context.strokeStyle = style;
      context.lineWidth = width * thin * (faint ? 0.6 : 1);
      context.stroke(mask.outline);
    }
    context.globalAlpha = 1;
  }
  if (box) frame(context, box, css(colour, faint ? 0.7 : 1), 1.5 * thin, [6 * thin, 4 * thin]);
}

export function frame(context, [x, y, w, h], style, width, dash) {
  context.setLineDash([]);
  context.strokeStyle = "rgb(0 0 0 / .5)";
  context.lineWidth = width * 2;
  context.strokeRect(x, y, w, h);
  context.setLineDash(dash);
  context.strokeStyle = style;
  context.lineWidth = width;
  context.strokeRect(x, y, w, h);
  context.setLineDash([]);
}

/** The current path in white on black, legible on any photograph. */
export function strokeTwice(context, thin, width = 1.5, path = null) {
  for (const [style, times] of [["#000", 2], ["#fff", 1]]) {
    context.strokeStyle = style;
    context.lineWidth = width * times * thin;
    if (path) context.stroke(path);
    else context.stroke();
  }
}

/** A round handle. */
export function handle(context, [x, y], thin, radius = 4, fill = "#fff") {
  context.beginPath();
  context.arc(x, y, radius * thin, 0, 2 * Math.PI);
  context.fillStyle = fill;
  context.fill();
  context.strokeStyle = "#000";
  context.lineWidth = 1.5 * thin;
  context.stroke();
}
