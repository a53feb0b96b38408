// Fetches masks and photographs from the server, ahead of the reviewer.
import { get, getPicture } from "/static/api.js";
import { $ } from "/static/page.js";

export const AHEAD = 2; // masks that are fetched in advance
const LISTED = 12;
const MOST_ITEMS = 8, MOST_PICTURES = 4;
const CLIENT = sessionStorage.client ??= crypto.randomUUID?.() ?? String(Math.random());

const fetched = new Map(); // position → promise of { item, picture, fault }
const pictures = new Map(); // row → promise; several masks share a photograph

/** Call this when a mask's state has changed. */
export function forget(position) {
  fetched.delete(position);
}

/** Returns the filter as query values. */
export function filter() {
  const states = [...$("states").querySelectorAll("input:checked")].map((box) => box.value);
  const category = $("category").value;
  const [low, high] = ["low", "high"].map((id) => Math.min(1, Math.max(0, Number($(id).value) || 0)));
  return { ...(states.length < 4 && states.length ? { state: states } : {}), ...(category ? { category } : {}), low, high };
}

/** Returns a mask with its photograph, at once if it was fetched in advance. */
export function fetchItem(position) {
  if (!fetched.has(position)) {
    const promise = (async () => {
      const found = await get(`/api/items/${position}`);
      try {
        return { item: found, picture: await picture(found.image.row) };
      } catch (error) {
        return { item: found, picture: null, fault: error.message };
      }
    })();
    fetched.set(position, promise);
    promise.catch(() => fetched.delete(position));
    while (fetched.size > MOST_ITEMS) fetched.delete(fetched.keys().next().value);
  }
  return fetched.get(position);
}

function picture(row) {
  if (!pictures.has(row)) {
    const promise = getPicture(`/api/photos/${row}`);
    pictures.set(row, promise);
    promise.catch(() => pictures.delete(row));
    while (pictures.size > MOST_PICTURES) pictures.delete(pictures.keys().next().value);
  }
  return pictures.get(row);
}

/** Fetches the part of the queue after a rank. */
export const queue = (after, more = {}) => get("/api/queue", { ...filter(), after, count: LISTED, client: CLIENT, ...more });
