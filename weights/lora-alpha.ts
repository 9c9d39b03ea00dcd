/**
 * How strongly a LoRA is to act where no tensor says so: PEFT's configuration, which diffusers writes into the header and PEFT into a file beside
 * (adapter_config.json). A layer is multiplied by alpha / rank, or by alpha / sqrt(rank) (rank-stabilised, Kalajdzievski 2023, arXiv 2312.03732).
 */
import { UserError } from '../core/errors.ts';
import { isRecord, kindOf, parseJson } from '../core/json.ts';
import { shown } from '../core/text.ts';

/** Key of the header's metadata under which diffusers keeps the configurations of all its components, as "unet.lora_alpha" and so on. */
export const ADAPTER_METADATA = 'lora_adapter_metadata';
/** The file of PEFT beside `adapter_model.safetensors`. */
export const ADAPTER_CONFIG = 'adapter_config.json';

/** Bytes and values of the largest adapter_config.json accepted; those with a pattern for every layer have some hundred kB. */
export const ADAPTER_LIMITS = { bytes: 2 ** 24, values: 200_000 };

/** The components whose configurations lie side by side, as diffusers calls them. */
type Component = 'unet' | 'text_encoder' | 'text_encoder_2';

/** The configuration of one component. */
interface AdapterConfig {
  alpha: number | undefined;
  rank: number | undefined;
  rankStabilised: boolean;
  /** Numbers of layers whose names end so, in the file's order, and the number's place in it. */
  alphas: ReadonlyMap<string, { value: number; order: number }>;
  ranks: ReadonlyMap<string, { value: number; order: number }>;
}

export class LoraAlphas {
  private readonly configs: ReadonlyMap<Component | '', AdapterConfig>;

  private constructor(configs: ReadonlyMap<Component | '', AdapterConfig>) {
    this.configs = configs;
  }

  /** From the text of the header's metadata, where there is one. Throws UserError naming the entry that is not what it should be. */
  static ofMetadata(text: string | undefined, file: string): LoraAlphas | null {
    if (text === undefined) return null;
    const name = `${file}: its metadata "${ADAPTER_METADATA}"`;
    return LoraAlphas.of(parseJson(text, name), name);
  }

  /** From parsed JSON, of one component or of several. Throws UserError naming the entry that is not what it should be. */
  static of(json: unknown, name: string): LoraAlphas {
    if (!isRecord(json)) throw new UserError(`${name} is ${kindOf(json)}, not an object of PEFT's settings.`);
    const components = new Map<Component | '', Record<string, unknown>>();
    for (const [key, value] of Object.entries(json)) {
      const [, component = '', rest] = /^(?:(unet|text_encoder|text_encoder_2)\.)?(.*)$/s.exec(key)!;
      const settings = components.get(component as Component | '') ?? {};
      components.set(component as Component | '', Object.assign(settings, { [rest]: value }));
    }
    return new LoraAlphas(new Map([...components].map(([component, settings]) => [component, configOf(settings, name)])));
  }

  /**
   * What a layer of this rank is multiplied by; undefined where nothing is said of it. `layer` is its name in the file, `weight` the checkpoint key of
   * what it adapts. For factors that have no rank of their own (two whole ones of LoKr) `rank` is null, and the configuration's counts.
   */
  strength(layer: string, weight: string, rank: number | null): number | undefined {
    const [, tower] = /^conditioner\.embedders\.(\d)\./.exec(weight) ?? [];
    const component = tower === undefined ? 'unet' : tower === '0' ? 'text_encoder' : 'text_encoder_2';
    const config = this.configs.get(component) ?? this.configs.get('');
    if (!config) return undefined;
    const path = layer.replace(/^((base_model\.model|unet|text_encoder|text_encoder_2)\.)+/, '');
    const alpha = matched(config.alphas, path) ?? config.alpha;
    const r = rank ?? matched(config.ranks, path) ?? config.rank;
    if (alpha === undefined || r === undefined) return undefined;
    return config.rankStabilised ? alpha / Math.sqrt(r) : alpha / r;
  }
}

function configOf(settings: Record<string, unknown>, name: string): AdapterConfig {
  const fail = (key: string, expected: string): never => {
    throw new UserError(`${name}: '${key}' is ${shown(settings[key], 60)}, and must be ${expected}.`);
  };
  const number = (key: string, least: number): number | undefined => {
    const value = settings[key];
    if (value === undefined || value === null) return undefined;
    return typeof value === 'number' && Number.isFinite(value) && value >= least ? value : fail(key, `a number of at least ${least}`);
  };
  const pattern = (key: string, least: number) => {
    const value = settings[key] ?? {};
    if (!isRecord(value)) return fail(key, 'an object of numbers by layer');
    const entries = Object.entries(value).map(([layer, each], order): [string, { value: number; order: number }] => {
      // PEFT reads these names as regular expressions. Those that are plain names mean their ends; no pattern from a file is run.
      if (!/^\^?[\w.-]+$/.test(layer.replaceAll('\\.', '.')))
        throw new UserError(`${name}: '${key}' names layers by the pattern ${shown(layer)}; only plain names of layers are read.`);
      if (!(typeof each === 'number' && Number.isFinite(each) && each >= least))
        throw new UserError(`${name}: '${key}' gives ${shown(layer)} ${shown(each, 60)}, and must give a number of at least ${least}.`);
      return [layer.replaceAll('\\.', '.'), { value: each, order }];
    });
    return new Map(entries);
  };
  const flag = settings.use_rslora ?? false;
  return {
    alpha: number('lora_alpha', 0) ?? number('alpha', 0),
    rank: number('r', 1),
    rankStabilised: typeof flag === 'boolean' ? flag : fail('use_rslora', 'true or false'),
    alphas: pattern('alpha_pattern', 0),
    ranks: pattern('rank_pattern', 1),
  };
}

/** The number of the first pattern that is the path or its end behind a dot; one that begins with "^" is the whole of it. */
function matched(pattern: AdapterConfig['alphas'], path: string): number | undefined {
  const found = [pattern.get(`^${path}`)];
  for (let at = 0; at >= 0; ) {
    found.push(pattern.get(path.slice(at)));
    const dot = path.indexOf('.', at);
    at = dot < 0 ? -1 : dot + 1;
  }
  return found.filter((each) => each !== undefined).sort((a, b) => a.order - b.order)[0]?.value;
}
