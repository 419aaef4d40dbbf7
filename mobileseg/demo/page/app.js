// The page: pictures or the camera through the network, what is seen, and what is measured.

import {draw} from '/draw.js';
import {measure, milliseconds, names, send, Times} from '/measure.js';
import {backends, Network} from '/network.js';

const at = (id) => document.getElementById(id);
const stage = at('stage').getContext('2d');
const LARGEST = 1280;
const STILL_FRAMES = 20;
const STILL_MS = 500;
// Numbers that change with every frame cannot be read.
const TOLD_MS = 250;
// More classes than these are listed where they are in the picture.
const FEW = 6;
const CAMERA = {width: {ideal: 640}, height: {ideal: 480}};
const NO_CAMERA = {
  NotAllowedError: 'The camera was refused. Allow it in the browser’s settings for this page, or use pictures.',
  NotFoundError: 'There is no camera here. Use pictures.',
  NotReadableError: 'Another program holds the camera. Close it, or use pictures.',
};

// What is shown; tests look at it as people do at the page.
export const state = {
  facts: null,
  ways: [],
  network: null,
  picture: null,
  pixels: null,
  mask: null,
  stream: null,
  facing: 'user',
  backdrop: null,
  told: 0,
  // A second press changes nothing. (A disabled button would lose the keyboard's focus.)
  starting: false,
  measuring: false,
  networkTimes: new Times(),
  frameTimes: new Times(),
};

// One thing at a time: a runtime is not changed under an inference.
let last = Promise.resolve();
function serially(task) {
  last = last.then(task).catch((error) => say(String(error.message ?? error), true));
  return last;
}

function say(words, trouble = false) {
  at('status').textContent = words;
  at('status').classList.toggle('trouble', trouble);
}

function chosen() {
  return document.querySelector('input[name="view"]:checked').value;
}

function show(source, width, height) {
  if (at('stage').width !== width || at('stage').height !== height) {
    at('stage').width = width;
    at('stage').height = height;
  }
  const colours = state.facts.classes.map((each) => each.colour);
  draw(stage, source, state.mask, {view: chosen(), colours, colour: at('colour').value, backdrop: state.backdrop});
}

function showTimes() {
  at('median').textContent = state.networkTimes.words(0.5);
  at('p90').textContent = state.networkTimes.words(0.9);
  at('frame').textContent = state.frameTimes.words(0.5);
  at('frame90').textContent = state.frameTimes.words(0.9);
}

function showClasses() {
  const {classes} = state.mask;
  const counts = new Array(state.facts.classes.length).fill(0);
  for (const each of classes) {
    counts[each]++;
  }
  counts.forEach((count, number) => {
    const row = at('classes').children[number];
    row.lastChild.textContent = `${((100 * count) / classes.length).toFixed(1)} %`;
    row.hidden = counts.length > FEW && !count;
  });
}

function forgetTimes() {
  state.networkTimes = new Times();
  state.frameTimes = new Times();
}

// Scales, runs the network and shows the result; keeps pixels, mask and times.
async function frame(pixels, source, width, height) {
  const start = performance.now();
  state.pixels = pixels();
  const {values, ms} = await state.network.run(state.pixels);
  state.mask = state.network.read(values);
  show(source, width, height);
  state.networkTimes.add(ms);
  state.frameTimes.add(performance.now() - start);
}

async function showPicture() {
  if (!state.network) {
    return;
  }
  const {bitmap, name} = state.picture;
  const once = () => frame(() => state.network.pixelsOfPicture(bitmap), bitmap, bitmap.width, bitmap.height);
  await once();
  // The first time, memory is laid out and code compiled; those after it say how long one takes.
  forgetTimes();
  const end = performance.now() + STILL_MS;
  do {
    await once();
  } while (state.frameTimes.values.length < STILL_FRAMES && performance.now() < end);
  showTimes();
  showClasses();
  const found = state.mask.classes.some((each) => each > 0);
  at('stage').setAttribute('aria-label', found ? `${name}, with its mask` : `${name}: nothing found`);
  say(found ? name : `${name}: nothing found`);
}

// Draws anew what is shown, after another view was chosen.
function redraw() {
  if (state.picture && state.mask) {
    serially(() => show(state.picture.bitmap, state.picture.bitmap.width, state.picture.bitmap.height));
  }
}

