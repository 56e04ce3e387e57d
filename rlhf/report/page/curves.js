'use strict';
// Curves of every metric, one card each, grouped by prefix; and the phases of a step.

const kCounts = ['epoch', 'num_tokens', 'num_input_tokens_seen', 'step_time', 'tokens_per_second', 'peak_memory'];
const kFirst = ['loss', 'reward', 'reward_std', 'accuracy', 'margin', 'kl', 'entropy', 'mean_token_accuracy'];
const kGroupOrder = ['training', 'rewards/', 'objective/', 'eval_'];
const kLastGroups = ['time/', 'speed, memory, counts'];

const kFewPoints = 24;  // so many are dots and never smoothed: an evaluation says what it says

const cards = [];  // of curves

function groupOf(name) {
  if (kCounts.includes(name)) return 'speed, memory, counts';
  if (name.startsWith('eval_')) return 'eval_';
  const slash = name.indexOf('/');
  return slash > 0 ? name.slice(0, slash + 1) : 'training';
}

function rankIn(order, name) {
  const at = order.indexOf(name);
  return at < 0 ? order.length : at;
}

function groupedMetrics() {
  const groups = new Map();
  for (const name of allMetricNames()) {
    const group = groupOf(name);
    groups.set(group, [...(groups.get(group) ?? []), name]);
  }
  for (const names of groups.values()) names.sort((a, b) => rankIn(kFirst, a) - rankIn(kFirst, b));
  const rank = (group) => kLastGroups.includes(group) ? 100 + kLastGroups.indexOf(group) : rankIn(kGroupOrder, group);
  return [...groups].sort(([a], [b]) => rank(a) - rank(b));
}

// Of each visible run the point nearest to the pointer, though runs log at different steps.
Chart.Interaction.modes.eachRun = (chart, event) => {
  const found = [];
  chart.data.datasets.forEach((dataset, index) => {
    if (dataset.raw) return;
    const points = chart.getDatasetMeta(index).data;
    let nearest = -1;
    points.forEach((point, i) => {
      if (point.skip || Number.isNaN(point.y)) return;
      if (nearest < 0 || Math.abs(point.x - event.x) < Math.abs(points[nearest].x - event.x)) nearest = i;
    });
    if (nearest >= 0) found.push({element: points[nearest], datasetIndex: index, index: nearest});
  });
  return found;
};

function chartColours() {
  return {text: cssColour('--muted'), grid: cssColour('--grid'), card: cssColour('--card'), strong: cssColour('--text')};
}

function scaleLook(colours) {
  return {
    grid: {color: colours.grid, borderColor: colours.grid, tickColor: colours.grid},
    ticks: {color: colours.text, maxRotation: 0, autoSkipPadding: 14, font: {size: 11}},
  };
}

function tooltipLook(colours) {
  return {
    backgroundColor: colours.card, titleColor: colours.text, bodyColor: colours.strong,
    borderColor: colours.grid, borderWidth: 1, padding: 8, boxPadding: 4, usePointStyle: true, caretSize: 0,
  };
}

const axisName = () => ({step: 'step', epoch: 'epoch', num_tokens: 'tokens'})[state.axis] ?? state.axis;

const isSmoothed = (metric) => state.smoothing > 0 && metric.values.length > kFewPoints;

// Points of one run; a gap where a value is not finite. Long series lose their gaps, since thinning them out needs numbers.
function curvePoints(run, metric) {
  const places = axisPlaces(run, metric.steps);
  const smooth = isSmoothed(metric) ? smoothed(metric.values, state.smoothing) : metric.values;
  const points = places.map((x, i) => ({x, y: smooth[i] ?? NaN, raw: metric.values[i]}));
  return points.filter((point) => point.x !== null && (points.length < 2000 || !Number.isNaN(point.y)));
}

