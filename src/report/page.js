"use strict";
// Draws the plots of the page from the document in #data. Colours are the page's own, so that the
// scheme (light, dark) holds for plots too; formats differ by the shape of their points as well.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const shapes = ["circle", "rect", "triangle", "rectRot", "star", "crossRot", "rectRounded", "cross"];
  const charts = [];
  let ink, soft, line, raised;

  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (format) => variable("--f" + data.formats[format].colour);
  const shape = (format) => shapes[data.formats[format].colour % shapes.length];
  const readable = (value) => value === 0 ? "0" : Number(value.toPrecision(3)).toString();

  function readColours() {
    ink = variable("--ink");
    soft = variable("--soft");
    line = variable("--line");
    raised = variable("--raised");
    Chart.defaults.color = soft;
    Chart.defaults.borderColor = line;
  }

  function axis(title, more) {
    return Object.assign({ title: { display: true, text: title, color: soft },
      grid: { color: line, drawBorder: false }, ticks: { color: soft } }, more);
  }

  // Intervals as thin crosses through the points, and the format's name beside each.
  const crosses = {
    id: "crosses",
    afterDatasetsDraw(chart) {
      const { ctx, scales: { x, y }, chartArea } = chart;
      ctx.save();
      ctx.font = "500 12px " + Chart.defaults.font.family;
      chart.data.datasets.forEach((dataset) => {
        if (!dataset.label || dataset.front) return;
        dataset.data.forEach((point) => {
          ctx.strokeStyle = dataset.borderColor;
          ctx.lineWidth = 1.5;
          ctx.beginPath();
          if (point.ys) {
            ctx.moveTo(x.getPixelForValue(point.x), y.getPixelForValue(point.ys[0]));
            ctx.lineTo(x.getPixelForValue(point.x), y.getPixelForValue(point.ys[1]));
          }
          if (point.xs) {
            ctx.moveTo(x.getPixelForValue(point.xs[0]), y.getPixelForValue(point.y));
            ctx.lineTo(x.getPixelForValue(point.xs[1]), y.getPixelForValue(point.y));
          }
          ctx.stroke();
          ctx.fillStyle = ink;
          const left = x.getPixelForValue(point.x) > (chartArea.left + chartArea.right) / 2;
          ctx.textAlign = left ? "right" : "left";
          ctx.fillText(dataset.label, x.getPixelForValue(point.x) + (left ? -10 : 10),
            y.getPixelForValue(point.y) - 8);
        });
      });
      ctx.restore();
    }
  };

  function pareto(canvas, points) {
    const front = points.filter((point) => point.front).sort((a, b) => a.x - b.x);
    const datasets = points.map((point) => ({
      label: point.format, data: [point], borderColor: colour(point.format),
      backgroundColor: colour(point.format), pointStyle: shape(point.format), radius: 6,
      hoverRadius: 8
    }));
    datasets.push({ label: "front", front: true, type: "line", data: front, borderColor: soft,
      borderDash: [4, 4], borderWidth: 1.5, radius: 0, hoverRadius: 0 });
    const every = (key, ends) => points.flatMap((p) => p[ends] ? [p[key], ...p[ends]] : [p[key]]);
    // An axis with some room, from one round number to another.
    const padded = (values) => {
      const low = Math.min(...values), high = Math.max(...values);
      const room = Math.max((high - low) * 0.08, high * 0.01);
      const step = Math.pow(10, Math.floor(Math.log10(high - low + 2 * room))) / 4;
      return { min: Math.max(0, Math.floor((low - room) / step) * step),
        max: Math.ceil((high + room) / step) * step };
    };
    return new Chart(canvas, {
      type: "scatter", data: { datasets }, plugins: [crosses],
      options: { maintainAspectRatio: false, animation: false,
        scales: { x: axis("cost per query, share of the baseline's", Object.assign(padded(every("x", "xs")),
            { ticks: { color: soft, callback: (v) => readable(v) } })),
          y: axis("average accuracy, %", Object.assign(padded(every("y", "ys")),
            { ticks: { color: soft, callback: (v) => readable(v) } })) },
        plugins: { legend: { display: false }, tooltip: {
          filter: (item) => !item.dataset.front,
          callbacks: { label: (item) => item.dataset.label + ": cost " + readable(item.raw.x) +
            ", accuracy " + readable(item.raw.y) + " %" } } } }
    });
  }

  function bars(canvas, plot) {
    return new Chart(canvas, {
      type: "bar",
      data: { labels: plot.scenarios, datasets: plot.series.map((series) => ({
        label: series.format, data: series.values, backgroundColor: colour(series.format),
        borderRadius: 2 })) },
      options: { maintainAspectRatio: false, animation: false,
        scales: { x: axis("", { title: { display: false }, grid: { display: false } }),
          y: axis(plot.unit, { beginAtZero: true }) },
        plugins: { legend: { position: "bottom", labels: { boxWidth: 12, color: ink } },
          tooltip: { callbacks: { label: (item) => item.dataset.label + ": " +
            readable(item.raw) + " " + plot.unit } } } }
    });
  }

  function layers(canvas, plot) {
    return new Chart(canvas, {
      type: "scatter",
      data: { datasets: plot.series.map((series) => ({
        label: series.format, data: series.values.map((value, i) => ({ x: i, y: value, name: series.modules[i] }))
          .filter((point) => point.y > 0),
        borderColor: colour(series.format), backgroundColor: colour(series.format),
        pointStyle: shape(series.format), radius: 2.5 })) },
      options: { maintainAspectRatio: false, animation: false,
        scales: { x: axis("layer, in the order of the model",
            { max: Math.max(...plot.series.map((series) => series.values.length)) }),
          y: axis("relative error", { type: "logarithmic",
            ticks: { color: soft, callback: (v) => /^[125]e/.test(v.toExponential()) ? readable(v) : "" } }) },
        plugins: { legend: { position: "bottom", labels: { usePointStyle: true, color: ink } },
          tooltip: { callbacks: { label: (item) => item.dataset.label + ", " + item.raw.name + ": " +
            readable(item.raw.y) } } } }
    });
  }

  function draw() {
    charts.splice(0).forEach((chart) => chart.destroy());
    readColours();
    const kinds = { pareto, bars, layers };
    document.querySelectorAll("canvas[data-plot]").forEach((canvas) => {
      const plot = data.plots[canvas.dataset.plot];
      charts.push(kinds[plot.kind](canvas, plot.kind === "pareto" ? plot.points : plot));
    });
  }

  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", () => charts.forEach((chart) => chart.resize()));
  addEventListener("afterprint", () => charts.forEach((chart) => chart.resize()));
})();
