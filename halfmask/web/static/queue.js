// Fetches objects and photographs from the server, ahead of the reviewer.
import { get, getPicture } from "/static/api.js";
import { STATES } from "/static/desk.js";
import { $ } from "/static/page.js";

export const AHEAD = 2; // objects that are fetched in advance
const MOST_ITEMS = 8, MOST_PICTURES = 4;
const CLIENT = sessionStorage.client ??= crypto.randomUUID?.() ?? String(Math.random());

const fetched = new Map(); // position → promise of { item, picture, fault }
const pictures = new Map(); // row → promise; several objects share a photograph
const neighbours = new Map(); // row → promise of the photograph's objects

/** Call this when an object has changed. */
export function forget(position) {
  fetched.delete(position);
  neighbours.clear();
}

export function forgetAll() {
  fetched.clear();
  neighbours.clear();
}

/** Returns the filter as query values. */
export function filter() {
  const states = [...$("states").querySelectorAll("input:checked")].map((box) => box.value);
  const category = $("category").value;
  const [low, high] = ["low", "high"].map((id) => Math.min(1, Math.max(0, Number($(id).value) || 0)));
  const every = states.length === STATES.length - 1 && !states.includes("deleted"); // what the server gives unasked
  return {
    ...(states.length && !every ? { state: states } : {}), ...(category ? { category } : {}), low, high,
    ...($("by").value ? { by_reviewer: $("by").value } : {}), ...($("commented").checked ? { commented: true } : {}), ...order(),
  };
}

function order() {
  const [sort, reverse] = $("sort").value.split(" ");
  return { ...(sort && sort !== "score" ? { sort } : {}), ...(reverse ? { reverse: true } : {}) };
}

/** Returns an object with its photograph, at once if it was fetched in advance. */
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
  return kept(pictures, row, () => getPicture(`/api/photos/${row}`));
}

/** Returns the objects of a photograph, with their masks: { items, left_out }. */
export function objectsOn(row) {
  return kept(neighbours, row, () => get(`/api/photos/${row}/items`, { masks: true }));
}

function kept(map, key, make) {
  if (!map.has(key)) {
    const promise = make();
    map.set(key, promise);
    promise.catch(() => map.delete(key));
    while (map.size > MOST_PICTURES) map.delete(map.keys().next().value);
  }
  return map.get(key);
}

/** Fetches a part of the queue. more: beyond (a position; without it the first), count, backwards, step. */
export const queue = (more) => get("/api/queue", { ...filter(), client: CLIENT, ...more });
