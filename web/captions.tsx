/** Captions: a vision model that a person runs, or pays for, says what a photo shows. Off until it is switched on; the only thing here that photos leave the machine for. */
import { captioner, key, model, on, origin, url } from './captioner.ts';
import { store } from './local.ts';
import { isOpened, openOrigin } from './opened.ts';

export function CaptionPanel() {
  const where = origin.value;
  return (
    <details class="card" aria-label="Captions">
      <summary>
        Captions <span class="dim">{captioner.value ? 'on' : 'off'}</span>
      </summary>
      <p class="small">
        A vision model may say what a photo shows, where no prompt does. <strong>Then the photo leaves this page</strong>, reduced to at
        most 1024 pixels, for the address below and for no other. Switched off, nothing is sent anywhere.
      </p>
      <Field id="caption-url" label="Address of its API, as OpenAI's" value={url} placeholder="http://localhost:11434/v1" kept />
      <Field id="caption-model" label="Its name there" value={model} placeholder="qwen3-vl" kept />
      <Field id="caption-key" label="Key, if it wants one; it is not kept" value={key} type="password" />
      {where !== null && !isOpened(where) ? (
        <>
          <p class="small">
            This page may not connect to {where} yet. To allow it, and nothing else, the page has to load again; photos in it are given
            anew.
          </p>
          <button type="button" onClick={() => openOrigin(where)}>
            Allow {where}
          </button>
        </>
      ) : (
        <label class="check">
          <input
            type="checkbox"
            checked={on.value}
            disabled={where === null || model.value.trim() === ''}
            onChange={(event) => {
              on.value = event.currentTarget.checked;
            }}
          />
          <span>Send photos without a prompt to {where ?? 'this address'}</span>
        </label>
      )}
      <p class="help">
        The server must allow pages from {location.origin}: Ollama by <code>OLLAMA_ORIGINS={location.origin}</code>, llama.cpp's does as it
        is.
      </p>
    </details>
  );
}

function Field({
  id,
  label,
  value,
  placeholder,
  type = 'text',
  kept = false,
}: {
  id: string;
  label: string;
  value: { value: string };
  placeholder?: string;
  type?: 'text' | 'password';
  kept?: boolean;
}) {
  const common = {
    id,
    autocomplete: 'off',
    placeholder,
    value: value.value,
    onInput: ({ currentTarget }: { currentTarget: HTMLInputElement }) => {
      value.value = currentTarget.value;
      if (kept) store(id, value.value);
    },
  };
  return (
    <div class="field">
      <label for={id} class="small">
        {label}
      </label>
      {type === 'password' ? <input type="password" {...common} /> : <input type="text" {...common} />}
    </div>
  );
}
