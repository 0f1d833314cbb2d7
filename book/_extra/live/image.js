/**
 * Images of the live page: read from files, made noisy, measured and drawn.
 *
 * An image is {pixels, height, width}: grey values as a Float32Array, row by row.
 */
"use strict";

/** Numbers from [0, 1) that are the same for the same seed (mulberry32). */
function randomNumbers(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Draw a number of electrons of a given expectation. */
function drawPoisson(mean, random) {
  let total = 0;
  // The sum of two Poisson numbers is one: steps of 20, where exp(-mean) is no zero.
  for (; mean > 20; mean -= 20) total += drawSmallPoisson(20, random);
  return total + drawSmallPoisson(mean, random);
}

/** As `drawPoisson`, by Knuth's product of random numbers. */
function drawSmallPoisson(mean, random) {
  const limit = Math.exp(-mean);
  let count = -1;
  for (let product = 1; product > limit; product *= random()) count++;
  return count;
}

/** Return counts of an image of [0, 1] whose brightest pixel expects `scale` electrons. */
function addShotNoise({ pixels, height, width }, scale, seed = 0) {
  const random = randomNumbers(seed);
  const counts = pixels.map((value) => drawPoisson(scale * Math.max(value, 0), random));
  return { pixels: counts, height, width };
}

/** Return the least and the greatest value. */
function rangeOf(pixels) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of pixels) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/**
 * Estimate how many electrons the brightest pixel has, from shot noise alone.
 *
 * Of each 8 x 8 block, the variance of what is finest stands against the mean. The median
 * of blocks is no more than a start: the package measures a detector with far more care.
 */
function estimateScale({ pixels, height, width }) {
  const [low, high] = rangeOf(pixels);
  const dark = Math.min(low, 0) === 0 && low < 0.5 * high ? 0 : low;
  const ratios = [];
  for (let top = 0; top + 8 <= height; top += 8) {
    for (let left = 0; left + 8 <= width; left += 8) {
      let [sum, squares] = [0, 0];
      for (let y = top; y < top + 8; y += 2) {
        for (let x = left; x < left + 8; x += 2) {
          const i = width * y + x;
          const [a, b] = [pixels[i], pixels[i + 1]];
          const [c, d] = [pixels[i + width], pixels[i + width + 1]];
          sum += a + b + c + d;
          squares += (a - b - c + d) ** 2 / 4;
        }
      }
      const mean = sum / 64 - dark;
      if (mean > 0 && squares > 0) ratios.push(squares / 16 / mean);
    }
  }
  if (ratios.length === 0) return { dark, scale: NaN };
  ratios.sort((a, b) => a - b);
  return { dark, scale: (high - dark) / ratios[ratios.length >> 1] };
}

/** Return an image's peak signal-to-noise ratio in decibels, both of range [0, 1]. */
function psnr(pixels, truth) {
  let squares = 0;
  for (let i = 0; i < truth.length; i++) squares += (pixels[i] - truth[i]) ** 2;
  return 10 * Math.log10(truth.length / squares);
}

/** Draw an image on a canvas, black at `low` and white at `high`. */
function drawImage(canvas, { pixels, height, width }, low, high) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const stretch = high > low ? 255 / (high - low) : 0;
  for (let i = 0; i < pixels.length; i++) {
    const grey = Math.min(255, Math.max(0, (pixels[i] - low) * stretch));
    picture.data.set([grey, grey, grey, 255], 4 * i);
  }
  context.putImageData(picture, 0, 0);
}

/** Return grey levels between which a hundredth of the pixels at each end is left out. */
function greyLevels(pixels) {
  const sorted = Float32Array.from(pixels).sort();
  return [sorted[Math.floor(0.005 * sorted.length)], sorted[Math.floor(0.995 * sorted.length)]];
}

/** Read a file that a reader has dropped: TIFF, or what the browser itself shows. */
async function readImage(file) {
  const bytes = await file.arrayBuffer();
  const magic = new Uint16Array(bytes.slice(0, 2))[0];
  return magic === 0x4949 || magic === 0x4d4d ? readTiff(bytes) : readPicture(file);
}

/** Read a PNG, a JPEG or another picture; colours become their mean. */
async function readPicture(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name}: is neither a TIFF nor a picture that this browser reads`);
  }
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const pixels = new Float32Array(width * height);
  for (let i = 0; i < pixels.length; i++) {
    pixels[i] = (data[4 * i] + data[4 * i + 1] + data[4 * i + 2]) / 3;
  }
  return { pixels, height, width };
}

const COMPRESSIONS = [1, 5, 8, 32773, 32946]; // none, LZW, deflate, PackBits

/** Read the first page of a TIFF, of one grey value a pixel. */
function readTiff(bytes) {
  const [page] = UTIF.decode(bytes);
  const tag = (number, otherwise) => (page[`t${number}`] || [otherwise])[0];
  const [bits, channels, compression] = [tag(258, 1), tag(277, 1), tag(259, 1)];
  const kind = { 1: "unsigned", 2: "signed", 3: "float" }[tag(339, 1)];
  const [get, size] =
    {
      "8 unsigned": ["getUint8", 1],
      "8 signed": ["getInt8", 1],
      "16 unsigned": ["getUint16", 2],
      "16 signed": ["getInt16", 2],
      "32 unsigned": ["getUint32", 4],
      "32 signed": ["getInt32", 4],
      "32 float": ["getFloat32", 4],
    }[`${bits} ${kind}`] || [];
  const differences = tag(317, 1) !== 1 && bits > 16;
  if (!get || channels !== 1 || differences || !COMPRESSIONS.includes(compression)) {
    throw new Error(
      "this page reads TIFFs of one grey value a pixel, of 8, 16 or 32 bits, plain or " +
        `packed by LZW or deflate; this one has ${channels} of ${bits} bits and ` +
        `compression ${compression}: save it so, or use the package`,
    );
  }
  UTIF.decodeImage(bytes, page);
  const { width, height, data } = page;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const little = size === 2 || page.isLE; // the decoder turns 16 bits round
  const sign = tag(262, 1) === 0 ? -1 : 1; // 0 means that the least value is white
  const pixels = new Float32Array(width * height);
  for (let i = 0; i < pixels.length; i++) {
    pixels[i] = sign * view[get](size * i, little);
    if (!Number.isFinite(pixels[i])) {
      throw new Error("the image has pixels that are no number; the package fills them");
    }
  }
  return { pixels, height, width };
}