async function decoded(blob) {
  // Upright as its EXIF says, in its own numbers: profiles would shift colours.
  const bitmap = await createImageBitmap(blob, {colorSpaceConversion: 'none'});
  const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  if (scale === 1) {
    return bitmap;
  }
  const [resizeWidth, resizeHeight] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  return createImageBitmap(bitmap, {resizeWidth, resizeHeight, resizeQuality: 'high'});
}

function addPicture(name, url, blob) {
  const button = document.createElement('button');
  button.type = 'button';
  button.setAttribute('aria-pressed', 'false');
  const image = document.createElement('img');
  image.src = url;
  image.alt = name;
  // Endings promise much; what cannot be seen is not offered.
  image.addEventListener('error', () => {
    button.remove();
    say(`${name} is no picture that this browser reads`, true);
  });
  button.append(image);
  button.addEventListener('click', () => choosePicture(button, name, blob));
  return button;
}

function choosePicture(button, name, blob) {
  stopCamera();
  return serially(async () => {
    for (const each of at('strip').children) {
      each.setAttribute('aria-pressed', String(each === button));
    }
    const before = state.picture;
    state.picture = {name, bitmap: await decoded(await blob())};
    before?.bitmap.close();
    at('stage').classList.remove('mirrored');
    await showPicture();
  });
}

function addPictures(files) {
  const buttons = [...files].map((file) => addPicture(file.name, URL.createObjectURL(file), async () => file));
  at('strip').prepend(...buttons);
  buttons[0]?.click();
}

async function startCamera() {
  if (state.starting) {
    return;
  }
  state.starting = true;
  try {
    const video = {...CAMERA, facingMode: state.facing};
    const stream = await navigator.mediaDevices.getUserMedia({video, audio: false});
    at('video').srcObject = stream;
    await at('video').play();
    await showCamera(stream);
  } catch (error) {
    say(NO_CAMERA[error.name] ?? `The camera does not start (${error.message}). Use pictures.`, true);
  } finally {
    state.starting = false;
  }
}

async function showCamera(stream) {
  state.stream = stream;
  state.picture = null;
  forgetTimes();
  at('camera').setAttribute('aria-pressed', 'true');
  at('camera').textContent = 'Stop camera';
  at('stage').classList.toggle('mirrored', state.facing === 'user');
  at('stage').setAttribute('aria-label', 'The camera, with its mask');
  for (const each of at('strip').children) {
    each.setAttribute('aria-pressed', 'false');
  }
  say('The camera’s pictures stay in this browser.');
  nextFrame(stream);
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((each) => each.kind === 'videoinput');
  at('turn').hidden = !state.stream || cameras.length < 2;
}

function stopCamera() {
  if (!state.stream) {
    return;
  }
  const video = at('video');
  if (video.videoWidth) {
    const kept = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    kept.getContext('2d').drawImage(video, 0, 0);
    state.picture = {name: 'The camera’s last picture', bitmap: kept.transferToImageBitmap()};
  }
  state.stream.getTracks().forEach((track) => track.stop());
  state.stream = null;
  at('camera').setAttribute('aria-pressed', 'false');
  at('camera').textContent = 'Camera';
  at('turn').hidden = true;
}

// Shows one frame after the other, as long as this stream is the one that runs.
function nextFrame(stream) {
  requestAnimationFrame(() => serially(async () => {
    if (state.stream !== stream) {
      return;
    }
    const video = at('video');
    if (video.readyState >= 2 && state.network) {
      await frame(() => state.network.pixelsOfFrame(video), video, video.videoWidth, video.videoHeight);
      if (performance.now() - state.told > TOLD_MS) {
        state.told = performance.now();
        showTimes();
        showClasses();
      }
    }
    nextFrame(stream);
  }));
}

// Loads the chosen file on the chosen backend; shows what was shown before.
async function loadNetwork() {
  const file = state.facts.files[at('file').selectedIndex];
  const way = state.ways[at('backend').selectedIndex];
  const name = `${file.name} on ${way.name}`;
  say(`Loading ${name}…`);
  state.network?.delete();
  state.network = state.mask = state.pixels = null;
  forgetTimes();
  try {
    state.network = await Network.load(file, way);
  } catch (error) {
    at('send').disabled = true;
    throw new Error(`${name}: ${error.message ?? error}. Choose another one.`);
  }
  at('send').disabled = false;
  showAbout(file);
  if (state.picture) {
    await showPicture();
  } else {
    say(name);
  }
}

