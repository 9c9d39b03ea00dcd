/** Starts the page. */
import { render } from 'preact';
import { App } from './app.tsx';
import { start, tellSeen } from './session.ts';
import { applyTheme } from './theme.ts';

applyTheme();
render(<App />, document.getElementById('page')!);
void start();
document.addEventListener('visibilitychange', tellSeen);

const { offline } = document.body.dataset;
if (offline && 'serviceWorker' in navigator) void navigator.serviceWorker.register(offline).catch(() => {}); // without one, no offline use
