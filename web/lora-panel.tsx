/** LoRA files on the model, each with a slider for how strongly it acts. */
import { Icon } from './icon.tsx';
import { filesOf, takeLoraFiles } from './intake.ts';
import { run } from './photos.ts';
import { loras, model, removeLora, scaleLora } from './session.ts';

export function LoraPanel() {
  return (
    <section class="card" aria-label="LoRA">
      <div class="row">
        <h2>LoRA</h2>
        <label class={`button small ${model.value && !run.value ? '' : 'disabled'}`}>
          <Icon name="plus" />
          Add a file
          <input
            class="sr"
            type="file"
            multiple
            accept=".safetensors,.pt,.bin,.ckpt,.json"
            disabled={!model.value || run.value !== null}
            onChange={(event) => void takeLoraFiles(filesOf(event.currentTarget))}
          />
        </label>
      </div>
      {loras.value.length === 0 && (
        <p class="dim small">
          Small files that teach the model a subject or a style. They must be made for this model. PEFT's <code>adapter_config.json</code>,
          which says how strongly its LoRA acts, may be given with it.
        </p>
      )}
      {loras.value.map(({ id, name, scale }) => (
        <div key={id} class="lora">
          <label for={`lora-${id}`}>{name}</label>
          <output for={`lora-${id}`}>{scale.toFixed(2)}</output>
          <button type="button" class="quiet" onClick={() => void removeLora(id)}>
            <Icon name="close" />
            <span class="sr">Take {name} off</span>
          </button>
          <input
            id={`lora-${id}`}
            type="range"
            min="-1"
            max="2"
            step="0.05"
            value={scale}
            onInput={(event) => scaleLora(id, Number(event.currentTarget.value))}
          />
        </div>
      ))}
    </section>
  );
}
