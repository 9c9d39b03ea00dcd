/** The model that the engine restores with: the demo's or one's own files, and the LoRA files on it. The device stays when one of these changes, with all that it compiled. */
import { parameters } from '../core/module.ts';
import { sizeOf } from '../core/tensor.ts';
import type { LoraHandle } from '../models/lora-set.ts';
import { METHODS } from '../restore/methods.ts';
import { Restorer } from '../restore/restorer.ts';
import type { Kind, ModelOptions } from '../restore/stage.ts';
import { ADAPTER_CONFIG } from '../weights/lora-alpha.ts';
import type { EngineFiles } from './engine-files.ts';
import type { AdapterChoice, LoraGiven, LoraState, ModelReport, WeightsChoice } from './protocol.ts';

interface GivenLora {
  id: number;
  /** Where its files are, by the names that the library opens them by. */
  folder: string;
  handle: LoraHandle;
}

export class EngineModel {
  readonly files: EngineFiles;
  /** For the device that is opened next. */
  adapter: AdapterChoice = { schedule: 'auto', powerPreference: 'high-performance' };
  private which: 'demo' | 'own' = 'demo';
  private loras: GivenLora[] = [];
  private opened: Restorer<Kind> | null = null;
  private made = 0;

  constructor(files: EngineFiles) {
    this.files = files;
  }

  /** The restorer of the present choice. Throws UserError for files that are no model, DeviceError without an adapter. */
  async restorer(): Promise<Restorer<Kind>> {
    this.opened ??= await Restorer.load(this.files.host, this.which, [], { methods: METHODS, ...this.adapter });
    return this.opened;
  }

  /** Switches to another model; the one before stays in force when this one cannot be opened. */
  async open(which: 'demo' | 'own', weights: WeightsChoice, progress: (done: number, of: number) => void): Promise<ModelReport> {
    if (which === 'demo') await this.files.fetchDemo(progress);
    await this.change(which, { weights: weights === 'files' ? undefined : weights });
    const restorer = await this.restorer();
    const { method, model } = restorer;
    return {
      method: method.name,
      config: model.config,
      parameters: [...parameters(model.networks)].reduce((sum, [, { shape }]) => sum + sizeOf(shape), 0),
      bytes: model.checkpoint.names().reduce((sum, name) => sum + model.checkpoint.info(name).end - model.checkpoint.info(name).begin, 0),
      files: await this.files.host.list(which),
    };
  }

  /** Puts a LoRA on the model; one that does not fit it is refused and changes nothing. */
  async addLora({ file, config }: LoraGiven, scale: number): Promise<LoraState> {
    const id = ++this.made;
    const folder = `lora/${id}`;
    // Beside a configuration PEFT's files have one name, by which the library looks for it; a person may have given the file another.
    const path = `${folder}/${config ? `adapter_model.${/\.safetensors$/i.test(file.name) ? 'safetensors' : 'bin'}` : file.name}`;
    this.files.loras.set(path, file);
    if (config) this.files.loras.set(`${folder}/${ADAPTER_CONFIG}`, config);
    try {
      this.loras.push({ id, folder, handle: await (await this.restorer()).addLora({ path, scale }) });
    } catch (error) {
      this.forget(folder);
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
    for (const { folder, handle } of this.loras.filter((lora) => lora.id === id)) {
      await (await this.restorer()).model.removeLora(handle);
      this.forget(folder);
    }
    this.loras = this.loras.filter((lora) => lora.id !== id);
    return this.loraState();
  }

  private forget(folder: string): void {
    for (const path of [...this.files.loras.keys()]) if (path.startsWith(`${folder}/`)) this.files.loras.delete(path);
  }

  private async change(which: 'demo' | 'own', options: ModelOptions): Promise<void> {
    if (this.opened) await this.opened.change(which, [], options);
    else this.opened = await Restorer.load(this.files.host, which, [], { ...options, methods: METHODS, ...this.adapter });
    [this.which, this.loras] = [which, []];
  }

  private async loraState(): Promise<LoraState> {
    const { config } = (await this.restorer()).model;
    return { loras: this.loras.map(({ id, handle: { name, scale } }) => ({ id, name, scale: Number(scale) })), config };
  }
}
