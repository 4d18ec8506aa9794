// What a person does on the pages of `soothsayer ui`, by keys alone, in a real browser. Tells what was seen as JSON.
// node pages.mjs BROWSER LINK
import { chromium } from "playwright-core";

const [executablePath, link] = process.argv.slice(2);
const WAIT = { timeout: 30_000 };
const quiet = ["--no-first-run", "--disable-gpu", "--disable-quic", "--disable-background-networking"];
const browser = await chromium.launch({
  executablePath,
  args: [...quiet, "--no-sandbox", "--disable-component-update", "--disable-sync"],
});
const context = await browser.newContext();
const seen = { console: [], elsewhere: [], dialogs: 0 };
const origin = new URL(link).origin;
context.on("console", (said) => seen.console.push(said.text()));
context.on("weberror", (error) => seen.console.push(error.error().message));
context.on("dialog", (dialog) => { seen.dialogs += 1; dialog.dismiss(); });
context.on("request", (request) => { if (!request.url().startsWith(origin)) seen.elsewhere.push(request.url()); });

const focused = (page, test) => page.waitForFunction(test, null, WAIT);
try {
  const page = await context.newPage();
  await page.goto(link);
  await focused(page, () => document.activeElement?.id === "first");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/asks", WAIT);
  seen.empty = await page.textContent("#asks");
  console.log("ready");

  // A question comes by itself.
  await page.waitForSelector("#asks ol a", WAIT);
  await page.waitForFunction(() => document.title.startsWith("(1)"), null, WAIT);
  seen.badge = await page.textContent("#badge");
  const address = await page.getAttribute("#asks ol a", "href");
  const other = await context.newPage();
  await other.goto(origin + address);
  await page.bringToFront();
  for (let n = 0; n < 20 && !(await page.evaluate(() => document.activeElement?.matches("#asks ol a"))); n += 1) {
    await page.keyboard.press("Tab");
  }
  await page.keyboard.press("Enter");
  await page.waitForURL(`**${address}`, WAIT);
  await focused(page, () => document.activeElement?.id === "deny");
  await focused(page, () => !document.getElementById("allow").disabled);
  seen.args = await page.textContent("table.values");
  await page.keyboard.press("a");
  await focused(page, () => document.activeElement?.id === "allow");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/asks", WAIT);
  seen.notice = await page.textContent(".notice");

  // The card that was open in another tab says so by itself, and takes no answer.
  await other.bringToFront();
  await other.waitForSelector("#card .ended", WAIT);
  seen.other = { text: await other.textContent("main"), forms: await other.locator("main form").count() };

  // The picture of the run, once the call has ended.
  await page.bringToFront();
  await page.goto(page.url().replace("/asks", "/runs"));
  await page.locator("td.id a").first().click();
  await page.waitForSelector("svg .bar.good", WAIT);
  seen.picture = {
    bars: await page.locator("svg .bar").count(),
    intents: await page.locator("svg .intent").count(),
    waits: await page.locator("svg .wait").count(),
    background: await page.evaluate(() => getComputedStyle(document.querySelector("svg .bar")).fill),
  };
  console.log(JSON.stringify(seen));
} finally {
  await browser.close();
}
