import { element, setText, visible } from "./dom.js";
import { Store } from "./store.js";
import { podsView } from "./pods.js";
import { flowsView } from "./flows.js";
import { refusedView } from "./refused.js";
import { podView } from "./pod.js";

const store = new Store();
const content = document.getElementById("content");
let view = null; // { elements, update(kind), close() }

// show opens the view that the address names.
function show() {
  const [name, ...rest] = location.hash.slice(1).split("=");
  const views = { pods: podsView, flows: flowsView, refused: refusedView, pod: podView };
  const make = views[name] ?? podsView;
  view?.close?.();
  view = make(store, decodeURIComponent(rest.join("=")));
  content.replaceChildren(...view.elements);
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.hash === "#" + (views[name] ? name : "pods");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view.update("all");
}

// head updates what is above all views.
function head() {
  const n = store.node;
  setText(document.getElementById("count-pods"), String(store.pods.size));
  setText(document.getElementById("count-flows"), String(store.flows.size));
  setText(document.getElementById("count-refused"), String(store.refused.length));
  const alarm = alarmText(n);
  const at = document.getElementById("alarm");
  at.hidden = alarm === "";
  setText(at, alarm);
  if (n && !n.error) {
    setText(document.getElementById("node"),
      visible(`nsqueued ${n.version}, hook ${n.hook.kind}, default policy ${n.failurePolicy}`));
  }
}

function alarmText(n) {
  if (!store.connected) return "nsqueuectl ui does not answer. What is shown is old; the page tries again.";
  if (n?.error) return visible("nsqueued does not answer; the page tries again: " + n.error);
  if (n?.rules) return visible("Files of rules are refused, those of before are in force: " + n.rules);
  if (n?.problems?.length) {
    const p = n.problems[0];
    const more = n.problems.length > 1 ? ` (and ${n.problems.length - 1} more)` : "";
    return visible(`${p.pod.namespace}/${p.pod.name}: ${p.message}${more}`);
  }
  return "";
}

let refusedBefore = null;

// speak tells screen readers of new refusals, at most once in five seconds.
function speak() {
  const count = store.refused.length;
  if (refusedBefore !== null && count > refusedBefore) {
    const r = store.refused[0];
    setText(document.getElementById("spoken"),
      visible(`${count - refusedBefore} new refusals, the last of ${r.namespace}/${r.pod}`));
  }
  refusedBefore = count;
}

store.addEventListener("change", (e) => {
  head();
  view?.update(e.detail);
});
setInterval(speak, 5000);
addEventListener("hashchange", () => { show(); content.focus(); });
show();
store.open();
