// Drives a headless Chromium for browser_test.go: each line of standard input is a step, {"do", "page", ...}, and its
// answer a line of standard output, {"result"} or {"error"}. TOOLS is where the npm packages are, CHROMIUM the browser.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const require = createRequire(process.env.TOOLS + "/");
const { chromium } = require("playwright-core");
const axe = require.resolve("axe-core/axe.min.js");

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"], // as in containers
});

const pages = new Map();

// items is what a user sees of the files in the field. Every page has it.
const items = () => window.items = () => [...document.querySelectorAll(".filepond--item")].map((item) => ({
  name: item.querySelector(".filepond--file-info-main")?.textContent,
  size: item.querySelector(".filepond--file-info-sub")?.textContent,
  state: item.dataset.filepondItemState,
})).filter((item) => item.name);

// values are what the form hands over. Every page has it.
const values = () => window.values = () => [...document.querySelectorAll("input[type=hidden][name=file]")].map((field) => field.value);

const steps = {
  async open({ page: name, url, width = 1024, height = 768, dark = false, phone = false, script = true }) {
    const context = await browser.newContext({
      viewport: { width, height }, colorScheme: dark ? "dark" : "light", javaScriptEnabled: script,
      isMobile: phone, hasTouch: phone, deviceScaleFactor: phone ? 2 : 1,
    });
    context.setDefaultTimeout(60000);
    await context.addInitScript(items);
    await context.addInitScript(values);
    const page = await context.newPage();
    const said = [];
    page.on("console", (m) => { if (m.type() === "error") said.push(m.text()); });
    page.on("pageerror", (e) => said.push(String(e)));
    pages.set(name, { page, context, said });
    await page.goto(url);
  },
  async close({ context }) { await context.close(); },
  // go has the same page, in the same tab, go to another address.
  async go({ page, url }) { await page.goto(url); },
  // choose chooses files in a field, the first if not another is said.
  async choose({ page, files, field = 0 }) {
    await page.locator("input[type=file]").nth(field).setInputFiles(files.map((f) => ({
      name: f.name, mimeType: f.type || "application/octet-stream", buffer: Buffer.alloc(f.size, "x"),
    })));
  },
  async paste({ page, files }) {
    await page.evaluate((files) => {
      const data = new DataTransfer();
      for (const f of files) data.items.add(new File(["x".repeat(f.size)], f.name, { type: f.type }));
      document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
    }, files);
  },
  // until waits until the field shows these states, and no other file.
  async until({ page, states }) {
    const wanted = Object.fromEntries(states);
    try {
      await page.waitForFunction((wanted) => {
        const items = window.items();
        return items.length === Object.keys(wanted).length && items.every((i) => wanted[i.name] === i.state);
      }, wanted);
    } catch (e) {
      throw new Error(`want ${JSON.stringify(wanted)}, got ${JSON.stringify(await page.evaluate(() => window.items()))}: ${e.message}`);
    }
    return page.evaluate(() => window.items());
  },
  // progress waits until a file shows some, and returns it: part of the whole.
  async progress({ page, name }) {
    const handle = await page.waitForFunction((name) => {
      const file = FilePond.find(document.querySelector(".filepond--root")).getFiles().find((f) => f.filename === name);
      return file && file.status === FilePond.FileStatus.PROCESSING && window.seenProgress > 0 && window.seenProgress;
    }, name);
    return handle.jsonValue();
  },
  async watch({ page }) {
    await page.evaluate(() => {
      window.seenProgress = 0;
      document.addEventListener("FilePond:processfileprogress", (e) => {
        if (e.detail.progress < 1) window.seenProgress = e.detail.progress;
      });
    });
  },
  async press({ page, name, button }) {
    await page.locator(".filepond--item", { hasText: name }).getByRole("button", { name: button }).click();
  },
  async click({ page, button }) { await page.getByRole("button", { name: button, exact: true }).click(); },
  async keys({ page, keys }) { for (const key of keys) await page.keyboard.press(key); },
  async focused({ page }) {
    return page.evaluate(() => (document.activeElement.textContent || document.activeElement.getAttribute("aria-label") || "").trim());
  },
  // quiet waits until there is no text.
  async quiet({ page, selector }) {
    try {
      await page.waitForFunction((selector) => !document.querySelector(selector).innerText.trim(), selector);
    } catch (e) {
      throw new Error(`still said: ${JSON.stringify(await page.locator(selector).innerText())}: ${e.message}`);
    }
  },
  async waitText({ page, selector, text }) {
    try {
      await page.locator(selector).filter({ hasText: text }).waitFor({ state: "attached" });
    } catch (e) {
      throw new Error(`want ${JSON.stringify(text)}, got ${JSON.stringify(await page.locator(selector).allInnerTexts())}: ${e.message}`);
    }
  },
  async visible({ page, selector }) { return page.locator(selector).isVisible(); },
  // values waits until the form has so many ids, and returns them: FilePond fills its fields a frame after the state of a file is another.
  async values({ page, count }) {
    try {
      await page.waitForFunction((count) => window.values().length === count && window.values().every(Boolean), count);
    } catch (e) {
      throw new Error(`want ${count} ids, got ${JSON.stringify(await page.evaluate(() => window.values()))}: ${e.message}`);
    }
    return page.evaluate(() => window.values());
  },
  async reload({ page }) { await page.reload(); },
  async back({ page }) { await page.goBack(); },
  // throttle lets so many bytes a second go up, 0: any.
  async throttle({ page, context, rate }) {
    const session = await context.newCDPSession(page);
    await session.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: rate || -1 });
  },
  async evaluate({ page, script }) { return page.evaluate(script); },
  async wide({ page }) { return page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth); },
  async screenshot({ page, path }) { await page.screenshot({ path, fullPage: true }); },
  async said({ said }) { return said; },
  // barriers are what axe finds against WCAG 2.2 AA. Its script is a step of the test, not of the page, and so not
  // held up by the page's policy.
  async barriers({ page }) {
    const source = (await import("node:fs")).readFileSync(axe, "utf8");
    await page.evaluate(source);
    const found = await page.evaluate(() => axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"] }));
    if (found.passes.length === 0) throw new Error("nothing was looked at");
    return found.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html + " " + n.failureSummary).join(" | ")}`);
  },
};

// inTime fails when a step takes longer than any should: those in the page, such as evaluate, have no deadline of their own.
function inTime(step) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error("no end after 90 s")), 90000); });
  return Promise.race([step, late]).finally(() => clearTimeout(timer));
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: step, page: name, ...args } = JSON.parse(line);
  let answer;
  try {
    answer = { result: await inTime(steps[step]({ ...args, ...(step === "open" ? { page: name } : pages.get(name)) })) };
  } catch (e) {
    answer = { error: `${step}: ${e.message}` };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
await browser.close();
