/**
 * Keeps the page, and the demo model, for visits without a network. Each build has a cache of its own, named for the folder that it is served from as
 * well: several builds may lie on one origin. The one before of the same folder goes when it is no longer used.
 */
declare const SHELL: string[];
declare const LATER: string[];
declare const BUILD: string;

interface ExtendableEvent extends Event {
  waitUntil(done: Promise<unknown>): void;
}
interface FetchEvent extends ExtendableEvent {
  request: Request;
  respondWith(response: Promise<Response>): void;
}
const scope = self as unknown as {
  clients: { claim(): Promise<void> };
  registration: ServiceWorkerRegistration;
  addEventListener(type: 'install' | 'activate', listener: (event: ExtendableEvent) => void): void;
  addEventListener(type: 'fetch', listener: (event: FetchEvent) => void): void;
};
/** Scopes hold no blank. */
const OURS = `supir ${scope.registration.scope} `;
const NAME = OURS + BUILD;

scope.addEventListener('install', (event) => event.waitUntil(caches.open(NAME).then((cache) => cache.addAll(SHELL))));

scope.addEventListener('activate', (event) => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) if (name.startsWith(OURS) && name !== NAME) await caches.delete(name);
      await scope.clients.claim();
    })(),
  );
  // The demo model and what else a visit may need, without keeping the page waiting.
  void caches.open(NAME).then(async (cache) => {
    for (const path of LATER) if (!(await cache.match(path))) await cache.add(path).catch(() => {});
  });
});

scope.addEventListener('fetch', (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== 'GET' || origin !== location.origin || request.headers.has('range')) return;
  const root = new URL(scope.registration.scope).pathname;
  const wanted = pathname === root ? new URL('index.html', scope.registration.scope).href : request.url;
  event.respondWith(
    (async () => {
      const cache = await caches.open(NAME);
      const kept = await cache.match(wanted);
      if (kept) return kept;
      const response = await fetch(request);
      if (response.ok && pathname.startsWith(`${root}source/`)) await cache.put(request, response.clone());
      return response;
    })(),
  );
});
