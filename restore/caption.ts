/**
 * Captions: a sentence of what a photo shows, from a file beside it, or from a vision model that speaks OpenAI's chat API, as Ollama, LM Studio, llama.cpp's
 * server and vLLM do.
 */
import { UserError } from '../core/errors.ts';
import { isRecord } from '../core/json.ts';
import { shown } from '../core/text.ts';
import { thumbnail } from '../image/compose.ts';
import type { Image } from '../image/image.ts';

/** What a picture shows. Throws UserError where no caption is to be had, the signal's reason when aborted. */
export interface Captioner {
  (image: Image, signal?: AbortSignal): Promise<string>;
  /** What asks, so that captions of another are not taken for its own. */
  title?: string;
}

const QUESTION =
  'Describe this photo for someone who restores it: what it shows, comma-separated visual facts, at most 60 words. Do not mention blur, noise or other damage. ' +
  'Answer with the description alone.';

/** Words of an answer that are kept: text towers read some 75 tokens, and quality words follow. */
const MOST_WORDS = 60;
/** Longest side of the picture that is sent, in pixels, and its quality as a JPEG. */
const [SIDE, QUALITY] = [1024, 90];
/** Bytes of an answer that are read. */
const MOST_BYTES = 2 ** 20;
/** Seconds before a further attempt, where a server cannot be reached, is busy or fails; and the longest that one may ask for. */
const [WAITS, LONGEST_WAIT]: readonly [readonly number[], number] = [[1, 4], 30];
/** Photos after which a server that does not answer is not asked again. */
const PATIENCE = 2;

export interface CaptionServer {
  /** Address of the API, such as http://localhost:11434/v1. */
  url: string;
  /** The model's name there. */
  model: string;
  /** Sent as a bearer token, where the server wants one. */
  key?: string;
  /** Seconds for one answer. Default 120: a model may have to be loaded first. */
  timeout?: number;
  /** Stands in for the platform's, and for waiting between attempts. */
  fetch?: typeof fetch;
  wait?: (seconds: number, signal?: AbortSignal) => Promise<void>;
}

const failure = (message: string, code: string, values?: Record<string, string>): UserError => new UserError(message, { code, values });

/** Where the API's chat is. Throws UserError for an address that is none, or not of the web. */
export function chatAddress(url: string): URL {
  let address: URL;
  try {
    address = new URL(url);
  } catch {
    throw failure(`The captioner's address ${shown(url)} is none: give one such as http://localhost:11434/v1.`, 'caption-address');
  }
  if (!['http:', 'https:'].includes(address.protocol) || address.username || address.password)
    throw failure(`The captioner's address ${shown(url)} must begin with http:// or https://, and hold no password.`, 'caption-address');
  address.hash = '';
  address.pathname = `${address.pathname.replace(/\/+$/, '').replace(/\/chat\/completions$/, '') || '/v1'}/chat/completions`;
  return address;
}

/**
 * Asks a server. What will fail for every photo (a refused key, a model that is not there, an address of something else, a server that does not answer for two
 * photos) is not asked for again: the same error is thrown at once. Throws UserError for an address or a name that is none.
 */
