/** The demo's photos and how each was damaged; demo/photos/SOURCES.md says where they come from. */
import { DEMO } from '../host/demo.ts';
import type { Degradation } from '../image/degrade.ts';

export const PHOTO_FOLDER = `${DEMO}/photos`;

/** In units of image/degrade.ts. JPEG comes last, so that the damaged photo is that very JPEG file. */
export const DEGRADATIONS = {
  noisy: { blur: 0.8, noise: 20, jpeg: 50, seed: 1 },
  small: { blur: 1.2, scale: 2, noise: 12, jpeg: 60, seed: 2 },
} satisfies Record<string, Degradation & { jpeg: number }>;

export interface DemoPhoto {
  /** demo/photos/<name>.png is the original, <name>-<damage>.jpg what is restored. */
  name: string;
  damage: keyof typeof DEGRADATIONS;
}

/** The first is restored unless others are asked for. */
export const DEMO_PHOTOS: DemoPhoto[] = [
  { name: 'astronaut', damage: 'noisy' },
  { name: 'cat', damage: 'noisy' },
  { name: 'dandelion', damage: 'noisy' },
  { name: 'astronaut', damage: 'small' },
];

export const originalPath = ({ name }: DemoPhoto): string => `${PHOTO_FOLDER}/${name}.png`;
export const damagedPath = ({ name, damage }: DemoPhoto): string => `${PHOTO_FOLDER}/${name}-${damage}.jpg`;
