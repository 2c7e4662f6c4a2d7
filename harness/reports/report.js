"use strict";
// Text of models reaches the page through textContent alone; nothing here parses HTML.
(() => {
  const PAGE = 50; // prompts listed at once
  const UNSEEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufeff]/g;
  const byId = (id) => document.getElementById(id);

  const make = (tag, className, ...children) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children); // strings become text nodes
    return node;
  };

  // Theme: the system's until the button is used.
  const theme = byId("theme");
  const dark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const nameTheme = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  theme.hidden = false;
  theme.setAttribute("aria-label", "Switch between dark and light");
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    nameTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
  nameTheme();

  // Tables: numbers first fall, words first rise; what has no value stays last.
  const compare = (a, b, sign) => {
    if (a === b) return 0;
    if (a === "") return 1;
    if (b === "") return -1;
    const [x, y] = [Number(a), Number(b)];
    return sign * (Number.isNaN(x) || Number.isNaN(y) ? (a < b ? -1 : 1) : x - y);
  };
  const sortBy = (head) => {
    const place = head.cellIndex;
    const body = head.closest("table").tBodies[0];
    const numeric = [...body.rows].some((row) => row.cells[place].classList.contains("number"));
    const now = head.getAttribute("aria-sort");
    const first = numeric ? "descending" : "ascending";
    const next = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
    for (const other of head.parentElement.cells) other.setAttribute("aria-sort", other === head ? next : "none");
    const sign = next === "ascending" ? 1 : -1;
    const key = (row) => row.cells[place].dataset.sort ?? row.cells[place].textContent.trim().toLowerCase();
    const rows = [...body.rows].sort((a, b) => compare(key(a), key(b), sign));
    body.append(...rows);
  };
  for (const button of document.querySelectorAll(".sort")) {
    button.addEventListener("click", () => sortBy(button.closest("th")));
  }

  // What both a page's views need.
  const own = (object, key) => (Object.hasOwn(object, key) ? object[key] : undefined);

  // Appends text with unseen characters written out and the words searched for marked.
  const fill = (node, text, term) => {
    const plain = (part) => {
      let from = 0;
      for (const found of part.matchAll(UNSEEN)) {
        node.append(part.slice(from, found.index));
        const code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
        node.append(make("span", "unseen", `U+${code}`));
        from = found.index + found[0].length;
      }
      node.append(part.slice(from));
    };
    const lower = text.toLowerCase();
    let from = 0;
    // lower case may have another length; then places do not agree and nothing is marked
    for (let at; term && lower.length === text.length && (at = lower.indexOf(term, from)) >= 0; from = at + term.length) {
      plain(text.slice(from, at));
      node.append(make("mark", "", text.slice(at, at + term.length)));
    }
    plain(text.slice(from));
    return node;
  };

  const choices = (select, all, values, label = (value) => value) => {
    select.append(new Option(all, ""), ...values.map((value) => new Option(label(value), value)));
    select.parentElement.hidden = values.length === 0;
  };
  // A list to choose from, keeping what was chosen where it is still there: [value, label] each.
  const offer = (select, values) => {
    const before = select.value;
    select.replaceChildren(...values.map(([value, label]) => new Option(fill(make("span", ""), label).textContent, value)));
    if (values.some(([value]) => String(value) === before)) select.value = before;
    select.parentElement.hidden = values.length < 2;
  };
  const island = (id) => (byId(id) ? JSON.parse(byId(id).textContent) : null);
  const data = island("data");

  // Quality against cost: a chart a cost, of the set and the measure that are chosen.
  const SVG = "http://www.w3.org/2000/svg";
  const draw = (tag, attributes, text) => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const range = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = 0.08 * (high - low) || 0.1 * Math.abs(high) || 1;
    return [low - margin, high + margin];
  };
  const roundNumbers = (low, high, about) => {
    const rough = (high - low) / about;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((base) => base * power).find((base) => rough <= base * 1.0001);
    const found = [];
    for (let n = Math.ceil(low / step - 1e-9); n <= high / step + 1e-9; n += 1) found.push(n * step);
    return found;
  };
  const short = (value) => (Math.abs(value) >= 1e6 ? `${+(value / 1e6).toPrecision(3)}M`
    : Math.abs(value) >= 1e4 ? `${+(value / 1e3).toPrecision(4)}k` : String(+value.toPrecision(4))).replace("-", "−");
  const costChart = (title, costs, points, untrained, [, head, unit, percent], colours) => {
    const [width, height, left, right, top, bottom] = [290, 195, 46, 280, 10, 159];
    const known = [...colours.keys()].filter((name) => own(points, name) && own(costs, name) !== undefined)
      .map((name) => [name, points[name]]);
    const apart = new Set(known.map(([name]) => costs[name])).size; // a cost that all rows share tells nothing
    if (!known.length || (apart === 1 && known.length > 1)) return null;
    const factor = percent ? 100 : 1;
    const [xLow, xHigh] = range(known.map(([name]) => costs[name]));
    const [yLow, yHigh] = range([...known.map(([, value]) => value), ...(untrained ? [untrained] : [])].flat());
    const across = (x) => left + (right - left) * (x - xLow) / (xHigh - xLow);
    const down = (y) => top + (bottom - top) * (yHigh - y) / (yHigh - yLow);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${head} by ${title}` });
    for (const tick of roundNumbers(yLow * factor, yHigh * factor, 5)) {
      const y = down(tick / factor);
      svg.append(draw("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }),
        draw("text", { x: left - 5, y, dy: "0.35em", "text-anchor": "end" }, short(tick)));
    }
    for (const tick of roundNumbers(xLow, xHigh, 3)) {
      svg.append(draw("text", { x: across(tick), y: bottom + 14, "text-anchor": "middle" }, short(tick)));
    }
    svg.append(draw("text", { x: (left + right) / 2, y: bottom + 31, "text-anchor": "middle" }, title));
    if (untrained) {
      const line = draw("line", { class: "rule", x1: left, x2: right, y1: down(untrained[0]), y2: down(untrained[0]) });
      line.append(draw("title", {}, "the untrained student"));
      svg.append(line);
    }
    for (const [name, [value, low, high]] of known) {
      const group = draw("g", { class: colours.get(name) ?? "start" });
      const x = across(costs[name]);
      const mark = draw("circle", { cx: x, cy: down(value), r: 3.5 });
      mark.append(draw("title", {}, `${name}: ${short(value * factor)}${percent ? "%" : ` ${unit}`}, ${short(costs[name])}`));
      group.append(draw("line", { class: "whisker", x1: x, x2: x, y1: down(low), y2: down(high) }), mark);
      svg.append(group);
    }
    return make("figure", "chart", fill(make("figcaption", ""), title), svg);
  };
  const quality = island("cost-data");
  if (quality) {
    const chosen = byId("cost-filters");
    const colours = new Map(quality.systems);
    const redraw = () => {
      const points = own(quality.points, chosen.elements.set.value) ?? {};
      offer(chosen.elements.measure, quality.measures.filter(([name]) => own(points, name)).map(([name, head]) => [name, head]));
      const measure = quality.measures.find(([name]) => name === chosen.elements.measure.value);
      if (!measure) return byId("cost-charts").replaceChildren();
      const known = points[measure[0]];
      const untrained = quality.untrained.map((name) => own(known, name))[0];
      const charts = quality.costs.map(([title, costs]) => costChart(title, costs, known, untrained, measure, colours));
      const named = quality.systems.filter(([name]) => own(known, name) && own(quality.costs[0][1], name) !== undefined);
      const legend = named.map(([name, colour]) => make("li", "", make("i", `swatch ${colour}`), fill(make("span", ""), name)));
      if (untrained) legend.push(make("li", "", make("i", "key start"), "the untrained student"));
      byId("cost-legend").replaceChildren(...legend);
      return byId("cost-charts").replaceChildren(...charts.filter(Boolean));
    };
    offer(chosen.elements.set, quality.sets.map((name) => [name, name]));
    chosen.hidden = false;
    chosen.addEventListener("submit", (event) => event.preventDefault());
    chosen.addEventListener("input", redraw);
    redraw();
  }

  // Curves over settings: those of the set and the figure that are chosen.
  for (const chosen of document.querySelectorAll(".curve-filters")) {
    const redraw = () => {
      const { set, measure } = chosen.elements;
      for (const figure of chosen.parentElement.querySelectorAll("figure")) {
        const of = figure.dataset;
        const seen = measure.value ? of.measure === measure.value : of.first === "yes";
        figure.hidden = !seen || Boolean(set?.value && of.set !== set.value);
      }
    };
    chosen.hidden = false;
    chosen.addEventListener("submit", (event) => event.preventDefault());
    chosen.addEventListener("input", redraw);
    redraw();
  }

  // Token by token: one response, coloured by the KL of the student that is chosen.
  const LEVELS = [0.05, 0.2, 0.5, 1, 2, 4]; // nats from which on a token has the next colour
  const level = (kl) => LEVELS.filter((least) => kl >= least).length;
  const nats = (kl) => `${kl.toFixed(kl < 10 ? 3 : 1)} nats`;
  const tokens = island("token-data");
  const piece = (text) => {
    const node = make("span", "piece");
    const lines = text.split("\n");
    lines.forEach((line, place) => {
      fill(node, line);
      if (place < lines.length - 1) node.append(make("span", "end", "↵"), "\n");
    });
    return node;
  };
  // A token on its own: one of blanks alone, or of nothing, is seen too.
  const seen = (text) => (text.trim() ? piece(text) : make("span", "piece end", text.replaceAll(" ", "␣").replaceAll("\n", "↵") || "no text"));
  const colouredText = (pieces, kl) => {
    const said = make("p", "said note", "");
    said.setAttribute("role", "status");
    const text = make("p", "tokens", ...pieces.map((part, place) => {
      const node = piece(part);
      node.className = `t k${level(kl[place])}`;
      node.title = `token ${place + 1}: ${nats(kl[place])}`;
      node.tabIndex = place ? -1 : 0; // one stop; arrows go on from there
      return node;
    }));
    const show = (node) => {
      if (node) said.textContent = node.title;
    };
    text.addEventListener("pointerover", (event) => show(event.target.closest(".t")));
    text.addEventListener("focusin", (event) => show(event.target.closest(".t")));
    text.addEventListener("keydown", (event) => {
      const next = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[event.key];
      const to = next && document.activeElement[next];
      if (!to) return;
      document.activeElement.tabIndex = -1;
      to.tabIndex = 0;
      to.focus();
      event.preventDefault();
    });
    return [text, said];
  };
  const scale = () => make("ul", "scale", ...[0, ...LEVELS].map((least, place) =>
    make("li", `k${place}`, place ? `≥ ${least}` : `< ${LEVELS[0]} nats`)));
  const departureRow = (one) => {
    const row = make("tr", "", make("td", "number", nats(one.kl)), fill(make("td", "before"), one.before ? `…${one.before}` : ""));
    for (const key of ["token", "teacher_top", "student_top"]) row.append(make("td", "", seen(one[key])));
    const again = one.sample ? `, sample ${one.sample + 1}` : "";
    row.append(fill(make("td", "note"), `${one.prompt_set} · ${one.prompt_id}${again}, token ${one.position + 1}`));
    return row;
  };
  const departureTable = (rows) => {
    const heads = ["KL", "before it", "the token", "the teacher's likeliest", "the student's likeliest", "where"];
    const head = make("tr", "", ...heads.map((text) => Object.assign(make("th", text === "KL" ? "number" : "", text), { scope: "col" })));
    const table = make("table", "departures", make("thead", "", head), make("tbody", "", ...rows.map(departureRow)));
    const region = make("div", "scroll", table);
    for (const [name, value] of [["tabindex", "0"], ["role", "region"], ["aria-label", "where it departs most"]]) {
      region.setAttribute(name, value);
    }
    return region;
  };
  if (tokens) {
    const chosen = byId("token-filters");
    const { set, student, writer, prompt } = chosen.elements;
    const askedOf = (view) => data.prompts.find((one) => one.set === view.prompt_set && one.id === view.prompt_id)?.messages ?? [];
    const named = (view) => {
      const last = askedOf(view).at(-1)?.[1] ?? "";
      const again = view.sample ? `, sample ${view.sample + 1}` : "";
      return `${view.prompt_id}${again}${last ? `: ${last.length > 90 ? `${last.slice(0, 90)}…` : last}` : ""}`;
    };
    const redraw = () => {
      const distinct = (values) => [...new Set(values)].map((value) => [value, value]);
      offer(set, distinct(tokens.views.map((view) => view.prompt_set)));
      const inSet = tokens.views.filter((view) => view.prompt_set === set.value);
      offer(student, tokens.systems.filter(([name]) => inSet.some((view) => own(view.kl, name))).map(([name]) => [name, name]));
      const its = inSet.filter((view) => own(view.kl, student.value));
      const whose = (name) => (name === tokens.teacher ? "the teacher's" : "its own");
      offer(writer, distinct(its.map((view) => view.writer)).map(([name]) => [whose(name), whose(name)]));
      const views = its.filter((view) => whose(view.writer) === writer.value);
      offer(prompt, views.map((view, place) => [`${view.prompt_id} ${view.sample}`, named(view), place]));
      const view = views.find((one) => `${one.prompt_id} ${one.sample}` === prompt.value);
      const card = make("div", "token-card");
      if (view) {
        for (const [role, content] of askedOf(view)) card.append(make("p", "role", role), fill(make("p", "text"), content));
        const whoseIsIt = view.writer === tokens.teacher ? "the teacher's response" : `the response of ${view.writer}`;
        const cut = view.tokens > view.pieces.length ? `, its first ${view.pieces.length} tokens of ${view.tokens}` : "";
        card.append(fill(make("p", "role"), whoseIsIt + cut), ...colouredText(view.pieces, view.kl[student.value]));
      }
      const most = tokens.departures.filter((one) => one.method === student.value && whose(one.writer) === writer.value);
      const parts = [scale(), card];
      if (most.length) parts.push(fill(make("h3", ""), `Where ${student.value} departs most, on all sets`), departureTable(most));
      byId("token-view").replaceChildren(...parts);
    };
    chosen.hidden = false;
    chosen.addEventListener("submit", (event) => event.preventDefault());
    chosen.addEventListener("input", redraw);
    redraw();
  }

  // The browser of prompts; a page of boards has none.
  if (!data) return;
  const colours = new Map(data.systems);
  const form = byId("filters");
  const list = byId("list");
  const more = byId("more");
  const KINDS = { win: "wins", tie: "ties", loss: "losses", missing: "missing", flip: "orders disagree" };
  let matching = [];
  let listed = 0;

  const distinct = (key) => [...new Set(data.prompts.map((prompt) => prompt[key]))].filter(Boolean).sort();
  const ANSWERED = data.prompts.some((prompt) => "sample" in prompt) ? "samples of prompts" : "prompts";
  const flipped = data.prompts.some((prompt) => prompt.flips.length);
  choices(form.elements.set, "all sets", distinct("set"));
  choices(form.elements.category, "all categories", distinct("category"));
  choices(form.elements.system, "all methods", data.systems.map(([name]) => name));
  choices(form.elements.verdict, "any verdict", Object.keys(KINDS).filter((kind) => kind !== "flip" || flipped), (kind) => KINDS[kind]);

  const searched = new WeakMap(); // a prompt's whole text in lower case, made when first searched
  const haystack = (prompt) => {
    if (!searched.has(prompt)) {
      const answers = Object.values(prompt.responses).map((response) => response[0]);
      const turns = prompt.messages.map((message) => message[1]);
      searched.set(prompt, [prompt.id, ...turns, ...answers].join("\n").toLowerCase());
    }
    return searched.get(prompt);
  };
  const is = (prompt, system, kind) =>
    kind === "flip" ? prompt.flips.includes(system) : own(prompt.outcomes, system) === kind;
  const wanted = () => ({
    set: form.elements.set.value,
    category: form.elements.category.value,
    system: form.elements.system.value,
    verdict: form.elements.verdict.value,
    term: form.elements.text.value.trim().toLowerCase(),
  });
  const fits = (prompt, want) => {
    const systems = want.system ? [want.system] : data.systems.map(([name]) => name);
    return (!want.set || prompt.set === want.set)
      && (!want.category || prompt.category === want.category)
      && (!want.verdict || systems.some((system) => is(prompt, system, want.verdict)))
      && (!want.term || haystack(prompt).includes(want.term));
  };

  const prefers = (preference, system) => {
    if (preference === 0.5) return "a tie";
    const side = preference > 0.5 ? system : data.teacher;
    return `prefers ${side}` + (preference === 0 || preference === 1 ? "" : ` (${Number(preference.toFixed(3))} for ${system})`);
  };
  const ORDERS = { candidate_first: "method shown first", reference_first: "teacher shown first", none: "" };
  const verdictLine = ([judge, order, status, preference, detail, raw], system) => {
    const said = status === "ok" ? prefers(preference, system) : status;
    const where = ORDERS[order] ? `, ${ORDERS[order]}` : "";
    const line = make("li", "", fill(make("span", ""), `${judge}${where}: ${said}`));
    if (detail) line.append(fill(make("p", "text"), detail));
    if (raw) line.append(make("details", "", make("summary", "", "the judge's words"), fill(make("p", "text"), raw)));
    return line;
  };
  const side = (prompt, system, term) => {
    const response = own(prompt.responses, system);
    const outcome = own(prompt.outcomes, system);
    const head = make("h4", "", make("span", "system", make("i", `swatch ${colours.get(system) ?? ""}`), fill(make("span", ""), system)));
    if (outcome) head.append(make("span", `chip ${outcome}`, outcome + (prompt.flips.includes(system) ? ", orders disagree" : "")));
    const card = make("div", system === data.teacher ? "side teacher" : "side", head);
    if (response) {
      const [text, tokens, finish] = response;
      head.append(make("span", "note", `${tokens} tokens${finish === "length" ? ", cut" : ""}`));
      card.append(fill(make("p", "text"), text, term));
      if (!text) card.append(make("p", "note", "(an empty response)"));
    } else {
      card.append(make("p", "note", "the response is not in this record"));
    }
    const verdicts = own(prompt.verdicts, system) ?? [];
    if (verdicts.length) card.append(make("ul", "verdicts", ...verdicts.map((verdict) => verdictLine(verdict, system))));
    return card;
  };
  const body = (prompt, want) => {
    const node = make("div", "body");
    const turns = make("div", "turns");
    for (const [role, content] of prompt.messages) {
      turns.append(make("p", "role", role), fill(make("p", "text"), content, want.term));
    }
    if (prompt.answer) turns.append(make("p", "role", "known answer"), fill(make("p", "text"), prompt.answer));
    const others = data.systems
      .map(([name]) => name)
      .filter((name) => (want.system ? name === want.system : own(prompt.responses, name) || own(prompt.verdicts, name)));
    node.append(turns, make("div", "sides", side(prompt, data.teacher, want.term),
      make("div", "others", ...others.map((name) => side(prompt, name, want.term)))));
    return node;
  };
  const item = (prompt, want) => {
    const last = prompt.messages.at(-1)?.[1] ?? "";
    const start = last.length > 160 ? `${last.slice(0, 160)}…` : last;
    const chips = make("span", "chips");
    for (const [system] of data.systems) {
      const outcome = own(prompt.outcomes, system);
      if (outcome && (!want.system || want.system === system)) {
        chips.append(fill(make("span", `chip ${outcome}`), `${system}: ${outcome}`));
      }
    }
    const sample = "sample" in prompt ? `sample ${prompt.sample + 1}` : "";
    const where = [prompt.set, prompt.id, sample, prompt.category].filter(Boolean).join(" · ");
    const summary = make("summary", "", fill(make("span", "where"), where), fill(make("span", "start-of"), start, want.term), chips);
    const node = make("details", "item", summary);
    node.addEventListener("toggle", () => {
      if (node.open && node.children.length === 1) node.append(body(prompt, want));
    });
    return node;
  };
  const showMore = () => {
    const want = wanted();
    const next = matching.slice(listed, listed + PAGE);
    list.append(...next.map((prompt) => item(prompt, want)));
    listed += next.length;
    more.hidden = listed >= matching.length;
    more.textContent = `Show ${Math.min(PAGE, matching.length - listed)} more`;
  };
  const refresh = () => {
    const want = wanted();
    matching = data.prompts.filter((prompt) => fits(prompt, want));
    listed = 0;
    list.replaceChildren();
    byId("count").textContent = `${matching.length} of ${data.prompts.length} ${ANSWERED}; outcomes by ${data.judge}`;
    showMore();
  };
  let waiting;
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(refresh, 120);
  });
  more.addEventListener("click", () => {
    const from = listed;
    showMore();
    list.children[from]?.firstElementChild.focus(); // the button may be gone
  });
  refresh();
})();