function curveDatasets(name) {
  const datasets = [];
  for (const run of visibleRuns()) {
    const metric = metricOf(run, name);
    if (!metric) continue;
    const points = curvePoints(run, metric);
    const colour = runColour(run);
    const look = {borderColor: colour, backgroundColor: colour, pointHoverRadius: 3, pointHitRadius: 0, borderJoinStyle: 'round'};
    datasets.push({...look, label: data.runs[run].name, data: points, borderWidth: 1.8, pointRadius: points.length <= kFewPoints ? 2 : 0});
    if (isSmoothed(metric)) {
      const raw = points.map((point) => ({x: point.x, y: point.raw ?? NaN}));
      datasets.push({...look, raw: true, data: raw, borderColor: withOpacity(colour, 0.25), borderWidth: 1, pointRadius: 0, pointHoverRadius: 0});
    }
  }
  return datasets;
}

const allPositive = (datasets) => datasets.every((dataset) => dataset.data.every((point) => Number.isNaN(point.y) || point.y > 0));

function curveOptions(datasets) {
  const colours = chartColours();
  const look = scaleLook(colours);
  const logarithmic = state.logarithmic && allPositive(datasets);
  return {
    animation: false, parsing: false, normalized: true, responsive: true, maintainAspectRatio: false,
    interaction: {mode: 'eachRun', intersect: false},
    scales: {
      x: {type: 'linear', ...look, ticks: {...look.ticks, callback: numberText}, min: state.zoom?.min, max: state.zoom?.max},
      y: {type: logarithmic ? 'logarithmic' : 'linear', ...look, ticks: {...look.ticks, callback: numberText, maxTicksLimit: 6}},
    },
    plugins: {
      legend: {display: false},
      decimation: {enabled: true, algorithm: 'min-max'},
      tooltip: {
        ...tooltipLook(colours),
        callbacks: {
          title: (items) => items.length ? `${axisName()} ${numberText(items[0].raw.x)}` : '',
          label: (item) => {
            const {y, raw} = item.raw;
            const own = data.runs.length > 1 ? `${item.dataset.label}  ` : '';
            return own + numberText(y) + (y === raw ? '' : `  (logged ${numberText(raw)})`);
          },
        },
      },
    },
  };
}

// Dragging over a plot chooses the stretch of the axis that all curves show.
function addZoom(plot, card) {
  let start = null;
  let band = null;
  const inside = (event) => event.clientX - plot.getBoundingClientRect().left;
  plot.addEventListener('pointerdown', (event) => {
    if (event.button !== 0 || !card.chart) return;
    start = inside(event);
    band = make('div', {class: 'selection'});
    plot.append(band);
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener('pointermove', (event) => {
    if (start === null) return;
    band.style.left = `${Math.min(start, inside(event))}px`;
    band.style.width = `${Math.abs(inside(event) - start)}px`;
  });
  const end = (event) => {
    if (start === null) return;
    const ends = [start, inside(event)].sort((a, b) => a - b).map((pixel) => card.chart.scales.x.getValueForPixel(pixel));
    if (event.type === 'pointerup' && Math.abs(inside(event) - start) > 6) setZoom({min: ends[0], max: ends[1]});
    band.remove();
    start = null;
  };
  plot.addEventListener('pointerup', end);
  plot.addEventListener('pointercancel', end);
  plot.addEventListener('dblclick', () => setZoom(null));
}

function setZoom(zoom) {
  state.zoom = zoom;
  byId('zoom-reset').hidden = zoom === null;
  redrawCurves();
}

function latestTexts(name) {
  return visibleRuns().flatMap((run) => {
    const metric = metricOf(run, name);
    if (!metric) return [];
    return [make('span', {style: `color: ${runColour(run)}`, title: `${data.runs[run].name}, last logged`}, numberText(lastFinite(metric.values)))];
  });
}

function notFinite(name) {
  let count = 0;
  for (const run of visibleRuns()) count += metricOf(run, name)?.values.filter((value) => value === null).length ?? 0;
  return count;
}

function drawCard(card) {
  card.stale = false;
  card.latest.replaceChildren(...latestTexts(card.name));
  const gaps = notFinite(card.name);
  const datasets = curveDatasets(card.name);
  const remarks = [];
  if (gaps > 0) remarks.push(`${counted.format(gaps)} not finite`);
  if (state.logarithmic && !allPositive(datasets)) remarks.push('linear: not above 0');
  card.remark.textContent = remarks.join(', ');
  if (card.chart) {
    card.chart.options = curveOptions(datasets);
    card.chart.data = {datasets};
    card.chart.update('none');
  } else {
    card.chart = new Chart(card.canvas, {type: 'line', data: {datasets}, options: curveOptions(datasets)});
  }
}

// Only what is on the screen is drawn; the rest when it comes there.
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const card = entry.target.card;
    card.seen = entry.isIntersecting;
    if (card.seen && card.stale) card.draw();
  }
}, {rootMargin: '250px'});

