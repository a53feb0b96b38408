// Talks to the server. Every failure becomes an ApiError with a line that can be shown.

export class ApiError extends Error {
  /** status 0: no answer at all. body: what the server said. */
  constructor(status, message, body = {}) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "no answer from the server: is halfmask still running?");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const text = typeof body.detail === "string" ? body.detail : `the server answered ${response.status}`;
  throw new ApiError(response.status, text, body);
}

/** GET, with a query of plain values and lists. */
export async function get(path, query = {}) {
  const wanted = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) wanted.append(key, one);
  }
  const text = wanted.toString();
  return (await ask(text ? `${path}?${text}` : path)).json();
}

export async function post(path, body = {}) {
  const headers = { "content-type": "application/json" };
  return (await ask(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

/** POST whose answer is a file. */
export async function postForFile(path, body = {}) {
  const headers = { "content-type": "application/json" };
  return (await ask(path, { method: "POST", headers, body: JSON.stringify(body) })).blob();
}

export async function postBytes(path, blob) {
  const headers = { "content-type": "application/octet-stream" };
  return (await ask(path, { method: "POST", headers, body: blob })).json();
}

/** A photograph, decoded and ready to draw. The server has applied EXIF turns, or taken them out. */
export async function getPicture(path) {
  const blob = await (await ask(path)).blob();
  try {
    return await createImageBitmap(blob);
  } catch {
    throw new ApiError(0, "the browser cannot show this photograph");
  }
}
