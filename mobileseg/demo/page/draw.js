// What is seen: the mask in colours, or the foreground before a blurred or another background.

const OPACITY = 140;
const HALVINGS = 4;

function canvas(width, height) {
  return new OffscreenCanvas(Math.max(1, Math.round(width)), Math.max(1, Math.round(height)));
}

function fill(context, image) {
  context.drawImage(image, 0, 0, context.canvas.width, context.canvas.height);
}

// Returns the mask as a picture: `word(pixel)` is red, green, blue and alpha, the lowest byte first.
function painted({height, width}, word) {
  const image = new ImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  for (let pixel = 0; pixel < words.length; pixel++) {
    words[pixel] = word(pixel);
  }
  const made = canvas(width, height);
  made.getContext('2d').putImageData(image, 0, 0);
  return made;
}

// Blurs by halving and doubling, since Safari's canvas has no filter.
function blurred(source, width, height) {
  let image = source;
  for (const way of [0.5, 2]) {
    for (let each = 0; each < HALVINGS; each++) {
      const size = way < 1 ? each + 1 : HALVINGS - each - 1;
      const next = canvas(width / 2 ** size, height / 2 ** size).getContext('2d');
      next.imageSmoothingQuality = 'high';
      fill(next, image);
      image = next.canvas;
    }
  }
  return image;
}

function cover(context, image) {
  const {width, height} = context.canvas;
  const scale = Math.max(width / image.width, height / image.height);
  const [w, h] = [image.width * scale, image.height * scale];
  context.drawImage(image, (width - w) / 2, (height - h) / 2, w, h);
}

function cutOut(source, mask, width, height) {
  const {foreground} = mask;
  const alpha = painted(mask, (pixel) => foreground[pixel] << 24);
  const made = canvas(width, height).getContext('2d');
  fill(made, source);
  made.globalCompositeOperation = 'destination-in';
  made.imageSmoothingQuality = 'high';
  fill(made, alpha);
  return made.canvas;
}

const VIEWS = {
  plain: () => {},
  mask(context, source, mask, {colours}) {
    const tints = colours.map((colour, number) => (number ? tint(colour) : 0));
    fill(context, painted(mask, (pixel) => tints[mask.classes[pixel]]));
  },
  blur(context, source, mask) {
    const {width, height} = context.canvas;
    const person = cutOut(source, mask, width, height);
    fill(context, blurred(source, width, height));
    fill(context, person);
  },
  replace(context, source, mask, {colour, backdrop}) {
    const {width, height} = context.canvas;
    const person = cutOut(source, mask, width, height);
    context.fillStyle = colour;
    context.fillRect(0, 0, width, height);
    if (backdrop) {
      cover(context, backdrop);
    }
    fill(context, person);
  },
};

function tint(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return red | (green << 8) | (blue << 16) | (OPACITY << 24);
}

// Draws a source of the canvas's own size. how: {view, colours, colour, backdrop}.
export function draw(context, source, mask, how) {
  context.imageSmoothingQuality = 'high';
  fill(context, source);
  VIEWS[how.view](context, source, mask, how);
}
