/**
 * What was found out about an adapter, kept from one run of the program to the next. It holds for one adapter with its driver, one browser or
 * binding, and one version of this program: what was noted under others, or is damaged, counts for nothing and is written anew.
 */
import type { AdapterFacts } from '../core/adapter.ts';
import { sha256 } from '../core/digest.ts';
import { isRecord } from '../core/json.ts';
import type { Notes } from '../core/notes.ts';
import { VERSION } from '../core/version.ts';

type Identity = Pick<AdapterFacts, 'vendor' | 'architecture' | 'device' | 'description' | 'subgroupSizes'>;

export class AdapterNotes {
  private readonly notes: Notes;
  /** What must be the same for a note to hold. */
  private readonly adapter: string;
  /** The adapter without its driver's version, so that a new driver's note takes the place of the old one's. */
  private readonly name: Promise<string>;

  constructor(notes: Notes, { vendor, architecture, device, description, subgroupSizes }: Identity) {
    this.notes = notes;
    this.adapter = JSON.stringify([VERSION, notes.runtime, vendor, architecture, device, description, ...subgroupSizes]);
    this.name = sha256(JSON.stringify([vendor, architecture, device])).then((digest) => `adapter-${digest.slice(0, 16)}.json`);
  }

  /** What was found out about `what`; undefined where nothing holds. Whoever asks checks it. */
  async read(what: string): Promise<unknown> {
    const found = await this.found();
    return Object.hasOwn(found, what) ? found[what] : undefined;
  }

  /** Keeps a finding, which must be JSON. */
  async write(what: string, finding: unknown): Promise<void> {
    const note = { adapter: this.adapter, found: { ...(await this.found()), [what]: finding } };
    await this.notes.write(await this.name, `${JSON.stringify(note, null, 2)}\n`);
  }

  private async found(): Promise<Record<string, unknown>> {
    const text = (await this.notes.read(await this.name)) ?? '';
    try {
      const note: unknown = JSON.parse(text);
      return isRecord(note) && note.adapter === this.adapter && isRecord(note.found) ? note.found : {};
    } catch {
      return {};
    }
  }
}
