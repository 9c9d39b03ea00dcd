/** Restore: the photo on its way from damaged to restored, the queue, the model, and all settings. */
import { CaptionPanel } from './captions.tsx';
import { ForecastStrip } from './forecast-strip.tsx';
import { LoraPanel } from './lora-panel.tsx';
import { ModelPanel } from './model-panel.tsx';
import { PhotoQueue } from './photo-queue.tsx';
import { PhotoStage } from './photo-stage.tsx';
import { AllSettings, Essentials } from './settings-form.tsx';

export function RestoreView() {
  return (
    <div class="restore">
      <h1 class="sr">Restore photos</h1>
      <section class="work" aria-label="Photo">
        <PhotoStage />
        <PhotoQueue />
      </section>
      <aside class="side" aria-label="Settings">
        <ForecastStrip />
        <Essentials />
        <ModelPanel />
        <LoraPanel />
        <CaptionPanel />
        <AllSettings />
      </aside>
    </div>
  );
}
