/**
 * Who may ask the server: by Host, against names that another site lets point here (DNS rebinding); by Origin, against other sites' pages; and by token.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import type { Context, MiddlewareHandler } from 'hono';

export interface Access {
  /** Needed with every request but for the page's own files; null for none. */
  token: string | null;
  /** Names beside localhost by which the server may be called. Addresses are not names: nobody can let them point elsewhere. */
  hosts: readonly string[];
  /** Origins of other pages that may ask, such as https://photos.example. */
  origins: readonly string[];
}

/** Whether a server that listens there can be reached from this machine alone. */
export const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);

/** Refuses what may not ask, with 403 for places and 401 for tokens, and answers browsers that ask whether an allowed origin may. */
export function guard(access: Access): MiddlewareHandler {
  return async (context, next) => {
    const host = context.req.header('host') ?? '';
    const name = host
      .replace(/:\d*$/, '')
      .replace(/^\[|\]$/g, '')
      .toLowerCase();
    if (name !== 'localhost' && isIP(name) === 0 && !access.hosts.includes(name))
      return context.json(
        { error: `This server is not called ${JSON.stringify(name.slice(0, 100))}; start it with --allow-host for that name.` },
        403,
      );
    const origin = context.req.header('origin');
    const isOwn = origin === undefined || origin === `http://${host}` || origin === `https://${host}`;
    const isCross = context.req.header('sec-fetch-site') === 'cross-site';
    if (!(isOwn && !isCross) && !(origin !== undefined && access.origins.includes(origin)))
      return context.json({ error: 'Pages of other origins may not ask; start the server with --allow-origin for them.' }, 403);
    if (!isOwn) {
      context.header('access-control-allow-origin', origin);
      context.header('vary', 'origin');
      if (context.req.method === 'OPTIONS') {
        context.header('access-control-allow-headers', 'authorization, content-type');
        context.header('access-control-allow-methods', 'GET, POST, DELETE');
        return context.body(null, 204);
      }
    }
    if (access.token !== null && context.req.path !== '/' && !same(givenToken(context), access.token)) {
      context.header('www-authenticate', 'Bearer, Basic realm="supir"');
      return context.json({ error: 'A token is needed: Authorization: Bearer <token>.' }, 401);
    }
    await next();
  };
}

/** Of a Bearer header, or the password of a Basic one, which programs for A1111 send. */
function givenToken(context: Context): string {
  const [scheme = '', value = ''] = (context.req.header('authorization') ?? '').split(' ');
  if (scheme.toLowerCase() === 'bearer') return value;
  if (scheme.toLowerCase() !== 'basic') return '';
  const text = Buffer.from(value, 'base64').toString();
  return text.slice(text.indexOf(':') + 1);
}

const digest = (text: string) => createHash('sha256').update(text).digest();

/** In the same time for every wrong token. */
const same = (given: string, token: string): boolean => timingSafeEqual(digest(given), digest(token));
