// Line plots of the last hour. Unknown values are gaps. A table below each plot has the same data.

import { h, table } from "/console/dom.js";

const SVG = "http://www.w3.org/2000/svg";
const POINTS = 360;
const HEIGHT = 100;

function svg(tag, props, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const isKnown = (value) => value !== null && value !== undefined;

// Rounds to a readable number of digits.
const short = (value) => value.toLocaleString(undefined, { maximumFractionDigits: value < 10 ? 1 : 0 });

export function rate(value) {
  if (!isKnown(value)) return "unknown";
  return value > 0 && value < 1 ? `${short(value * 60)}/min` : `${short(value)}/s`;
}

export function seconds(value) {
  if (!isKnown(value)) return "unknown";
  return value < 1 ? `${short(value * 1000)} ms` : `${short(value)} s`;
}

export function amount(value) {
  return isKnown(value) ? short(value) : "unknown";
}

// Returns one path, with a gap at each unknown value. A single value becomes a dot.
function path(values, max) {
  const first = POINTS - values.length;
  let drawn = "";
  let pen = false;
  values.forEach((value, position) => {
    if (!isKnown(value)) {
      pen = false;
      return;
    }
    const x = first + position;
    const y = (HEIGHT - (value / max) * HEIGHT).toFixed(1);
    drawn += pen ? `L${x} ${y}` : `M${x} ${y}h.5`;
    pen = true;
  });
  return drawn;
}

function swatch(number) {
  return svg("svg", { class: "swatch", viewBox: "0 0 30 10", "aria-hidden": "true" }, svg("path", { class: `line line-${number}`, d: "M0 5H30" }));
}

// `lines` are pairs of a name and its values, the oldest first. `format` turns a value into text.
export function plot(title, lines, format, everySeconds) {
  const series = lines.map(([name, values]) => [name, values, values.filter(isKnown)]);
  const highest = Math.max(0, ...series.map(([, , known]) => Math.max(0, ...known)));
  const max = highest || 1;
  const minutes = Math.round((POINTS * everySeconds) / 60);
  const picture = svg("svg", { viewBox: `0 0 ${POINTS} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title} over ${minutes} minutes, as the table below says` },
    ...[0, 50, 100].map((y) => svg("path", { class: "grid", d: `M0 ${y}H${POINTS}` })),
    ...series.map(([, values], number) => svg("path", { class: `line line-${number}`, d: path(values, max) })));
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return h("figure", null,
    h("figcaption", null, title),
    h("p", { class: "axis" }, format(highest)),
    picture,
    h("p", { class: "axis" }, h("span", null, `${minutes} minutes ago`), h("span", null, "now")),
    table(title, [
      ["Line", ([name, , , number]) => [swatch(number), " ", name]],
      ["Now", ([, values]) => format(values.at(-1))],
      ["Average", ([, , known]) => format(known.length ? mean(known) : null)],
      ["Highest", ([, , known]) => format(known.length ? Math.max(...known) : null)],
    ], series.map((line, number) => [...line, number])));
}
