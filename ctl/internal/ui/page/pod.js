import { element, setText, short, age, podName, visible } from "./dom.js";
import { asked, openRule } from "./refused.js";

// podView shows one attachment. What is not in the feed it asks for every two seconds.
export function podView(store, key) {
  const title = element("h2", {}, visible(key));
  const rate = element("span", { class: "note" });
  const body = element("div", {}, element("p", { class: "note" }, "…"));
  let closed = false;
  let timer = 0;
  let shown = "";

  async function look() {
    try {
      const answer = await fetch("pod?" + new URLSearchParams({ key }));
      const text = await answer.text();
      if (closed) return;
      if (!answer.ok) {
        shown = "";
        body.replaceChildren(element("p", { class: "note bad" }, visible(text)));
      } else if (text !== shown && !body.contains(document.activeElement) && !selecting(body)) {
        shown = text;
        const p = JSON.parse(text);
        setText(title, podName(p.pod.namespace, p.pod.name, key));
        body.replaceChildren(...sections(p, store));
      }
    } catch { /* the head of the page says that nothing answers */ }
    if (!closed) timer = setTimeout(look, 2000);
  }

  look();
  return {
    elements: [
      element("div", { class: "title" }, title, rate, element("a", { href: "#pods" }, "All pods")), body,
    ],
    update(kind) {
      const p = store.pods.get(key);
      if (p && (kind === "pods" || kind === "all")) setText(rate, short(p.rate) + " packets/s");
    },
    close() { closed = true; clearTimeout(timer); },
  };
}

function selecting(e) {
  const s = getSelection();
  return !s.isCollapsed && e.contains(s.anchorNode);
}

function sections(p, store) {
  const refused = store.refused.filter((r) => r.key === `${p.containerID}/${p.ifname}`);
  return [
    facts(p),
    element("h3", {}, "Refused"),
    table(["Asked for", "Rule", "Verdict", "Times", "Last", ""], refused.map((r) => [
      asked(r), r.rule, r.audit ? "audit" : r.verdict, short(r.count), age(r.last),
      element("button", { type: "button", onclick: () => openRule(r) }, "Make a rule"),
    ]), "Rules have refused nothing of it that is remembered."),
    element("h3", {}, "Rules that concern it"),
    table(["Rule", "Action", "When", "Hits of all pods"], p.rules.map((r) => [
      `${r.set}/${r.rule}`, r.mode === "Audit" ? `${r.action} (audit)` : r.action,
      r.when ? element("code", {}, visible(r.when)) : "", short(r.hits),
    ]), "No rules concern it."),
    element("h3", {}, "Names that it asked for"),
    table(["Name", "By", "Port", "Verdict", "Times", "Last"], p.names.map((n) => [
      n.name, n.app, n.port, n.verdict, short(n.count), age(n.last),
    ]), "None are known: nsqueued looks for names only where a rule asks for some."),
    element("h3", {}, "Queues"),
    table(["Queue", "Length", "Waiting", "Dropped: full", "Dropped: no room to read"], p.queueStates.map((q) => [
      q.number, q.length, q.waiting, q.queueDropped, q.userDropped,
    ]), "It has none."),
    element("h3", {}, "Events"),
    table(["Age", "Kind", "Message"], [...p.events].reverse().slice(0, 100).map((e) => [
      age(e.time), e.kind, e.message,
    ]), "None are remembered."),
  ];
}

function facts(p) {
  const c = p.counters;
  const rows = [
    ["Attachment", `${p.containerID.slice(0, 12)}/${p.ifname}`], ["State", p.state],
    ["Failure policy", p.failurePolicy], ["Hook", p.hook], ["Inspected for", age(p.created)],
    ["Packets", `${short(c.packets)}: ${short(c.accepted)} accepted, ${short(c.dropped)} dropped, ${short(c.rejected)} rejected`],
  ];
  if (p.problem) rows.unshift(["Problem", p.problem]);
  for (const w of p.warnings ?? []) rows.push(["Warning", w]);
  return element("dl", { class: "facts" }, ...rows.flatMap(([name, value]) => [
    element("dt", {}, name),
    element("dd", { class: name === "Problem" ? "bad" : null }, visible(value)),
  ]));
}

function table(head, rows, empty) {
  if (rows.length === 0) return element("p", { class: "note" }, empty);
  return element("div", { class: "scroll" }, element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((h) => element("th", { scope: "col" }, h)))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((c) =>
      element("td", {}, c instanceof Element ? c : visible(c))))))));
}
