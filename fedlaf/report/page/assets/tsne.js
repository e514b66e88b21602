// t-SNE of a few hundred points, computed in the page (van der Maaten and Hinton, JMLR 2008, exact gradients).
function tsne(points, start, { perplexity = 20, rounds = 350 } = {}) {
  const n = points.length;
  const p = joint(points, Math.min(perplexity, (n - 1) / 3));
  const scale = 1e-2 / (Math.max(...start.flat().map(Math.abs)) || 1);
  const y = start.map(([a, b]) => [a * scale, b * scale]);
  const speed = y.map(() => [0, 0]);
  const near = new Float64Array(n * n);
  for (let round = 0; round < rounds; round++) {
    const early = round < 100 ? 4 : 1;
    let whole = 0;
    for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) {
      const [dx, dy] = [y[i][0] - y[j][0], y[i][1] - y[j][1]];
      near[i * n + j] = near[j * n + i] = 1 / (1 + dx * dx + dy * dy);
      whole += 2 * near[i * n + j];
    }
    for (let i = 0; i < n; i++) {
      let [gx, gy] = [0, 0];
      for (let j = 0; j < n; j++) {
        const pull = (early * p[i * n + j] - near[i * n + j] / whole) * near[i * n + j];
        gx += pull * (y[i][0] - y[j][0]);
        gy += pull * (y[i][1] - y[j][1]);
      }
      const keep = round < 100 ? 0.5 : 0.8;
      speed[i] = [keep * speed[i][0] - 4 * (n / 12) * gx, keep * speed[i][1] - 4 * (n / 12) * gy];
    }
    for (let i = 0; i < n; i++) { y[i][0] += speed[i][0]; y[i][1] += speed[i][1]; }
  }
  return y;
}

// Joint probabilities of pairs: a Gaussian round each point, as wide as the perplexity asks for.
function joint(points, perplexity) {
  const n = points.length;
  const p = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    const far = points.map((q) => q.reduce((sum, v, k) => sum + (v - points[i][k]) ** 2, 0));
    const mean = far.reduce((a, b) => a + b, 0) / n || 1;
    let [low, high, beta] = [0, Infinity, 1 / mean];
    for (let step = 0; step < 40; step++) {
      let [sum, weighted] = [0, 0];
      for (let j = 0; j < n; j++) { const w = j === i ? 0 : Math.exp(-beta * far[j]); p[i * n + j] = w; sum += w; weighted += w * far[j]; }
      const entropy = Math.log(sum || 1e-300) + (beta * weighted) / (sum || 1e-300);
      for (let j = 0; j < n; j++) p[i * n + j] /= sum || 1e-300;
      if (Math.abs(entropy - Math.log(perplexity)) < 1e-4) break;
      if (entropy > Math.log(perplexity)) { low = beta; beta = high === Infinity ? beta * 2 : (beta + high) / 2; } else { high = beta; beta = (beta + low) / 2; }
    }
  }
  const both = new Float64Array(n * n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) both[i * n + j] = (p[i * n + j] + p[j * n + i]) / (2 * n);
  return both;
}