export function captionServer(server: CaptionServer): Captioner {
  const { url, model, key, timeout = 120, fetch: fetched = fetch, wait = pause } = server;
  const address = chatAddress(url);
  if (model.trim() === '') throw failure('The captioner needs the name of a model, as its server calls it.', 'caption-model');
  if (key !== undefined && !/^[\x21-\x7e]+$/.test(key))
    throw failure("The captioner's key has blanks or letters that no key has.", 'caption-key');
  let hopeless: UserError | null = null;
  let silent = 0;
  /** Settings that some models refuse. */
  const extras: Record<string, number> = { temperature: 0, max_tokens: 1000 };

  const ask = async (body: object, signal?: AbortSignal): Promise<string> => {
    const inTime = AbortSignal.timeout(timeout * 1000);
    const either = signal ? AbortSignal.any([signal, inTime]) : inTime;
    let response: Response;
    let text: string;
    try {
      response = await fetched(address, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...(key === undefined ? {} : { authorization: `Bearer ${key}` }) },
        body: JSON.stringify({ ...body, ...extras }),
        redirect: 'manual', // a photo goes where it was sent, and nowhere else
        signal: either,
      });
      text = await bounded(response);
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof UserError) throw error;
      if (inTime.aborted) throw failure(`The captioner ${address.origin} did not answer within ${timeout} seconds.`, 'caption-timeout');
      throw failure(
        `The captioner ${address.origin} cannot be reached. Is it running, and does it accept connections from here?`,
        'caption-unreachable',
      );
    }
    return answerOf(response, text, address, model);
  };

  const attempt = async (body: object, signal?: AbortSignal): Promise<string> => {
    for (let tries = 0; ; tries++) {
      try {
        return await ask(body, signal);
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        const refused = Object.keys(extras).find((name) => error.code === 'caption-refused-setting' && error.message.includes(name));
        if (refused !== undefined) delete extras[refused];
        else if (!PASSING.includes(error.code ?? '') || tries >= WAITS.length) throw error;
        else await wait(Math.min(LONGEST_WAIT, Number(error.values?.wait ?? WAITS[tries])), signal);
      }
    }
  };

  const caption: Captioner = async (image, signal) => {
    signal?.throwIfAborted();
    if (hopeless) throw hopeless;
    try {
      const { encodeJpeg } = await import('../image/encode.ts');
      const jpeg = encodeJpeg(thumbnail(image, SIDE), QUALITY);
      const picture = { type: 'image_url', image_url: { url: `data:image/jpeg;base64,${base64(jpeg)}` } };
      const messages = [{ role: 'user', content: [{ type: 'text', text: QUESTION }, picture] }];
      const answer = usable(await attempt({ model, messages, stream: false }, signal));
      silent = 0;
      return answer;
    } catch (error) {
      const { code = '' } = error as UserError;
      if (PASSING.includes(code)) silent++;
      if (error instanceof UserError && (FOR_ALL.includes(code) || silent >= PATIENCE)) hopeless = error;
      throw error;
    }
  };
  caption.title = `${address.href} ${model}`;
  return caption;
}

/** What may be otherwise in a moment; and what will not for any photo. */
const PASSING = ['caption-timeout', 'caption-unreachable', 'caption-busy'];
const FOR_ALL = ['caption-key', 'caption-no-model', 'caption-no-api', 'caption-redirect', 'caption-refused'];

async function pause(seconds: number, signal?: AbortSignal): Promise<void> {
  await new Promise<void>((done, fail) => {
    const stopped = () => {
      clearTimeout(timer);
      fail(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stopped);
      done();
    }, seconds * 1000);
    signal?.addEventListener('abort', stopped, { once: true });
  });
}

/** The body as a text, of bounded length. */
async function bounded(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  const parts: Uint8Array[] = [];
  let length = 0;
  for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
    length += part.value.length;
    if (length > MOST_BYTES) {
      await reader!.cancel();
      throw failure(`The captioner answered with more than ${MOST_BYTES} bytes, which is no caption.`, 'caption-no-api');
    }
    parts.push(part.value);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return new TextDecoder().decode(bytes);
}

