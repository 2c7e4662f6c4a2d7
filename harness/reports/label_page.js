"use strict";
// Text of models reaches the page through textContent alone; nothing here parses HTML.
(() => {
  const UNSEEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufeff]/g;
  const FORMULA = /^[=+\-@\t\r]/; // what a spreadsheet takes for the beginning of one
  const LABELS = new Set(["a", "b", "tie"]);
  const byId = (id) => document.getElementById(id);
  const { columns, pairs, file, name } = JSON.parse(byId("data").textContent);
  const [PAIR, PROMPT, FIRST, SECOND, LABEL] = columns;
  const labels = new Map(pairs.map((pair) => [pair[PAIR], pair[LABEL]]));
  let place = 0;

  // What was said is kept by the browser, where it keeps anything.
  const key = `labels ${name}`;
  const note = (text) => { byId("note").textContent = text; };
  const keep = () => {
    try {
      localStorage.setItem(key, JSON.stringify([...labels]));
    } catch {
      note("This browser keeps nothing of this page: save the file before you close it.");
    }
  };
  const take = (said) => {
    let taken = 0;
    for (const [pair, label] of said) {
      if (labels.has(pair) && LABELS.has(label)) {
        labels.set(pair, label);
        taken += 1;
      }
    }
    return taken;
  };
  try {
    take(JSON.parse(localStorage.getItem(key) ?? "[]"));
  } catch {
    note("What this browser kept of this page cannot be read; load the file that you saved.");
  }

  const without = () => pairs.findIndex((pair) => !labels.get(pair[PAIR]));
  const show = () => {
    const pair = pairs[place];
    for (const [id, column] of [["prompt", PROMPT], ["a", FIRST], ["b", SECOND]]) {
      byId(id).textContent = pair[column].replace(
        UNSEEN, (one) => `[U+${one.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);
      byId(id).scrollTop = 0;
    }
    const label = labels.get(pair[PAIR]);
    for (const button of document.querySelectorAll("[data-label]")) {
      button.setAttribute("aria-pressed", String(button.dataset.label === label));
    }
    const done = [...labels.values()].filter(Boolean).length;
    byId("progress").max = pairs.length;
    byId("progress").value = done;
    byId("count").textContent = `pair ${place + 1} of ${pairs.length}; ${done} labelled`;
    byId("back").disabled = place === 0;
    byId("next").disabled = place === pairs.length - 1;
    byId("open").disabled = done === pairs.length;
  };
  const go = (to) => {
    place = Math.min(Math.max(to, 0), pairs.length - 1);
    show();
  };
  const say = (label) => {
    labels.set(pairs[place][PAIR], label);
    note("");
    keep();
    const later = pairs.findIndex((pair, index) => index > place && !labels.get(pair[PAIR]));
    go(later >= 0 ? later : place);
    if (later < 0) note(without() < 0 ? "All pairs are labelled: save the file." : "The last pair; some before it have no label.");
  };

  // The file: as the one that lies beside the page.
  const cell = (text) => (/[",;\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const guarded = (text) => (FORMULA.test(text) ? `'${text}` : text);
  const csv = () => {
    const rows = pairs.map((pair) => columns.map((column) => cell(guarded(
      column === LABEL ? labels.get(pair[PAIR]) : pair[column]))));
    return `\ufeff${[columns, ...rows].map((row) => row.join(",")).join("\r\n")}\r\n`;
  };
  const parse = (text) => {
    const head = text.split("\n", 1)[0];
    const count = (one) => head.split(one).length;
    const delimiter = [",", ";", "\t"].reduce((best, one) => (count(one) > count(best) ? one : best));
    const rows = [[""]];
    let quoted = false;
    const source = text.replace(/^\ufeff/, "");
    for (let at = 0; at < source.length; at += 1) {
      const row = rows[rows.length - 1];
      const one = source[at];
      if (quoted) {
        if (one !== '"') row[row.length - 1] += one;
        else if (source[at + 1] === '"') { row[row.length - 1] += '"'; at += 1; } else quoted = false;
      } else if (one === '"') quoted = true;
      else if (one === delimiter) row.push("");
      else if (one === "\n") rows.push([""]);
      else if (one !== "\r") row[row.length - 1] += one;
    }
    return rows;
  };
  const read = (text) => {
    const [head, ...rows] = parse(text);
    const [pair, label] = [head.indexOf(PAIR), head.indexOf(LABEL)];
    if (pair < 0 || label < 0) {
      note(`That file has no columns ${PAIR} and ${LABEL}.`);
      return;
    }
    const said = rows.map((row) => [(row[pair] ?? "").trim(), (row[label] ?? "").trim().toLowerCase()]);
    const given = said.filter(([, one]) => one);
    const taken = take(given);
    keep();
    go(Math.max(without(), 0));
    const left = given.length - taken;
    note(`${taken} labels taken over${left ? `; ${left} are of other pairs, or none of a, b and tie` : ""}.`);
  };
  const save = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv;charset=utf-8" }));
    link.download = file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  for (const button of document.querySelectorAll("[data-label]")) {
    button.addEventListener("click", () => say(button.dataset.label));
  }
  byId("back").addEventListener("click", () => go(place - 1));
  byId("next").addEventListener("click", () => go(place + 1));
  byId("open").addEventListener("click", () => go(without()));
  byId("save").addEventListener("click", save);
  byId("load").addEventListener("change", async (event) => {
    const [chosen] = event.target.files;
    if (chosen) read(await chosen.text());
    event.target.value = "";
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const pressed = event.key.toLowerCase();
    if (pressed === "a" || pressed === "b") say(pressed);
    else if (pressed === "t") say("tie");
    else if (pressed === "arrowleft" || pressed === "backspace") go(place - 1);
    else if (pressed === "arrowright") go(place + 1);
    else return;
    event.preventDefault();
  });
  byId("labels").hidden = false;
  go(Math.max(without(), 0));
})();
