// element makes an element. Attributes that are null are left out; children are elements
// or text, which never becomes markup.
export function element(name, attributes = {}, ...children) {
  const e = name === "svg" || name === "polyline"
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) e.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) e.setAttribute(key, value);
  }
  e.append(...children);
  return e;
}

// setText changes a text only where it is another one, so that selections last.
export function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// visible shows what a terminal or a reader would not: control characters, and those
// that turn the direction of text.
export function visible(text) {
  return String(text ?? "").replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}

const units = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];

// short prints a number in few characters.
export function short(n) {
  for (const [size, unit] of units) {
    if (n >= size) return (n / size).toFixed(n >= 100 * size ? 0 : 1) + " " + unit;
  }
  return n >= 100 || Number.isInteger(n) ? String(Math.round(n)) : n.toFixed(1);
}

// age prints how long ago a moment was.
export function age(when, now = Date.now()) {
  const s = Math.max(0, Math.round((now - new Date(when).getTime()) / 1000));
  if (s < 120) return s + " s";
  if (s < 7200) return Math.round(s / 60) + " min";
  if (s < 172800) return Math.round(s / 3600) + " h";
  return Math.round(s / 86400) + " d";
}

// podName prints a pod as namespace/name, or what else is known of it.
export function podName(namespace, name, key) {
  if (name) return visible(namespace ? namespace + "/" + name : name);
  return visible(key.slice(0, 12) + "/" + key.split("/").pop());
}
