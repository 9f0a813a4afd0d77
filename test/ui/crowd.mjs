// SPDX-License-Identifier: Apache-2.0

// Looks at the page of a node with many pods and flows, whose address is the argument. Its
// caller is a Go test.
import assert from "node:assert/strict";
import { browse, open, row } from "./browser.mjs";

const [address] = process.argv.slice(2);
const pods = 1000;
const mostFlows = 4096; // that the page remembers
const mostLines = 100; // that have room in the window, and some around it

await browse(async (browser) => {
  const { page, complaints } = await open(browser, address);
  await rows(page, pods);
  await row(page, "crowd/pod-");
  await fewLines(page);
  await page.fill("input[name=pod]", "crowd/pod-777");
  await rows(page, 1);
  await row(page, "crowd/pod-777");
  await page.fill("input[name=pod]", "");
  await rows(page, pods);
  await page.locator(".grid").focus();
  await page.keyboard.press("End");
  await page.locator(`.line[aria-rowindex="${pods + 1}"]`).waitFor();
  await fewLines(page);

  await page.click("nav a[href='#flows']");
  await rows(page, mostFlows);
  await fewLines(page);
  await page.fill("input[name=pod]", "crowd/pod-77");
  await row(page, "crowd/pod-77");
  console.log(`gap ${await longestGap(page, 3000)}`);
  await page.fill("input[name=pod]", "");
  await rows(page, mostFlows);
  await tells(page, 3000);
  assert.deepEqual(complaints, []);
});

// rows waits until the grid has so many.
async function rows(page, count) {
  await page.locator(`.grid[aria-rowcount="${count + 1}"]`).waitFor();
}

// fewLines wants no more in the document than can be seen.
async function fewLines(page) {
  const lines = await page.locator(".line").count();
  assert(lines > 0 && lines < mostLines, `${lines} lines are in the document`);
}

// longestGap is between two frames, in ms.
async function longestGap(page, during) {
  return page.evaluate((during) => new Promise((done) => {
    const start = performance.now();
    let last = start, longest = 0;
    const frame = (now) => {
      longest = Math.max(longest, now - last);
      last = now;
      if (now - start < during) requestAnimationFrame(frame); else done(Math.round(longest));
    };
    requestAnimationFrame(frame);
  }), during);
}

// tells wants the feed to gather what changes: it tells of flows 4 times a second at most.
async function tells(page, during) {
  const { times, took } = await page.evaluate((during) => new Promise((done) => {
    const start = performance.now();
    const feed = new EventSource("feed");
    let times = 0;
    feed.addEventListener("flows", () => {
      if (times++ === 0) {
        setTimeout(() => {
          feed.close();
          done({ times, took: performance.now() - start });
        }, during);
      }
    });
  }), during);
  assert(times > 1, "the feed told of flows once");
  assert(times <= took / 250 + 2, `the feed told of flows ${times} times in ${took} ms`);
  console.log(`told ${times}`);
}
