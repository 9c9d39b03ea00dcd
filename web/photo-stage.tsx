/** The chosen photo: where to drop one, the photo as it is, its restoration under way, or before and after. */
import { useMemo } from 'preact/hooks';
import { chosen } from './choices.ts';
import { Icon } from './icon.tsx';
import { filesOf, takeFiles } from './intake.ts';
import { Pane } from './pane.tsx';
import { MarkedPhoto } from './photo-marks.tsx';
import {
  addPhotos,
  cancel,
  downloadResult,
  markAgain,
  type Photo,
  type Result,
  type Run,
  restore,
  run,
  selected,
  selectedResult,
} from './photos.ts';
import { Picture } from './picture.tsx';
import { model } from './session.ts';
import { seconds } from './words.ts';
import { Zoom } from './zoom.ts';

const SAMPLES = ['astronaut', 'cat', 'dandelion'];

/** What a stage does, in a person's words. */
const STAGES: Readonly<Record<string, string>> = {
  compile: 'Compiling shaders',
  clean: 'Removing the damage',
  encode: 'Reading what is left of the photo',
  stage1: 'Removing the damage',
  reencode: 'Preparing for sampling',
  photo: 'Reading the photo as it is',
  text: 'Reading the prompts',
  sample: 'Sampling',
  decode: 'Decoding the result',
};

export function PhotoStage() {
  const photo = selected.value;
  if (!photo) return <EmptyStage />;
  const now = run.value?.photoId === photo.id ? run.value : null;
  if (now) return <Running photo={photo} run={now} />;
  const result = selectedResult.value;
  return result && photo.status !== 'stopped' && photo.status !== 'failed' && photo.status !== 'waiting' ? (
    <Done photo={photo} result={result} />
  ) : (
    <Waiting photo={photo} />
  );
}

function EmptyStage() {
  return (
    <div class="card empty">
      <Icon name="photo" />
      <h2>Drop a photo here</h2>
      <p class="dim">
        Old, blurred, noisy, too much compressed: PNG, JPEG, WebP, TIFF, AVIF or HEIC. Paste works too, and several at once.
      </p>
      <ChoosePhotos label="Choose photos" />
      <div class="samples">
        <p class="dim">or try one of these damaged ones</p>
        <div>
          {SAMPLES.map((name) => (
            <button key={name} type="button" class="sample" onClick={() => void addSample(name)}>
              <img src={`demo/photos/${name}-noisy.jpg`} alt={`Damaged photo: ${name}`} width="96" height="96" />
            </button>
          ))}
        </div>
      </div>
    </div>
  );
}

async function addSample(name: string): Promise<void> {
  const response = await fetch(`demo/photos/${name}-noisy.jpg`);
  await addPhotos([{ name: `${name}-noisy.jpg`, file: await response.blob() }]);
}

/** A button that opens the browser's choice of files. */
export function ChoosePhotos({ label, quiet = false }: { label: string; quiet?: boolean }) {
  return (
    <label class={`button ${quiet ? '' : 'primary'}`}>
      <Icon name="plus" />
      {label}
      <input
        class="sr"
        type="file"
        accept="image/png,image/jpeg,image/webp,image/avif,image/heic,image/heif,image/tiff,.mpo,.heic,.tif,.tiff"
        multiple
        onChange={(event) => void takeFiles(filesOf(event.currentTarget))}
      />
    </label>
  );
}

function Waiting({ photo }: { photo: Photo }) {
  const verb = { stopped: 'Go on', failed: 'Try again' }[photo.status as string] ?? 'Restore';
  return (
    <div class="card stage">
      <MarkedPhoto key={photo.id} photo={photo} />
      <div class="caption">
        <div>
          <strong>{photo.name}</strong>{' '}
          <span class="dim">
            {photo.width > 0 && `${photo.width} x ${photo.height}`}
            {photo.status === 'stopped' && ', stopped: it goes on from its last step'}
          </span>
          {photo.problem && <p class="problem">{photo.problem}</p>}
        </div>
        <button
          type="button"
          class="primary"
          disabled={!model.value || run.value !== null || chosen.value.problem !== null}
          onClick={() => void restore(photo)}
        >
          <Icon name="play" />
          {verb}
        </button>
      </div>
    </div>
  );
}

function Running({ photo, run }: { photo: Photo; run: Run }) {
  const { progress } = run;
  const what = progress ? (STAGES[progress.stage] ?? progress.stage) : 'Reading the photo';
  const piece = progress?.piece === undefined ? '' : `${progress.piece[0].toUpperCase()}${progress.piece.slice(1)}: `;
  const isInParts = progress !== null && progress.total > 1;
  const part = isInParts ? ` ${progress.done} of ${progress.total}` : '';
  const left = progress?.secondsLeft ?? null;
  return (
    <div class="card stage">
      <div class="frame">
        {run.picture ? (
          <>
            <Picture bitmap={run.picture} label={`Preview of ${photo.name}`} />
            <span class="tag left">
              {run.pictureName.endsWith('stage1')
                ? 'Stage 1: damage removed'
                : `Preview, step ${Number(/\d+$/.exec(run.pictureName)?.[0])}`}
            </span>
          </>
        ) : (
          <img src={photo.url} alt={`${photo.name} before the restoration`} />
        )}
      </div>
      <div class="caption">
        <div class="progress">
          <label for="progress">
            {piece}
            {what}
            {part}
            {left !== null && progress!.share < 1 && (
              <span class="dim">
                , {Math.floor(100 * progress!.share)} % of all, {seconds(left)} left
                {progress!.stage === 'compile' && ' and what compiling takes'}
              </span>
            )}
          </label>
          <progress id="progress" value={progress?.share} max="1" />
          <progress
            class="part"
            aria-label={what}
            value={isInParts ? progress.done / progress.total : undefined}
            max="1"
            hidden={!isInParts}
          />
        </div>
        <button type="button" onClick={cancel}>
          <Icon name="stop" />
          Cancel
        </button>
      </div>
    </div>
  );
}

function Done({ photo, result }: { photo: Photo; result: Result }) {
  const zoom = useMemo(() => new Zoom(), []);
  return (
    <div class="card stage">
      <Pane zoom={zoom} before={{ bitmap: result.photo, label: 'Photo' }} after={{ bitmap: result.restored, label: 'Restored' }} />
      <div class="caption">
        <div>
          <strong>{photo.name}</strong>{' '}
          <span class="dim">
            {result.width} x {result.height}, {seconds(result.seconds)}
            {result.resumedAt > 0 && `, from step ${result.resumedAt} on`}
          </span>
        </div>
        <div class="buttons">
          <button type="button" disabled={run.value !== null} onClick={() => markAgain(photo)}>
            <Icon name="photo" />
            Mark
          </button>
          <button type="button" disabled={run.value !== null || chosen.value.problem !== null} onClick={() => void restore(photo)}>
            <Icon name="undo" />
            Again
          </button>
          <a class="button" href="#compare">
            <Icon name="compare" />
            Compare
          </a>
          <button type="button" class="primary" onClick={() => downloadResult(result)}>
            <Icon name="download" />
            Download
          </button>
        </div>
      </div>
    </div>
  );
}
