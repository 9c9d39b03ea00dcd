/** Which model restores: the demo's, or files of one's own, which are looked into and explained before anything is opened. */
import { useSignal } from '@preact/signals';
import { METHODS } from '../restore/methods.ts';
import { Icon } from './icon.tsx';
import { filesOf, takeFiles } from './intake.ts';
import { store, stored } from './local.ts';
import { words } from './messages.ts';
import { tellError } from './notices.ts';
import { isOpened, openOrigin, originOf } from './opened.ts';
import { type InspectedFile, WEIGHTS, type WeightsChoice } from './protocol.ts';
import {
  giveFiles,
  keepFile,
  keptFiles,
  model,
  modelPanelOpen,
  opening,
  openKept,
  openModel,
  ownFiles,
  removeKept,
  takeFile,
  weights,
} from './session.ts';
import { amount, bytes } from './words.ts';

export function ModelPanel() {
  const now = model.value;
  return (
    <section class="card model" aria-label="Model">
      <div class="row">
        <h2>Model</h2>
        <span class="dim">
          {now
            ? `${now.which === 'demo' ? 'demo' : now.report.config.name}, ${now.report.method === 'SUPIR' ? '' : `${now.report.method}, `}${amount(now.report.parameters)} parameters`
            : 'none yet'}
        </span>
      </div>
      {opening.value && (
        <p class="progress">
          <label for="opening">Opening {opening.value.what}</label>
          <progress id="opening" value={opening.value.share} max="1" />
        </p>
      )}
      {now?.which === 'demo' && (
        <p class="dim small">Small, for trying out: removes noise and JPEG blocks, invents no convincing detail.</p>
      )}
      <details
        open={modelPanelOpen.value}
        onToggle={(event) => {
          modelPanelOpen.value = event.currentTarget.open;
        }}
      >
        <summary>Weights of your own</summary>
        <OwnFiles />
      </details>
      {now?.which === 'own' && (
        <button type="button" onClick={() => void openModel('demo').catch(tellError)}>
          Back to the demo model
        </button>
      )}
    </section>
  );
}

/** Which files make a model, by any method. */
const NEEDED = [...METHODS]
  .reverse()
  .map(({ needs }) => needs)
  .join('; or ');

function OwnFiles() {
  const files = ownFiles.value?.files ?? [];
  const missing = ownFiles.value?.missing ?? null;
  const configured = files.some(({ path }) => path === 'config.json');
  const ready = files.length > 0 && (configured || missing === null) && files.every(({ problem }) => problem === null);
  return (
    <div class="own">
      <p class="small">
        Give {NEEDED}; as .safetensors, .ckpt or .pth. What each file is, is told from its contents. Files are read where they lie and are
        not uploaded anywhere.
      </p>
      <div class="buttons">
        <label class="button">
          <Icon name="plus" />
          Choose files
          <input
            class="sr"
            type="file"
            multiple
            accept=".safetensors,.ckpt,.pt,.pth,.bin,.json"
            onChange={(event) => void takeFiles(filesOf(event.currentTarget))}
          />
        </label>
        <label class="button">
          <Icon name="folder" />
          Choose a folder
          <input
            class="sr"
            type="file"
            ref={(input) => input?.setAttribute('webkitdirectory', '')}
            onChange={(event) => void takeFiles(filesOf(event.currentTarget))}
          />
        </label>
      </div>
      <WebAddress />
      <Kept />
      {files.length > 0 && (
        <ul class="files" aria-label="Files of weights">
          {files.map((file) => (
            <FileItem key={file.path} file={file} />
          ))}
        </ul>
      )}
      {files.length > 0 && !ready && missing && !configured && <p class="problem">{missing}</p>}
      {files.length > 0 && <WeightsSetting />}
      {files.length > 0 && (
        <button
          type="button"
          class="primary"
          disabled={!ready || opening.value !== null}
          onClick={() => void openModel('own').catch(tellError)}
        >
          Use these files
        </button>
      )}
    </div>
  );
}

function WeightsSetting() {
  return (
    <div class="setting choice">
      <label for="weights">
        <code>weights</code>
      </label>
      <select
        id="weights"
        aria-describedby="weights-help"
        value={weights.value}
        onChange={(event) => {
          weights.value = event.currentTarget.value as WeightsChoice;
        }}
      >
        {WEIGHTS.map((each) => (
          <option key={each}>{each}</option>
        ))}
      </select>
      <p class="help" id="weights-help">
        how they lie on the GPU: as in the files, f16, or rounded to blocks of 8 or 4 bits, which take half and a quarter of the memory
      </p>
    </div>
  );
}

function FileItem({ file }: { file: InspectedFile }) {
  const { title, details, problem } = file;
  return (
    <li class={problem ? 'bad' : ''}>
      <div class="row">
        <strong>{file.path}</strong>
        <span class="dim">{bytes(file.size)}</span>
        <button type="button" class="quiet" onClick={() => void takeFile(file.path)}>
          <Icon name="close" />
          <span class="sr">Leave {file.path} out</span>
        </button>
      </div>
      <p class="small">{problem ? words(problem) : title}</p>
      {details.length > 0 && (
        <details>
          <summary class="small">What is in it</summary>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable from the keyboard */}
          <pre tabIndex={0}>{details.join('\n')}</pre>
        </details>
      )}
      {!problem && !file.path.endsWith('.json') && (
        <button type="button" class="small" disabled={file.kept || opening.value !== null} onClick={() => void keepFile(file.path)}>
          {file.kept ? 'Kept in this browser' : 'Keep in this browser'}
        </button>
      )}
    </li>
  );
}

/** An address that was typed before the page loaded again to open it. */
function takeAddress(): string {
  const address = stored('address') ?? '';
  if (address !== '') store('address', '');
  return address;
}

function WebAddress() {
  const url = useSignal(takeAddress());
  const busy = useSignal(false);
  const open = async (event: Event) => {
    event.preventDefault();
    const origin = originOf(url.value);
    if (origin !== null && !isOpened(origin)) {
      store('address', url.value.trim());
      openOrigin(origin);
      return;
    }
    busy.value = true;
    await giveFiles([{ url: url.value.trim() }]);
    busy.value = false;
  };
  return (
    <form class="address" onSubmit={(event) => void open(event)}>
      <label for="address">or a web address, of which parts are read as they are needed; to allow a new one the page loads again</label>
      <div class="row">
        <input
          id="address"
          type="url"
          required
          placeholder="https://"
          value={url.value}
          onInput={(event) => {
            url.value = event.currentTarget.value;
          }}
        />
        <button type="submit" disabled={busy.value}>
          {busy.value ? 'Asking' : 'Open'}
        </button>
      </div>
    </form>
  );
}

function Kept() {
  const shown = keptFiles.value.filter(({ path }) => !ownFiles.value?.files.some((file) => file.path === path));
  if (shown.length === 0) return null;
  return (
    <div>
      <p class="small dim">Kept in this browser:</p>
      <ul class="files" aria-label="Kept files">
        {shown.map(({ id, path, size }) => (
          <li key={id} class="row">
            <strong>{path}</strong>
            <span class="dim">{bytes(size)}</span>
            <button type="button" class="small" onClick={() => void openKept(id).catch(tellError)}>
              Open
            </button>
            <button type="button" class="small" onClick={() => void removeKept(id).catch(tellError)}>
              Delete
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
