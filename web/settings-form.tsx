/** The settings, made from the table that the command line's flags are made from: each under its usual name, with its sentence of help. */
import { NUMBER_RANGES, PRESETS, type Preset, type RestoreOptions } from '../restore/options.ts';
import { SETTING_GROUPS, SETTING_KEYS, SETTINGS, type SettingGroup, settingName } from '../restore/settings.ts';
import { choose, choosePreset, chosen, given, memory, rollSeed, type, typos } from './choices.ts';
import { Icon } from './icon.tsx';
import { record } from './photos.ts';

const GROUPS: Record<SettingGroup, string> = {
  sampling: 'Sampling and guidance',
  noise: 'Noise',
  size: 'Size',
  tiles: 'Tiles',
  prompts: 'Prompts',
  result: 'Result',
  research: 'Research',
};

const PRESET_HELP: Record<Preset, string> = {
  quality: 'more invented detail',
  fidelity: 'closer to the photo',
  lightning: 'for few-step bases',
  fast: 'few steps, no guidance',
};

/** What most people change. */
export function Essentials() {
  return (
    <section class="card" aria-label="Essential settings">
      <fieldset class="presets">
        <legend>Preset</legend>
        <PresetChoice preset={undefined} name="model's own" help="what the model recommends" />
        {(Object.keys(PRESETS) as Preset[]).map((preset) => (
          <PresetChoice key={preset} preset={preset} name={preset} help={PRESET_HELP[preset]} />
        ))}
      </fieldset>
      <Setting name="prompt" />
      <div class="pair">
        <Setting name="steps" />
        <Setting name="upscale" />
      </div>
      <div class="pair seed">
        <Setting name="seed" />
        <button type="button" onClick={rollSeed} title="Another seed">
          <Icon name="dice" />
          Roll
        </button>
      </div>
    </section>
  );
}

function PresetChoice({ preset, name, help }: { preset: Preset | undefined; name: string; help: string }) {
  return (
    <label title={help}>
      <input type="radio" name="preset" checked={given.value.preset === preset} onChange={() => choosePreset(preset)} />
      <span>{name}</span>
    </label>
  );
}

const ESSENTIAL: readonly string[] = ['prompt', 'steps', 'upscale', 'seed'];

export function AllSettings() {
  return (
    <details class="card all">
      <summary>
        All settings <span class="dim">{changed(SETTING_KEYS.filter((key) => !ESSENTIAL.includes(key)))}</span>
      </summary>
      <Memory />
      {SETTING_GROUPS.map((group) => (
        <Group key={group} group={group} />
      ))}
    </details>
  );
}

function Group({ group }: { group: SettingGroup }) {
  const keys = SETTING_KEYS.filter((key) => SETTINGS[key].group === group && !ESSENTIAL.includes(key));
  return (
    <details class="group" open={group === 'sampling'}>
      <summary>
        {GROUPS[group]} <span class="dim">{changed(keys)}</span>
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

function changed(keys: readonly (keyof RestoreOptions)[]): string {
  const count = keys.filter((key) => key in given.value).length;
  return count > 0 ? `${count} changed` : '';
}

/** One option: its name, its control, what it does, and the way back to its default. */
function Setting({ name }: { name: keyof RestoreOptions }) {
  const setting = SETTINGS[name];
  const id = `set-${name}`;
  const isChanged = name in given.value;
  const typo = typos.value[name];
  const help = setting.help.replaceAll('--', '');
  if (setting.kind === 'flag') {
    return (
      <label class="check">
        <input
          type="checkbox"
          checked={chosen.value.options[name] as boolean}
          onChange={(event) => choose(name, event.currentTarget.checked as never)}
        />
        <span>
          <code>{settingName(name)}</code> <span class="help">{help}</span>
        </span>
      </label>
    );
  }
  return (
    <div class={`setting ${setting.kind} ${isChanged ? 'changed' : ''}`}>
      <label for={id}>
        <code>{settingName(name)}</code>
      </label>
      <span class="value">
        <Control name={name} id={id} invalid={typo !== undefined} />
        {isChanged && (
          <button type="button" class="quiet" title="Back to the default" onClick={() => choose(name, undefined)}>
            <Icon name="undo" />
            <span class="sr">Back to the default of {settingName(name)}</span>
          </button>
        )}
      </span>
      <p class="help" id={`${id}-help`}>
        {help}
        {typo && <span class="problem"> {typo}</span>}
      </p>
    </div>
  );
}

function Control({ name, id, invalid }: { name: keyof RestoreOptions; id: string; invalid: boolean }) {
  const setting = SETTINGS[name];
  const value = chosen.value.options[name];
  const common = { id, 'aria-describedby': `${id}-help`, 'aria-invalid': invalid || undefined };
  if (setting.kind === 'choice') {
    return (
      <select {...common} value={value as string} onChange={(event) => type(name, event.currentTarget.value)}>
        {setting.choices.map((choice) => (
          <option key={choice}>{choice}</option>
        ))}
      </select>
    );
  }
  if (setting.kind === 'number') {
    const [least, most, integer] = NUMBER_RANGES[name]!;
    return (
      <input
        {...common}
        type="number"
        min={least}
        max={most}
        step={integer ? 1 : 'any'}
        value={String(value)}
        onChange={(event) => type(name, event.currentTarget.value)}
      />
    );
  }
  if (setting.kind === 'text' || setting.kind === 'lines') {
    const text = setting.kind === 'lines' ? (value as readonly string[]).join('\n') : (value as string);
    return (
      <textarea {...common} rows={name === 'prompt' ? 2 : 3} value={text} onChange={(event) => type(name, event.currentTarget.value)} />
    );
  }
  return (
    <input
      {...common}
      type="text"
      value={(value as readonly number[]).join(',')}
      onChange={(event) => type(name, event.currentTarget.value)}
    />
  );
}

/** How much GPU memory a run may use; no option of the restoration, for it changes no pixel. */
function Memory() {
  return (
    <div class={`setting number ${memory.value === null ? '' : 'changed'}`}>
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
          value={memory.value ?? ''}
          onChange={(event) => {
            const gigabytes = Number(event.currentTarget.value);
            memory.value = gigabytes > 0 ? gigabytes : null;
          }}
        />
        GB
      </span>
      <p class="help" id="memory-help">
        GPU memory that may be used; weights that do not fit leave when idle, or pass through at every step
      </p>
    </div>
  );
}
