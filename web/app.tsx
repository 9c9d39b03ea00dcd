/** The frame of the page: views, theme, notices; and the whole window takes what is dropped or pasted. */
import { useEffect } from 'preact/hooks';
import { AdapterView } from './adapter-view.tsx';
import { CompareView } from './compare-view.tsx';
import { ExploreView } from './explore-view.tsx';
import { Icon } from './icon.tsx';
import { takeTransfer } from './intake.ts';
import { held, notices, putAway } from './notices.ts';
import { results, run } from './photos.ts';
import { RestoreView } from './restore-view.tsx';
import { VIEWS, type View, view } from './route.ts';
import { adapterProblem, broken, restart } from './session.ts';
import { THEMES, theme } from './theme.ts';

const TITLES: Record<View, string> = { restore: 'Restore', compare: 'Compare', explore: 'Explore', adapter: 'Adapter' };
const ICONS = { restore: 'photo', compare: 'compare', explore: 'network', adapter: 'chip' } as const;
const THEME_ICONS = { system: 'system', light: 'sun', dark: 'moon' } as const;

export function App() {
  useEffect(() => {
    const allow = (event: DragEvent) => event.preventDefault();
    const drop = (event: DragEvent) => {
      event.preventDefault();
      if (event.dataTransfer) void takeTransfer(event.dataTransfer);
    };
    const paste = (event: ClipboardEvent) => {
      if (event.clipboardData?.files.length) void takeTransfer(event.clipboardData);
    };
    document.addEventListener('dragover', allow);
    document.addEventListener('drop', drop);
    document.addEventListener('paste', paste);
    return () => {
      document.removeEventListener('dragover', allow);
      document.removeEventListener('drop', drop);
      document.removeEventListener('paste', paste);
    };
  }, []);

  const now = run.value;
  const done = now ? `${Math.floor(100 * (now.progress?.share ?? 0))} % ` : '';
  useEffect(() => {
    document.title = `${done}${TITLES[view.value]} - SUPIR in the browser`;
  });

  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <header class="top">
        <div class="brand">
          <img src="icon.svg" alt="" width="28" height="28" />
          <span>
            SUPIR <span class="dim">in the browser</span>
          </span>
        </div>
        <nav aria-label="Views">
          {VIEWS.map((each) => (
            <a key={each} href={`#${each}`} aria-current={view.value === each ? 'page' : undefined}>
              <Icon name={ICONS[each]} />
              {TITLES[each]}
              {each === 'compare' && results.value.length > 0 && <span class="count">{results.value.length}</span>}
            </a>
          ))}
        </nav>
        <button
          type="button"
          class="quiet theme"
          title={`Colours: ${theme.value}`}
          onClick={() => {
            theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length];
          }}
        >
          <Icon name={THEME_ICONS[theme.value]} />
          <span class="sr">Colours: {theme.value}</span>
        </button>
      </header>
      <Notices />
      <main id="main" tabIndex={-1}>
        {broken.value && (
          <p class="banner error" role="alert">
            {broken.value} Photos, settings and finished results are still here.{' '}
            <button type="button" onClick={() => void restart()}>
              Start the engine again
            </button>
          </p>
        )}
        {adapterProblem.value && view.value !== 'adapter' && (
          <p class="banner error" role="alert">
            Nothing can be computed here. {adapterProblem.value} <a href="#adapter">What can be done</a>
          </p>
        )}
        {view.value === 'restore' && <RestoreView />}
        {view.value === 'compare' && <CompareView />}
        {view.value === 'explore' && <ExploreView />}
        {view.value === 'adapter' && <AdapterView />}
      </main>
      <footer>
        <p>
          Everything is computed on this machine; photos and weights never leave it. The demo model shows the machinery and is no substitute
          for the published weights.
        </p>
      </footer>
    </>
  );
}

function Notices() {
  const hold = (isHeld: boolean) => () => {
    held.value = isHeld;
  };
  return (
    <div
      class="notices"
      role="status"
      aria-live="polite"
      onPointerEnter={hold(true)}
      onPointerLeave={hold(false)}
      onFocusIn={hold(true)}
      onFocusOut={hold(false)}
    >
      {notices.value.map(({ id, kind, text }) => (
        <div key={id} class={`notice ${kind}`}>
          {kind !== 'news' && <Icon name="warning" />}
          <p>{text}</p>
          <button type="button" class="quiet" onClick={() => putAway(id)}>
            <Icon name="close" />
            <span class="sr">Put away</span>
          </button>
        </div>
      ))}
    </div>
  );
}
