'use strict';
// What the page knows and what the reader has chosen. The scripts of this page share one scope; this one comes first.
//
// data = {
//   runs: [{name, folder, notes: [text], metrics: [{name, axis: index into axes, values: [number or null]}], config: [[key, value]],
//           completions: null or {total, judges: [name], prompts: [{text, cut}], kept: [{step, generation, group, prompt: index, text, cut,
//             reward, rewards: [as judges], advantage, length, finish, failures, row}]}}],
//   axes: [[step]],
//   histograms: {first_step, last_steps: [step], quantities: [{name, low: [], high: [], runs: [{run: index, counts: [step range][bin]}]}]},
//   limits: {completions, text_characters},
// }
const data = JSON.parse(document.getElementById('data').textContent);

const state = {
  smoothing: 0.6,
  axis: 'step',
  logarithmic: false,
  zoom: null,          // {min, max} on the axis, or everything
  hidden: new Set(),   // indices of runs
};

const byId = (id) => document.getElementById(id);

// A new element. Children are elements or texts; nothing is ever parsed as HTML.
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children);
  return made;
}

const cssColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// The first eight runs have chosen colours; later ones go round the wheel by the golden angle.
function runColour(index) {
  if (index < 8) return cssColour(`--run-${index}`);
  const light = document.documentElement.dataset.scheme === 'dark' ? 68 : 42;
  return `hsl(${(index * 137.508) % 360} 60% ${light}%)`;
}

function withOpacity(colour, opacity) {
  const hex = /^#([0-9a-f]{6})$/i.exec(colour);
  if (hex) return colour + Math.round(opacity * 255).toString(16).padStart(2, '0');
  return colour.replace(/\)$/, ` / ${opacity})`);
}

const visibleRuns = () => data.runs.map((_, index) => index).filter((index) => !state.hidden.has(index));

const counted = new Intl.NumberFormat('en-US');

// A number as people read it: four digits, thousands apart, the unit's prefix for large counts.
function numberText(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return counted.format(value);
  if (size >= 1e12 || (size > 0 && size < 1e-3)) return Number(value.toPrecision(3)).toExponential().replace('e+', 'e');
  for (const [unit, letter] of [[1e9, 'G'], [1e6, 'M'], [1e4, 'k']]) {
    if (size >= unit) return `${Number((value / (letter === 'k' ? 1e3 : unit)).toPrecision(4))} ${letter}`;
  }
  return String(Number(value.toPrecision(4)));
}

// ---- metrics ----

const seriesOf = data.runs.map((run) => new Map(run.metrics.map((metric) => [metric.name, metric])));

// {steps, values} of a run's metric, or null.
function metricOf(run, name) {
  const metric = seriesOf[run].get(name);
  return metric ? {steps: data.axes[metric.axis], values: metric.values} : null;
}

function allMetricNames() {
  return [...new Set(data.runs.flatMap((run) => run.metrics.map((metric) => metric.name)))];
}

// The last of `sorted` that is not above `value`, or -1.
function lastAtMost(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

// Places of steps on the chosen axis: the step, or what a metric that only grows (epoch, num_tokens) last said at it.
function axisPlaces(run, steps) {
  if (state.axis === 'step') return steps;
  const metric = metricOf(run, state.axis);
  if (!metric) return steps.map(() => null);
  return steps.map((step) => {
    const at = lastAtMost(metric.steps, step);
    return at < 0 ? 0 : metric.values[at];
  });
}

// Exponential mean that its start does not pull down: s_t / (1 - w^t) of s_t = w s_(t-1) + (1 - w) x_t, written as a step towards x_t, so that a
// constant stays one. Gaps stay gaps.
function smoothed(values, weight) {
  if (weight === 0) return values;
  let mean = 0;
  let mass = 0;
  return values.map((value) => {
    if (value === null) return null;
    mass = weight * mass + (1 - weight);
    mean += (1 - weight) / mass * (value - mean);
    return mean;
  });
}

function lastFinite(values) {
  for (let i = values.length - 1; i >= 0; --i) {
    if (values[i] !== null) return values[i];
  }
  return null;
}

const firstFinite = (values) => values.find((value) => value !== null) ?? null;
