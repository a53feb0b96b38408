// A small picture of the whole photograph with the part in sight; a click or drag moves the view.

const LONGEST = 150, LONGEST_NARROW = 96; // CSS pixels
const LARGE = 2000; // photographs of at least so many pixels show it by themselves once zoomed in

export class Minimap {
  /** wanted: true or false as the reviewer chose, null to decide by the photograph. */
  constructor(stage, canvas) {
    Object.assign(this, { stage, canvas, wanted: null });
    const to = (event) => {
      const frame = canvas.getBoundingClientRect(), { width, height } = stage.scene;
      stage.centre([((event.clientX - frame.left) / frame.width) * width, ((event.clientY - frame.top) / frame.height) * height]);
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); to(event); });
    canvas.addEventListener("pointermove", (event) => { if (canvas.hasPointerCapture(event.pointerId)) to(event); });
  }

  get shown() {
    const { scene } = this.stage;
    if (!scene) return false;
    const [, , w, h] = this.stage.inSight, hidesMuch = w * h < 0.6 * scene.width * scene.height;
    return this.wanted ?? (hidesMuch && Math.max(scene.width, scene.height) >= LARGE);
  }

  draw() {
    this.canvas.hidden = !this.shown;
    if (this.canvas.hidden) return;
    const { scene } = this.stage, ratio = window.devicePixelRatio || 1;
    const scale = (innerWidth > 760 ? LONGEST : LONGEST_NARROW) / Math.max(scene.width, scene.height);
    const size = [scene.width, scene.height].map((side) => Math.max(1, Math.round(side * scale)));
    const key = `${size} ${ratio}`;
    if (this.key !== key || this.picture !== scene.picture) { // the photograph is drawn once, then the frame over it
      Object.assign(this, { key, picture: scene.picture, ground: document.createElement("canvas") });
      Object.assign(this.ground, { width: size[0] * ratio, height: size[1] * ratio });
      const on = this.ground.getContext("2d");
      on.imageSmoothingQuality = "high";
      on.fillStyle = "#3a4048";
      on.fillRect(0, 0, this.ground.width, this.ground.height);
      if (scene.picture) on.drawImage(scene.picture, 0, 0, this.ground.width, this.ground.height);
      Object.assign(this.canvas, { width: this.ground.width, height: this.ground.height });
      Object.assign(this.canvas.style, { inlineSize: `${size[0]}px`, blockSize: `${size[1]}px` });
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.ground, 0, 0);
    context.setTransform(ratio * scale, 0, 0, ratio * scale, 0, 0);
    const [x, y, w, h] = this.stage.inSight, thin = 1 / scale;
    for (const object of scene.objects) {
      const [bx, by, bw, bh] = object.box ?? [0, 0, 0, 0], least = 4 * thin;
      const w0 = Math.max(least, bw), h0 = Math.max(least, bh), at = [bx + (bw - w0) / 2, by + (bh - h0) / 2, w0, h0];
      context.fillStyle = "rgb(255 159 28 / .35)";
      context.fillRect(...at);
      context.strokeStyle = "#ff9f1c";
      context.lineWidth = 1.5 * thin;
      context.strokeRect(...at);
    }
    for (const [style, width] of [["#000", 3], ["#fff", 1.5]]) {
      context.strokeStyle = style;
      context.lineWidth = width * thin;
      context.strokeRect(x, y, w, h);
    }
  }
}
