/** `npm run docs:options`: writes docs/options.md and docs/openapi.json from the tables of options. */
import { writeFileSync } from 'node:fs';
import { openApi } from '../cli/serve/openapi.ts';
import { OPTIONS } from '../restore/options.ts';
import { optionsPage } from './options-page.ts';

writeFileSync(new URL('../docs/options.md', import.meta.url), optionsPage());
writeFileSync(new URL('../docs/openapi.json', import.meta.url), `${JSON.stringify(openApi(OPTIONS), null, 2)}\n`);
