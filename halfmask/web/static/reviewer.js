// The reviewer's name: asked once in a browser, and stored there.
import { $ } from "/static/page.js";

/** Returns the name for decisions; "" before there is one. */
export function reviewer() {
  return localStorage.reviewer ?? "";
}

export function askName() {
  $("name-input").value = reviewer();
  $("name-dialog").showModal();
  $("name-input").select();
}

$("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("name-input").value.trim().replace(/\s+/g, " ");
  if (!name) return;
  localStorage.reviewer = name;
  $("who").textContent = name;
  $("name-dialog").close();
});
$("name-dialog").addEventListener("cancel", (event) => { if (!reviewer()) event.preventDefault(); });
