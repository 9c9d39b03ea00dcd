/** Check this GPU: whether it computes right, in a verdict and in a text that can be passed on. */
import { signal } from '@preact/signals';
import { tell, tellError } from './notices.ts';
import { run } from './photos.ts';
import type { CheckEvent, CheckResult } from './protocol.ts';
import { engine } from './session.ts';
import { seconds } from './words.ts';

/** The check that goes on, while another view is shown too. */
const going = signal<{ event: CheckEvent | null; stop: AbortController } | null>(null);
const found = signal<CheckResult | null>(null);

const VERDICTS = {
  good: 'It computes right',
  flawed: 'It computes right where it is used, but not in all that it offers',
  unusable: 'Its results cannot be trusted',
  unfinished: 'What was looked at is right, and not all was',
};

async function begin(): Promise<void> {
  const stop = new AbortController();
  [going.value, found.value] = [{ event: null, stop }, null];
  const event = (told: CheckEvent) => {
    going.value = { event: told, stop };
  };
  try {
    found.value = await engine().call('check', null, { event, signal: stop.signal });
  } catch (error) {
    tellError(error);
  } finally {
    going.value = null;
  }
}

/** What is under way is left behind. */
function stop(): void {
  const now = going.value!;
  now.stop.abort();
  going.value = { ...now };
}

async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    tell('news', 'The report is in the clipboard.');
  } catch {
    tell('warning', 'The browser does not let the page write to the clipboard: select the text and copy it.');
  }
}

export function CheckCard() {
  const [now, result] = [going.value, found.value];
  const { done = 0, total = 1, what = '', secondsLeft = null } = now?.event ?? {};
  return (
    <section class="card" aria-label="Check">
      <div class="row">
        <h2>Check this GPU</h2>
        {now ? (
          <button type="button" disabled={now.stop.signal.aborted} onClick={stop}>
            {now.stop.signal.aborted ? 'Stopping' : 'Stop'}
          </button>
        ) : (
          <button type="button" disabled={run.value !== null} onClick={() => void begin()}>
            {result ? 'Check again' : 'Check'}
          </button>
        )}
      </div>
      <p class="dim small">
        Every kind of kernel in every schedule that the adapter can follow, compared with the same sums in 64-bit floats, and a small
        restoration compared with its stored result. It takes some minutes, most of them for compiling.
      </p>
      {now && (
        <div class="progress">
          <label for="check">
            {what ? `${done} of ${total}: ${what}${secondsLeft === null ? '' : `, about ${seconds(secondsLeft)} left`}` : 'Beginning'}
          </label>
          <progress id="check" value={now.event ? done / total : undefined} max="1" />
        </div>
      )}
      {result && (
        <>
          <p>
            <span class={`badge ${result.verdict === 'good' ? 'good' : 'slow'}`}>{result.verdict}</span> {VERDICTS[result.verdict]}.
          </p>
          <ul class="small">
            {result.why.map((why) => (
              <li key={why}>{why}</li>
            ))}
          </ul>
          <details>
            <summary>The report</summary>
            {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable from the keyboard */}
            <pre class="wrapped" tabIndex={0}>
              {result.text}
            </pre>
            <button type="button" class="small" onClick={() => void copy(result.text)}>
              Copy
            </button>
          </details>
        </>
      )}
    </section>
  );
}
