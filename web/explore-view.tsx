/** Explore: the networks as they are, and what a run did inside them, step by step. */
import { useEffect } from 'preact/hooks';
import { BlockPanel } from './block-panel.tsx';
import { Curve } from './curves.tsx';
import { blockNames, follow, network, recorded, schedule, step, stepCount } from './exploration.ts';
import { Icon } from './icon.tsx';
import { NetworkDrawing } from './network-drawing.tsx';
import { photos, restore, run, selected } from './photos.ts';
import { model } from './session.ts';
import { amount } from './words.ts';

export function ExploreView() {
  useEffect(follow, []);
  const blocks = network.value?.graph.blocks ?? [];
  const sum = (key: 'parameters' | 'flops') => amount(blocks.reduce((total, block) => total + block[key], 0));
  return (
    <div class="explore">
      <div class="toolbar">
        <div class="title">
          <h1>Explore</h1>
          {blocks.length > 0 && (
            <p class="dim small">
              {network.value!.title}: {blocks.length} blocks, {sum('parameters')} parameters, {sum('flops')}FLOP.
            </p>
          )}
        </div>
        <RunButton />
      </div>
      <section class="card steps" aria-label="Steps">
        <StepSlider />
        {schedule.value.length > 0 && (
          <div class="curves">
            <Curve title="Noise (sigma)" values={schedule.value.map(({ sigma }) => sigma)} step={step.value} logarithmic />
            <Curve title="Guidance" values={schedule.value.map(({ cfg }) => cfg)} step={step.value} />
            <Curve title="Control scale" values={schedule.value.map(({ controlScale }) => controlScale)} step={step.value} />
          </div>
        )}
      </section>
      <div class="inside">
        <div class="card drawing-card">
          <ul class="legend" aria-label="Legend">
            {[...new Map([...blockNames.value.values()].map(({ family, title }) => [family, title]))].map(([family, title]) => (
              <li key={family} class={family}>
                {title}
              </li>
            ))}
            <li class="share">share of the work</li>
          </ul>
          <NetworkDrawing />
        </div>
        <BlockPanel />
      </div>
    </div>
  );
}

/** Runs the chosen photo with everything recorded. */
function RunButton() {
  const photo = selected.value ?? photos.value[0];
  if (!photo)
    return (
      <a class="button primary" href="#restore">
        Choose a photo first
      </a>
    );
  const now = run.value;
  return (
    <button type="button" class="primary" disabled={!model.value || now !== null} onClick={() => void restore(photo, true)}>
      <Icon name="play" />
      {now
        ? `${Math.floor(100 * (now.progress?.share ?? 0))} % done`
        : `${recorded.value ? 'Record again' : 'Restore and record'}: ${photo.name}`}
    </button>
  );
}

function StepSlider() {
  const steps = stepCount.value;
  if (steps === 0) return null;
  return (
    <div class="step-slider">
      <label for="step">
        Step <output>{step.value}</output> of {steps}
      </label>
      <input
        id="step"
        type="range"
        min="1"
        max={steps}
        step="1"
        value={step.value}
        onInput={(event) => {
          step.value = Number(event.currentTarget.value);
        }}
      />
      <p class="help">
        {recorded.value
          ? 'Pictures in the blocks: where each is strong after this step.'
          : 'After a recorded run every block shows its activations at each step.'}
      </p>
    </div>
  );
}
