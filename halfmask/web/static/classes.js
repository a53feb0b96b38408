// The class of an object: type to search, or the number keys for the last nine that were used.
import { setClass } from "/static/actions.js";
import { currentCategory, desk } from "/static/desk.js";
import { $, element } from "/static/page.js";
import { colourOf, css } from "/static/palette.js";

const MOST = 200; // classes in the list at once
let found = [], at = 0;

const key = () => `recent ${desk.session.file}`;
const every = () => desk.session.all_categories ?? desk.session.categories;

/** The last nine classes that were used here, latest first; a number key keeps its class until the list is full. */
export function recent() {
  const ids = JSON.parse(localStorage[key()] ?? "[]");
  return ids.map((id) => every().find((one) => one.id === id)).filter(Boolean).slice(0, 9);
}

function remember(category) {
  const ids = JSON.parse(localStorage[key()] ?? "[]");
  if (ids.includes(category.id)) return; // its number stays
  localStorage[key()] = JSON.stringify([...ids, category.id].slice(-9));
}

export function choose(category) {
  remember(category);
  showRecent();
  setClass(category);
}

export function chooseNumber(number) {
  const category = recent()[number - 1];
  if (category && desk.item) choose(category);
}

const dot = (category) => Object.assign(element("i", { class: "swatch" }), { style: `background-color:${css(colourOf(category.label))}` });

/** Shows the numbered classes on the card. */
export function showRecent() {
  $("recent").replaceChildren(...recent().map((category, i) => element("button", { class: category.id === currentCategory()?.id ? "now" : "", title: `Class ${category.name} (${i + 1})`, "aria-keyshortcuts": String(i + 1), onclick: () => choose(category) },
    element("kbd", { text: String(i + 1) }), element("span", { class: "text", text: category.name }))));
  $("recent").hidden = !recent().length;
}

export function openClasses() {
  if (!desk.item) return;
  $("class-search").value = "";
  $("class-dialog").showModal();
  search();
  $("class-search").focus();
}

function search() {
  const text = $("class-search").value.trim().toLowerCase(), used = recent();
  const rank = (category) => {
    const name = category.name.toLowerCase();
    if (!text) return used.includes(category) ? used.indexOf(category) - 9 : 0;
    return name === text ? 0 : name.startsWith(text) ? 1 : name.split(/[\s_-]+/).some((word) => word.startsWith(text)) ? 2 : name.includes(text) ? 3 : 9;
  };
  found = every().map((category) => [rank(category), category]).filter(([place]) => place < 9)
    .sort(([a, x], [b, y]) => a - b || x.name.localeCompare(y.name)).map(([, category]) => category);
  at = 0;
  list();
}

function list() {
  const used = recent();
  $("class-list").replaceChildren(...found.slice(0, MOST).map((category, i) => {
    const number = used.indexOf(category) + 1;
    return element("li", { id: `class-${i}`, role: "option", "aria-selected": String(i === at), onclick: () => take(category) }, dot(category),
      element("span", { class: "text", text: category.name }), ...(category.id === currentCategory().id ? [element("span", { class: "figures", text: "now" })] : []), ...(number ? [element("kbd", { text: String(number) })] : []));
  }));
  $("class-none").hidden = found.length > 0;
  $("class-more").textContent = found.length > MOST ? `${(found.length - MOST).toLocaleString()} more: type to search` : "";
  $("class-search").setAttribute("aria-activedescendant", found.length ? `class-${at}` : "");
  $(`class-${at}`)?.scrollIntoView({ block: "nearest" });
}

function take(category) {
  if (!category) return;
  $("class-dialog").close();
  choose(category);
}

export function startClasses() {
  $("class-search").addEventListener("input", search);
  $("class-search").addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key], shown = Math.min(found.length, MOST);
    if (step && shown) {
      event.preventDefault();
      at = (at + step + shown) % shown;
      list();
    } else if (event.key === "Enter") {
      event.preventDefault();
      take(found[at]);
    }
  });
  $("class-form").addEventListener("submit", (event) => event.preventDefault());
  $("class-close").addEventListener("click", () => $("class-dialog").close());
}
