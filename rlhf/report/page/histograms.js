'use strict';
// How rewards, advantages and lengths of completions are spread, over a stretch of steps.

const histogramCards = [];
const stretch = {from: 0, to: 0};  // indices of step ranges, both included

const kQuantityNames = {length: 'length in tokens'};

// With one judge its reward is the reward but for its weight: one card is enough.
function quantitiesShown() {
  const judges = data.histograms.quantities.filter((quantity) => quantity.name.startsWith('rewards/'));
  return data.histograms.quantities.filter((quantity) => judges.length > 1 || !quantity.name.startsWith('rewards/'));
}

function countsIn(histogram) {
  const sums = histogram.counts[0].map(() => 0);
  for (let range = stretch.from; range <= stretch.to; ++range) {
    histogram.counts[range].forEach((count, bin) => { sums[bin] += count; });
  }
  return sums;
}

function binLabels(quantity) {
  return quantity.low.map((low, i) => low === quantity.high[i] ? numberText(low) : `${numberText(low)} – ${numberText(quantity.high[i])}`);
}

function histogramDatasets(quantity) {
  return quantity.runs.filter((histogram) => !state.hidden.has(histogram.run)).map((histogram) => {
    const counts = countsIn(histogram);
    const total = counts.reduce((a, b) => a + b, 0);
    return {
      label: data.runs[histogram.run].name,
      counts,
      total,
      data: counts.map((count) => total > 0 ? 100 * count / total : 0),
      backgroundColor: withOpacity(runColour(histogram.run), 0.8),
      barPercentage: 1,
      categoryPercentage: 0.92,
    };
  });
}

function drawHistogram(card) {
  card.stale = false;
  const colours = chartColours();
  const look = scaleLook(colours);
  const datasets = histogramDatasets(card.quantity);
  const total = datasets.reduce((sum, dataset) => sum + dataset.total, 0);
  card.remark.textContent = `${counted.format(total)} completions`;
  const options = {
    animation: false, responsive: true, maintainAspectRatio: false, interaction: {mode: 'index', intersect: false},
    scales: {
      x: {...look, grid: {display: false}, ticks: {...look.ticks, callback: (bin) => numberText(card.quantity.low[bin])}},
      y: {...look, beginAtZero: true, ticks: {...look.ticks, callback: (value) => `${numberText(value)}%`, maxTicksLimit: 5}},
    },
    plugins: {
      legend: {display: false},
      tooltip: {...tooltipLook(colours), callbacks: {
        label: (item) => `${data.runs.length > 1 ? item.dataset.label + '  ' : ''}${item.raw.toFixed(1)}%  (${counted.format(item.dataset.counts[item.dataIndex])})`,
      }},
    },
  };
  card.chart?.destroy();
  card.chart = new Chart(card.canvas, {type: 'bar', data: {labels: binLabels(card.quantity), datasets}, options});
}

const firstStepOf = (range) => range === 0 ? data.histograms.first_step : data.histograms.last_steps[range - 1] + 1;

function setStretch(from, to) {
  stretch.from = Math.min(from, to);
  stretch.to = Math.max(from, to);
  byId('range-from-value').textContent = counted.format(firstStepOf(stretch.from));
  byId('range-to-value').textContent = counted.format(data.histograms.last_steps[stretch.to]);
  redraw(histogramCards);
}

function buildHistograms() {
  const ranges = data.histograms.last_steps.length;
  if (ranges === 0) {
    byId('distribution-tools').hidden = true;
    byId('no-distributions').hidden = false;
    byId('no-distributions').textContent = data.runs.some((run) => run.completions)
      ? 'No completions are logged yet.'
      : 'No run here has completions.jsonl: methods that sample completions write it.';
    return;
  }
  for (const quantity of quantitiesShown()) {
    const name = kQuantityNames[quantity.name] ?? quantity.name;
    const canvas = make('canvas', {role: 'img', 'aria-label': `Histogram of ${name}`});
    const remark = make('span', {class: 'remark'});
    const element = make('article', {class: 'card', 'data-quantity': quantity.name},
      make('header', {}, make('span', {class: 'name'}, name), remark), make('div', {class: 'plot'}, canvas));
    const card = watch(element, {quantity, canvas, remark, element, chart: null});
    card.draw = () => drawHistogram(card);
    histogramCards.push(card);
    byId('distribution-cards').append(element);
  }
  const from = byId('range-from');
  const to = byId('range-to');
  from.max = to.max = ranges - 1;
  from.value = 0;
  to.value = ranges - 1;
  for (const slider of [from, to]) slider.addEventListener('input', () => setStretch(Number(from.value), Number(to.value)));
  setStretch(0, ranges - 1);
}