function showAbout(file) {
  const [height, width] = file.size;
  const threads = self.crossOriginIsolated ? 'yes' : 'no: the page is not isolated, which takes https or this machine itself';
  const facts = {
    File: `${file.name}, ${Math.round(file.bytes / 1000)} KB`,
    'SHA-256': file.sha256,
    Takes: `${file.input}, ${height} × ${width}`,
    Gives: file.output.means,
    Runtime: `${state.facts.runtime}; on the processor by XNNPACK`,
    Frame: 'scaling, network, mask and drawing',
    'Threads possible': threads,
  };
  at('about').replaceChildren(...Object.entries(facts).map(([key, value]) => {
    const row = document.createElement('div');
    row.append(element('dt', key), element('dd', value));
    return row;
  }));
}

function element(kind, words) {
  const made = document.createElement(kind);
  made.textContent = words;
  return made;
}

async function sendMeasurement(event) {
  event.preventDefault();
  if (state.measuring) {
    return;
  }
  state.measuring = true;
  at('sent').textContent = 'Measuring…';
  await serially(async () => {
    try {
      if (!state.pixels) {
        throw new Error('show a picture first');
      }
      const measured = await measure(state.network, state.pixels, at('device').value || 'unknown');
      const {median_ms, p90_ms} = await send(measured);
      at('sent').textContent = `Sent: ${milliseconds(median_ms)}, p90 ${milliseconds(p90_ms)}. The terminal shows it too.`;
    } catch (error) {
      at('sent').textContent = `Not sent: ${error.message}`;
    }
  });
  state.measuring = false;
}

function listen() {
  at('file').addEventListener('change', () => serially(loadNetwork));
  at('backend').addEventListener('change', () => serially(loadNetwork));
  at('camera').addEventListener('click', () => (state.stream ? stopCamera() : startCamera()));
  at('turn').addEventListener('click', () => {
    stopCamera();
    state.facing = state.facing === 'user' ? 'environment' : 'user';
    startCamera();
  });
  at('pictures').addEventListener('change', (event) => {
    addPictures(event.target.files);
    event.target.value = '';
  });
  at('backdrop').addEventListener('change', (event) => serially(async () => {
    state.backdrop = await decoded(event.target.files[0]);
    event.target.value = '';
    redraw();
  }));
  at('colour').addEventListener('input', () => {
    state.backdrop = null;
    redraw();
  });
  for (const each of document.querySelectorAll('input[name="view"]')) {
    each.addEventListener('change', () => {
      at('background').hidden = chosen() !== 'replace';
      redraw();
    });
  }
  at('measure').addEventListener('submit', sendMeasurement);
}

async function start() {
  // The token is void by now; it need not stay in the address.
  history.replaceState(null, '', '/');
  const answer = await fetch('/facts.json');
  if (!answer.ok) {
    throw new Error(await answer.text());
  }
  state.facts = await answer.json();
  const {run, files, classes, samples} = state.facts;
  at('run').textContent = run;
  document.title = `${run}, mobileseg demo`;
  at('file').append(...files.map(({name}) => element('option', name)));
  state.ways = await backends();
  at('backend').append(...state.ways.map(({name}) => element('option', name)));
  at('classes').append(...classes.map(({name, colour}, number) => {
    const row = document.createElement('li');
    const swatch = document.createElement('i');
    swatch.style.background = number ? colour : 'none';
    row.append(swatch, element('span', name), element('b', ''));
    return row;
  }));
  at('strip').append(...samples.map(({name, url}) => addPicture(name, url, async () => (await fetch(url)).blob())));
  at('device').value = (await names()).device;
  if (!navigator.mediaDevices) {
    at('camera').disabled = true;
    at('nocamera').hidden = false;
    at('nocamera').textContent = 'Browsers give the camera to https pages alone, and this one is http. Pictures work: your own, or a photo taken with “Your pictures”.';
  }
  listen();
  await loadNetwork();
  at('strip').firstChild.click();
}

serially(start);
