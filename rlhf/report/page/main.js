'use strict';
// Summary, configuration, the bar at the top, keys; and the start.

// ---- summary ----

const bytesText = (bytes) => bytes === null ? '–' : `${(bytes / 2 ** 30).toFixed(2)} GiB`;

function configOf(run, key) {
  return data.runs[run].config.find(([name]) => name === key)?.[1] ?? null;
}

// `first → last` of a metric.
function course(run, name) {
  const metric = metricOf(run, name);
  if (!metric) return '';
  const first = firstFinite(metric.values);
  const last = lastFinite(metric.values);
  return metric.values.length > 1 ? `${numberText(first)} → ${numberText(last)}` : numberText(last);
}

const latest = (run, name) => lastFinite(metricOf(run, name)?.values ?? []);

function stepsText(run) {
  const last = Math.max(0, ...data.runs[run].metrics.map((metric) => data.axes[metric.axis].at(-1) ?? 0));
  const planned = Number(configOf(run, 'max_steps'));
  return planned > 0 ? `${counted.format(last)} of ${counted.format(planned)}` : counted.format(last);
}

const columnsOfSummary = [
  ['steps logged', stepsText],
  ['epoch', (run) => latest(run, 'epoch') === null ? '' : numberText(latest(run, 'epoch'))],
  ['loss', (run) => course(run, 'loss')],
  ['reward', (run) => course(run, 'reward')],
  ['rewards/accuracies', (run) => course(run, 'rewards/accuracies')],
  ['accuracy', (run) => course(run, 'accuracy')],
  ['eval_loss', (run) => course(run, 'eval_loss')],
  ['eval_reward', (run) => course(run, 'eval_reward')],
  ['eval_accuracy', (run) => course(run, 'eval_accuracy')],
  ['tokens', (run) => latest(run, 'num_tokens') === null ? '' : numberText(latest(run, 'num_tokens'))],
  ['tokens / s', (run) => latest(run, 'tokens_per_second') === null ? '' : numberText(latest(run, 'tokens_per_second'))],
  ['s / step', (run) => latest(run, 'step_time') === null ? '' : numberText(latest(run, 'step_time'))],
  ['peak memory', (run) => latest(run, 'peak_memory') === null ? '' : bytesText(latest(run, 'peak_memory'))],
];

function buildSummary() {
  const columns = columnsOfSummary.filter(([, text]) => data.runs.some((_, run) => text(run) !== ''));
  const rows = data.runs.map((run, index) => make('tr', {},
    make('td', {class: 'run'}, make('span', {class: 'dot', style: `background: ${runColour(index)}`}), ' ', make('span', {class: 'name'}, run.name),
      make('div', {class: 'small folder'}, run.folder)),
    make('td', {class: 'small model'}, configOf(index, 'model_name_or_path') ?? ''),
    ...columns.map(([, text]) => make('td', {class: 'number'}, text(index)))));
  byId('summary-table').replaceChildren(
    make('tr', {}, make('th', {}, 'run'), make('th', {}, 'model'), ...columns.map(([name]) => make('th', {class: 'number'}, name))), ...rows);
  const notes = data.runs.flatMap((run) => run.notes);
  byId('notes').hidden = notes.length === 0;
  byId('notes').replaceChildren(...notes.map((note) => make('li', {}, note)));
}

// ---- configuration ----

function configRows() {
  const keys = [...new Set(data.runs.flatMap((run) => run.config.map(([key]) => key)))];
  return keys.map((key) => {
    const values = data.runs.map((_, run) => configOf(run, key));
    return {key, values, differs: values.some((value) => value !== values[0])};
  });
}

function showConfig() {
  const rows = configRows();
  const wanted = byId('config-filter').value.trim().toLowerCase();
  const only = byId('only-differences').checked;
  const shown = rows.filter((row) => (!only || row.differs) &&
    [row.key, ...row.values].some((text) => (text ?? '').toLowerCase().includes(wanted)));
  const head = make('tr', {}, make('th', {}, 'key'), ...data.runs.map((run, index) => make('th', {},
    make('span', {class: 'dot', style: `background: ${runColour(index)}`}), ` ${run.name}`)));
  byId('config-table').replaceChildren(head, ...shown.map((row) => make('tr', {class: row.differs ? 'differs' : '', 'data-key': row.key},
    make('td', {class: 'name'}, row.key), ...row.values.map((value) => make('td', {class: 'name'}, value ?? '–')))));
  const differing = rows.filter((row) => row.differs).length;
  byId('config-count').textContent = data.runs.length > 1
    ? `${counted.format(differing)} of ${counted.format(rows.length)} keys differ` : `${counted.format(rows.length)} keys`;
}

