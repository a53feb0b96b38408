// How the picture looks: opacity, contours, brightness, contrast, other objects, the small map. Stored in the browser.
import { paintCrosshair } from "/static/crosshair.js";
import { desk, stage } from "/static/desk.js";
import { Mask } from "/static/mask.js";
import { Minimap } from "/static/minimap.js";
import { $, say } from "/static/page.js";
import { colourOf } from "/static/palette.js";
import { objectsOn } from "/static/queue.js";
import { Tiles } from "/static/tiles.js";

const PLAIN = { opacity: 43, contour: false, brightness: 100, contrast: 100, map: null };
const look = { ...PLAIN, ...read() };
const minimap = new Minimap(stage, $("minimap"));

function read() {
  try {
    return JSON.parse(localStorage.look ?? "{}");
  } catch {
    return {};
  }
}

function apply() {
  localStorage.look = JSON.stringify(look);
  Mask.alpha = Math.round((look.opacity / 100) * 255);
  stage.contourOnly = look.contour;
  stage.ground.style.filter = look.brightness === 100 && look.contrast === 100 ? "" : `brightness(${look.brightness}%) contrast(${look.contrast}%)`;
  for (const id of ["opacity", "brightness", "contrast"]) {
    $(id).value = look[id];
    $(`${id}-text`).textContent = `${look[id]} %`;
  }
  $("contour").setAttribute("aria-pressed", look.contour);
  minimap.wanted = look.map;
  $("map").setAttribute("aria-pressed", minimap.shown);
  for (const object of [...(stage.scene?.objects ?? []), ...(stage.scene?.others ?? [])]) object.mask?.repaint();
  stage.draw();
}

function change(changes) {
  Object.assign(look, changes);
  apply();
}

export const lookKeys = {
  w: () => change({ contour: !look.contour }),
  "{": () => change({ opacity: Math.max(0, look.opacity - 10) }),
  "}": () => change({ opacity: Math.min(100, look.opacity + 10) }),
  z: () => change({ map: !minimap.shown }),
  y: () => showLook($("look").hidden),
  0: () => change(PLAIN),
};

export function showLook(shown) {
  $("look").hidden = !shown;
  $("look-button").setAttribute("aria-expanded", shown);
  if (shown) $("opacity").focus();
  else if ($("look").contains(document.activeElement)) $("look-button").focus();
}

/** Shows or hides the other objects of the photograph, with their masks. */
export async function showOthers(shown) {
  stage.showOthers = shown;
  $("show-others").setAttribute("aria-pressed", shown);
  stage.draw();
  if (shown && desk.item) await loadOthers();
}

/** Fetches the other objects' masks, if they are to be seen. */
export async function loadOthers() {
  const { scene } = stage, { item } = desk;
  if (!stage.showOthers || !scene || !item) return;
  try {
    const found = await objectsOn(item.image.row);
    if (stage.scene !== scene) return;
    const { width, height } = item.image;
    scene.others = found.items.filter((other) => other.position !== item.position || desk.adding).map((other) => {
      const colour = colourOf(other.label);
      return { ...other, colour, mask: other.mask && new Mask(width, height, other.box, other.mask, colour, true) };
    });
    if (found.left_out) say(`${found.left_out.toLocaleString()} more objects of this photograph are not shown`);
    stage.draw();
  } catch (error) {
    say(error.message, "bad");
  }
}

/** Where the tools and the view's buttons lie over the photograph's edges. */
function covered() {
  const bar = (place) => Math.max(0, (document.querySelector(place)?.offsetHeight ?? 0) - 12);
  const zoom = bar(".zoom"), edit = $("edit");
  const strip = edit.hidden ? 0 : stage.canvas.clientHeight - edit.offsetTop - 18;
  return [innerWidth > 760 ? 0 : bar("#tools"), Math.max(zoom, strip)];
}

export function startLook() {
  stage.covered = covered;
  stage.layer = new Tiles();
  stage.ondrawn = () => {
    minimap.draw();
    $("map").setAttribute("aria-pressed", !$("minimap").hidden);
    paintCrosshair();
  };
  for (const id of ["opacity", "brightness", "contrast"]) $(id).addEventListener("input", () => change({ [id]: Number($(id).value) }));
  const buttons = { contour: lookKeys.w, map: lookKeys.z, "look-reset": lookKeys[0], "look-button": lookKeys.y, "look-close": lookKeys.y };
  for (const [id, action] of Object.entries(buttons)) $(id).addEventListener("click", action);
  $("show-others").addEventListener("click", () => showOthers(!stage.showOthers));
  $("look").addEventListener("keydown", (event) => { if (event.key === "Escape") { event.stopPropagation(); showLook(false); } });
  apply();
}
