// Lines over the last hour. What was not known is a gap, and every plot is a table, too.

import { h, table } from "/console/dom.js";

const SVG = "http://www.w3.org/2000/svg";
const POINTS = 360;
const HEIGHT = 100;

function svg(tag, props, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const isKnown = (value) => value !== null && value !== undefined;

// As many digits as are read.
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

// One path with a gap wherever nothing is known; a single value is a dot.
function path(values, most) {
  const first = POINTS - values.length;
  let drawn = "";
  let pen = false;
  values.forEach((value, position) => {
    if (!isKnown(value)) {
      pen = false;
      return;
    }
    const x = first + position;
    const y = (HEIGHT - (value / most) * HEIGHT).toFixed(1);
    drawn += pen ? `L${x} ${y}` : `M${x} ${y}h.5`;
    pen = true;
  });
  return drawn;
}

function swatch(number) {
  return svg("svg", { class: "swatch", viewBox: "0 0 30 10", "aria-hidden": "true" }, svg("path", { class: `line line-${number}`, d: "M0 5H30" }));
}

// `lines` are pairs of a name and its values, the earliest first.
export function plot(title, lines, words, everySeconds) {
  const known = lines.map(([name, values]) => [name, values, values.filter(isKnown)]);
  const highest = Math.max(0, ...known.map(([, , some]) => Math.max(0, ...some)));
  const most = highest || 1;
  const minutes = Math.round((POINTS * everySeconds) / 60);
  const picture = svg("svg", { viewBox: `0 0 ${POINTS} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title} over ${minutes} minutes, as the table below says` },
    ...[0, 50, 100].map((y) => svg("path", { class: "grid", d: `M0 ${y}H${POINTS}` })),
    ...known.map(([, values], number) => svg("path", { class: `line line-${number}`, d: path(values, most) })));
  const mean = (some) => some.reduce((sum, value) => sum + value, 0) / some.length;
  return h("figure", null,
    h("figcaption", null, title),
    h("p", { class: "axis" }, words(highest)),
    picture,
    h("p", { class: "axis" }, h("span", null, `${minutes} minutes ago`), h("span", null, "now")),
    table(title, [
      ["Line", ([name, , , number]) => [swatch(number), " ", name]],
      ["Now", ([, values]) => words(values.at(-1))],
      ["Average", ([, , some]) => words(some.length ? mean(some) : null)],
      ["Highest", ([, , some]) => words(some.length ? Math.max(...some) : null)],
    ], known.map((one, number) => [...one, number])));
}
