/**
 * SDXL, text to image: the same text towers, UNet and autoencoder as SUPIR's, without its control network, from a single file of SDXL's structure.
 * Here it is the demo model's, which by itself, without the control network, paints colours and no things.
 * Run it with: npx tsx examples/text-to-image.ts [folder for the result, default out/examples]
 */
import { argv } from 'node:process';
import { encodePng } from 'supir-webgpu';
import { DEMO } from 'supir-webgpu/demo';
import * as fw from 'supir-webgpu/framework';
import { host } from 'supir-webgpu/host/node';

const SIZE = 128;

/** The structure of SDXL's file: each weight's key is its path here. */
class Sdxl extends fw.Module {
  model: { diffusion_model: fw.Unet };
  first_stage_model: fw.Vae;
  conditioner: fw.Conditioner;

  constructor(config: fw.SupirConfig) {
    super();
    this.model = { diffusion_model: new fw.Unet(config.unet) };
    this.first_stage_model = new fw.Vae(config.vae);
    this.conditioner = new fw.Conditioner(config.text);
  }
}

const json = async (name: string) => JSON.parse(new TextDecoder().decode(await host.readFile(`${DEMO}/${name}`)));
const config = fw.parseConfig(await json('config.json'), 'config.json'); // for the published SDXL it is SUPIR_SDXL
const tokenizer = new fw.ClipTokenizer(await json('tokenizer.json'));
const sdxl = new Sdxl(config);
const checkpoint = new fw.Checkpoint([await fw.openTensorFile(await host.fileSource(`${DEMO}/sdxl.safetensors`))]);
fw.attach(sdxl, '', checkpoint);
const device = await fw.openDevice({ gpu: await host.gpu(), settle: host.settle });

/** What the UNet is conditioned on. */
async function condition(text: string) {
  const length = config.text.context_length;
  const tower1 = [...tokenizer.encodePadded(text, { length, pad: 'eot' })];
  const tower2 = [...tokenizer.encodePadded(text, { length, pad: 'zero' })];
  const program = await fw.compile(device, sdxl.conditioner.forward());
  const result = await program.run(await sdxl.conditioner.inputs({ tower1, tower2 }, [SIZE, SIZE, 0, 0, SIZE, SIZE]));
  program.dispose();
  return result;
}

const { unet, vae, text } = config;
const z = unet.in_channels;
const side = SIZE / 2 ** (vae.ch_mult.length - 1);
const [positive, negative] = [await condition('a lake at dusk'), await condition('')];
const x = fw.input('x', [1, side, side, z]);
const timestep = fw.input('timestep', [1, unet.model_channels]);
const context = fw.input('context', [1, text.context_length, unet.context_dim]);
const vector = fw.input('vector', [1, unet.adm_in_channels]);
const denoiser = await fw.compile(device, { eps: sdxl.model.diffusion_model.predict(x, timestep, context, vector) });
const random = new fw.TorchRandom(7);

const network: fw.Network = async (given) => {
  const shared = { x: given.x, timestep: fw.timestepEmbedding([given.timestep], unet.model_channels) };
  return {
    negative: (await denoiser.run({ ...shared, ...negative })).eps,
    positive: (await denoiser.run({ ...shared, ...positive })).eps,
  };
};
const latent = await fw.sampleEdm(network, new fw.NoiseSchedule(), {
  steps: 10,
  cfg: 3,
  noise: () => random.randn(side * side * z),
  onStep: ({ step, steps }) => console.log(step, 'of', steps),
});
denoiser.dispose();

const unscaled = fw.affine(fw.input('latent', [1, side, side, z]), 1 / vae.scale_factor, 0);
const pixels = await fw.evaluate(device, sdxl.first_stage_model.decode(unscaled), { latent });
const data = Uint8Array.from(pixels, (value) => Math.round(Math.min(1, Math.max(0, (value + 1) / 2)) * 255));
const file = `${argv[2] ?? 'out/examples'}/text-to-image.png`;
await host.writeFileAtomic(file, encodePng({ width: SIZE, height: SIZE, data }));
console.log(`wrote ${file}`);
device.close();
await checkpoint.close();