function watch(element, card) {
  card.stale = true;
  card.seen = false;
  element.card = card;
  watcher.observe(element);
  return card;
}

function redraw(some) {
  for (const card of some) {
    card.stale = true;
    if (card.seen) card.draw();
  }
}

const redrawCurves = () => redraw(cards);

// Where a long name may break: behind its slashes and underscores.
const breakable = (name) => name.split(/(?<=[/_])/).flatMap((part, i) => i === 0 ? [part] : [make('wbr'), part]);

function makeCurveCard(name) {
  const canvas = make('canvas', {role: 'img', 'aria-label': `Curve of ${name}`});
  const plot = make('div', {class: 'plot'}, canvas);
  const latest = make('span', {class: 'latest'});
  const remark = make('span', {class: 'remark'});
  const larger = make('button', {class: 'plain', title: 'Larger or smaller', 'aria-label': `${name}: larger or smaller`}, '⤢');
  const element = make('article', {class: 'card', 'data-metric': name},
    make('header', {}, make('span', {class: 'name'}, ...breakable(name)), remark, latest, larger), plot);
  larger.addEventListener('click', () => element.classList.toggle('large'));
  const card = watch(element, {name, canvas, latest, remark, element, chart: null});
  card.draw = () => drawCard(card);
  addZoom(plot, card);
  cards.push(card);
  return element;
}

function buildCurves() {
  for (const [group, names] of groupedMetrics()) {
    const count = make('span', {}, counted.format(names.length));
    // Phases have a section of their own.
    byId('curve-groups').append(make('details', {class: 'group', 'data-group': group, open: group !== 'time/'},
      make('summary', {}, group, count), make('div', {class: 'cards'}, ...names.map(makeCurveCard))));
  }
  if (cards.length === 0) {
    byId('no-curves').hidden = false;
    byId('no-curves').textContent = 'No run has logged a step yet.';
  }
}

function filterCurves(text) {
  const wanted = text.trim().toLowerCase();
  for (const card of cards) card.element.hidden = !card.name.toLowerCase().includes(wanted);
  for (const group of document.querySelectorAll('details.group')) {
    group.hidden = !group.querySelector('.card:not([hidden])');
  }
}

// ---- phases of a step ----

const kPhases = ['time/rollout', 'time/reward', 'time/reference', 'time/update', 'time/optimizer'];
const kMostBars = 80;
const phaseCards = [];

function phasesOf(run) {
  const logged = data.runs[run].metrics.map((metric) => metric.name).filter((name) => name.startsWith('time/'));
  return [...kPhases.filter((name) => logged.includes(name)), ...logged.filter((name) => !kPhases.includes(name))];
}

// Of every logged step that has a phase, the seconds of each (0 where the step has none of it), and what is left of the step where the log
// allows to say it.
function phaseRows(run) {
  const names = phasesOf(run);
  const tables = names.map((name) => {
    const metric = metricOf(run, name);
    return new Map(metric.steps.map((step, i) => [step, metric.values[i] ?? 0]));
  });
  const whole = metricOf(run, 'step_time');
  const wholes = new Map((whole?.steps ?? []).map((step, i) => [step, whole.values[i]]));
  const steps = [...new Set(tables.flatMap((table) => [...table.keys()]))].sort((a, b) => a - b);
  const rows = steps.map((step) => ({step, seconds: tables.map((table) => table.get(step) ?? 0), whole: wholes.get(step) ?? null}));
  const left = rows.map((row) => row.whole === null ? null : row.whole - row.seconds.reduce((a, b) => a + b, 0));
  const known = left.every((rest, i) => rest !== null && rest >= -0.01 * rows[i].whole);
  if (known) {
    names.push('rest of the step');
    rows.forEach((row, i) => row.seconds.push(Math.max(0, left[i])));
  }
  return {names, rows};
}

