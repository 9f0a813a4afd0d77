// SPDX-License-Identifier: Apache-2.0

import { chromium } from "playwright-core";

// patience is how long something may take, in ms. It only ends what hangs.
export const patience = 60_000;

// browse has f use a browser, and prints "ok" when f has not failed.
export async function browse(f) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--no-first-run"],
  });
  try {
    await f(browser);
    console.log("ok");
  } finally {
    await browser.close();
  }
}

// open returns a page of a browser, and what it complains of from then on.
export async function open(browser, address) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 } });
  const complaints = [];
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  page.on("console", (m) => { if (m.type() === "error") complaints.push(m.text()); });
  page.on("pageerror", (e) => complaints.push(String(e)));
  page.on("dialog", (d) => { complaints.push("dialog: " + d.message()); d.dismiss(); });
  page.on("request", (r) => { if (!r.url().startsWith(address)) complaints.push("asks " + r.url()); });
  await page.goto(address);
  return { page, complaints };
}

// row waits for a row of the grid that has a text.
export async function row(page, text) {
  await page.locator(".line", { hasText: text }).first().waitFor();
}
