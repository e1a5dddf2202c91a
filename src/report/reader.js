"use strict";
// Lets a person read two answers side by side, from the document in #pairs. Texts of models and data
// sets only ever become text nodes; nothing here makes markup of them.
(() => {
  const root = document.getElementById("reader");
  if (!root) return;
  const data = JSON.parse(document.getElementById("pairs").textContent);
  const baseline = root.dataset.baseline;
  const flips = ["right → wrong", "wrong → right", "wrong → other wrong", "same answer"];
  const kinds = ["lost", "gained", "changed", "none"];
  const control = (name) => root.querySelector("[data-control=" + name + "]");
  const list = root.querySelector(".list"), detail = root.querySelector(".detail");
  const count = root.querySelector(".count");
  const byId = new Map(data.samples.map((sample) => [sample.id, sample]));
  let shown = [], current = null;

  const group = (sample) => data.groups[sample.group];
  const texts = (sample) => data.prompts[sample.prompt];

  // An element with text or children; strings become text nodes.
  function make(tag, className, ...children) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  function haystack(sample) {
    if (sample.text === undefined)
      sample.text = [...texts(sample), sample.target, sample.subtask, sample.alike, sample.rest_base,
        sample.rest, ...(sample.choices || []).map((choice) => choice.text)]
        .filter(Boolean).join("\n").toLowerCase();
    return sample.text;
  }

  function fill(select, all, values) {
    select.append(new Option(all, ""), ...values.map((value) => new Option(value, value)));
  }

  function matches(sample) {
    const { format, task } = group(sample), query = control("search").value.trim().toLowerCase();
    return (!control("format").value || control("format").value === format) &&
      (!control("task").value || control("task").value === task) &&
      (!control("flip").value || control("flip").value === kinds[sample.flip]) &&
      sample.divergence >= Number(control("divergence").value) &&
      (!query || haystack(sample).includes(query));
  }

  function title(sample) {
    const task = group(sample).task;
    return (sample.subtask && sample.subtask !== task ? task + " · " + sample.subtask : task) +
      (sample.metric ? " · " + sample.doc : "");
  }

  function badge(sample) {
    return sample.metric ? make("span", "flip " + kinds[sample.flip], flips[sample.flip]) : null;
  }

  function entry(sample) {
    const context = texts(sample).at(-1) || "";
    const link = make("a", "", make("span", "top", make("b", "", title(sample)), " ",
      group(sample).format), badge(sample), make("span", "snippet", context.slice(-140)));
    link.href = "#" + sample.id;
    if (sample === current) link.setAttribute("aria-current", "true");
    return link;
  }

  function update() {
    shown = data.samples.filter(matches);
    list.replaceChildren(...shown.map(entry));
    let pairs = 0, flipped = 0;
    data.groups.forEach((item) => {
      if ((control("format").value && control("format").value !== item.format) ||
        (control("task").value && control("task").value !== item.task)) return;
      pairs += item.pairs;
      flipped += item.lost + item.gained;
    });
    const number = (value) => value.toLocaleString("en").replace(/,/g, "\u202F");
    count.textContent = number(shown.length) + " here match; the study has " + number(pairs) +
      " such pairs, " + number(flipped) + " of them flips.";
  }

  // What follows the first difference is marked; a side that has no more says so.
  function answer(name, sample, rest, extracted, score) {
    const same = !sample.rest_base && !sample.rest;
    return make("div", "side", make("div", "who", name),
      make("p", "answer-text", sample.alike,
        rest ? make("mark", "", rest) : make("span", "end", same ? "" : "⟨ends here⟩")),
      sample.metric ? make("div", "who", "taken from it: ", make("code", "", extracted),
        ", score " + score) : null);
  }

  function choices(sample, format) {
    const table = make("table", "", make("thead", "", make("tr", "", ...["choice", baseline, format,
      "change", ""].map((text) => make("th", "", text)))));
    const value = (x) => x === null ? "–" : x.toFixed(3);
    // Rows of a task whose choice is in the context do not number the right one: a scored side does.
    const right = /^\d+$/.test(sample.target) ? Number(sample.target)
      : sample.score === 1 ? sample.chosen : sample.score_base === 1 ? sample.chosen_base : -1;
    const body = make("tbody", "");
    sample.choices.forEach((choice, i) => {
      const notes = [];
      if (i === right) notes.push("the right answer");
      if (i === sample.chosen_base) notes.push(baseline + " chose it");
      if (i === sample.chosen) notes.push(format + " chose it");
      const cells = [make("td", "word text", choice.text), make("td", "", value(choice.base)),
        make("td", "", value(choice.format)), make("td", "", choice.base === null ? "–" :
          value(choice.format - choice.base)), make("td", "word", notes.join(", "))];
      cells[1].title = String(choice.base);
      cells[2].title = String(choice.format);
      const row = make("tr", i === sample.chosen && i !== sample.chosen_base ? "moved" : "", ...cells);
      body.append(row);
    });
    table.append(body);
    return make("div", "scroll", table);
  }

  function step(by, text) {
    const next = shown[shown.indexOf(current) + by];
    if (!next || shown.indexOf(current) < 0) return null;
    const link = make("a", "", text);
    link.href = "#" + next.id;
    return link;
  }

  function show(sample) {
    current = sample;
    const { format } = group(sample), contexts = texts(sample);
    const link = make("a", "", "link to this pair");
    link.href = "#" + sample.id;
    const parts = [make("div", "head", make("h3", "", title(sample)), badge(sample),
      make("span", "who", format + " against " + baseline +
        (sample.metric ? ", " + sample.metric : "") + ", divergence " +
        sample.divergence.toFixed(2)), link, step(-1, "← previous"), step(1, "next →"))];
    const prompt = make("details", "", make("summary", "", "The prompt, as the model read it"));
    prompt.open = true;
    contexts.forEach((context, i) => prompt.append(make("pre", "prompt-text",
      contexts.length > 1 ? make("b", "", "choice " + i + ": ") : "", context,
      sample.continuations[i] ? make("u", "", sample.continuations[i]) : "")));
    if (sample.target && !(sample.choices && /^\d+$/.test(sample.target)))
      prompt.append(make("p", "who", "expected: ", make("code", "", sample.target)));
    parts.push(prompt);
    if (sample.choices)
      parts.push(make("p", "who", "Log-likelihood of each choice, in nats" +
        (sample.metric === "acc_norm" ? "; acc_norm takes the highest per character:" : ":")),
        choices(sample, format));
    else
      parts.push(make("div", "pair",
        answer(baseline, sample, sample.rest_base, sample.extracted_base, sample.score_base),
        answer(format, sample, sample.rest, sample.extracted, sample.score)));
    detail.replaceChildren(...parts);
    list.querySelectorAll("a").forEach((item) => {
      if (item.hash === "#" + sample.id) {
        item.setAttribute("aria-current", "true");
        const above = item.offsetTop - list.offsetTop;
        if (above < list.scrollTop || above + item.offsetHeight > list.scrollTop + list.clientHeight)
          list.scrollTop = above - list.clientHeight / 3;
      } else item.removeAttribute("aria-current");
    });
  }

  function follow() {
    const sample = byId.get(location.hash.slice(1));
    if (!sample) return;
    const arrived = current === null || !root.contains(document.activeElement);
    show(sample);
    if (arrived) root.scrollIntoView();
  }

  fill(control("format"), "every format", [...new Set(data.groups.map((item) => item.format))]);
  fill(control("task"), "every task", [...new Set(data.groups.map((item) => item.task))]);
  kinds.forEach((kind, i) => control("flip").append(new Option(flips[i], kind)));
  ["format", "task", "flip", "divergence", "search"].forEach((name) =>
    control(name).addEventListener("input", update));
  addEventListener("hashchange", follow);
  root.hidden = false;
  update();
  if (byId.has(location.hash.slice(1))) follow();
  else if (shown.length > 0) show(shown[0]);
})();
