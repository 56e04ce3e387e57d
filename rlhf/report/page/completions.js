'use strict';
// Completions to browse: filters, order, pages of a few rows, so that the page stays quick whatever it holds.

const kRowsOfPage = 25;
const all = [];  // {run, number, ...completion}
const list = {found: [], page: 0, opened: null, group: null};

const promptOf = (completion) => data.runs[completion.run].completions.prompts[completion.prompt];

// Lower-case texts are made at the first search.
function haystack(completion) {
  completion.haystack ??= `${promptOf(completion).text}\n${completion.text}`.toLowerCase();
  return completion.haystack;
}

const fieldNumber = (id) => byId(id).value.trim() === '' ? null : Number(byId(id).value);

function readFilters() {
  return {
    text: byId('search').value.toLowerCase(),
    stepFrom: fieldNumber('step-from'), stepTo: fieldNumber('step-to'),
    rewardFrom: fieldNumber('reward-from'), rewardTo: fieldNumber('reward-to'),
    finish: byId('finish').value,
  };
}

function passes(completion, filters) {
  const {stepFrom, stepTo, rewardFrom, rewardTo} = filters;
  if (state.hidden.has(completion.run)) return false;
  if (list.group && (completion.run !== list.group.run || completion.group !== list.group.group)) return false;
  if (stepFrom !== null && completion.step < stepFrom) return false;
  if (stepTo !== null && completion.step > stepTo) return false;
  if ((rewardFrom !== null || rewardTo !== null) && typeof completion.reward !== 'number') return false;
  if (rewardFrom !== null && completion.reward < rewardFrom) return false;
  if (rewardTo !== null && completion.reward > rewardTo) return false;
  if (filters.finish !== '' && String(completion.finish) !== filters.finish) return false;
  return filters.text === '' || haystack(completion).includes(filters.text);
}

// What has no such number comes last, whatever the order.
function ordered(found) {
  const order = byId('order').value;
  const down = order.startsWith('-');
  const key = down ? order.slice(1) : order;
  return found.sort((a, b) => {
    const without = (typeof a[key] !== 'number') - (typeof b[key] !== 'number');
    if (without !== 0) return without;
    return (down ? b[key] - a[key] : a[key] - b[key]) || a.number - b.number;
  });
}

function applyFilters() {
  const filters = readFilters();
  list.found = ordered(all.filter((completion) => passes(completion, filters)));
  list.page = 0;
  list.opened = null;
  showPage();
}

function countText() {
  const held = all.filter((completion) => !state.hidden.has(completion.run)).length;
  const made = visibleRuns().reduce((sum, run) => sum + (data.runs[run].completions?.total ?? 0), 0);
  const parts = [`${counted.format(list.found.length)} of ${counted.format(held)} completions`];
  if (held < made) {
    parts.push(`this page holds ${counted.format(held)} of ${counted.format(made)}, spread evenly over the run (rlhf report --max_completions)`);
  }
  if (list.group) parts.push('one group');
  return `${parts.join('; ')}.`;
}

// The text with what was searched for marked.
function marked(text) {
  const wanted = byId('search').value.toLowerCase();
  const lower = text.toLowerCase();
  if (wanted === '' || lower.length !== text.length) return [text];
  const pieces = [];
  let from = 0;
  for (let at = lower.indexOf(wanted); at >= 0 && pieces.length < 2000; at = lower.indexOf(wanted, from)) {
    pieces.push(text.slice(from, at), make('mark', {}, text.slice(at, at + wanted.length)));
    from = at + wanted.length;
  }
  return [...pieces, text.slice(from)];
}

function textBlock(title, text, cut) {
  const more = cut > 0 ? `\n… ${counted.format(cut)} more characters are not in this page (rlhf report --max_text)` : '';
  return [make('h3', {}, title), make('pre', {}, ...marked(text), more)];
}

const signClass = (value) => value > 0 ? 'positive' : value < 0 ? 'negative' : '';
const signed = (value) => typeof value === 'number' && value > 0 ? `+${numberText(value)}` : numberText(value);

function facts(completion) {
  const run = data.runs[completion.run];
  const fact = (name, value) => make('span', {}, `${name} `, make('b', {}, value));
  const list = [fact('reward', numberText(completion.reward))];
  run.completions.judges.forEach((judge, k) => list.push(fact(judge, numberText(completion.rewards[k]))));
  list.push(fact('advantage', signed(completion.advantage)), fact('tokens', numberText(completion.length)),
    fact('ended by', completion.finish ?? 'not logged'), fact('step', counted.format(completion.step)));
  if (completion.generation !== null) list.push(fact('rollout', counted.format(completion.generation)));
  if (completion.row !== null) list.push(fact('row', typeof completion.row === 'string' ? completion.row : JSON.stringify(completion.row)));
  return make('div', {class: 'facts'}, ...list);
}

