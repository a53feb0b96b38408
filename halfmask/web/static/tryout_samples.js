// Sample photographs: their pictures on the empty page, their boxes and their credit.
import { $, element, say } from "/static/page.js";

/** Offers the boxes of the sample that is open; drawBoxes(boxes) adds them. */
export function showSample(sample, drawBoxes) {
  $("sample").hidden = !sample;
  if (!sample) return;
  const many = sample.boxes.length, text = many === 1 ? "Draw the mask of its box" : `Draw the masks of its ${many} boxes`;
  const draw = () => {
    $("sample").replaceChildren(creditOf(sample));
    $("sample").classList.add("drawn");
    drawBoxes(sample.boxes);
  };
  $("sample").classList.remove("drawn");
  $("sample").replaceChildren(element("button", { text, onclick: draw }), creditOf(sample));
}

const link = (text, href) => element("a", { href, text, target: "_blank", rel: "noopener noreferrer" });
const creditOf = (sample) => element("p", {}, link("Photo on Flickr", sample.source), " · ", link(sample.licence, sample.licence_url));

async function openSample(sample, take) {
  try {
    const response = await fetch(`/api/samples/${sample.name}`, { credentials: "same-origin" });
    if (!response.ok) throw new Error("this sample photograph cannot be fetched from the server");
    await take(await response.blob(), { name: sample.name, sample });
  } catch (error) {
    say(error.message, "bad");
  }
}

/** Shows the samples of the empty page; take(file, { name, sample }) opens one. */
export function showSamples({ items }, take) {
  $("samples").replaceChildren(...items.map((sample) => element("li", {},
    element("button", { onclick: () => openSample(sample, take) },
      element("img", { src: `/api/samples/${sample.name}/small`, alt: "", width: 360, height: 240, loading: "lazy" }), element("span", { text: sample.caption, title: sample.caption })),
    creditOf(sample))));
  $("sample-part").hidden = !items.length;
}
