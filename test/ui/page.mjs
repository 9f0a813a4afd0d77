// SPDX-License-Identifier: Apache-2.0

// Drives the page of `nsqueuectl ui` in a browser. Its caller is a Go test: what is to
// happen on the node this program asks for by a line on standard output, and goes on when
// it is answered by one on standard input. The first argument is the page's address, the
// second a directory for pictures.
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { browse, open, patience, row } from "./browser.mjs";

const [address, pictures] = process.argv.slice(2);
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function have(what) {
  console.log("do " + what);
  const { value, done } = await answers.next();
  assert(!done, "the caller has gone");
  return value;
}

await browse(test);

async function test(browser) {
  const { page, complaints } = await open(browser, address);
  await row(page, "agents/a");
  // A pod's name is text, whatever is in it.
  await row(page, "agents/<u>x");
  assert.equal(await page.locator("main u").count(), 0);

  await refusals(page);
  await flows(page);
  await onePod(page);
  await keyboard(page);
  await restart(page, complaints);
  assert.deepEqual(complaints, []);
  await look(browser);
}

// refusals: what is refused shows up, and becomes a rule.
async function refusals(page) {
  await page.click("nav a[href='#refused']");
  const refused = Number(await have("refuse")); // when it was, in ms since the epoch
  await row(page, "bad.example.org:");
  const shown = await page.evaluate(() => Date.now());
  console.log(`seen ${shown - refused}`);
  await page.locator(".line", { hasText: "bad.example.org" }).first().click();
  const rule = page.locator("dialog pre");
  await page.waitForFunction(() => document.querySelector("dialog pre")?.textContent.includes("kind: RuleSet"));
  assert.match(await rule.textContent(), /tls\.sni == "bad\.example\.org"/);
  await page.keyboard.press("Escape");
  await page.locator("dialog").waitFor({ state: "detached" });
  await page.fill("input[name=pod]", "no such pod");
  await page.locator(".line").first().waitFor({ state: "detached" });
  await page.fill("input[name=pod]", "agents/a");
  await row(page, "bad.example.org:");
}

// flows: those of a pod are there, with the name that it asked for, and are filtered.
async function flows(page) {
  await page.click("nav a[href='#flows']");
  await have("connect");
  await page.fill("input[name=name]", "good.example.org");
  await row(page, "good.example.org");
  await page.selectOption("select[name=verdict]", "drop");
  await page.locator(".line").first().waitFor({ state: "detached" });
  await page.selectOption("select[name=verdict]", "accept");
  await row(page, "good.example.org");
}

async function onePod(page) {
  await page.click("nav a[href='#pods']");
  await page.fill("input[name=pod]", "agents/a");
  await page.locator(".line", { hasText: "agents/a" }).first().click();
  await page.locator("h2", { hasText: "agents/a" }).waitFor();
  await page.locator("td", { hasText: "sandbox/unwanted" }).first().waitFor();
  await page.locator("td", { hasText: "bad.example.org" }).first().waitFor();
  await page.click("a[href='#pods'] >> nth=0");
  await page.fill("input[name=pod]", "");
}

// keyboard: rows are reached and opened without a mouse.
async function keyboard(page) {
  await row(page, "agents/a");
  await page.locator(".grid").focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowDown");
  const name = await page.evaluate(() => document.activeElement.children[0].textContent);
  await page.keyboard.press("Enter");
  await page.locator("h2", { hasText: name }).waitFor();
  await page.click("a[href='#pods'] >> nth=0");
}

// restart: the page says that nsqueued is away, and goes on with the next one.
async function restart(page, complaints) {
  await have("stop");
  await page.locator("#alarm", { hasText: "nsqueued does not answer" }).waitFor();
  await have("start");
  await page.locator("#alarm").waitFor({ state: "hidden" });
  await page.click("nav a[href='#flows']");
  await page.fill("input[name=name]", "");
  await page.selectOption("select[name=verdict]", "");
  await have("connect");
  await row(page, "agents/a");
  // What a browser says of an answer of 502 or 503 is no fault of the page.
  complaints.splice(0, complaints.length, ...complaints.filter((c) => !c.includes("status of 50")));
}

// look takes pictures in all sizes, light and dark, and checks that nothing is wider than
// there is room for.
async function look(browser) {
  await have("refuse"); // a daemon that has restarted knows of none
  const page = await browser.newPage();
  page.setDefaultTimeout(patience);
  await page.goto(address + "#pods");
  await row(page, "agents/a");
  const key = await page.evaluate(() => document.querySelector(".line").row.key);
  for (const view of ["pods", "flows", "refused", "pod=" + encodeURIComponent(key)]) {
    await page.goto(address + "#" + view);
    if (view === "flows") await have("connect");
    await (view.startsWith("pod=") ? page.locator(".facts").waitFor() : row(page, "agents/a"));
    for (const width of [400, 1200, 2400]) {
      await page.setViewportSize({ width, height: Math.max(700, width / 2) });
      const wider = await page.evaluate(() => Math.max(...[document.documentElement,
        ...document.querySelectorAll(".grid")].map((e) => e.scrollWidth - e.clientWidth)));
      assert.equal(wider, 0, `${view} in ${width} px is ${wider} px too wide`);
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        await page.screenshot({ path: `${pictures}/${view.split("=")[0]}-${width}-${colorScheme}.png` });
      }
    }
  }
}
