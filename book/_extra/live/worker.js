/**
 * Denoise images in a thread of their own, so that the page stays alive.
 *
 * In: {image, height, width, counts}, values in [0, 1] and what 1 stands for, in electrons.
 * Out: {loading: share}, {ready: backend}, {tiles: [done, all]}, {denoised} or {error}.
 */
"use strict";

importScripts(
  "vendor/tf-core.min.js",
  "vendor/tf-backend-wasm.min.js",
  "network.js",
);

const TILE = 256; // pixels, a multiple of 8, the coarsest stride of the network
const MARGIN = 24; // pixels of a tile's edge that are left to its neighbour

const network = start();

async function start() {
  tf.wasm.setWasmPaths("vendor/");
  await tf.setBackend("wasm");
  await tf.ready();
  const loaded = await fetchNetwork(".", (share) => postMessage({ loading: share }));
  postMessage({ ready: tf.getBackend() });
  return loaded;
}

onmessage = async ({ data: { image, height, width, counts } }) => {
  try {
    const loaded = await network;
    const denoised = denoiseImage(loaded, image, height, width, counts);
    postMessage({ denoised }, [denoised.buffer]);
  } catch (error) {
    postMessage({ error: String(error.message || error) });
  }
};
network.catch((error) => postMessage({ error: String(error.message || error) }));

/** Denoise an image of any size: tile by tile, of which the middles are kept. */
function denoiseImage(network, image, height, width, counts) {
  const denoised = new Float32Array(height * width);
  const rows = startsOf(height);
  const columns = startsOf(width);
  let done = 0;
  for (const row of rows.starts) {
    for (const column of columns.starts) {
      const tile = new Float32Array(rows.side * columns.side);
      for (let y = 0; y < rows.side; y++) {
        const from = width * mirrored(row + y, height);
        for (let x = 0; x < columns.side; x++) {
          tile[columns.side * y + x] = image[from + mirrored(column + x, width)];
        }
      }
      const clean = denoiseTile(network, tile, rows.side, columns.side, counts);
      const [top, bottom] = kept(row, rows.side, height);
      const [left, right] = kept(column, columns.side, width);
      for (let y = top; y < bottom; y++) {
        for (let x = left; x < right; x++) {
          denoised[width * y + x] = clean[columns.side * (y - row) + x - column];
        }
      }
      postMessage({ tiles: [++done, rows.starts.length * columns.starts.length] });
    }
  }
  return denoised;
}

/** Where tiles begin along a side of so many pixels, and how long they are. */
function startsOf(length) {
  if (length <= TILE) return { side: Math.max(16, 8 * Math.ceil(length / 8)), starts: [0] };
  const starts = [];
  for (let start = 0; ; start += TILE - 2 * MARGIN) {
    starts.push(Math.min(start, length - TILE));
    if (start + TILE >= length) return { side: TILE, starts };
  }
}

/** The pixels that a tile gives to the image: all but its margins inside the image. */
function kept(start, side, length) {
  const first = start === 0 ? 0 : start + MARGIN;
  const last = start + side >= length ? length : start + side - MARGIN;
  return [first, last];
}

/** The pixel that stands at an index, where the image goes on as in a mirror. */
function mirrored(index, length) {
  if (length === 1) return 0;
  const period = 2 * (length - 1);
  const inside = ((index % period) + period) % period;
  return inside < length ? inside : period - inside;
}
