// Shrinks a picture as training and `mobileseg predict` do, to the bit: bilinear with averaging, in
// two passes of fixed-point weights. Browsers' own scaling differs between browsers.
// Source: Pillow's Image.resize with Resampling.BILINEAR (src/libImaging/Resample.c, 8 bits).

const BITS = 22;

function weights(from, to) {
  const scale = from / to;
  const reach = Math.max(scale, 1);
  return Array.from({length: to}, (_, index) => {
    const centre = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(from, Math.trunc(centre + reach + 0.5));
    const raw = [];
    for (let at = first; at < last; at++) {
      raw.push(Math.max(0, 1 - Math.abs((at - centre + 0.5) / reach)));
    }
    const sum = raw.reduce((a, b) => a + b, 0);
    return {first, fixed: Int32Array.from(raw, (w) => Math.floor(0.5 + (w / sum) * 2 ** BITS))};
  });
}

// Resizes along one axis: `lines` of them, `step` between their pixels, `pitch` between lines.
function pass(source, target, table, lines, step, pitch, targetStep, targetPitch) {
  for (let line = 0; line < lines; line++) {
    for (let index = 0; index < table.length; index++) {
      const {first, fixed} = table[index];
      for (let channel = 0; channel < 3; channel++) {
        let sum = 2 ** (BITS - 1);
        let at = line * pitch + first * step + channel;
        for (let tap = 0; tap < fixed.length; tap++, at += step) {
          sum += source[at] * fixed[tap];
        }
        target[line * targetPitch + index * targetStep + channel] = sum >> BITS;
      }
    }
  }
}

// Returns RGB bytes, height x width x 3, of an ImageData.
export function resized(image, height, width) {
  const across = new Uint8ClampedArray(image.height * width * 3);
  const columns = weights(image.width, width);
  pass(image.data, across, columns, image.height, 4, image.width * 4, 3, width * 3);
  if (image.height === height) {
    return across;
  }
  const done = new Uint8ClampedArray(height * width * 3);
  pass(across, done, weights(image.height, height), width, width * 3, 3, width * 3, 3);
  return done;
}
