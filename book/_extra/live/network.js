/**
 * The network that ships, as emdn/networks/unet.py builds it, by TensorFlow.js.
 *
 * `network.json` and `network.bin` hold its kernels and biases, in the order in which the
 * image meets them; book/_ext/live.py writes both.
 */
"use strict";

const SMALLEST_COUNT = 0.375; // of Anscombe's transform

/** Fetch the weights; `advance` is told the share of the bytes that has arrived. */
async function fetchNetwork(folder, advance) {
  const description = await (await fetch(`${folder}/network.json`)).json();
  const response = await fetch(`${folder}/network.bin`);
  const bytes = new Uint8Array(4 * description.numbers);
  const reader = response.body.getReader();
  let arrived = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    bytes.set(value, arrived);
    arrived += value.length;
    advance(arrived / bytes.length);
  }
  const numbers = new Float32Array(bytes.buffer);
  let next = 0;
  const take = (shape) => {
    const size = shape.reduce((a, b) => a * b, 1);
    next += size;
    return tf.tensor(numbers.subarray(next - size, next), shape);
  };
  const layers = description.layers.map(({ kernel, bias }) => [take(kernel), take(bias)]);
  return { ...description, layers };
}

/** Denoise one tile of values in [0, 1], where 1 stands for `counts` electrons. */
function denoiseTile({ blocks, unit, layers }, tile, height, width, counts) {
  return tf.tidy(() => {
    let next = 0;
    const convolve = (x, stride = 1, padding = "same") => {
      const [kernel, bias] = layers[next++];
      return tf.add(tf.conv2d(x, kernel, stride, padding), bias);
    };
    const enlarge = (x) => {
      const [kernel, bias] = layers[next++];
      const [n, h, w] = x.shape;
      const shape = [n, 2 * h, 2 * w, kernel.shape[2]];
      return tf.add(tf.conv2dTranspose(x, kernel, shape, 2, "valid"), bias);
    };
    const residuals = (x, count) => {
      for (let i = 0; i < count; i++) x = tf.add(x, convolve(tf.relu(convolve(x))));
      return x;
    };

    const electrons = tf.maximum(tf.mul(tf.tensor(tile, [1, height, width, 1]), counts), 0);
    const stable = tf.mul(tf.sqrt(tf.add(electrons, SMALLEST_COUNT)), 2 / unit);

    const skips = [];
    let x = convolve(spaceToDepth(stable));
    blocks.forEach((count, level) => {
      if (level > 0) x = convolve(x, 2, "valid");
      x = residuals(x, count);
      skips.push(x);
    });
    for (let level = blocks.length - 2; level >= 0; level--) {
      x = residuals(tf.add(enlarge(x), skips[level]), blocks[level]);
    }
    const noise = depthToSpace(convolve(x));

    const root = tf.maximum(tf.mul(tf.sub(stable, noise), unit / 2), 0);
    return tf.div(tf.sub(tf.square(root), SMALLEST_COUNT), counts).dataSync();
  });
}

/** Make four features of each 2 x 2 pixels. */
function spaceToDepth(x) {
  const [n, h, w] = x.shape;
  const split = tf.reshape(x, [n, h / 2, 2, w / 2, 2]);
  return tf.reshape(tf.transpose(split, [0, 1, 3, 2, 4]), [n, h / 2, w / 2, 4]);
}

/** Make 2 x 2 pixels of each four features. */
function depthToSpace(x) {
  const [n, h, w] = x.shape;
  const split = tf.reshape(x, [n, h, w, 2, 2]);
  return tf.reshape(tf.transpose(split, [0, 1, 3, 2, 4]), [n, 2 * h, 2 * w, 1]);
}
