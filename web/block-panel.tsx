/** One block: what it is, what it did at the chosen step, where its attention looks, and, of a project module, how strongly it acts. */
import { useSignal, useSignalEffect } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import type { GraphBlock } from '../drawing/graph-blocks.ts';
import type { RestoreOptions } from '../restore/options.ts';
import { moduleOf } from './block-names.ts';
import { choose, chosen } from './choices.ts';
import { Curve } from './curves.tsx';
import { chosenBlock, isRecorded, network, recorded, step } from './exploration.ts';
import { Icon } from './icon.tsx';
import { tellError } from './notices.ts';
import { results } from './photos.ts';
import { Picture } from './picture.tsx';
import type { Activation, AttentionMap } from './protocol.ts';
import { engine } from './session.ts';
import { sourcesOf } from './sources.ts';
import { amount } from './words.ts';

export function BlockPanel() {
  const block = chosenBlock.value;
  const panel = useRef<HTMLElement>(null);
  useEffect(() => {
    // Where it stands below the drawing, it comes into sight.
    if (block && panel.current!.getBoundingClientRect().top > innerHeight) panel.current!.scrollIntoView();
  }, [block]);
  if (!block)
    return (
      <section ref={panel} class="card block-panel" aria-label="Block">
        <p class="dim">Choose a block to see what it is made of, what it did at each step, and the source that computes it.</p>
      </section>
    );
  const module = moduleOf(block.path);
  return (
    <section ref={panel} class="card block-panel" aria-label="Block">
      <h2>
        <code>{block.path}</code>
      </h2>
      <BlockFacts block={block} />
      {module !== null && 'ablate' in chosen.value.options && <ModuleSwitch module={module} />}
      <Activations />
      <Attention key={block.path} path={block.path} />
      <h3>Source</h3>
      <ul class="sources">
        {sourcesOf(block).map((path) => (
          <li key={path}>
            <a href={`source/${path}.txt`} target="_blank" rel="noopener">
              {path}
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}

function BlockFacts({ block }: { block: GraphBlock }) {
  const total = network.value!.graph.blocks.reduce((sum, { flops }) => sum + flops, 0);
  const { side } = network.value!;
  const time = recorded.value?.times[block.path];
  const kinds = [block.kind, ...block.parts.map(({ path, kind }) => (kind && path ? `${path}: ${kind}` : ''))].filter(Boolean);
  return (
    <dl class="facts">
      {kinds.length > 0 && (
        <>
          <dt>Made of</dt>
          <dd>{kinds.join(', ')}</dd>
        </>
      )}
      <dt>Result</dt>
      <dd>
        {block.shape.join(' × ')} <span class="dim">for a picture of {`${side} × ${side}`}</span>
      </dd>
      <dt>Parameters</dt>
      <dd>{amount(block.parameters)}</dd>
      <dt>Work</dt>
      <dd>
        {amount(block.flops)}FLOP <span class="dim">{((100 * block.flops) / total).toFixed(1)} % of an evaluation</span>
      </dd>
      <dt>Time</dt>
      <dd>
        {time === undefined ? (
          <span class="dim">{recorded.value ? 'not told by this adapter' : 'after a recorded run'}</span>
        ) : (
          `${time.toFixed(1)} ms over ${recorded.value!.steps} steps`
        )}
      </dd>
    </dl>
  );
}

/** Switches a project module off, or changes how strongly it acts, for the next run. */
function ModuleSwitch({ module }: { module: number }) {
  const { ablate, controlScalePerModule } = chosen.value.options as Pick<RestoreOptions, 'ablate' | 'controlScalePerModule'>;
  const count = network.value!.graph.blocks.filter(({ path }) => moduleOf(path) !== null).length;
  const factor = controlScalePerModule[module] ?? 1;
  const setFactor = (value: number) => {
    const factors = Array.from({ length: count }, (_, i) => (i === module ? value : (controlScalePerModule[i] ?? 1)));
    choose('controlScalePerModule', factors.every((each) => each === 1) ? undefined : factors);
  };
  const toggle = (on: boolean) => {
    const off = on ? ablate.filter((each) => each !== module) : [...ablate, module].sort((a, b) => a - b);
    choose('ablate', off.length > 0 ? off : undefined);
  };
  const isOn = !ablate.includes(module);
  return (
    <fieldset class="module">
      <legend>Here the photo steers the UNet</legend>
      <label class="check">
        <input type="checkbox" checked={isOn} onChange={(event) => toggle(event.currentTarget.checked)} />
        <span>switched on</span>
      </label>
      <label for="factor">
        control scale times <output>{factor.toFixed(2)}</output>
      </label>
      <input
        id="factor"
        type="range"
        min="0"
        max="2"
        step="0.05"
        value={factor}
        disabled={!isOn}
        onInput={(event) => setFactor(Number(event.currentTarget.value))}
      />
      <p class="help">Takes effect with the next run.</p>
    </fieldset>
  );
}

function Activations() {
  const shown = useSignal<Activation | null>(null);
  useSignalEffect(() => {
    const name = chosenBlock.value && isRecorded(chosenBlock.value.path) ? chosenBlock.value.path : null;
    const at = step.value;
    void recorded.value;
    if (!name) {
      shown.value = null;
      return;
    }
    engine()
      .call('activation', { block: name, step: at })
      .then((found) => {
        if (step.value === at && chosenBlock.value?.path === name) shown.value = found;
      }, tellError);
  });
  const found = shown.value;
  if (!found)
    return recorded.value ? <p class="dim small">Its result is not recorded: it is a part of another block, or no feature map.</p> : null;
  return (
    <>
      <h3>
        Activations after step {step.value}{' '}
        <span class="dim">{found.channels > 64 ? `the first 64 of ${found.channels} channels` : `${found.channels} channels`}</span>
      </h3>
      <Picture class="mosaic" bitmap={found.mosaic} label={`Channels of ${chosenBlock.value?.path} after step ${step.value}`} />
      <Curve title="Root mean square" values={found.norms} step={step.value} />
    </>
  );
}

/** Where a pixel that the reader points at looks, in a layer of the block. */
function Attention({ path }: { path: string }) {
  const layers = (recorded.value?.attention ?? []).filter((layer) => layer.startsWith(`${path}.`));
  const layer = useSignal<string | null>(null);
  const query = useSignal({ x: 0.5, y: 0.5 });
  const map = useSignal<AttentionMap | null>(null);
  const chosenLayer = layer.value ?? layers[0] ?? null;
  useSignalEffect(() => {
    const { x, y } = query.value;
    const at = step.value;
    const name = layer.value ?? recorded.value?.attention.find((each) => each.startsWith(`${path}.`));
    if (!name) return;
    engine()
      .call('attention', { layer: name, step: at, x, y })
      .then((found) => {
        map.value = found;
      }, tellError);
  });
  const photo = results.value.findLast((result) => result.recorded)?.restored;
  if (!chosenLayer || !photo) return null;
  const move = (event: KeyboardEvent) => {
    const by: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const [dx, dy] = by[event.key] ?? [0, 0];
    if (dx === 0 && dy === 0) return;
    event.preventDefault();
    const inside = (value: number) => Math.min(0.999, Math.max(0, value));
    query.value = { x: inside(query.value.x + dx / 16), y: inside(query.value.y + dy / 16) };
  };
  const point = (event: MouseEvent) => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    if (event.detail > 0) query.value = { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  };
  return (
    <>
      <h3>Attention</h3>
      {layers.length > 1 && (
        <select aria-label="Layer of attention" value={chosenLayer} onChange={(event) => (layer.value = event.currentTarget.value)}>
          {layers.map((each) => (
            <option key={each} value={each}>
              {each.slice(path.length + 1)}
            </option>
          ))}
        </select>
      )}
      <div class="attention">
        <button
          type="button"
          class="query"
          onClick={point}
          onKeyDown={move}
          aria-label="The pixel that asks: click, or move it with the arrow keys"
        >
          <Picture bitmap={photo} label="" />
          <span class="cross" style={{ left: `${100 * query.value.x}%`, top: `${100 * query.value.y}%` }} />
        </button>
        {map.value ? (
          <Picture class="map" bitmap={map.value.picture} label="Where the pixel looks, bright is much" />
        ) : (
          <p class="dim small">Queries and keys of this step are not kept any more; choose a later one.</p>
        )}
      </div>
      {map.value && (
        <p class="help">
          <Icon name="network" /> Mean over the heads. The brightest place has{' '}
          {(map.value.largest * map.value.width * map.value.height).toFixed(1)} times the weight that even attention would give.
        </p>
      )}
    </>
  );
}
