/** The model that the engine restores with: the demo's or one's own files, and the LoRA files on it. The device stays when one of these changes, with all that it compiled. */
import { parameters } from '../core/module.ts';
import { sizeOf } from '../core/tensor.ts';
import type { ModelOptions } from '../restore/model-folder.ts';
import { Restorer } from '../restore/restorer.ts';
import type { EngineFiles } from './engine-files.ts';
import type { LoraReport, LoraState, ModelReport, ScheduleChoice, WeightsChoice } from './protocol.ts';

interface GivenLora extends LoraReport {
  path: string;
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
    this.opened ??= await Restorer.load(this.files.host, this.which, this.loras, { schedule: this.schedule });
    return this.opened;
  }

  /** Switches to another model; the one before stays in force when this one cannot be opened. */
  async open(which: 'demo' | 'own', weights: WeightsChoice, progress: (done: number, of: number) => void): Promise<ModelReport> {
    if (which === 'demo') await this.files.fetchDemo(progress);
    await this.change(which, [], { weights: weights === 'files' ? undefined : weights });
    const restorer = await this.restorer();
    const { model } = restorer;
    return {
      config: model.config,
      parameters: [...parameters(model.networks.supir)].reduce((sum, [, { shape }]) => sum + sizeOf(shape), 0),
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
      await (await this.restorer()).addLora({ path, scale });
      this.loras.push({ id, name: file.name, scale, path });
    } catch (error) {
      this.files.loras.delete(path);
      throw error;
    }
    return this.loraState();
  }

  /** Another scale, from the next evaluation of the networks on, also of a restoration that runs. */
  async scaleLora(id: number, scale: number): Promise<null> {
    const index = this.loras.findIndex((lora) => lora.id === id);
    (await this.restorer()).setLoraScale(index, scale);
    this.loras[index] = { ...this.loras[index], scale };
    return null;
  }

  async removeLora(id: number): Promise<LoraState> {
    for (const { path } of this.loras.filter((lora) => lora.id === id)) this.files.loras.delete(path);
    await this.change(
      this.which,
      this.loras.filter((lora) => lora.id !== id),
    );
    return this.loraState();
  }

  private async change(which: 'demo' | 'own', loras: GivenLora[], options?: ModelOptions): Promise<void> {
    if (this.opened) await this.opened.change(which, loras, options);
    else this.opened = await Restorer.load(this.files.host, which, loras, { ...options, schedule: this.schedule });
    [this.which, this.loras] = [which, loras];
  }

  private async loraState(): Promise<LoraState> {
    const { config } = (await this.restorer()).model;
    return { loras: this.loras.map(({ id, name, scale }) => ({ id, name, scale })), config };
  }
}
