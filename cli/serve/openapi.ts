/** The server's interface as an OpenAPI document, its parameters made from the table of options. */
import { VERSION } from '../../core/version.ts';
import type { Option, Schema } from '../../options/schema.ts';
import { FORMAT_NAMES } from '../picture-files.ts';

/** OpenAPI 3.1. */
export function openApi(schema: Schema): object {
  const query = (name: string, about: string, type: object) => ({ name, in: 'query', description: about, schema: type });
  const job = { $ref: '#/components/schemas/Job' };
  const json = (type: object) => ({ 'application/json': { schema: type } });
  const answer = (description: string, content?: object) => ({ description, ...(content ? { content } : {}) });
  const errors = {
    401: answer('The token is missing or wrong.', json({ $ref: '#/components/schemas/Error' })),
    403: answer('The host or origin may not ask.', json({ $ref: '#/components/schemas/Error' })),
  };
  const id = { name: 'id', in: 'path', required: true, schema: { type: 'string', pattern: '^[0-9a-f]{32}$' } };
  const ofJob = { ...errors, 404: answer('There is no such job.', json({ $ref: '#/components/schemas/Error' })) };
  const picture = Object.fromEntries(['image/png', 'image/jpeg', 'image/webp', 'image/tiff', 'image/avif'].map((type) => [type, {}]));
  return {
    openapi: '3.1.0',
    info: {
      title: 'supir serve',
      version: VERSION,
      description: 'Photo restoration. A photo is sent as the body of a request, settings as its query, typed as on the command line.',
    },
    servers: [{ url: 'http://127.0.0.1:8188' }],
    security: [{}, { bearer: [] }, { basic: [] }],
    paths: {
      '/api/about': {
        get: { summary: 'Model, adapter and queue', responses: { 200: answer('What serves.', json({ type: 'object' })), ...errors } },
      },
      '/api/options': {
        get: { summary: 'The table of options', responses: { 200: answer('Options by key.', json({ type: 'object' })), ...errors } },
      },
      '/api/jobs': {
        get: {
          summary: 'The queue and what is done',
          responses: {
            200: answer('All jobs, the oldest first.', json({ type: 'object', properties: { jobs: { type: 'array', items: job } } })),
            ...errors,
          },
        },
        post: {
          summary: 'Submits a photo',
          parameters: [
            query('name', "the photo's name", { type: 'string' }),
            query('format', 'of the result', { enum: [...FORMAT_NAMES], default: 'png' }),
            query('quality', 'of JPEG, WebP and AVIF', { type: 'integer', minimum: 1, maximum: 100, default: 95 }),
            query('bits', 'a sample of the result', { enum: [8, 16], default: 8 }),
            query('preset', 'settings that go together', { type: 'string' }),
            query('options', 'options as one JSON object, beside or instead of single ones', { type: 'string' }),
            ...Object.entries(schema).map(([key, option]) => query(key, option.help, typeOf(option))),
          ],
          requestBody: { required: true, content: { 'application/octet-stream': {}, 'image/*': {} } },
          responses: {
            202: answer('It is queued.', json(job)),
            400: answer('An option is wrong.', json({ $ref: '#/components/schemas/Error' })),
            413: answer('The photo is too large.', json({ $ref: '#/components/schemas/Error' })),
            503: answer('Too many wait.', json({ $ref: '#/components/schemas/Error' })),
            ...errors,
          },
        },
      },
      '/api/jobs/{id}': {
        get: { summary: 'A job', parameters: [id], responses: { 200: answer('The job.', json(job)), ...ofJob } },
        delete: {
          summary: 'Cancels a job and forgets it with its result',
          parameters: [id],
          responses: { 204: answer('It is gone.'), ...ofJob },
        },
      },
      '/api/jobs/{id}/cancel': {
        post: { summary: 'Cancels a job', parameters: [id], responses: { 200: answer('The job.', json(job)), ...ofJob } },
      },
      '/api/jobs/{id}/events': {
        get: {
          summary: 'Server-sent events `state` and `progress`, each with the job, until it is over',
          parameters: [id],
          responses: { 200: answer('Events.', { 'text/event-stream': {} }), ...ofJob },
        },
      },
      '/api/jobs/{id}/result': {
        get: {
          summary: 'The result',
          parameters: [id],
          responses: {
            200: answer('A picture.', picture),
            409: answer('There is none.', json({ $ref: '#/components/schemas/Error' })),
            ...ofJob,
          },
        },
      },
      '/sdapi/v1/extra-single-image': {
        post: {
          summary: "A1111's enlarging of one picture; the answer comes when it is done",
          requestBody: {
            required: true,
            content: json({
              type: 'object',
              required: ['image'],
              properties: { image: { type: 'string', description: 'base64' }, upscaling_resize: { type: 'number', default: 2 } },
            }),
          },
          responses: {
            200: answer(
              'The result.',
              json({
                type: 'object',
                properties: { html_info: { type: 'string' }, image: { type: 'string', description: 'PNG in base64' } },
              }),
            ),
            422: answer('It failed.', json({ $ref: '#/components/schemas/Error' })),
            ...errors,
          },
        },
      },
    },
    components: {
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer' }, basic: { type: 'http', scheme: 'basic' } },
      schemas: {
        Error: { type: 'object', required: ['error'], properties: { error: { type: 'string' } } },
        Job: {
          type: 'object',
          required: ['id', 'name', 'state', 'created'],
          properties: {
            id: { type: 'string' },
            name: { type: 'string' },
            state: { enum: ['queued', 'running', 'done', 'failed', 'cancelled'] },
            created: { type: 'string', format: 'date-time' },
            finished: { type: 'string', format: 'date-time' },
            ahead: { type: 'integer', description: 'jobs before it' },
            progress: {
              type: 'object',
              properties: { share: { type: 'number' }, stage: { type: 'string' }, secondsLeft: { type: ['number', 'null'] } },
            },
            error: { type: 'string' },
            warnings: { type: 'array', items: { type: 'object' } },
            options: { type: 'object' },
            result: {
              type: 'object',
              properties: {
                type: { type: 'string' },
                bytes: { type: 'integer' },
                width: { type: 'integer' },
                height: { type: 'integer' },
                seconds: { type: 'number' },
              },
            },
          },
        },
      },
    },
  };
}

/** An option's values as JSON Schema has them, as they are typed in a query. */
function typeOf(option: Option): object {
  const value = option.default === null || option.kind === 'lines' || option.kind === 'indices' ? {} : { default: option.default };
  switch (option.kind) {
    case 'number':
      return { type: option.whole ? 'integer' : 'number', minimum: option.least, maximum: option.most, ...value };
    case 'choice':
      return { enum: [...option.choices], ...value };
    case 'flag':
      return { type: 'boolean', ...value };
    default:
      return { type: 'string' };
  }
}
