// Sharper parts of a large photograph, asked for where the screen shows more than the first picture has.
import { getPicture } from "/static/api.js";

const SIDE = 1024; // pixels of a tile
const MOST = 48, AT_ONCE = 3; // tiles that are kept, and asked for at the same time
const ENOUGH = 1.2; // screen pixels for a pixel of the first picture
const PAUSE = 1500; // milliseconds before a tile is asked for again after a failure

export class Tiles {
  constructor() {
    this.tiles = new Map(); // "row level x y" → { picture } or { after }
    this.asking = 0;
  }

  /** Draws the tiles that are there over the photograph, and asks for those that are missing. */
  paint(context, stage) {
    const { scene, view } = stage, screen = view.scale * (window.devicePixelRatio || 1);
    if (scene.row === undefined || screen < ENOUGH * (scene.picture.width / scene.width) || scene.picture.width >= scene.width) return;
    const level = Math.min(1, 2 ** Math.ceil(Math.log2(screen))), side = SIDE / level;
    const [x, y, w, h] = stage.inSight;
    if (w <= 0 || h <= 0) return;
    for (let top = Math.floor(y / side); top * side < y + h; top++) {
      for (let left = Math.floor(x / side); left * side < x + w; left++) {
        const key = `${scene.row} ${level} ${left} ${top}`, tile = this.tiles.get(key);
        const area = [left * side, top * side, Math.min(scene.width, (left + 1) * side), Math.min(scene.height, (top + 1) * side)];
        if (tile?.picture) {
          this.tiles.delete(key); // the latest stays the longest
          this.tiles.set(key, tile);
          context.drawImage(tile.picture, area[0], area[1], area[2] - area[0], area[3] - area[1]);
        } else if (!tile || tile.after < performance.now()) this.#ask(key, scene.row, area, level, stage);
      }
    }
  }

  async #ask(key, row, [left, top, right, bottom], level, stage) {
    if (this.asking >= AT_ONCE) return; // the frame that shows the next tile asks again
    this.asking++;
    this.tiles.set(key, { after: Infinity });
    const width = Math.max(1, Math.round((right - left) * level));
    try {
      const picture = await getPicture(`/api/photos/${row}/region?left=${left}&top=${top}&right=${right}&bottom=${bottom}&width=${width}`);
      this.tiles.set(key, { picture });
    } catch (error) {
      const gone = error.status === 404 || error.status === 422; // the first picture has to do
      this.tiles.set(key, { after: gone ? Infinity : performance.now() + PAUSE });
      if (!gone) setTimeout(() => stage.draw(), PAUSE + 50);
    }
    this.asking--;
    while (this.tiles.size > MOST) this.tiles.delete(this.tiles.keys().next().value);
    stage.draw();
  }
}
