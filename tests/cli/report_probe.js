'use strict';
// Works the page of `rlhf report` as a reader would and writes what it saw, a line each, for report_browser.sh.
{
  const seen = [];
  const say = (name, value) => seen.push(`${name} ${value}`);
  const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  const type = (id, text, event = 'input') => {
    byId(id).value = text;
    byId(id).dispatchEvent(new Event(event, {bubbles: true}));
  };
  const press = (key) => document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
  const count = () => byId('completion-count').textContent;
  const cardOf = (name) => cards.find((card) => card.name === name);
  const isDrawn = (canvas) => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((byte) => byte !== 0);
  const picture = (canvas) => canvas.toDataURL();
  const curvesOf = (card) => card.chart.data.datasets.filter((dataset) => !dataset.raw);
  const bins = (card) => card.chart.data.labels.map((label, i) => `${label}:${card.chart.data.datasets[0].counts[i]}`).join();

  const show = async (element) => {
    element.scrollIntoView();
    await wait(300);
  };

  const curves = async () => {
    say('groups', [...document.querySelectorAll('details.group')].map((group) => group.dataset.group).join());
    const loss = cardOf('loss');
    await show(loss.element);
    say('loss_drawn', isDrawn(loss.canvas));
    say('loss_runs', curvesOf(loss).map((dataset) => dataset.label).join());
    say('loss_colours_differ', new Set(curvesOf(loss).map((dataset) => dataset.borderColor)).size === data.runs.length);
    say('loss_smoothed_last', numberText(curvesOf(loss)[0].data.at(-1).y));
    const before = picture(loss.canvas);
    type('smoothing', '0.95');
    await wait(100);
    say('loss_changes_with_smoothing', picture(loss.canvas) !== before);
    type('smoothing', '0');
    await wait(100);
    say('loss_logged_last', numberText(curvesOf(loss)[0].data.at(-1).y));
    setZoom({min: 10, max: 20});
    await wait(100);
    say('zoomed_from_10', loss.chart.scales.x.min === 10 && !byId('zoom-reset').hidden);
    press('0');
    if (cardOf('kl')) {
      await show(cardOf('kl').element);
      say('kl_remark', cardOf('kl').remark.textContent);
    }
    if (cardOf('eval_loss')) {
      await show(cardOf('eval_loss').element);
      say('eval_points', curvesOf(cardOf('eval_loss'))[0].data.length);
    }
  };

  const comparison = async () => {
    press('1');
    await show(cardOf('loss').element);
    say('loss_runs_without_first', curvesOf(cardOf('loss')).map((dataset) => dataset.label).join());
    press('1');
    const rows = () => [...document.querySelectorAll('#config-table tr[data-key]')];
    const differing = rows().sort((a, b) => a.dataset.key < b.dataset.key ? -1 : 1);
    say('config_differing', differing.map((row) => row.dataset.key).join());
    say('config_values', differing.map((row) => [...row.cells].slice(1).map((cell) => cell.textContent).join('|')).join());
    byId('only-differences').click();
    say('config_all', rows().length);
  };

  const phases = async () => {
    await show(phaseCards[0].element);
    say('phases_drawn', isDrawn(phaseCards[0].canvas));
    const rows = [...phaseCards[0].table.querySelectorAll('tr')].slice(1);
    say('phases', rows.map((row) => [...row.cells].map((cell) => cell.textContent.trim().replace('time/', '')).join(' ')).join());
  };

  const histograms = async () => {
    say('histograms', histogramCards.map((card) => card.quantity.name).join());
    await show(histogramCards[0].element);
    say('reward_bins', bins(histogramCards[0]));
    type('range-to', '1');
    await wait(50);
    say('reward_bins_of_steps_1_to_2', bins(histogramCards[0]));
  };

  const filtered = async (name, fields) => {
    for (const [id, text] of Object.entries(fields)) type(id, text, id === 'finish' ? 'change' : 'input');
    await wait(200);
    say(name, count());
  };

  const completions = async () => {
    await filtered('completions_all', {});
    if (data.runs.length > 1) return;
    const rows = () => document.querySelectorAll('tr.row');
    say('rows_of_page', rows().length);
    press('j');
    say('key_moves_to_row', document.activeElement.dataset.number);
    rows()[0].click();
    say('hostile', document.querySelectorAll('.opened pre')[1].textContent);
    document.querySelector('.opened button').click();
    say('completions_group', count());
    clearFilters();
    press('n');
    say('page', byId('page-number').textContent);
    say('rows_of_last_page', rows().length);
    await filtered('completions_apple', {search: 'apple'});
    rows()[0].click();
    say('marks', document.querySelectorAll('.opened mark').length);
    await filtered('completions_steps_3_to_4', {'search': '', 'step-from': '3', 'step-to': '4'});
    clearFilters();
    await filtered('completions_reward_from_1', {'reward-from': '1'});
    clearFilters();
    await filtered('completions_length', {finish: 'length'});
    await filtered('completions_length_and_steps_to_5', {'step-to': '5'});
    clearFilters();
  };

  const all_of_it = async () => {
    await wait(500);
    say('title', document.title);
    say('runs_shown', document.querySelectorAll('.chip[aria-pressed="true"]').length);
    say('config_keys', document.querySelectorAll('#config-table tr[data-key]').length);
    if (cards.length > 0) await curves();
    else say('curves_none', byId('no-curves').textContent);
    if (phaseCards.length > 0) await phases();
    if (histogramCards.length > 0) await histograms();
    if (all.length > 0) await completions();
    else say('completions_none', byId('no-completions').textContent);
    if (data.runs.length > 1) await comparison();
  };

  all_of_it().catch((error) => say('failed', `${error} ${error.stack}`)).then(() => {
    document.body.append(make('pre', {id: 'probe'}, `\n${seen.join('\n')}\n`));
  });
}
