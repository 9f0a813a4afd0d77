import { element } from "./dom.js";

// Grid shows rows of which only those in sight are in the document. A column has a title,
// a width, a class, and a fill function that puts a row's value into a cell. A row has an
// id. Arrow keys, Page Up and Down, Home and End move among rows, Enter opens one.
export class Grid {
  #rows = [];
  #lines = new Map(); // by the id of the row
  #active = null; // id of the row that has the focus, or would get it
  #drawing = 0;
  #body; #columns; #open; #empty;

  constructor({ label, columns, open, empty }) {
    this.#columns = columns;
    this.#open = open;
    this.#empty = element("p", { class: "empty" }, empty);
    this.#body = element("div", { class: "body", role: "rowgroup" });
    const head = element("div", { class: "head", role: "row", "aria-rowindex": 1 },
      ...columns.map((c) => element("div", {
        class: "cell " + (c.class ?? ""), role: "columnheader",
      }, c.title)));
    this.element = element("div", {
      class: "grid", role: "grid", "aria-label": label, "aria-readonly": "true", tabindex: 0,
      onscroll: () => this.#draw(), onkeydown: (e) => this.#key(e), onfocus: () => this.#focus(),
    }, element("div", { role: "rowgroup" }, head), this.#body, this.#empty);
    this.#shape(head);
    this.#observer = new ResizeObserver(() => { this.#shape(head); this.#draw(); });
    this.#observer.observe(this.element);
  }

  #observer;
  #template = "";

  // close ends what would go on without the grid in the document.
  close() {
    this.#observer.disconnect();
    cancelAnimationFrame(this.#drawing);
  }

  // #shape gives the columns that are shown their widths.
  #shape(head) {
    const cells = [...head.children];
    const shown = this.#columns.filter((_, i) =>
      !cells[i].isConnected || getComputedStyle(cells[i]).display !== "none");
    const template = shown.map((c) => c.width).join(" ");
    if (template === this.#template) return;
    this.#template = template;
    head.style.gridTemplateColumns = template;
    for (const line of this.#lines.values()) line.style.gridTemplateColumns = template;
  }

  set rows(rows) {
    this.#rows = rows;
    this.element.setAttribute("aria-rowcount", rows.length + 1);
    this.#empty.hidden = rows.length > 0;
    cancelAnimationFrame(this.#drawing);
    this.#drawing = requestAnimationFrame(() => this.#draw());
  }

  get height() {
    return 2.25 * parseFloat(getComputedStyle(document.documentElement).fontSize);
  }

  // #draw puts the rows in sight into the document, and takes the others out of it.
  #draw() {
    const height = this.height;
    this.#body.style.height = this.#rows.length * height + "px";
    const first = Math.max(0, Math.floor(this.element.scrollTop / height) - 4);
    const last = Math.min(this.#rows.length,
      Math.ceil((this.element.scrollTop + this.element.clientHeight) / height) + 4);
    const kept = new Set();
    for (let i = first; i < last; i++) kept.add(this.#line(i, height));
    for (const [id, line] of this.#lines) {
      if (!kept.has(id)) {
        const focused = line === document.activeElement;
        line.remove();
        this.#lines.delete(id);
        if (focused) this.element.focus({ preventScroll: true });
      }
    }
  }

  // #line draws a row and returns its id.
  #line(i, height) {
    const row = this.#rows[i];
    let line = this.#lines.get(row.id);
    if (!line) {
      line = element("div", {
        class: "line", role: "row", tabindex: -1,
        onclick: () => { if (!String(getSelection())) this.#open?.(line.row, line); },
        onfocus: () => { this.#active = line.row.id; },
      }, ...this.#columns.map((c) => element("div", {
        class: "cell " + (c.class ?? ""), role: "gridcell",
      })));
      line.style.gridTemplateColumns = this.#template;
      this.#lines.set(row.id, line);
      this.#body.append(line);
    }
    line.row = row;
    line.setAttribute("aria-rowindex", i + 2);
    line.style.transform = `translateY(${i * height}px)`;
    this.#columns.forEach((c, n) => c.fill(line.children[n], row));
    return row.id;
  }

  #key(e) {
    const at = this.#rows.findIndex((r) => r.id === this.#active);
    const pageful = Math.max(1, Math.floor(this.element.clientHeight / this.height) - 2);
    const to = {
      ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + pageful, PageUp: at - pageful,
      Home: 0, End: this.#rows.length - 1,
    }[e.key];
    if (e.key === "Enter" && at >= 0) {
      e.preventDefault();
      this.#open?.(this.#rows[at], this.#lines.get(this.#active));
    } else if (to !== undefined && this.#rows.length > 0) {
      e.preventDefault();
      this.#go(Math.min(this.#rows.length - 1, Math.max(0, to)));
    }
  }

  // #go moves the focus to a row, and the row into sight.
  #go(i) {
    const height = this.height;
    const e = this.element;
    if ((i + 1) * height > e.scrollTop + e.clientHeight - height) {
      e.scrollTop = (i + 2) * height - e.clientHeight;
    } else if (i * height < e.scrollTop) {
      e.scrollTop = i * height;
    }
    this.#draw();
    this.#active = this.#rows[i].id;
    this.#lines.get(this.#active)?.focus({ preventScroll: true });
  }

  // #focus gives the focus on to the row that had it.
  #focus() {
    this.#lines.get(this.#active)?.focus({ preventScroll: true });
  }
}
