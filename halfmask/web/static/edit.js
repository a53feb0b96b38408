// Unsaved changes of an object, with undo and redo of each step.

const MOST = 200; // steps

export class Edit {
  /** mask: as it was. box: the annotation's. */
  constructor(mask, box) {
    this.mask = mask;
    this.first = box;
    this.state = { box, draft: null, clicks: [], base: null, touched: false };
    this.past = [];
    this.future = [];
    this.held = null;
    this.asked = null; // { clicks } while the model draws
  }

  get clicks() {
    return this.asked?.clicks ?? this.state.clicks;
  }

  get changed() {
    return this.past.length > 0;
  }

  get box() {
    return this.state.box;
  }

  get boxChanged() {
    return Boolean(this.changed && this.box && (!this.first || this.box.some((value, i) => Math.abs(value - this.first[i]) > 1e-6)));
  }

  /** What saving would write: "" (nothing), redrawn, draft (the model's mask) or box (alone). */
  get kind() {
    if (!this.changed) return "";
    if (this.state.touched) return "redrawn";
    return this.state.draft ? "draft" : this.boxChanged ? "box" : "";
  }

  /** Call this before a step. */
  begin() {
    this.held = { mask: this.mask, pixels: this.mask.pixels.slice(), state: this.state };
  }

  /** Ends a step. changes: of the state. mask: another one, if the step replaced it. Returns whether anything changed. */
  commit(changes = {}, mask = this.mask) {
    const { held } = this;
    this.held = null;
    const before = held ?? { mask: this.mask, state: this.state };
    const same = mask === before.mask;
    const patch = held && same ? mask.patchSince(held.pixels) : null;
    const isState = Object.keys(changes).some((key) => JSON.stringify(changes[key]) !== JSON.stringify(before.state[key]));
    if (same && !patch && !isState) return false;
    this.mask = mask;
    this.state = { ...before.state, ...changes };
    this.past.push({ patch, before: { mask: before.mask, state: before.state }, after: { mask, state: this.state } });
    if (this.past.length > MOST) this.past.shift();
    this.future = [];
    return true;
  }

  /** A step of the reviewer's own hand: what the model drew before is only its beginning. */
  commitByHand() {
    return this.commit({ touched: true, draft: null, base: null, clicks: [] });
  }

  /** Gives a step up before it is committed. */
  abandon() {
    if (this.held) this.mask.set(this.held.pixels);
    this.held = null;
  }

  /** Undoes the last step; false if there is none. */
  undo() {
    return this.#walk(this.past, this.future, "before");
  }

  redo() {
    return this.#walk(this.future, this.past, "after");
  }

  #walk(from, to, side) {
    const step = from.pop();
    if (!step) return false;
    to.push(step);
    this.mask = step[side].mask;
    this.state = step[side].state;
    if (step.patch) this.mask.apply(step.patch, side);
    return true;
  }
}
