// Times: of the last frames, and a measurement for the terminal.

const KEPT = 60;
const WARMUP = 10;
// Fewer where a network is slow: nobody waits for minutes.
const SAMPLES = 60;
const FEWEST = 10;
const LONGEST_MS = 20_000;
// A sample lasts so many steps of the clock at least.
const STEPS = 10;

export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const low = sorted[Math.floor(at)];
  return low + (sorted[Math.ceil(at)] - low) * (at % 1);
}

export class Times {
  values = [];

  add(ms) {
    this.values = [...this.values.slice(1 - KEPT), ms];
  }

  words(share) {
    return this.values.length ? milliseconds(quantile(this.values, share)) : '–';
  }
}

export function milliseconds(ms) {
  return `${ms.toFixed(ms < 10 ? 2 : 1)} ms`;
}

// Returns the smallest step of the clock, in milliseconds.
function clockStep() {
  let least = Infinity;
  for (let each = 0; each < 5; each++) {
    const start = performance.now();
    let now = start;
    while (now === start) {
      now = performance.now();
    }
    least = Math.min(least, now - start);
  }
  return least;
}

// Returns what POST /measurements takes.
export async function measure(network, pixels, device) {
  const clock = clockStep();
  const quick = await together(network, pixels, WARMUP);
  // Where the clock is coarse, several inferences are timed as one.
  const batch = Math.max(1, Math.ceil((STEPS * clock) / Math.max(quick, clock / WARMUP)));
  const samples = Math.max(FEWEST, Math.min(SAMPLES, Math.floor(LONGEST_MS / (quick * batch))));
  const times = [];
  for (let each = 0; each < samples; each++) {
    times.push(await together(network, pixels, batch));
  }
  return {
    sha256: network.file.sha256,
    device,
    browser: (await names()).browser,
    backend: network.way.backend,
    threads: network.way.threads,
    runs: samples * batch,
    median_ms: quantile(times, 0.5),
    p90_ms: quantile(times, 0.9),
    clock_ms: clock,
  };
}

// Returns the milliseconds of one of `count` inferences in a row.
async function together(network, pixels, count) {
  const start = performance.now();
  for (let each = 0; each < count; each++) {
    await network.run(pixels);
  }
  return (performance.now() - start) / count;
}

// Posts; returns the terminal's answer. Throws its complaint.
export async function send(measurement) {
  const headers = {'Content-Type': 'application/json'};
  const body = JSON.stringify(measurement);
  const answer = await fetch('/measurements', {method: 'POST', headers, body});
  if (!answer.headers.get('Content-Type').startsWith('application/json')) {
    throw new Error(await answer.text());
  }
  const said = await answer.json();
  if (!answer.ok) {
    throw new Error(said.error);
  }
  return said;
}

const BROWSERS = [
  ['Edge', /Edg(?:A|iOS)?\/([\d.]+)/],
  ['Samsung Internet', /SamsungBrowser\/([\d.]+)/],
  ['Firefox', /(?:Firefox|FxiOS)\/([\d.]+)/],
  ['Chrome', /(?:Chrome|CriOS)\/([\d.]+)/],
  ['Safari', /Version\/([\d.]+).*Safari/],
];

// Returns {device, browser} as far as the browser tells.
export async function names() {
  const agent = navigator.userAgent;
  const browser = BROWSERS.find(([, pattern]) => pattern.test(agent));
  const name = browser ? `${browser[0]} ${browser[1].exec(agent)[1]}` : 'unknown';
  const said = await navigator.userAgentData?.getHighEntropyValues(['model', 'platform']);
  const system = /iPhone|iPad|Android|Macintosh|Windows|Linux/.exec(agent);
  return {browser: name, device: said?.model || said?.platform || system?.[0] || ''};
}
