/** The model that the engine restores with: the demo's or one's own files, and the LoRA files on it. The device stays when one of these changes, with all that it compiled. */
import { parameters } from '../core/module.ts';
import { sizeOf } from '../core/tensor.ts';
import type { LoraHandle } from '../models/lora-set.ts';
import { Restorer } from '../restore/restorer.ts';
import type { ModelOptions } from '../restore/stage.ts';
import type { EngineFiles } from './engine-files.ts';
import type { LoraState, ModelReport, ScheduleChoice, WeightsChoice } from './protocol.ts';

interface GivenLora {
  id: number;
  path: string;
  handle: LoraHandle;
}

export class EngineModel {
  readonly files: EngineFiles;
  /** For the device that is opened next. */
  schedule: ScheduleChoice = 'auto';
  private which: 'demo' | 'own' = 'demo';
  private loras: GivenLora[] = [];
  private opened: Restorer | null = null;
  private made = 0;

  constructor(files: EngineFiles) {
    this.files = files;
  }

  /** The restorer of the present choice. Throws UserError for files that are no model, DeviceError without an adapter. */
  async restorer(): Promise<Restorer> {
    this.opened ??= await Restorer.load(this.files.host, this.which, [], { schedule: this.schedule });
    return this.opened;
  }

  /** Switches to another model; the one before stays in force when this one cannot be opened. */
  async open(which: 'demo' | 'own', weights: WeightsChoice, progress: (done: number, of: number) => void): Promise<ModelReport> {
    if (which === 'demo') await this.files.fetchDemo(progress);
    await this.change(which, { weights: weights === 'files' ? undefined : weights });
    const restorer = await this.restorer();
    const { model } = restorer;
    return {
      config: model.config,
      parameters: [...parameters(model.networks)].reduce((sum, [, { shape }]) => sum + sizeOf(shape), 0),
      bytes: model.checkpoint.names().reduce((sum, name) => sum + model.checkpoint.info(name).end - model.checkpoint.info(name).begin, 0),
      files: await this.files.host.list(which),
    };
  }

  /** Puts a LoRA on the model; one that does not fit it is refused and changes nothing. */
  async addLora(file: File, scale: number): Promise<LoraState> {
    const id = ++this.made;
    const path = `lora/${id}/${file.name}`;
    this.files.loras.set(path, file);
    try {
      this.loras.push({ id, path, handle: await (await this.restorer()).addLora({ path, scale }) });
    } catch (error) {
      this.files.loras.delete(path);
      throw error;
    }
    return this.loraState();
  }

  /** Another scale, from the next evaluation of the networks on, also of a restoration that runs. */
  async scaleLora(id: number, scale: number): Promise<null> {
    for (const { handle } of this.loras.filter((lora) => lora.id === id)) handle.scale = scale;
    return null;
  }

  async removeLora(id: number): Promise<LoraState> {
    for (const { path, handle } of this.loras.filter((lora) => lora.id === id)) {
      await (await this.restorer()).model.removeLora(handle);
      this.files.loras.delete(path);
    }
    this.loras = this.loras.filter((lora) => lora.id !== id);
    return this.loraState();
  }

  private async change(which: 'demo' | 'own', options: ModelOptions): Promise<void> {
    if (this.opened) await this.opened.change(which, [], options);
    else this.opened = await Restorer.load(this.files.host, which, [], { ...options, schedule: this.schedule });
    [this.which, this.loras] = [which, []];
  }

  private async loraState(): Promise<LoraState> {
    const { config } = (await this.restorer()).model;
    return { loras: this.loras.map(({ id, handle: { name, scale } }) => ({ id, name, scale: Number(scale) })), config };
  }
}
