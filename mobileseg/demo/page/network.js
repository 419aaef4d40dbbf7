// The file in LiteRT.js: what runs it, pixels in, classes and foreground out.

import {loadAndCompile, loadLiteRt, Tensor, supportsFeature, unloadLiteRt} from '@litertjs/core';
import {resized} from '/resize.js';

const RUNTIME = '/runtime/@litertjs/core/wasm/';
const MOST_THREADS = 8;

// What a picture's bytes become, by the type that the file takes; see `mobileseg export`.
const ENTER = {
  uint8: (rgb) => new Uint8Array(rgb),
  float32(rgb) {
    const made = new Float32Array(rgb.length);
    for (let at = 0; at < rgb.length; at++) {
      made[at] = (rgb[at] - 128) / 128;
    }
    return made;
  },
};

// Returns what can run a file here: {key, name, backend, threads}.
export async function backends() {
  const found = [{key: 'wasm-1', name: 'Processor (wasm), 1 thread', backend: 'wasm', threads: 1}];
  const cores = Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS);
  const able = self.crossOriginIsolated && (await supportsFeature('relaxedSimd'));
  if (able && (await supportsFeature('threads'))) {
    for (let threads = 2; threads <= cores; threads *= 2) {
      found.push({key: `wasm-${threads}`, name: `Processor (wasm), ${threads} threads`, backend: 'wasm', threads});
    }
  }
  if (await navigator.gpu?.requestAdapter().catch(() => null)) {
    found.push({key: 'webgpu', name: 'Graphics (WebGPU)', backend: 'webgpu', threads: null});
  }
  return found;
}

export class Network {
  // file: an entry of facts.files; way: one of backends(). Throws what LiteRT.js throws, and where
  // a file would quietly run elsewhere than was asked.
  static async load(file, way) {
    unloadLiteRt();
    const gpu = way.backend === 'webgpu';
    const jspi = gpu && (await supportsFeature('jspi'));
    await loadLiteRt(RUNTIME, {threads: way.threads > 1, jspi});
    const options = gpu ? {accelerator: 'webgpu'} : {accelerator: 'wasm', cpuOptions: {numThreads: way.threads}};
    const model = await loadAndCompile(file.url, options);
    if (gpu && !(model.options.accelerator === 'webgpu' && model.isFullyAccelerated)) {
      throw new Error('WebGPU does not take all of this file’s operators');
    }
    return new Network(file, way, model);
  }

  constructor(file, way, model) {
    [this.height, this.width] = file.size;
    this.file = file;
    this.way = way;
    this.model = model;
    this.small = new OffscreenCanvas(this.width, this.height).getContext('2d', {willReadFrequently: true});
  }

  // A still picture, as `mobileseg predict` takes it.
  pixelsOfPicture(bitmap) {
    const whole = new OffscreenCanvas(bitmap.width, bitmap.height).getContext('2d', {willReadFrequently: true});
    whole.drawImage(bitmap, 0, 0);
    const image = whole.getImageData(0, 0, bitmap.width, bitmap.height);
    return this.enter(resized(image, this.height, this.width));
  }

  // A camera's frame, shrunk by the browser: quicker, and a little different.
  pixelsOfFrame(video) {
    this.small.imageSmoothingQuality = 'medium';
    this.small.drawImage(video, 0, 0, this.width, this.height);
    const {data} = this.small.getImageData(0, 0, this.width, this.height);
    const rgb = new Uint8Array(this.width * this.height * 3);
    for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
      rgb[to] = data[from];
      rgb[to + 1] = data[from + 1];
      rgb[to + 2] = data[from + 2];
    }
    return this.enter(rgb);
  }

  enter(rgb) {
    return ENTER[this.file.input](rgb);
  }

  // Returns the raw output of pixels, and the milliseconds that it took with both copies.
  async run(pixels) {
    const start = performance.now();
    const given = new Tensor(pixels, [1, this.height, this.width, 3]);
    const [made] = await this.model.run(given);
    const values = await made.data();
    const ms = performance.now() - start;
    given.delete();
    made.delete();
    return {values, ms};
  }

  // Returns {height, width, classes: a number per pixel, foreground: 0 to 255 per pixel}.
  read(values) {
    const {shape, means, scale} = this.file.output;
    const [, height, width, count] = shape;
    const classes = means === 'classes' ? Uint8Array.from(values) : largest(values, height * width, count);
    let foreground = null;
    return {
      height,
      width,
      classes,
      // Asked for only by the views that cut out.
      get foreground() {
        foreground ??= means === 'classes' ? classes.map((each) => (each ? 255 : 0)) : opacity(values, classes.length, count, means, scale);
        return foreground;
      },
    };
  }

  delete() {
    this.model.delete();
  }
}

function largest(values, pixels, count) {
  const classes = new Uint8Array(pixels);
  for (let pixel = 0, at = 0; pixel < pixels; pixel++, at += count) {
    let best = 0;
    for (let each = 1; each < count; each++) {
      if (values[at + each] > values[at + best]) {
        best = each;
      }
    }
    classes[pixel] = best;
  }
  return classes;
}

// Returns how much of each pixel is seen: where the network is unsure of the background, it would
// shine through as a ghost.
function opacity(values, pixels, count, means, scale) {
  const share = means === 'probabilities' ? shareOfFirst : softmaxOfFirst;
  const made = new Uint8ClampedArray(pixels);
  for (let pixel = 0; pixel < pixels; pixel++) {
    made[pixel] = (255 * (0.75 - share(values, pixel * count, count, scale))) / 0.5;
  }
  return made;
}

function shareOfFirst(values, at, count) {
  let sum = 0;
  for (let each = 0; each < count; each++) {
    sum += values[at + each];
  }
  return sum ? values[at] / sum : 0;
}

// The zero point drops out of logits' differences.
function softmaxOfFirst(values, at, count, scale) {
  let sum = 0;
  for (let each = 0; each < count; each++) {
    sum += Math.exp((values[at + each] - values[at]) * scale);
  }
  return 1 / sum;
}
