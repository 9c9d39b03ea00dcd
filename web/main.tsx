/** Starts the page. */
import { render } from 'preact';
import { App } from './app.tsx';
import { start } from './session.ts';
import { applyTheme } from './theme.ts';

applyTheme();
render(<App />, document.getElementById('page')!);
void start();

const { offline } = document.body.dataset;
if (offline && 'serviceWorker' in navigator) void navigator.serviceWorker.register(offline).catch(() => {}); // without one, no offline use
