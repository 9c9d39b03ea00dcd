/** The photos that were given, with what has become of each. */
import { chosen } from './choices.ts';
import { Icon } from './icon.tsx';
import { ChoosePhotos } from './photo-stage.tsx';
import { type Photo, photos, removePhoto, restoreAll, run, selectedId, waiting } from './photos.ts';
import { model } from './session.ts';

const STATUS: Record<Photo['status'], string> = {
  waiting: 'waiting',
  running: 'under way',
  done: 'done',
  stopped: 'stopped',
  failed: 'failed',
};

export function PhotoQueue() {
  if (photos.value.length === 0) return null;
  const left = waiting.value.length;
  return (
    <div class="queue">
      <ul aria-label="Photos">
        {photos.value.map((photo) => (
          <li key={photo.id} class={photo.status}>
            <button
              type="button"
              class="thumb"
              aria-pressed={photo.id === selectedId.value}
              onClick={() => {
                selectedId.value = photo.id;
              }}
            >
              <img src={photo.url} alt="" width="72" height="72" />
              <span class="sr">
                {photo.name}, {STATUS[photo.status]}
              </span>
              <span class="dot" aria-hidden="true" title={STATUS[photo.status]} />
            </button>
            <button type="button" class="remove" onClick={() => removePhoto(photo.id)}>
              <Icon name="close" />
              <span class="sr">Take {photo.name} off the list</span>
            </button>
          </li>
        ))}
      </ul>
      <div class="buttons">
        <ChoosePhotos label="Add" quiet />
        {left > 1 && (
          <button
            type="button"
            class="primary"
            disabled={!model.value || run.value !== null || chosen.value.problem !== null}
            onClick={() => void restoreAll()}
          >
            <Icon name="play" />
            Restore all {left}
          </button>
        )}
      </div>
    </div>
  );
}
