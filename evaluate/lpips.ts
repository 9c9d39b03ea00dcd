/** LPIPS between pictures, from weights that the user supplies. The network is models/lpips.ts. */

import { UserError } from '../core/errors.ts';
import { input, sameShape } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { compile, type Program } from '../gpu/program.ts';
import { type Image, toUnit } from '../image/image.ts';
import { Lpips, type LpipsBackbone } from '../models/lpips.ts';
import { attach, expectedKeys } from '../weights/attach.ts';
import type { Checkpoint } from '../weights/checkpoint.ts';

/** Plans again for each size; `close` frees all. */
export class LpipsMetric {
  readonly device: Device;
  private readonly network: Lpips;
  private program: { size: string; made: Program<'distance'> } | null = null;

  private constructor(device: Device, network: Lpips) {
    this.device = device;
    this.network = network;
  }

  /** From torchvision's backbone and the heads, in any order or in one file. Throws UserError naming what is missing. */
  static of(device: Device, checkpoint: Checkpoint): LpipsMetric {
    const backbone: LpipsBackbone = checkpoint.has('features.28.weight') ? 'vgg16' : 'alexnet';
    const network = new Lpips(backbone);
    for (const [name, shape] of expectedKeys(network)) {
      const what = name.startsWith('lin') ? `the LPIPS heads for ${backbone}` : `torchvision's ${backbone}`;
      if (!checkpoint.has(name)) throw new UserError(`${checkpoint.name}: there is no tensor ${name}. Give ${what} too.`);
      if (!sameShape(checkpoint.info(name).shape, shape))
        throw new UserError(
          `${checkpoint.name}: ${name} is [${checkpoint.info(name).shape}] and should be [${shape}]. Do backbone and heads belong together?`,
        );
    }
    attach(network, '', checkpoint, { dtype: 'f32' });
    return new LpipsMetric(device, network);
  }

  /** 0 for equal images, about 1 for unrelated ones. Throws ShapeError where sizes differ or a side is below 32 pixels. */
  async distance(a: Image, b: Image): Promise<number> {
    const shape = [1, a.height, a.width, 3];
    if (this.program?.size !== String(shape)) {
      this.program?.made.dispose();
      this.program = null;
      const distance = this.network.forward(input('a', shape), input('b', shape));
      this.program = { size: String(shape), made: await compile(this.device, { distance }) };
    }
    const results = await this.program.made.run({ a: toUnit(a).data, b: toUnit(b).data });
    return results.distance[0];
  }

  close(): void {
    this.program?.made.dispose();
    this.program = null;
    this.device.residency.releaseAll(this.network);
  }
}