function buildConfig() {
  const several = data.runs.length > 1;
  byId('only-differences-label').hidden = !several;
  byId('only-differences').checked = several && configRows().some((row) => row.differs);
  byId('only-differences').addEventListener('change', showConfig);
  byId('config-filter').addEventListener('input', showConfig);
  showConfig();
}

// ---- the bar ----

function buildChips() {
  byId('run-chips').replaceChildren(...data.runs.map((run, index) => make('button',
    {class: 'chip', 'aria-pressed': String(!state.hidden.has(index)), title: run.folder, onclick: () => toggleRun(index)},
    make('span', {class: 'dot', style: `background: ${runColour(index)}`}), run.name)));
}

function toggleRun(index) {
  if (index >= data.runs.length) return;
  if (!state.hidden.delete(index)) state.hidden.add(index);
  buildChips();
  redrawCurves();
  redraw(histogramCards);
  for (const card of phaseCards) card.element.hidden = state.hidden.has(card.run);
  if (all.length > 0) applyFilters();
}

function setScheme(scheme) {
  document.documentElement.dataset.scheme = scheme;
  buildChips();
  buildSummary();
  showConfig();
  redrawCurves();
  redraw(histogramCards);
  redraw(phaseCards);
  if (all.length > 0) showPage();
}

const otherScheme = () => document.documentElement.dataset.scheme === 'dark' ? 'light' : 'dark';

function setSmoothing(weight) {
  state.smoothing = Math.min(0.99, Math.max(0, Math.round(weight * 100) / 100));
  byId('smoothing').value = state.smoothing;
  byId('smoothing-value').textContent = state.smoothing.toFixed(2);
  redrawCurves();
}

function buildCurveTools() {
  const axes = ['step', 'epoch', 'num_tokens'].filter((name) => name === 'step' || data.runs.every((_, run) => metricOf(run, name)));
  byId('axis').append(...axes.map((name) => make('option', {value: name}, name)));
  byId('axis').addEventListener('change', (event) => {
    state.axis = event.target.value;
    setZoom(null);
  });
  byId('smoothing').addEventListener('input', (event) => setSmoothing(Number(event.target.value)));
  byId('logarithmic').addEventListener('change', (event) => {
    state.logarithmic = event.target.checked;
    redrawCurves();
  });
  byId('metric-filter').addEventListener('input', (event) => filterCurves(event.target.value));
  byId('zoom-reset').addEventListener('click', () => setZoom(null));
  setSmoothing(state.smoothing);
}

function focusField(id) {
  byId(id).focus();
  byId(id).select();
}

const kKeys = {
  '/': () => focusField('search'),
  'm': () => focusField('metric-filter'),
  '[': () => setSmoothing(state.smoothing - 0.05),
  ']': () => setSmoothing(state.smoothing + 0.05),
  'j': () => moveRow(1),
  'k': () => moveRow(-1),
  'n': () => turnPage(1),
  'p': () => turnPage(-1),
  'd': () => setScheme(otherScheme()),
  '0': () => setZoom(null),
  '?': () => byId('keys').showModal(),
};

function onKey(event) {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== 'range' && event.target.type !== 'checkbox';
  if (event.key === 'Escape' && typing) event.target.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^[1-9]$/.test(event.key)) toggleRun(Number(event.key) - 1);
  else if (Object.hasOwn(kKeys, event.key)) kKeys[event.key]();
  else return;
  event.preventDefault();
}

function start() {
  document.title = `${data.runs.map((run) => run.name).join(', ')} – rlhf report`;
  const dark = matchMedia('(prefers-color-scheme: dark)');
  document.documentElement.dataset.scheme = dark.matches ? 'dark' : 'light';
  buildChips();
  buildSummary();
  buildCurves();
  buildCurveTools();
  buildPhases();
  buildHistograms();
  buildCompletions();
  buildConfig();
  dark.addEventListener('change', () => setScheme(dark.matches ? 'dark' : 'light'));
  byId('scheme-button').addEventListener('click', () => setScheme(otherScheme()));
  byId('keys-button').addEventListener('click', () => byId('keys').showModal());
  document.addEventListener('keydown', onKey);
}

start();
