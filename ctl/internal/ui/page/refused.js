import { element, setText, short, age, podName, visible } from "./dom.js";
import { Grid } from "./grid.js";
import { Filters } from "./filters.js";
import { verdict } from "./flows.js";

// what is asked for: a name, or else an address, with the port.
export function asked(r) {
  const what = r.name || r.address;
  return visible(r.port ? `${what}:${r.port}` : what);
}

export function refusedView(store) {
  const pod = (r) => podName(r.namespace, r.pod, r.key);
  const filters = new Filters("refused", [
    { name: "pod", label: "Pod", of: pod },
    { name: "name", label: "Name or address", of: (r) => r.name + " " + r.address },
    { name: "rule", label: "Rule", of: (r) => r.rule },
    { name: "direction", label: "Direction", options: ["in", "out"], of: (r) => r.direction },
    { name: "verdict", label: "Verdict", options: ["reject", "drop", "audit"], of: (r) => r.audit ? "audit" : r.verdict },
  ], update);
  const grid = new Grid({
    label: "Refused", empty: "Rules have refused nothing so far, or nothing like that.",
    open: (r) => openRule(r),
    columns: [
      { title: "Pod", width: "minmax(5rem, 2fr)", fill: (c, r) => setText(c, pod(r)) },
      { title: "Asked for", width: "minmax(6rem, 3fr)", fill: (c, r) => { setText(c, asked(r)); c.title = asked(r); } },
      { title: "By", width: "4rem", class: "middle", fill: (c, r) => setText(c, visible(r.app || r.protocol)) },
      { title: "Address", width: "minmax(6rem, 2fr)", class: "wide", fill: (c, r) => setText(c, visible(r.address)) },
      { title: "Rule", width: "minmax(6rem, 3fr)", class: "middle", fill: (c, r) => { setText(c, visible(r.rule)); c.title = visible(r.note || r.rule); } },
      { title: "Verdict", width: "4.5rem", fill: verdict },
      { title: "Times", width: "3rem", class: "number", fill: (c, r) => setText(c, short(r.count)) },
      { title: "Last", width: "4rem", class: "number middle", fill: (c, r) => setText(c, age(r.last)) },
    ],
  });

  function update() { grid.rows = store.refused.filter((r) => filters.matches(r)); }
  const clock = setInterval(update, 1000); // for the ages
  return {
    elements: [
      filters.element,
      element("p", { class: "note" }, "Open a row to make a rule that accepts it."), grid.element,
    ],
    update(kind) { if (kind === "refused" || kind === "all") update(); },
    close() { clearInterval(clock); grid.close(); },
  };
}

// openRule shows a rule that accepts what was refused, to be copied.
export async function openRule(r) {
  const text = element("pre", { tabindex: 0 }, "…");
  const said = element("span", { class: "note", role: "status" });
  const copy = element("button", {
    type: "button", disabled: "",
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(text.textContent);
        said.textContent = "Copied.";
      } catch {
        getSelection().selectAllChildren(text);
        said.textContent = "Marked: copy it with the keyboard.";
      }
    },
  }, "Copy");
  const dialog = element("dialog", { "aria-labelledby": "rule-title", onclose: () => dialog.remove() },
    element("h2", { id: "rule-title" }, "A rule that accepts it"),
    element("p", { class: "note" }, visible(`${podName(r.namespace, r.pod, r.key)} asked for ${asked(r)}, and ${r.rule} `
      + `${r.audit ? "would have refused it" : "refused it"}. Read the rule, then put it into a file of the rules' directory. The page changes nothing.`)),
    text,
    element("div", { class: "actions" }, said,
      element("a", { href: "#pod=" + encodeURIComponent(r.key), onclick: () => dialog.close() }, "Show the pod"),
      copy, element("button", { type: "button", onclick: () => dialog.close() }, "Close")));
  document.body.append(dialog);
  dialog.showModal();
  const query = new URLSearchParams({
    namespace: r.namespace, pod: r.pod, rule: r.rule, direction: r.direction, protocol: r.protocol,
    address: r.address, port: r.port, app: r.app, name: r.name,
  });
  try {
    const answer = await fetch("rule?" + query);
    text.textContent = visibleLines(await answer.text());
    copy.disabled = !answer.ok;
  } catch {
    text.textContent = "nsqueuectl ui does not answer.";
  }
}

// visibleLines leaves the line breaks of a document alone.
function visibleLines(document) { return document.split("\n").map(visible).join("\n"); }
