// The file in LiteRT.js: what runs it, pixels in, classes and foreground out.

import {loadAndCompile, loadLiteRt, Tensor, supportsFeature, unloadLiteRt} from '@litertjs/core';
import {resized} from '/resize.js';

const RUNTIME = '/runtime/@litertjs/core/wasm/';
const MOST_THREADS = 8;

// What a picture's bytes become, by the type that the file takes; see `mobileseg export`.
const ENTER = {
  uint8: (rgb) => Uint8Array.from(rgb),
  float32: (rgb) => Float32Array.from(rgb, (pixel) => (pixel - 128) / 128),
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
  if (await navigator.gpu?.requestAdapter()) {
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
    const [height, width] = shape.slice(1);
    const count = shape[3] ?? 1;
    const classes = new Uint8Array(height * width);
    const foreground = new Uint8ClampedArray(height * width);
    for (let pixel = 0; pixel < classes.length; pixel++) {
      const at = pixel * count;
      if (means === 'classes') {
        classes[pixel] = values[pixel];
        foreground[pixel] = values[pixel] ? 255 : 0;
        continue;
      }
      let best = 0;
      for (let each = 1; each < count; each++) {
        if (values[at + each] > values[at + best]) {
          best = each;
        }
      }
      classes[pixel] = best;
      foreground[pixel] = 255 * opaque(1 - background(values, at, count, means, scale));
    }
    return {height, width, classes, foreground};
  }

  delete() {
    this.model.delete();
  }
}

// Returns how much of the foreground is seen: an unsure background would shine through as a ghost.
function opaque(probability) {
  return Math.min(1, Math.max(0, (probability - 0.25) / 0.5));
}

// Returns the probability of class 0. Logits' zero point drops out of their differences.
function background(values, at, count, means, scale) {
  if (means === 'probabilities') {
    let sum = 0;
    for (let each = 0; each < count; each++) {
      sum += values[at + each];
    }
    return sum ? values[at] / sum : 0;
  }
  let sum = 0;
  for (let each = 0; each < count; each++) {
    sum += Math.exp((values[at + each] - values[at]) * scale);
  }
  return 1 / sum;
}
