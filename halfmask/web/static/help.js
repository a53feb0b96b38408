// Every key of the review page, and the gestures of a phone.
import { $, element, listKeys } from "/static/page.js";

const GROUPS = [
  ["Decide", [
    ["A", "accept, or save the change"], ["Enter", "save the change; close the polygon"], ["R", "reject"], ["N →", "skip without a decision"], ["P ←", "previous object"],
    ["Shift+N", "next photograph"], ["Shift+L", "next of the same class"], ["Ctrl+Z", "undo a step, else an action"], ["Ctrl+Shift+Z Ctrl+Y", "redo"], ["U", "undo the last action"], ["Shift+U", "redo it"], ["Esc", "discard the change"],
  ]],
  ["Object", [
    ["L", "class: type to search"], ["1 … 9", "one of the last nine classes"], ["I", "add an object: drag a box"], ["Del", "delete object, corner, click"], ["K", "split parts into objects"],
    ["J", "merge with another object"], ["H", "history"], ["T", "comments"],
  ]],
  ["Mask", [
    ["X", "box: drag a side, or a new box"], ["S", "the mask follows the box"], ["C", "refine: click, Alt-click outside"], ["Shift+C", "clicks mark what is outside"], ["B", "brush (Shift erases)"], ["E", "eraser"], ["[ ]", "brush size; other corner"],
    ["G", "polygon (Shift cuts out)"], ["D", "corners: drag, insert, Del"], [".", "grow by a pixel"], [",", "shrink by a pixel"], ["/", "smooth"], ["↑ ↓ ← →", "move box, corner, crosshair"], ["Space", "press; hold to move the view"],
  ]],
  ["View", [
    ["F", "object or whole photograph"], ["+ -", "zoom"], ["V", "move"], ["M", "mask"], ["O", "other objects"], ["W", "contours only"], ["{ }", "opacity"], ["Y", "brightness, contrast and more"], ["0", "picture as it is stored"], ["Z", "small map"],
  ]],
  ["Page", [
    ["Q", "queue and filter"], ["Shift+F", "filter by class"], ["Shift+X", "clear the filter"], ["Shift+G", "grid of masks"], ["Ctrl+S", "save the reviewed file"], ["Ctrl+Enter", "save the comment"], ["Shift+W", "your name"], ["?", "this help"],
  ]],
];
const GESTURES = [
  ["One finger", "moves the photograph, or uses the tool"], ["Two fingers", "zoom and move, in every tool"], ["Tap", "opens another object, where they are shown"], ["Tap a click", "removes it"], ["+ Inside", "changes what the next taps mean"],
  ["Drag a corner", "moves it; drag the line between two to insert one"], ["Drag a side", "changes the box"], ["List", "filter, history, comments, next photograph"],
];

export function fillHelp() {
  $("gestures").replaceChildren(...GESTURES.flatMap(([gesture, meaning]) => [element("dt", { text: gesture }), element("dd", { text: meaning })]));
  $("keys").replaceChildren(...GROUPS.map(([title, rows]) => {
    const place = element("dl", { class: "keys" });
    listKeys(place, rows);
    return element("section", {}, element("h3", { text: title }), place);
  }));
}
