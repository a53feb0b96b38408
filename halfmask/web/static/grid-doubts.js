// The grid sorted by disagreement while the model still looks: new scores wait for a press of a button.
import { get } from "/static/api.js";
import { $ } from "/static/page.js";

let sorted = null, looking = true; // sorted: { turn, looked_at } of the order that is shown

const applies = () => $("sort").value === "disagreement";

/** Call this before the order is fetched, so that what comes meanwhile counts as new. */
export async function noteOrder() {
  sorted = applies() ? await ask() : null;
  tell(sorted);
}

/** Says how many masks were looked at since; call this now and then. anew: the server has started again. */
export async function watchDoubts({ anew = false } = {}) {
  looking ||= anew;
  if (!applies() || !sorted || !looking) return;
  const now = await ask();
  if (applies()) tell(now);
}

async function ask() {
  const now = await get("/api/doubts");
  looking = now.state === "looking";
  return now;
}

function tell(now) {
  const news = now && sorted && now.turn !== sorted.turn, count = news ? now.looked_at - sorted.looked_at : 0;
  $("again").hidden = !news;
  if (news) $("again").textContent = `${count > 0 ? `${count.toLocaleString()} more looked at` : "New scores"}: sort again`;
}

/** Leaves masks where they are: those of the order before come first, as they were. */
export function inPlace({ positions, versions, ...more }, before) {
  const place = new Map(before.map((position, k) => [position, k]));
  const turns = positions.map((position, k) => [place.get(position) ?? before.length + k, k]).sort((a, b) => a[0] - b[0]).map(([, k]) => k);
  return { ...more, positions: turns.map((k) => positions[k]), versions: turns.map((k) => versions[k]) };
}
