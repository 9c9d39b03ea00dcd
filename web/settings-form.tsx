/** The settings, made from the table that the command line's flags are made from: each under its usual name, with its sentence of help. */
import { shown } from '../core/text.ts';
import type { Option } from '../options/schema.ts';
import { spelled } from '../options/spelling.ts';
import { OPTION_GROUPS, type OptionGroup } from '../restore/options.ts';
import { choose, choosePreset, chosen, given, memory, memoryProblem, method, presets, rollSeed, type, typos } from './choices.ts';
import { Icon } from './icon.tsx';
import { record } from './photos.ts';

/** An option as people see it: cfg-start. */
const labelOf = (key: string) => spelled(key, 'kebab');

/** What most people change. */
export function Essentials() {
  return (
    <section class="card" aria-label="Essential settings">
      <fieldset class="presets">
        <legend>Preset</legend>
        <PresetChoice preset={undefined} name="model's own" help="what the model recommends" />
        {Object.entries(presets.value).map(([preset, { help }]) => (
          <PresetChoice key={preset} preset={preset} name={shown(preset, 30)} help={shown(help)} />
        ))}
      </fieldset>
      {has('prompt') && <Setting name="prompt" />}
      <div class="pair">
        {has('steps') && <Setting name="steps" />}
        {has('upscale') && <Setting name="upscale" />}
      </div>
      {isSeeded() && (
        <div class="pair seed">
          <Setting name="seed" />
          <button type="button" onClick={rollSeed} title="Another seed">
            <Icon name="dice" />
            Roll
          </button>
        </div>
      )}
    </section>
  );
}

function PresetChoice({ preset, name, help }: { preset: string | undefined; name: string; help: string }) {
  return (
    <label title={help}>
      <input type="radio" name="preset" checked={given.value.preset === preset} onChange={() => choosePreset(preset)} />
      <span>{name}</span>
    </label>
  );
}

const ESSENTIAL: readonly string[] = ['prompt', 'steps', 'upscale', 'seed'];

const has = (key: string) => key in method.value.options;
/** Whether the method draws noise. */
const isSeeded = () => method.value.stages(method.value.plain).some((stage) => stage.isSeeded);

export function AllSettings() {
  return (
    <details class="card all">
      <summary>
        All settings <span class="dim">{changed(others())}</span>
      </summary>
      <Memory />
      {(Object.keys(OPTION_GROUPS) as OptionGroup[])
        .filter((group) => group === 'research' || others().some((key) => method.value.options[key].group === group))
        .map((group) => (
          <Group key={group} group={group} />
        ))}
    </details>
  );
}

const others = () => Object.keys(method.value.options).filter((key) => !ESSENTIAL.includes(key));

function Group({ group }: { group: OptionGroup }) {
  const keys = others().filter((key) => method.value.options[key].group === group);
  return (
    <details class="group" open={group === 'sampling'}>
      <summary>
        {OPTION_GROUPS[group]} <span class="dim">{changed(keys)}</span>
      </summary>
      {keys.map((key) => (
        <Setting key={key} name={key} />
      ))}
      {group === 'research' && (
        <label class="check">
          <input
            type="checkbox"
            checked={record.value}
            onChange={(event) => {
              record.value = event.currentTarget.checked;
            }}
          />
          <span>
            <code>trace</code> <span class="help">keep the activations of every block and step for the Explore view</span>
          </span>
        </label>
      )}
    </details>
  );
}

function changed(keys: readonly string[]): string {
  const count = keys.filter((key) => key in given.value).length;
  return count > 0 ? `${count} changed` : '';
}

/** One option: its name, its control, what it does, and the way back to its default. */
function Setting({ name }: { name: string }) {
  const option = method.value.options[name];
  const id = `set-${name}`;
  const isChanged = name in given.value;
  const typo = typos.value[name];
  if (option.kind === 'flag') {
    return (
      <label class="check">
        <input
          type="checkbox"
          checked={chosen.value.options[name] as boolean}
          onChange={(event) => choose(name, event.currentTarget.checked)}
        />
        <span>
          <code>{labelOf(name)}</code>{' '}
          <span class="help" title={option.more}>
            {option.help}
          </span>
        </span>
      </label>
    );
  }
  return (
    <div class={`setting ${option.kind} ${isChanged ? 'changed' : ''}`}>
      <label for={id}>
        <code>{labelOf(name)}</code>
      </label>
      <span class="value">
        <Control name={name} id={id} typed={typo?.text} />
        {(isChanged || typo) && (
          <button type="button" class="quiet" title="Back to the default" onClick={() => choose(name, undefined)}>
            <Icon name="undo" />
            <span class="sr">Back to the default of {labelOf(name)}</span>
          </button>
        )}
      </span>
      <p class="help" id={`${id}-help`} title={option.more}>
        {option.help}
        {typo && <span class="problem"> {typo.problem}</span>}
      </p>
    </div>
  );
}

/** The control of an option; `typed` is what stands there and cannot be. */
function Control({ name, id, typed }: { name: string; id: string; typed: string | undefined }) {
  const option: Option = method.value.options[name];
  const value = chosen.value.options[name];
  const common = { id, 'aria-describedby': `${id}-help`, 'aria-invalid': typed !== undefined || undefined };
  if (option.kind === 'choice') {
    return (
      <select {...common} value={value as string} onChange={(event) => type(name, event.currentTarget.value)}>
        {option.choices.map((choice) => (
          <option key={choice}>{choice}</option>
        ))}
      </select>
    );
  }
  if (option.kind === 'number') {
    return (
      <input
        {...common}
        type="number"
        min={option.least}
        max={option.most}
        step={option.whole ? 1 : 'any'}
        value={typed ?? (value === null ? '' : String(value))}
        onChange={(event) => type(name, typedIn(event.currentTarget))}
      />
    );
  }
  if (option.kind === 'text' || option.kind === 'lines') {
    const text = option.kind === 'lines' ? (value as readonly string[]).join('\n') : (value as string);
    return (
      <textarea
        {...common}
        rows={name === 'prompt' ? 2 : 3}
        value={typed ?? text}
        onChange={(event) => type(name, event.currentTarget.value)}
      />
    );
  }
  const written = Array.isArray(value) ? value.join(option.kind === 'boxes' ? ' ' : ',') : ((value as string | null) ?? '');
  return (
    <input
      {...common}
      type="text"
      placeholder={option.kind === 'size' ? '2048x1365' : undefined}
      value={typed ?? written}
      onChange={(event) => type(name, event.currentTarget.value)}
    />
  );
}

/** What stands in a field for numbers, also where the browser finds no number in it and gives nothing. */
function typedIn({ value, validity }: HTMLInputElement): string {
  return validity.badInput ? NO_NUMBER : value;
}

const NO_NUMBER = 'no number';

/** How much GPU memory a run may use; no option of the restoration, for it changes no pixel. */
function Memory() {
  return (
    <div class={`setting number ${memory.value === '' ? '' : 'changed'}`}>
      <label for="memory">
        <code>memory</code>
      </label>
      <span class="value">
        <input
          id="memory"
          type="number"
          min="0.05"
          step="any"
          placeholder="chosen"
          aria-describedby="memory-help"
          aria-invalid={memoryProblem.value !== null || undefined}
          value={memory.value}
          onChange={(event) => {
            memory.value = typedIn(event.currentTarget);
          }}
        />
        GB
      </span>
      <p class="help" id="memory-help">
        GPU memory that may be used; weights that do not fit leave when idle, or pass through at every step
        {memoryProblem.value && <span class="problem"> {memoryProblem.value}</span>}
      </p>
    </div>
  );
}
