/**
 * The page that denoises in the reader's browser: its controls, and what they set going.
 */
"use strict";

(() => {
  const root = document.getElementById("emdn-live");
  if (!root) return;
  const find = (name) => root.querySelector(`[data-live="${name}"]`);
  const say = (text) => (find("status").textContent = text);

  if (location.protocol === "file:") {
    say(
      "A browser lets no page from a disk start a network. Run `make serve` in the folder " +
        "of the book, and open http://localhost:8000/live.html.",
    );
    find("controls").hidden = true;
    return;
  }

  const SCALES = [5, 10, 25, 50, 100, 250, 500, 1000, 2500]; // counts at the brightest
  const WIDEST = 2048; // pixels a side: what a browser's memory takes without trouble

  const worker = new Worker("live/worker.js");
  let truth = null; // the shipped micrograph, in [0, 1]
  let own = null; // {image, dark, name} of a file of the reader's
  let working = false;
  let again = false;
  let waiting = null; // what to do with the answer of the worker

  worker.onmessage = ({ data }) => {
    if (data.loading !== undefined) {
      say(`The network arrives: ${Math.round(100 * data.loading)} %`);
      find("progress").value = data.loading;
    } else if (data.tiles) {
      find("progress").value = data.tiles[0] / data.tiles[1];
      say(`Tile ${data.tiles[0]} of ${data.tiles[1]}`);
    } else if (data.denoised) {
      waiting.resolve(data.denoised);
    } else if (data.error) {
      if (waiting) waiting.reject(new Error(data.error));
      else say(`This browser cannot run the network: ${data.error}`);
    }
  };
  worker.onerror = () => say("This browser cannot run the network: it refused the worker.");

  /** Denoise values in [0, 1], of which 1 stands for `counts` electrons. */
  function denoise({ pixels, height, width }, counts) {
    return new Promise((resolve, reject) => {
      waiting = { resolve, reject };
      worker.postMessage({ image: pixels, height, width, counts });
    }).finally(() => (waiting = null));
  }

  const scaleOf = () => SCALES[Number(find("dose").value)];

  /** Show the slider's value, for eyes and for screen readers. */
  function showScale() {
    const text = `${scaleOf()} counts at the brightest pixel`;
    find("readout").textContent = text;
    find("dose").setAttribute("aria-valuetext", text);
  }

  /** Return the noisy image, black and span of its greys, and counts that 1 stands for. */
  function exposed() {
    if (!own) {
      const scale = scaleOf();
      return { noisy: addShotNoise(truth, scale), dark: 0, span: scale, counts: scale };
    }
    const [, high] = rangeOf(own.image.pixels);
    return { noisy: own.image, dark: own.dark, span: high - own.dark, counts: scaleOf() };
  }

  /** Denoise what is chosen, and draw it; once more if the choice has changed meanwhile. */
  async function update() {
    showScale();
    if (working) {
      again = true;
      return;
    }
    working = true;
    const started = performance.now();
    try {
      const { noisy, dark, span, counts } = exposed();
      const { height, width } = noisy;
      const levels = greyLevels(noisy.pixels);
      drawImage(find("before"), noisy, ...levels);
      const scaled = noisy.pixels.map((value) => (value - dark) / span);
      const network = await denoise({ pixels: scaled, height, width }, counts);
      const denoised = network.map((value) => dark + value * span);
      const removed = noisy.pixels.map((value, i) => value - denoised[i]);
      const [low, high] = own ? greyLevels(denoised) : [0, span];
      drawImage(find("before"), noisy, low, high);
      drawImage(find("after"), { pixels: denoised, height, width }, low, high);
      const reach = Math.max(...greyLevels(removed).map(Math.abs));
      drawImage(find("removed"), { pixels: removed, height, width }, -reach, reach);
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      say(`${verdict(scaled, network)} ${height} x ${width} pixels in ${seconds} s.`);
      root.dataset.done = String(Number(root.dataset.done || 0) + 1);
    } catch (error) {
      say(error.message);
    }
    working = false;
    if (again) {
      again = false;
      update();
    }
  }

  /** Say how much nearer to the truth the image is, where the truth is known. */
  function verdict(noisy, denoised) {
    if (own) return `${own.name}: look for structure in what was removed.`;
    const [before, after] = [noisy, denoised].map((each) => psnr(each, truth.pixels));
    return `PSNR ${before.toFixed(1)} dB before, ${after.toFixed(1)} dB after.`;
  }

  /** Take a file of the reader's: it is read here, and goes nowhere. */
  async function open(file) {
    try {
      const image = await readImage(file);
      if (Math.max(image.height, image.width) > WIDEST || Math.min(image.height, image.width) < 16) {
        const size = `${image.height} x ${image.width}`;
        throw new Error(`${file.name}: has ${size} pixels; here are 16 to ${WIDEST} a side`);
      }
      const { dark, scale } = estimateScale(image);
      if (!(scale > 0)) throw new Error(`${file.name}: shows no noise`);
      own = { image, dark, name: file.name };
      const nearest = (value) => Math.abs(Math.log(value / scale));
      const index = SCALES.reduce((a, v, i) => (nearest(v) < nearest(SCALES[a]) ? i : a), 0);
      find("dose").value = String(index);
      find("estimate").textContent =
        `${file.name}: by its noise, about ${scale.toPrecision(2)} counts at the brightest ` +
        "pixel. Move the slider if grain is left, or if detail is lost.";
      await update();
    } catch (error) {
      say(error.message);
    }
  }

  /** Go back to the micrograph that ships. */
  function shipped() {
    own = null;
    find("estimate").textContent = "";
    find("file").value = "";
    update();
  }

  async function start() {
    const description = await (await fetch("live/micrograph.json")).json();
    const response = await fetch("live/micrograph.bin");
    const bytes = new Uint8Array(await response.arrayBuffer());
    truth = { ...description, pixels: Float32Array.from(bytes, (value) => value / 255) };
    find("dose").max = String(SCALES.length - 1);
    find("dose").addEventListener("input", update);
    find("file").addEventListener("change", ({ target }) => {
      if (target.files.length) open(target.files[0]);
    });
    find("shipped").addEventListener("click", shipped);
    root.addEventListener("dragover", (event) => event.preventDefault());
    root.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
    });
    await update();
  }

  window.emdnLive = { denoise }; // for tests, which compare it with the package
  start().catch((error) => say(`The page misses one of its files: ${error.message}`));
})();