const meanSeconds = (rows, k) => rows.reduce((sum, row) => sum + row.seconds[k], 0) / rows.length;

function phaseBars({names, rows}) {
  const size = Math.max(1, Math.ceil(rows.length / kMostBars));
  const bars = [];
  for (let i = 0; i < rows.length; i += size) bars.push(rows.slice(i, i + size));
  return {
    labels: bars.map((bar) => bar[bar.length - 1].step),
    datasets: names.map((name, k) => {
      const at = kPhases.indexOf(name);
      const colour = cssColour(name.startsWith('time/') ? `--phase-${at >= 0 ? at : 4}` : '--phase-rest');
      return {label: name, data: bars.map((bar) => meanSeconds(bar, k)), backgroundColor: colour, barPercentage: 1, categoryPercentage: 0.94, stack: 'step'};
    }),
  };
}

function phaseTable({names, rows}) {
  const means = names.map((_, k) => meanSeconds(rows, k));
  const total = means.reduce((a, b) => a + b, 0);
  const bars = phaseBars({names, rows}).datasets;
  return make('table', {},
    make('tr', {}, make('th', {}, 'phase'), make('th', {class: 'number'}, 'mean seconds'), make('th', {class: 'number'}, 'share')),
    ...names.map((name, k) => make('tr', {},
      make('td', {}, make('span', {class: 'dot', style: `background: ${bars[k].backgroundColor}`}), ` ${name}`),
      make('td', {class: 'number'}, numberText(means[k])),
      make('td', {class: 'number'}, `${total > 0 ? (100 * means[k] / total).toFixed(1) : '–'}%`))));
}

function drawPhases(card) {
  card.stale = false;
  const colours = chartColours();
  const look = scaleLook(colours);
  const options = {
    animation: false, responsive: true, maintainAspectRatio: false, interaction: {mode: 'index', intersect: false},
    scales: {
      x: {stacked: true, ...look, grid: {display: false}},
      y: {stacked: true, ...look, title: {display: true, text: 'seconds', color: colours.text}},
    },
    plugins: {
      legend: {display: false},
      tooltip: {...tooltipLook(colours), callbacks: {
        title: (items) => `up to step ${items[0].label}`,
        label: (item) => `${item.dataset.label}  ${numberText(item.raw)} s`,
      }},
    },
  };
  card.table.replaceChildren(phaseTable(card.phases));
  card.chart?.destroy();
  card.chart = new Chart(card.canvas, {type: 'bar', data: phaseBars(card.phases), options});
}

function buildPhases() {
  data.runs.forEach((run, index) => {
    if (phasesOf(index).length === 0) return;
    const canvas = make('canvas', {role: 'img', 'aria-label': `Seconds of each phase of ${run.name}`});
    const table = make('div');
    const element = make('article', {class: 'card', 'data-run': index},
      make('header', {}, make('span', {class: 'name'}, run.name)), make('div', {class: 'plot'}, canvas), table);
    const card = watch(element, {canvas, table, element, run: index, phases: phaseRows(index), chart: null});
    card.draw = () => drawPhases(card);
    phaseCards.push(card);
    byId('time-cards').append(element);
  });
  byId('time-note').textContent = phaseCards.length > 0
    ? 'Seconds of each phase, stacked. A logged line is the mean over its window’s steps that have the phase; a line without it counts 0.'
    : 'No run here logs phases (time/rollout, time/reward, time/reference, time/update): methods that sample completions do.';
}
