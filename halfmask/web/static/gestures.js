// What the pointer does on a stage: the tool has it, or it moves the view; two fingers and the wheel zoom.

const FAR = 6; // screen pixels that a finger may tremble in a tap

export class Gestures {
  constructor(stage) {
    this.stage = stage;
    this.pointers = new Map();
    this.drag = null; // tool, pan or pinch
    const { canvas } = stage;
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.#up(event));
    canvas.addEventListener("pointerleave", () => { stage.cursor = null; stage.draw(); });
    canvas.addEventListener("dblclick", () => stage.scene && stage.tool?.double?.());
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  #at(event) {
    const frame = this.stage.canvas.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  #wheel(event) {
    event.preventDefault();
    const { stage } = this;
    if (!stage.scene) return;
    stage.moved = true;
    stage.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), this.#at(event));
  }

  #down(event) {
    const { stage } = this;
    if (!stage.scene) return;
    const at = this.#at(event);
    stage.stop();
    try { stage.canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that has gone already */ }
    this.pointers.set(event.pointerId, at);
    const toTool = event.button === 0 || (event.button === 2 && stage.tool?.takesRight);
    if (this.pointers.size > 1) { // a second finger: zoom and pan, whatever the tool
      if (this.drag === "tool") stage.tool?.cancel?.();
      this.drag = "pinch";
    } else if (stage.tool && toTool && !stage.holdToPan) {
      this.drag = "tool";
      stage.tool.down(stage.toPhoto(at), event);
    } else {
      this.drag = "pan";
      this.tap = { at, when: event.timeStamp };
    }
    stage.cursor = at;
    stage.draw();
  }

  #move(event) {
    const { stage } = this, at = this.#at(event), before = this.pointers.get(event.pointerId);
    stage.cursor = event.pointerType === "touch" && !before ? null : at;
    if (!before) {
      stage.tool?.hover?.(stage.toPhoto(at));
      return stage.draw();
    }
    if (this.drag === "pinch") this.#pinch(event.pointerId, at);
    this.pointers.set(event.pointerId, at);
    if (this.drag === "pan") {
      stage.moved = true;
      stage.pan(at[0] - before[0], at[1] - before[1]);
    } else if (this.drag === "tool") stage.tool?.move?.(stage.toPhoto(at), event);
    stage.draw();
  }

  #pinch(id, at) {
    const { stage } = this;
    const other = [...this.pointers].find(([key]) => key !== id)?.[1], before = this.pointers.get(id);
    if (!other) return;
    const length = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
    stage.moved = true;
    stage.zoom(length(at, other) / length(before, other), other);
    stage.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
  }

  #up(event) {
    const { stage } = this;
    if (!this.pointers.delete(event.pointerId)) return;
    const at = this.#at(event);
    if (this.drag === "tool" && !this.pointers.size) stage.tool?.up?.(stage.toPhoto(at), event);
    if (this.drag === "pan" && this.tap && Math.hypot(at[0] - this.tap.at[0], at[1] - this.tap.at[1]) < FAR && event.button === 0) {
      stage.ontap?.(stage.toPhoto(at), event);
    }
    this.tap = null;
    if (!this.pointers.size) {
      this.drag = null;
      stage.keepClear();
    }
    if (event.pointerType === "touch") stage.cursor = null;
    stage.draw();
  }
}
