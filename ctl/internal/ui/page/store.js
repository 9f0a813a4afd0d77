// The store has what the feed has told, and tells the view of changes.
const history = 60; // seconds of a pod's rate

// mostFlows is as many as the server remembers.
const mostFlows = 4096;

export class Store extends EventTarget {
  node = null;
  pods = new Map(); // by key, with rate and history
  flows = new Map(); // by id
  refused = [];
  connected = false;
  #source;

  open() {
    this.#source = new EventSource("feed");
    this.#source.onopen = () => { this.connected = true; this.#changed("node"); };
    this.#source.onerror = () => this.#lost();
    for (const kind of ["node", "pods", "flows", "refused"]) {
      this.#source.addEventListener(kind, (e) => {
        this["_" + kind](JSON.parse(e.data));
        this.#changed(kind);
      });
    }
  }

  // #lost: the feed has broken. The browser connects again by itself, unless the server
  // has refused; what flows there were, another feed numbers anew.
  #lost() {
    this.connected = false;
    this.flows.clear();
    this.#changed("node");
    if (this.#source.readyState === EventSource.CLOSED) {
      setTimeout(() => this.open(), 2000);
    }
  }

  #changed(kind) { this.dispatchEvent(new CustomEvent("change", { detail: kind })); }

  _node(node) { this.node = node; }

  _pods(list) {
    const now = performance.now();
    const pods = new Map();
    for (const p of list) {
      const before = this.pods.get(p.key);
      const pod = { ...p, id: p.key, at: now, rate: 0, history: before?.history ?? [] };
      // A daemon that has restarted counts from zero.
      if (before && p.packets >= before.packets) {
        pod.rate = (p.packets - before.packets) * 1000 / Math.max(1, now - before.at);
      }
      pod.history = [...pod.history.slice(1 - history), pod.rate];
      pods.set(p.key, pod);
    }
    this.pods = pods;
  }

  _flows(changed) {
    for (const f of changed) {
      this.flows.delete(f.id); // so that the last one is the last in order
      this.flows.set(f.id, f);
    }
    for (const id of this.flows.keys()) {
      if (this.flows.size <= mostFlows) break;
      this.flows.delete(id);
    }
  }

  _refused(rows) {
    this.refused = rows.map((r) => ({
      ...r, id: JSON.stringify([r.key, r.audit, r.rule, r.verdict, r.direction, r.protocol,
        r.port, r.app, r.name || r.address]),
    }));
  }
}
