/** Zoom and position that several panes share, so that they move in lock-step. Positions are in panes' widths and heights. */
import { computed, signal } from '@preact/signals';

const MOST = 32;

export class Zoom {
  readonly scale = signal(1);
  /** Pixels of the screen that one of the picture takes where it is shown whole; 0 until a pane has told. */
  readonly fitted = signal(0);
  /** Where the picture's top left corner lies in the pane. */
  readonly x = signal(0);
  readonly y = signal(0);
  readonly transform = computed(() => `translate(${100 * this.x.value}%, ${100 * this.y.value}%) scale(${this.scale.value})`);

  /** Scales by a factor around a point of the pane. */
  zoom(factor: number, px = 0.5, py = 0.5): void {
    const scale = Math.min(MOST, Math.max(1, this.scale.value * factor));
    const change = scale / this.scale.value;
    this.x.value = px - (px - this.x.value) * change;
    this.y.value = py - (py - this.y.value) * change;
    this.scale.value = scale;
    this.pan(0, 0);
  }

  /** Moves, as far as the picture still fills the pane. */
  pan(dx: number, dy: number): void {
    const least = 1 - this.scale.value;
    this.x.value = Math.min(0, Math.max(least, this.x.value + dx));
    this.y.value = Math.min(0, Math.max(least, this.y.value + dy));
  }

  /** One pixel of the picture on one of the screen, where the whole picture is smaller than that. */
  actual(): void {
    if (this.fitted.value > 0) this.zoom(1 / (this.fitted.value * this.scale.value));
  }

  reset(): void {
    [this.scale.value, this.x.value, this.y.value] = [1, 0, 0];
  }
}