/** The message in an answer, whose parts servers fill in differently. Throws UserError saying what is wrong and what to do. */
function answerOf(response: Response, text: string, { origin, pathname }: URL, model: string): string {
  const { status, headers } = response;
  const where = `The captioner ${origin}`;
  if (response.type === 'opaqueredirect' || (status >= 300 && status < 400))
    throw failure(`${where} sends elsewhere, and photos are not sent on: give the address that it sends to.`, 'caption-redirect');
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = null;
  }
  const said = saidIn(json);
  const its = said === '' ? '' : ` It says: ${shown(said, 300)}`;
  if (status === 401 || status === 403) throw failure(`${where} refused the key.${its}`, 'caption-key');
  if (status === 429 || status >= 500) {
    const wait = Number(headers.get('retry-after') ?? Number.NaN);
    // A server that says why it cannot will not in a moment either.
    if (status === 500 && /image|vision|multimodal|mmproj/i.test(said))
      throw failure(`${where} cannot look at pictures with the model ${shown(model)}.${its}`, 'caption-no-model');
    throw failure(
      `${where} is busy or fails (status ${status}).${its}`,
      'caption-busy',
      Number.isFinite(wait) ? { wait: String(wait) } : undefined,
    );
  }
  if (status === 404 && /model/i.test(said)) throw failure(`${where} has no model ${shown(model)}.${its}`, 'caption-no-model');
  if (status === 400 && /temperature|max_tokens/.test(said) && /support|unknown|unrecognized|deprecated/i.test(said))
    throw failure(`${where} refused a setting.${its}`, 'caption-refused-setting');
  if (json === null)
    throw failure(
      `${where} answered with ${/^\s*</.test(text) ? 'a web page' : text.trim() === '' ? 'nothing' : 'something that is no JSON'}${status === 200 ? '' : ` (status ${status})`}: is ${shown(origin + pathname)} the address of its API, which mostly ends in /v1?`,
      'caption-no-api',
    );
  if (status >= 400)
    throw failure(
      `${where} refused the question (status ${status}).${its}`,
      status === 404 || status === 405 ? 'caption-no-api' : 'caption-refused',
    );
  const choice: unknown = isRecord(json) && Array.isArray(json.choices) ? json.choices[0] : undefined;
  const message = isRecord(choice) ? choice.message : undefined;
  if (!isRecord(message)) throw failure(`${where} answered with JSON that holds no message.${its}`, 'caption-no-api');
  if (typeof message.refusal === 'string' && message.refusal !== '')
    throw failure(`The captioner refused: ${shown(message.refusal, 200)}`, 'caption-unusable');
  const { content } = message;
  if (typeof content === 'string') return content;
  if (Array.isArray(content)) return content.map((part) => (isRecord(part) && typeof part.text === 'string' ? part.text : '')).join(' ');
  return '';
}

/** What a server says of an error: a text, or an object with one, in `error` or at the top. */
function saidIn(json: unknown): string {
  if (!isRecord(json)) return '';
  const { error, message, detail } = json;
  if (isRecord(error) && typeof error.message === 'string') return error.message;
  for (const each of [error, message, detail]) if (typeof each === 'string') return each;
  return '';
}

const REFUSAL =
  /^(i['\u2019]?m sorry|i am sorry|sorry|i can(no|['\u2019])t|i cannot|i['\u2019]?m (unable|not able)|i am (unable|not able)|as an ai|unfortunately)/i;

/** The caption in an answer: without thoughts, marks and introductions, in one line, cut where it is long. Throws UserError for none and for a refusal. */
export function usable(answer: string): string {
  const text = answer
    .replace(/<think(?:ing)?>[\s\S]*?(?:<\/think(?:ing)?>|$)/gi, ' ')
    .replace(/[*_`#>]+/g, ' ')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
    .replace(/[\x00-\x1f\x7f-\x9f\s]+/g, ' ')
    .replace(/^\s*(?:here(?:['\u2019]s| is)[^:]{0,60}|description|caption)\s*:/i, '')
    .replace(/^\s*(?:the|this) (?:photo|photograph|image|picture) (?:shows|depicts|features) /i, '')
    .replace(/^[\s"'\u201c\u201d\u2018\u2019-]+|[\s"'\u201c\u201d\u2018\u2019]+$/g, '')
    .trim();
  if (!/\p{L}{2}/u.test(text)) throw failure('The captioner answered with nothing.', 'caption-unusable');
  if (REFUSAL.test(text)) throw failure(`The captioner refused: ${shown(text, 200)}`, 'caption-unusable');
  const words = text.split(' ');
  if (words.length <= MOST_WORDS) return text;
  const kept = words.slice(0, MOST_WORDS).join(' ');
  // At the end of a sentence or a part of one, where there is one in its second half.
  const end = Math.max(...['. ', '; ', ', '].map((mark) => kept.lastIndexOf(mark)));
  return end > kept.length / 2 ? kept.slice(0, end) : kept;
}

function base64(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}
