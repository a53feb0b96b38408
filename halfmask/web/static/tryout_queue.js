// Boxes wait here for their masks: a few at a time, in the order in which they were drawn.
import { post, postBytes } from "/static/api.js";

const AT_ONCE = 2; // the server lets one visitor ask four times at once
const TRIES = 30, PAUSE = 2000; // while others keep the model busy
const MOST_SENT = 3; // times that one request sends the photograph again

const pause = (time) => new Promise((done) => { setTimeout(done, time); });

/** Whether the server said that it has no room now. */
export const isBusy = ({ status }) => status === 503 || status === 429;

/** Sends the photograph again, once for all who ask about it. */
async function sendAgain(photo) {
  photo.sending ??= postBytes("/api/photos", photo.file).finally(() => { photo.sending = null; });
  photo.id = (await photo.sending).photo;
}

/** A server that is busy, or that no longer has the photograph, is asked again. photo: { id, file }; how: post, or another function of its kind. */
export async function askAbout(photo, path, body, how = post) {
  for (let tries = 0, sent = 0, asked = photo.id, gone = false; ; tries++) {
    try {
      if (gone && asked === photo.id) await sendAgain(photo); // unless another request has done so
      [gone, asked] = [false, photo.id];
      return await how(`/api/photos/${asked}/${path}`, body);
    } catch (error) {
      if (error.status === 404 && sent < MOST_SENT) {
        sent++;
        gone = true;
      } else if (isBusy(error) && tries < TRIES) await pause(PAUSE);
      else throw error;
    }
  }
}

export class MaskQueue {
  /** drawn(object, answer) and failed(object, error) are called for each; changed() after each. */
  constructor({ drawn, failed, changed }) {
    Object.assign(this, { drawn, failed, changed, waiting: [], running: 0 });
  }

  /** Asks for the mask of object.box; object.photo is its photograph. */
  add(object) {
    object.state = "waiting";
    this.waiting = this.waiting.filter((other) => other !== object);
    this.waiting.push(object);
    this.#next();
  }

  /** Forgets what waits. */
  clear() {
    this.waiting = [];
  }

  remove(object) {
    this.waiting = this.waiting.filter((other) => other !== object);
  }

  #next() {
    while (this.running < AT_ONCE && this.waiting.length) {
      this.running++;
      this.#ask(this.waiting.shift()).finally(() => {
        this.running--;
        this.changed();
        this.#next();
      });
    }
  }

  async #ask(object) {
    const label = object.label; // it may be changed while the model draws
    try {
      const answer = await askAbout(object.photo, "segment", { box: object.box, label });
      if (object.label === label) this.drawn(object, answer);
    } catch (error) {
      this.failed(object, error);
    }
  }
}
