import { element, setText, short, age, visible } from "./dom.js";
import { Grid } from "./grid.js";
import { Filters } from "./filters.js";

export function flowsView(store) {
  let paused = false;
  const pause = element("button", {
    type: "button", "aria-pressed": "false",
    onclick: () => {
      paused = !paused;
      pause.setAttribute("aria-pressed", String(paused));
      pause.textContent = paused ? "Continue" : "Pause";
      if (!paused) update();
    },
  }, "Pause");
  const filters = new Filters("flows", [
    { name: "pod", label: "Pod", of: (f) => f.pod },
    { name: "name", label: "Name or address", of: (f) => [...(f.names ?? []), f.otherEnd, f.podEnd].join(" ") },
    { name: "rule", label: "Rule", of: (f) => f.rule },
    { name: "direction", label: "Direction", options: ["in", "out", "forward"], of: (f) => f.direction },
    { name: "verdict", label: "Verdict", options: ["accept", "drop", "reject", "queue"], of: (f) => f.verdict },
  ], update);
  filters.element.append(pause);
  const grid = flowsGrid("No packets so far, or none are like that.");

  function update() {
    if (paused) return;
    const rows = [];
    const all = [...store.flows.values()];
    for (let i = all.length - 1; i >= 0; i--) if (filters.matches(all[i])) rows.push(all[i]);
    grid.rows = rows;
  }
  return {
    elements: [filters.element, grid.element],
    update(kind) { if (kind === "flows" || kind === "all") update(); },
    close() { grid.close(); },
  };
}

function flowsGrid(empty) {
  return new Grid({
    label: "Flows", empty,
    open: (f) => { location.hash = "pod=" + encodeURIComponent(f.key); },
    columns: [
      { title: "Pod", width: "minmax(5rem, 2fr)", fill: (c, f) => setText(c, visible(f.pod)) },
      { title: "", width: "2rem", fill: direction },
      { title: "Other end", width: "minmax(6rem, 3fr)", fill: other },
      { title: "Protocol", width: "4.5rem", class: "middle", fill: (c, f) => setText(c, visible(f.protocol)) },
      { title: "Pod's end", width: "minmax(7rem, 2fr)", class: "wide", fill: (c, f) => setText(c, visible(f.podEnd)) },
      { title: "Packets", width: "4.5rem", class: "number middle", fill: (c, f) => setText(c, short(f.packets)) },
      { title: "Verdict", width: "4.5rem", fill: verdict },
      { title: "Rule", width: "minmax(6rem, 2fr)", class: "wide", fill: (c, f) => setText(c, visible(f.rule)) },
      { title: "Last", width: "4rem", class: "number middle", fill: (c, f) => setText(c, age(f.last)) },
    ],
  });
}

function direction(cell, f) {
  setText(cell, { out: "→", in: "←" }[f.direction] ?? "·");
  cell.setAttribute("aria-label", { out: "opened by the pod, to", in: "opened by the other end" }[f.direction] ?? f.direction);
}

function other(cell, f) {
  const names = f.names?.length ? ` (${f.names.slice(0, 3).join(", ")}${f.names.length > 3 ? ", …" : ""})` : "";
  const text = visible(f.otherEnd + names);
  setText(cell, text);
  cell.title = text;
}

export function verdict(cell, row) {
  setText(cell, visible(row.audit ? "audit" : row.verdict));
  cell.className = "cell " + ({ accept: "accept", drop: "drop", reject: "reject" }[row.audit ? "" : row.verdict] ?? "audit");
}
