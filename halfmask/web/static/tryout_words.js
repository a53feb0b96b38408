// Errors in a visitor's words.
import { isBusy } from "/static/tryout_queue.js";

/** The server's word in the visitor's: which file, what is wrong with it, and what to do. */
export function wordsOf(error, name) {
  const text = error.message.replace(/^photograph: /, "");
  if (error.status === 422 && /cannot read it/.test(text)) return `${name} cannot be opened as a photograph. Use a JPEG, PNG or WebP file.`;
  if (isBusy(error)) return "The model is busy with other visitors. Try again in a minute.";
  return error.status === 422 || error.status === 413 ? `${name}: ${text}` : text;
}

/** What is wrong with a file before it is sent; "" where nothing is. most: bytes that the server takes. */
export function faultOf(file, name, most) {
  if (!file.size) return `${name} is empty.`;
  if (file.type && !file.type.startsWith("image/")) return `${name} is not a photograph. Use a JPEG, PNG or WebP file.`;
  return file.size > most ? `${name} has ${Math.ceil(file.size / 1e6)} MB; at most ${Math.floor(most / 1e6)} MB can be sent. Make it smaller.` : "";
}
