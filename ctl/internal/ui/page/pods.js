import { element, setText, short, podName, visible } from "./dom.js";
import { Grid } from "./grid.js";
import { Filters } from "./filters.js";

export function podsView(store) {
  const name = (p) => podName(p.namespace, p.name, p.key);
  const filters = new Filters("pods", [
    { name: "pod", label: "Pod", of: name },
    { name: "policy", label: "Failure policy", options: ["Ignore", "Fail"], of: (p) => p.policy },
  ], update);
  const grid = new Grid({
    label: "Pods", empty: "No pods are inspected, or none is like that.",
    open: (p) => { location.hash = "pod=" + encodeURIComponent(p.key); },
    columns: [
      { title: "Pod", width: "minmax(9rem, 3fr)", fill: (c, p) => setText(c, name(p)) },
      { title: "Last minute", width: "minmax(4rem, 2fr)", class: "middle", fill: spark },
      { title: "Packets/s", width: "6rem", class: "number", fill: (c, p) => setText(c, short(p.rate)) },
      { title: "Packets", width: "6rem", class: "number middle", fill: (c, p) => setText(c, short(p.packets)) },
      { title: "Refused", width: "5rem", class: "number", fill: (c, p) => setText(c, short(p.refused)) },
      { title: "Policy", width: "5rem", class: "wide", fill: (c, p) => setText(c, visible(p.policy)) },
      { title: "State", width: "minmax(5rem, 2fr)", class: "wide", fill: state },
    ],
  });

  function update() {
    grid.rows = [...store.pods.values()].filter((p) => filters.matches(p))
      .sort((a, b) => b.rate - a.rate || name(a).localeCompare(name(b)));
  }
  return {
    elements: [filters.element, grid.element],
    update(kind) { if (kind === "pods" || kind === "all") update(); },
    close() { grid.close(); },
  };
}

function state(cell, p) {
  setText(cell, visible(p.problem || p.state));
  cell.classList.toggle("bad", Boolean(p.problem));
  cell.title = p.problem ? visible(p.problem) : "";
}

// spark draws the rates of the last minute, the highest at the top.
function spark(cell, p) {
  let line = cell.firstElementChild?.firstElementChild;
  if (!line) {
    line = element("polyline");
    cell.append(element("svg", {
      class: "spark", viewBox: "0 0 60 20", preserveAspectRatio: "none", "aria-hidden": "true",
    }, line));
  }
  const top = Math.max(1, ...p.history);
  const from = 60 - p.history.length;
  const points = p.history.map((r, i) => `${from + i},${(19 - 18 * r / top).toFixed(1)}`).join(" ");
  if (line.getAttribute("points") !== points) line.setAttribute("points", points);
}
