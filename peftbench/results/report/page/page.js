"use strict";
// Filters, sorts and opens what the page already holds. The view is in location.hash; records' texts are written as
// text, never as markup.
(() => {
  const $ = (query, root = document) => root.querySelector(query);
  const $$ = (query, root = document) => [...root.querySelectorAll(query)];
  document.documentElement.classList.add("js");
  const board = JSON.parse($("#data").textContent);
  const table = $("#table");
  let state, opened = null, empty = new Set();
  if (!table) { theme(""); return; }

  const MANY = ["data", "model", "family", "study"].filter((name) => $("#menu-" + name));
  const form = $("#controls"), body = $("tbody", table), dialog = $("#details");
  const rows = board.rows.map((row, rank) => ({ ...row, rank, tr: document.getElementById(row.id) }));
  const byId = new Map(rows.map((row) => [row.id, row]));
  for (const row of rows) row.at = new Map($$("[data-col]", row.tr).map((cell) => [cell.dataset.col, cell]));
  const heads = new Map($$("thead th", table).map((head) => [head.dataset.col, head]));
  const columns = new Map(board.columns.map((column) => [column.id, column]));

  // -- The view, as it stands in the address

  function read() {
    const query = new URLSearchParams(location.hash.slice(1));
    const many = (name) => new Set(query.getAll(name));
    const state = { method: query.get("method") || "", metric: query.get("metric") || "", sort: query.get("sort") || "",
      cost: query.get("cost") || "", theme: query.get("theme") || "", open: query.get("open") || "",
      cols: query.has("cols") ? new Set(query.get("cols").split(",")) : null, budget: {} };
    // A link may be of another day: what this page hasn't is left out.
    for (const name of MANY) state[name] = new Set([...many(name)].filter((value) => boxes(name).some((box) => box.value === value)));
    for (const name of ["metric", "cost"]) if (!options(name).includes(state[name])) state[name] = "";
    for (const cost of board.budgets) {
      const most = parseFloat(query.get("max-" + cost));
      if (!Number.isNaN(most)) state.budget[cost] = most;
    }
    return state;
  }

  const options = (id) => $$(`#${id} option`).map((option) => option.value);

  function write() {
    const query = new URLSearchParams();
    for (const name of ["method", "metric", "sort", "cost", "theme"]) if (state[name]) query.set(name, state[name]);
    for (const name of MANY) for (const value of state[name]) query.append(name, value);
    for (const [cost, most] of Object.entries(state.budget)) query.set("max-" + cost, most);
    if (state.cols) query.set("cols", [...state.cols].join(","));
    if (state.open) query.set("open", state.open);
    const hash = query.toString();
    history.replaceState(null, "", hash ? "#" + hash : location.pathname + location.search);
  }

  function toForm() {
    form.elements.method.value = state.method;
    form.elements.metric.value = state.metric;
    form.elements.sort.value = state.sort.split(":")[0];
    for (const name of MANY) for (const box of boxes(name)) box.checked = state[name].has(box.value);
    for (const box of boxes("cols")) box.checked = state.cols ? state.cols.has(box.value) : columns.get(box.value).shown;
    for (const cost of board.budgets) form.elements["budget-" + cost].value = state.budget[cost] ?? "";
    if ($("#cost")) $("#cost").value = state.cost || $("#cost").options[0].value;
  }

  function fromForm() {
    state.method = form.elements.method.value.trim();
    state.metric = form.elements.metric.value;
    for (const name of MANY) state[name] = new Set(boxes(name).filter((box) => box.checked).map((box) => box.value));
    const chosen = boxes("cols").filter((box) => box.checked).map((box) => box.value);
    const usual = board.columns.filter((column) => column.shown && column.id !== "name").map((column) => column.id);
    state.cols = chosen.join() === usual.join() ? null : new Set(chosen);
    state.budget = {};
    for (const cost of board.budgets) {
      const most = parseFloat(form.elements["budget-" + cost].value);
      if (!Number.isNaN(most)) state.budget[cost] = most;
    }
  }

  const boxes = (name) => $$(`input[name="${name}"]`, form);

  // -- What is shown

  const patterns = () => state.method.split(",").map((word) => word.trim()).filter(Boolean).map((word) =>
    new RegExp("^" + word.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".")
      + (/[*?]/.test(word) ? "$" : ""), "is"));
  const hasData = (column) => !column.data
    || (!empty.has(column) && (!state.data.size || state.data.has(column.data)));
  const hasMetric = (column) => !column.data || !state.metric || column.metrics.includes(state.metric);
  const shows = (column) => column.id === "name" || (hasData(column) && hasMetric(column)
    && (state.cols ? state.cols.has(column.id) : column.shown));
  const estimate = (cell) => !cell ? null : state.metric ? cell.metrics[state.metric] ?? null : cell.score;

  // Whether a row fits the budgets: null where a figure isn't known, or was measured on a busy machine.
  function fits(row) {
    let answer = true;
    for (const [cost, most] of Object.entries(state.budget)) {
      const value = row.busy.includes(cost) ? null : row.costs[cost];
      if (value == null) answer = answer && null; else if (value > most) return false;
    }
    return answer;
  }

  function value(row, column) {
    if (column.id === "name") return row.name;
    if (column.id === "mean") return mean(row);
    if (column.data) return estimate(row.cells[column.id])?.[0] ?? null;
    return row.costs[column.id] ?? row[column.id] ?? null;
  }

  function mean(row) {
    const scores = board.columns.filter((column) => column.data && hasData(column) && hasMetric(column))
      .map((column) => estimate(row.cells[column.id])?.[0]);
    return scores.length && scores.every((score) => score != null) ? scores.reduce((a, b) => a + b) / scores.length : null;
  }

  function update() {
    const wanted = patterns();
    let count = 0, unknown = 0;
    empty.clear();
    for (const row of rows) {
      const named = (!wanted.length || wanted.some((pattern) => pattern.test(row.method)))
        && ["model", "family", "study"].every((name) => !state[name]?.size || state[name].has(row[name]))
        && (!(state.data.size || state.metric) || board.columns.some((column) =>
          column.data && hasData(column) && hasMetric(column) && estimate(row.cells[column.id])));
      const fit = fits(row);
      row.shown = named && fit === true;
      if (named && fit === null) unknown += 1;
      row.tr.hidden = !row.shown;
      count += row.shown;
    }
    // A data set that none of the rows shown was made on says nothing beside them.
    if (count) empty = new Set(board.columns.filter((column) =>
      column.data && !rows.some((row) => row.shown && row.cells[column.id])));
    for (const column of board.columns) {
      const hidden = !shows(column);
      heads.get(column.id).hidden = hidden;
      for (const row of rows) row.at.get(column.id).hidden = hidden;
    }
    $("#status").textContent = `${count} of ${rows.length} rows`
      + (unknown ? `; ${unknown} left out, as a figure that must fit isn't known or was measured on a busy machine` : "");
    for (const name of MANY) menu(name, state[name].size);
    menu("budget", Object.keys(state.budget).length);
    menu("cols", state.cols ? state.cols.size : 0);
    texts();
    sort();
    answers();
    pictures();
  }

  function menu(name, count) { $(`#menu-${name} .count`).textContent = count ? ` ${count}` : ""; }

  function texts() {
    for (const row of rows) {
      for (const column of board.columns) {
        if (column.id === "mean") $(".clamp", row.at.get("mean")).textContent = percent(mean(row));
        if (!column.data || !row.cells[column.id]) continue;
        const at = row.at.get(column.id), found = estimate(row.cells[column.id]);
        $(".clamp", at).textContent = found ? percent(found[0]) : "–";
        const small = $("small", at);
        if (small) small.textContent = found && found[1] != null ? `[${percent(found[1])}, ${percent(found[2])}]` : "";
        at.classList.toggle("tied", !state.metric && row.cells[column.id].tied === true);
        const equal = $(".equal", at);
        if (equal) equal.hidden = Boolean(state.metric);
      }
    }
  }

  const percent = (number) => number == null ? "–" : (100 * number).toFixed(1);

  function sort() {
    const [id, way] = state.sort.split(":"), column = columns.get(id);
    for (const [name, head] of heads) {
      if (column && name === id) head.setAttribute("aria-sort", way === "asc" ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    }
    const sign = way === "asc" ? 1 : -1;
    const ordered = [...rows].sort((a, b) => {
      if (!column) return a.rank - b.rank;
      const [x, y] = [value(a, column), value(b, column)];
      if (x == null || y == null) return (x == null) - (y == null) || a.rank - b.rank;
      return sign * (x < y ? -1 : x > y ? 1 : 0) || a.rank - b.rank;
    });
    if (ordered.some((row, place) => body.children[place] !== row.tr)) body.append(...ordered.map((row) => row.tr));
  }

  // -- Answers: those of rows and data sets that are shown, all but the first folded

  const said = $$(".answers li");
  function answers() {
    const speaks = (one) => hasData(columns.get(one.dataset.column))
      && one.dataset.rows.split(" ").some((id) => byId.get(id)?.shown);
    const left = said.filter(speaks), fold = $("#more-answers"), most = fold ? board.first : left.length;
    for (const one of said) one.hidden = !left.includes(one);
    $(".answers")?.append(...left.slice(0, most));
    if (!fold) return;
    $(".answers", fold).append(...left.slice(most), ...said.filter((one) => one.hidden));
    fold.hidden = left.length <= most;
    $("summary", fold).textContent = `${left.length - most} more`;
  }

  // -- Pictures: hidden, moved together, the front drawn anew

  function pictures() {
    const cost = state.cost || ($("#cost") ? $("#cost").options[0].value : "");
    for (const part of $$("[data-pictures] [data-column]")) {
      const column = columns.get(part.dataset.column);
      part.hidden = (column !== undefined && !hasData(column)) || (part.dataset.model !== undefined && state.model.size > 0
        && !state.model.has(part.dataset.model)) || (part.dataset.cost !== undefined && part.dataset.cost !== cost)
        || (part.dataset.row !== undefined && !byId.get(part.dataset.row).shown);
      if (part.hidden) continue;
      const svg = $("svg", part);
      for (const line of $$("[data-rows]", part))
        line.classList.toggle("gone", !line.dataset.rows.split(" ").some((id) => byId.get(id)?.shown));
      for (const name of ["data-row", "data-of"])
        for (const mark of $$(`[${name}]`, part)) {
          const gone = !byId.get(mark.getAttribute(name))?.shown;
          mark.classList.toggle("gone", gone);
        }
      const marks = $$("[data-row], [data-rows]", part);
      part.hidden = marks.length > 0 && marks.every((mark) => mark.classList.contains("gone") || mark.hidden);
      if (svg?.classList.contains("forest")) close(svg);
      if (svg?.classList.contains("pareto")) front(svg);
    }
  }

  function close(svg) {
    const left = $$("[data-row]:not(.gone)", svg);
    left.forEach((mark, place) => mark.setAttribute("transform", `translate(0 ${board.top + board.step * place})`));
    svg.setAttribute("viewBox", `0 0 ${board.width} ${board.top + board.step * left.length + 4}`);
  }

  function front(svg) {
    const points = $$("[data-at]:not(.gone)", svg).map((mark) => [...mark.dataset.at.split(" ").map(Number), mark]);
    points.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    let best = Infinity, line = "";
    const named = [];
    for (const [x, y, mark] of points) {
      const on = y < best;
      mark.classList.toggle("on", on);
      if (!on) { stand($("text", mark), x, y, board.spots[0]); continue; }
      line += line ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `M${x.toFixed(1)} ${y.toFixed(1)}`;
      best = y;
      named.push([x, y, $("text", mark)]);
    }
    $(".front", svg).setAttribute("d", line && line + `H${board.right}`);
    beside(named);
  }

  // Where there is room names meet no other point of the front and no other name, as in pareto.py.
  function beside(named) {
    const { half, aside, letter, tall } = board, taken = named.map(([x, y]) => [x - half, y - half, x + half, y + half]);
    const meet = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
    for (const [x, y, text] of named) {
      const wide = letter * [...text.textContent].length;
      const all = board.spots.map(([side, lower]) => {
        const from = side < 0 ? x - aside - wide : x + aside;
        return { spot: [side, lower], box: [from, y + lower - tall, from + wide, y + lower] };
      });
      const inside = all.filter(({ box }) => box[0] >= board.left && box[2] <= board.width && box[3] <= board.bottom);
      const { spot, box } = [...inside.filter(({ box }) => !taken.some((other) => meet(box, other))), ...inside, all[0]][0];
      stand(text, x, y, spot);
      taken.push(box);
    }
  }

  function stand(text, x, y, [side, lower]) {
    text.setAttribute("x", (x + side * board.aside).toFixed(1));
    text.setAttribute("y", (y + lower).toFixed(1));
    text.setAttribute("text-anchor", side < 0 ? "end" : "start");
  }

  // -- A cell's details

  function node(name, text, ...children) {
    const made = document.createElement(name);
    if (text != null) made.textContent = text;
    made.append(...children);
    return made;
  }

  function list(pairs) {
    const made = node("dl");
    made.className = "settings";
    for (const [key, text] of pairs) made.append(node("div", null, node("dt", key), node("dd", text)));
    return made;
  }

  function grid(caption, header, lines) {
    const made = node("table", null, node("caption", caption));
    made.append(node("thead", null, node("tr", null, ...header.map((text) => {
      const head = node("th", text); head.scope = "col"; return head; }))));
    made.append(node("tbody", null, ...lines.map((line) => node("tr", null, ...line.map((text, place) => {
      if (place) return node("td", text);
      const head = node("th", text); head.scope = "row"; return head; })))));
    return made;
  }

  const ends = (found) => found && found[1] != null ? `[${percent(found[1])}, ${percent(found[2])}]` : "unknown";

  function open(id) {
    const [rowId, columnId] = id.split("."), row = byId.get(rowId);
    if (!row || !Object.hasOwn(row.cells, columnId)) return false;
    const cell = row.cells[columnId];
    const column = columns.get(columnId), inside = $("#details-body");
    $("#details-title").textContent = `${row.name} on ${column.data}`;
    inside.replaceChildren(node("p", `${percent(cell.score[0])} ${cell.score[1] != null ? ends(cell.score) : ""}`
      + `${cell.tied ? ", can't be told from the best" : ""}; ${row.model}${row.study ? `, study ${row.study}` : ""}`));
    if (cell.warnings.length) {
      const warnings = node("ul", null, ...cell.warnings.map((text) => node("li", text)));
      warnings.className = "notes warnings";
      inside.append(node("h3", "Warnings"), warnings);
    }
    inside.append(node("h3", "Intervals"), list([
      ["95 % interval", ends(cell.score) + (cell.basis ? `, of ${cell.basis}` : "")],
      ...(cell.few ? [["few seeds", "how much they differ is hardly known"]] : []),
      ...(cell.same ? [["on these very examples", ends([0, ...cell.same])]] : []),
      ...Object.entries(cell.metrics).map(([name, found]) => [name, `${percent(found[0])} ${found[1] != null ? ends(found) : ""}`]),
      ...(cell.gap ? [["train − eval", `${percent(cell.gap[0])} ${cell.gap[1] != null ? ends(cell.gap) : ""}`]] : []),
      ...cell.notes]));
    const chosen = cell.runs.some((run) => run[4] != null);
    inside.append(node("h3", "Seeds"), grid("One run a line", ["seed", "score", "step scored",
      ...(chosen ? ["selection score there", "at the last step"] : []), "key of its record"],
      cell.runs.map(([seed, score, step, key, there, last]) => [seed, percent(score), step ?? "–",
        ...(chosen ? [percent(there), percent(last)] : []), key])));
    if (cell.classes) inside.append(node("h3", "Classes"), ...classes(cell.classes));
    const drawn = $(`#curves figure[data-column="${columnId}"][data-row="${rowId}"] svg`);
    if (drawn) inside.append(node("h3", "While it trained"), drawn.cloneNode(true));
    if (cell.command) inside.append(node("h3", "Run it again"), node("pre", cell.command));
    const settings = Object.entries(cell.settings);
    if (settings.length) inside.append(node("h3", "Configuration, where cells differ"), list(settings));
    opened = document.activeElement;
    if (!dialog.open) dialog.showModal();
    $("#details-title").focus();
    return true;
  }

  function classes(found) {
    const by = grid("By class, in percent, means over the seeds", ["class", "precision", "recall", "F1", "examples"],
      found.classes.map(([name, precision, recall, f1, n]) => [name, percent(precision), percent(recall), percent(f1), n]));
    by.className = "classes";
    const made = [by];
    if (found.confusion) {
      const names = found.classes.map((line) => line[0]);
      const table = grid("Confusion, of all seeds: a line a right class, a column an answer",
        ["right / answered", ...names], found.confusion.map((counts, place) => [names[place], ...counts]));
      table.className = "matrix confusion";
      found.confusion.forEach((counts, line) => counts.forEach((count, place) => {
        const share = count / Math.max(1, counts.reduce((a, b) => a + b));
        $("tbody", table).children[line].children[place + 1].className =
          `p${place === line ? 3 + (share > 0.5) + (share > 0.75) + (share > 0.9) : 3 - (share > 0.05) - (share > 0.15) - (share > 0.3)}`;
      }));
      const around = node("div", null, table);
      around.className = "scroller";
      around.tabIndex = 0;
      around.setAttribute("role", "region");
      around.setAttribute("aria-label", "Confusion");
      made.push(around);
    }
    return made;
  }

  // -- CSV of what is shown; a cell that a spreadsheet would take for a formula is quoted as text

  function csvCell(text) {
    if (typeof text === "number" || text == null) return text == null ? "" : String(text);
    const safe = /^\s*[=+\-@\uff1d\uff0b\uff0d\uff20]/.test(text) ? "'" + text : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  function csv() {
    const names = ["method", "variant", "model", ...(columns.has("study") ? ["study"] : [])];
    const chosen = board.columns.filter((column) => column.id !== "name" && !names.includes(column.id) && shows(column));
    const parts = ["mean", "low", "high"], what = state.metric || "score";
    const lines = [[...names, ...chosen.flatMap((column) => column.data
      ? [...parts.map((part) => `${column.data}_${what}_${part}`), `${column.data}_seeds`] : [column.title])]];
    for (const tr of body.children) {
      const row = byId.get(tr.id);
      if (!row.shown) continue;
      lines.push([...names.map((name) => row[name]), ...chosen.flatMap((column) => {
        if (!column.data) return [value(row, column)];
        const cell = row.cells[column.id], found = estimate(cell);
        return [found?.[0], found?.[1], found?.[2], found ? cell.runs.length : 0];
      })]);
    }
    return lines.map((line) => line.map(csvCell).join(",")).join("\n") + "\n";
  }

  function save() {
    const link = node("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "leaderboard-view.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // -- Light and dark

  function theme(chosen) {
    const root = document.documentElement, button = $("#theme");
    if (chosen) root.dataset.theme = chosen; else delete root.dataset.theme;
    const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    button.setAttribute("aria-pressed", String(dark));
    button.onclick = () => {
      const next = dark ? "light" : "dark";
      if (state) { state.theme = next; write(); }
      theme(next);
    };
  }

  // -- Events

  const changed = () => { fromForm(); update(); write(); };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => { if (event.target.id !== "sort") changed(); });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    state = { ...read(), method: "", metric: "", sort: "", open: "", cols: null, budget: {} };
    for (const name of MANY) state[name] = new Set();
    toForm(); update(); write();
  });
  $("#sort").addEventListener("change", (event) => choose(event.target.value, false));
  $("#csv").addEventListener("click", save);
  if ($("#cost")) $("#cost").addEventListener("change", (event) => { state.cost = event.target.value; pictures(); write(); });

  function choose(id, turn) {
    const first = columns.get(id)?.text ? "asc" : "desc", [now, way] = state.sort.split(":");
    state.sort = !id ? "" : turn && now === id ? `${id}:${way === "asc" ? "desc" : "asc"}` : `${id}:${first}`;
    toForm(); sort(); write();
  }
  for (const [id, head] of heads) $("button", head).addEventListener("click", () => choose(id, true));

  document.addEventListener("click", (event) => {
    for (const menu of $$(".menu[open]")) if (!menu.contains(event.target)) menu.open = false;
    const link = event.target.closest('a[href^="#"]');
    if (link) {
      event.preventDefault();
      const target = document.getElementById(link.getAttribute("href").slice(1));
      target.scrollIntoView();
      target.focus({ preventScroll: true });
      return;
    }
    const button = event.target.closest("[data-open]"), mark = event.target.closest("svg [data-row]");
    const id = button ? button.dataset.open : mark ? `${mark.dataset.row}.${mark.closest("[data-column]")?.dataset.column}` : "";
    if (id && open(id)) { state.open = id; write(); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const menu of $$(".menu[open]")) { menu.open = false; $("summary", menu).focus(); }
  });
  dialog.addEventListener("close", () => {
    state.open = "";
    write();
    (opened && opened !== document.body ? opened : table).focus?.();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  $("#link").addEventListener("click", async (event) => {
    const button = event.currentTarget, words = button.textContent;
    try { await navigator.clipboard.writeText(location.href); button.textContent = "Copied"; }
    catch { button.textContent = "Copy the address above"; }
    setTimeout(() => { button.textContent = words; }, 2000);
  });

  function restore() {
    state = read();
    toForm();
    theme(state.theme);
    update();
    if (state.open) open(state.open); else if (dialog.open) dialog.close();
  }
  addEventListener("hashchange", restore);
  restore();
})();