function openedRow(completion) {
  const prompt = promptOf(completion);
  const others = all.filter((other) => other.run === completion.run && other.group === completion.group).length;
  const cell = make('td', {class: 'opened', colspan: 7}, facts(completion));
  if (Array.isArray(completion.failures)) {
    cell.append(make('h3', {}, 'Failures of judges'), make('pre', {}, completion.failures.join('\n')));
  }
  cell.append(...textBlock('Prompt', prompt.text, prompt.cut), ...textBlock('Completion', completion.text, completion.cut));
  if (others > 1 && !list.group) {
    const show = () => { list.group = {run: completion.run, group: completion.group}; applyFilters(); };
    cell.append(make('p', {}, make('button', {onclick: show}, `Show all ${counted.format(others)} of this prompt in this rollout`)));
  }
  return make('tr', {class: 'details'}, cell);
}

function oneLine(text) {
  return text.slice(0, 400).replace(/\s+/g, ' ');
}

function rowOf(completion) {
  const open = list.opened === completion;
  const toggle = () => {
    list.opened = open ? null : completion;
    showPage();
    focusRow(completion);
  };
  const row = make('tr', {class: 'row', tabindex: 0, 'aria-expanded': String(open), 'data-number': completion.number,
    onclick: toggle, onkeydown: (event) => { if (event.key === 'Enter') toggle(); }},
    make('td', {class: 'number'}, make('span', {class: 'dot', style: `background: ${runColour(completion.run)}`, title: data.runs[completion.run].name}),
      ` ${counted.format(completion.step)}`),
    make('td', {class: 'number'}, numberText(completion.reward)),
    make('td', {class: `number ${signClass(completion.advantage)}`}, signed(completion.advantage)),
    make('td', {class: 'number'}, numberText(completion.length)),
    make('td', {}, completion.finish ?? '–'),
    make('td', {class: 'prompt'}, oneLine(promptOf(completion).text)),
    make('td', {}, oneLine(completion.text)));
  return open ? [row, openedRow(completion)] : [row];
}

function showPage() {
  byId('completion-count').textContent = countText();
  const pages = Math.max(1, Math.ceil(list.found.length / kRowsOfPage));
  const rows = list.found.slice(list.page * kRowsOfPage, (list.page + 1) * kRowsOfPage).flatMap(rowOf);
  const head = ['step', 'reward', 'advantage', 'tokens', 'ended by', 'prompt', 'completion'];
  const widths = ['92px', '84px', '92px', '76px', '84px', '28%', 'auto'];
  byId('completion-list').replaceChildren(make('table', {class: 'completions'},
    make('colgroup', {}, ...widths.map((width) => make('col', {style: `width: ${width}`}))),
    make('thead', {}, make('tr', {}, ...head.map((name, i) => make('th', {class: i < 4 ? 'number' : ''}, name)))),
    make('tbody', {}, ...rows)));
  byId('pager').hidden = pages === 1;
  byId('page-number').textContent = `page ${counted.format(list.page + 1)} of ${counted.format(pages)}`;
  byId('page-back').disabled = list.page === 0;
  byId('page-on').disabled = list.page === pages - 1;
}

function turnPage(by) {
  if (all.length === 0) return;
  const pages = Math.max(1, Math.ceil(list.found.length / kRowsOfPage));
  list.page = Math.min(pages - 1, Math.max(0, list.page + by));
  list.opened = null;
  showPage();
}

const focusRow = (completion) => document.querySelector(`tr.row[data-number="${completion.number}"]`)?.focus();

// The next (1) or previous (-1) row takes the focus.
function moveRow(by) {
  const rows = [...document.querySelectorAll('tr.row')];
  const at = rows.indexOf(document.activeElement);
  const next = rows[at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + by))];
  next?.focus();
  next?.scrollIntoView({block: 'nearest'});
}

function clearFilters() {
  for (const id of ['search', 'step-from', 'step-to', 'reward-from', 'reward-to', 'finish']) byId(id).value = '';
  list.group = null;
  applyFilters();
}

function buildCompletions() {
  data.runs.forEach((run, index) => {
    for (const completion of run.completions?.kept ?? []) all.push({...completion, run: index, number: all.length});
  });
  const logged = data.runs.some((run) => run.completions);
  if (all.length === 0) {
    byId('completion-tools').hidden = true;
    byId('no-completions').hidden = false;
    byId('no-completions').textContent = logged
      ? 'This page holds no completions: none are logged yet, or --max_completions 0 left them out.'
      : 'No run here has completions.jsonl: methods that sample completions write it.';
    return;
  }
  const reasons = [...new Set(all.map((completion) => String(completion.finish)))].sort();
  byId('finish').append(make('option', {value: ''}, 'anything'), ...reasons.map((reason) => make('option', {value: reason}, reason)));
  let waiting = 0;
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(applyFilters, 120); };
  for (const id of ['search', 'step-from', 'step-to', 'reward-from', 'reward-to']) byId(id).addEventListener('input', soon);
  for (const id of ['finish', 'order']) byId(id).addEventListener('change', applyFilters);
  byId('clear-filters').addEventListener('click', clearFilters);
  byId('page-back').addEventListener('click', () => turnPage(-1));
  byId('page-on').addEventListener('click', () => turnPage(1));
  applyFilters();
}
