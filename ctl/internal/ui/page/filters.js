import { element } from "./dom.js";

// Filters is a form whose fields say which rows are shown. A field has a name, a label,
// and options where it is a choice. The values are kept while the page is open.
const kept = new Map();

export class Filters {
  #values; #fields;

  constructor(view, fields, changed) {
    if (!kept.has(view)) kept.set(view, {});
    this.#values = kept.get(view);
    this.#fields = fields;
    this.element = element("form", { class: "filters", role: "search", onsubmit: (e) => e.preventDefault() },
      ...fields.map((f) => element("label", {}, f.label, this.#input(f, changed))));
  }

  #input(f, changed) {
    const set = (e) => { this.#values[f.name] = e.target.value; changed(); };
    if (f.options) {
      const select = element("select", { name: f.name, onchange: set },
        element("option", { value: "" }, "all"),
        ...f.options.map((o) => element("option", { value: o }, o)));
      select.value = this.#values[f.name] ?? "";
      return select;
    }
    const input = element("input", {
      name: f.name, type: "search", autocomplete: "off", spellcheck: "false", oninput: set,
    });
    input.value = this.#values[f.name] ?? "";
    return input;
  }

  // matches reports whether a row has all that is asked for: a choice exactly, and a text
  // somewhere in the field.
  matches(row) {
    return this.#fields.every((f) => {
      const want = this.#values[f.name];
      if (!want) return true;
      const have = f.of(row);
      return f.options ? have === want : have.toLowerCase().includes(want.trim().toLowerCase());
    });
  }
}
