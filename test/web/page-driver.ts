/** The built page in headless Chromium: served from memory, with what the network saw, and the renderer's own time of every task. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { gzipSync } from 'node:zlib';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { type StaticServer, serveFiles } from '../../scripts/static-server.ts';
import { buildSite, PAGE_HEADERS, type Site } from '../../scripts/web-site.ts';
import { launchChromium } from '../support/chromium.ts';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

interface TraceEvent {
  name: string;
  pid: number;
  tid: number;
  /** Processor time, microseconds. */
  tdur?: number;
  args?: { name?: string };
}

export interface Violation {
  id: string;
  help: string;
  nodes: string[];
}

export interface DroppedFile {
  name: string;
  type: string;
  bytes: Uint8Array;
}

/** Files in the form in which they are sent to a browser. */
export const sendable = (files: DroppedFile[]) =>
  files.map(({ name, type, bytes }) => ({ name, type, base64: Buffer.from(bytes).toString('base64') }));

/** Runs in the page, so it uses nothing of this module. */
export function dropOnPage(given: ReturnType<typeof sendable>): void {
  const transfer = new DataTransfer();
  for (const { name, type, base64 } of given)
    transfer.items.add(new File([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], name, { type }));
  document.querySelector('main')!.dispatchEvent(new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: transfer }));
}

export class PageDriver {
  readonly site: Site;
  readonly page: Page;
  /** Addresses of all requests, in order, and those that the page and its worker made. */
  readonly requests: string[] = [];
  private readonly own: string[] = [];
  /** Messages of level error, and exceptions. */
  readonly errors: string[] = [];
  readonly url: string;
  private readonly browser: Browser;
  private readonly server: StaticServer;

  private constructor(site: Site, server: StaticServer, browser: Browser, page: Page) {
    [this.site, this.server, this.browser, this.page, this.url] = [site, server, browser, page, server.url];
    page.context().on('request', (request) => {
      this.requests.push(request.url());
      if (!request.serviceWorker()) this.own.push(request.url());
    });
    page.on('console', (message) => message.type() === 'error' && this.errors.push(message.text()));
    page.on('pageerror', (error) => this.errors.push(error.message));
  }

  /**
   * Opens the page in a new browser; by default this checkout's in the tiled schedule, in which SwiftShader takes its time, so that what the page shows for
   * a moment can be waited for.
   */
  static async open({ site: given, schedule = 'tiled' }: { site?: Site; schedule?: 'tiled' | 'auto' } = {}): Promise<PageDriver> {
    const site = given ?? (await buildSite());
    const server = await serveFiles(async (path) => site.get(path), { headers: PAGE_HEADERS });
    const browser = await launchChromium();
    const context: BrowserContext = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce' });
    if (schedule !== 'auto')
      await context.addInitScript((tiled) => sessionStorage.getItem('chosen') ?? localStorage.setItem('schedule', tiled), schedule);
    const page = await context.newPage();
    page.setDefaultTimeout(15 * 60_000); // software drivers compile for minutes on a busy machine
    const driver = new PageDriver(site, server, browser, page);
    await page.goto(driver.url);
    return driver;
  }

  /** Compressed bytes of the files that page and worker asked for up to now, weights left out; what is kept for later visits does not count. */
  loadedBytes(): number {
    const paths = new Set(this.own.map((url) => new URL(url).pathname.slice(1) || 'index.html'));
    return [...paths]
      .filter((path) => !path.startsWith('demo/'))
      .reduce((sum, path) => sum + gzipSync(this.site.get(path) ?? new Uint8Array(), { level: 9 }).length, 0);
  }

  async show(view: 'restore' | 'compare' | 'explore' | 'adapter'): Promise<void> {
    await this.page.click(`nav a[href="#${view}"]`);
    await this.page.waitForSelector(`nav a[href="#${view}"][aria-current]`);
  }

  /** Types a value into the settings and leaves the field. */
  async set(option: string, value: string): Promise<void> {
    await this.page.$eval(`#set-${option}`, (field) => {
      for (let around = field.closest('details'); around; around = around.parentElement?.closest('details') ?? null) around.open = true;
    });
    await this.page.fill(`#set-${option}`, value);
    await this.page.press(`#set-${option}`, 'Tab');
  }

  /** What axe finds wrong with the page as it is. */
  async violations(): Promise<Violation[]> {
    await this.page.evaluate(AXE);
    return this.page.evaluate(async () => {
      const { axe } = globalThis as unknown as {
        axe: { run(): Promise<{ violations: { id: string; help: string; nodes: { html: string }[] }[] }> };
      };
      const { violations } = await axe.run();
      return violations.map(({ id, help, nodes }) => ({ id, help, nodes: nodes.map(({ html }) => html.slice(0, 160)) }));
    });
  }

  /** Drops files on the page, as a person would. */
  async drop(files: DroppedFile[]): Promise<void> {
    await this.page.evaluate(dropOnPage, sendable(files));
  }

  /** Runs `body` and gives the most processor time that one task of the page's main thread took meanwhile, in milliseconds. */
  async longestTask(body: () => Promise<void>): Promise<number> {
    await this.browser.startTracing(this.page, { categories: ['toplevel', 'disabled-by-default-devtools.timeline', '__metadata'] });
    await body();
    const { traceEvents } = JSON.parse((await this.browser.stopTracing()).toString()) as { traceEvents: TraceEvent[] };
    const mains = traceEvents.filter(({ name, args }) => name === 'thread_name' && args?.name === 'CrRendererMain');
    const onMain = ({ pid, tid }: TraceEvent) => mains.some((main) => main.pid === pid && main.tid === tid);
    const tasks = traceEvents.filter((event) => /RunTask/.test(event.name) && event.tdur !== undefined && onMain(event));
    if (tasks.length === 0) throw new Error('The trace holds no tasks of the main thread.');
    return Math.max(...tasks.map(({ tdur }) => tdur! / 1000));
  }

  /** What a click lets the browser download. */
  async download(selector: string): Promise<Uint8Array> {
    const [download] = await Promise.all([this.page.waitForEvent('download'), this.page.click(selector)]);
    return readFileSync(await download.path());
  }

  async close(): Promise<void> {
    await this.browser.close();
    this.server.close();
  }
}
