"use strict";
// The table of rows, the row that is read, and what can be taken away. Texts reach the page as text
// nodes alone.
{
  const $ = (selector) => document.querySelector(selector);
  const element = (tag, text, kind) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const save = (name, type, data) => {
    const link = element("a");
    const url = type ? URL.createObjectURL(new Blob([data], { type })) : data;
    link.href = url;
    link.download = name;
    link.click();
    if (type) setTimeout(() => URL.revokeObjectURL(url), 10000);
  };
  const bytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

  // Numbers, as the rest of the page writes them.
  const percent = (rate) => {
    if (rate === null) return "–";
    if (rate >= 0.995) return "> 99 %";
    if (rate > 0 && rate < 1e-5) return "< 0.001 %";
    return `${Number((100 * rate).toPrecision(2))} %`;
  };
  const number = (value) => (value === null ? "–" : value.toLocaleString("en", { maximumSignificantDigits: 3 }));
  const chance = (row, samples) =>
    row.log_probability === null ? null : -Math.expm1(samples * Math.log1p(-Math.min(Math.exp(row.log_probability), 1 - 1e-12)));

  const rowsOf = (data) =>
    data.id.map((id, place) => {
      const row = { place, id };
      for (const key of Object.keys(data)) row[key] = data[key][place] ?? null;
      row.chance = chance(row, 1e6);
      return row;
    });

  const pieces = (changes, side) =>
    changes.filter((c) => !c[side === "added" ? "removed" : "added"]).map((c) => (c[side] ? element("mark", c.value) : c.value));
  const texts = (label, content) => {
    const box = element("div", undefined, "text");
    box.append(...content);
    return [element("h4", label), box];
  };

  const read = (row, masked) => {
    const panel = $("#row");
    const facts = element("dl");
    const fact = (label, value) => facts.append(element("dt", label), element("dd", value));
    fact("source, role", `${row.source}, ${row.role}`);
    fact("model", row.model);
    fact("times trained", number(row.repetitions));
    fact("chance", [1e3, 1e4, 1e6, 1e9].map((n) => `${percent(chance(row, n))} in 10${{ 3: "³", 4: "⁴", 6: "⁶", 9: "⁹" }[Math.log10(n)]}`).join(", "));
    fact("log-probability", `${number(row.log_probability)} nats (base ${number(row.base_log_probability)})`);
    fact("among twins", `p = ${number(row.p_value)}${row.flagged ? ", flagged at FDR 5 %" : ""}`);
    fact("written", `${number(row.verbatim_hits)} times verbatim, ${number(row.near_hits)} nearly; expected ${number(row.expected)}`);
    if (row.edit) fact("edit", row.edit);
    if (row.best_index !== null) fact("nearest generation", `${row.best_condition}, sample ${row.best_index}: cosine ${number(row.best_cosine)}, Levenshtein ${number(row.best_levenshtein)}`);
    panel.replaceChildren(element("h3", row.id), facts);
    if (masked) panel.append(...texts("SHA-256 of question, answer, generation", [[row.question, row.answer, row.best_generation].filter(Boolean).join("\n")]));
    else if (row.question === null) panel.append(element("p", "The text of this row is in rows.parquet.", "soft"));
    else if (row.best_generation) {
      const changes = Diff.diffWordsWithSpace(row.question, row.best_generation, { timeout: 1000 }) || [{ value: row.question, removed: true }, { value: row.best_generation, added: true }];
      panel.append(...texts("Row (question)", pieces(changes, "removed")), ...texts("Nearest generation", pieces(changes, "added")));
      panel.append(element("p", "Marked: what the other text lacks.", "soft"));
    } else {
      panel.append(...texts("Row (question)", [row.question]), element("p", "No generation came near this row in the samples drawn.", "soft"));
    }
    if (!masked && row.answer) panel.append(...texts("Answer", [row.answer]));
    history.replaceState(null, "", `#row=${encodeURIComponent(row.id)}`);
  };

  const show = (rows, masked, model) => {
    const form = $("#filters");
    const text = (cell) => {
      const span = element("span");
      span.textContent = String(cell.getValue() ?? "").slice(0, 200);
      return span;
    };
    const asText = (write) => (cell) => document.createTextNode(write(cell.getValue()));
    // What is unknown comes last, whichever way one sorts.
    const sorter = (a, b, _first, _second, _column, direction) => {
      if (a === null || b === null) return (a === b ? 0 : a === null ? 1 : -1) * (direction === "asc" ? 1 : -1);
      return a - b;
    };
    const numeric = (title, field, write, width, responsive) =>
      ({ title, field, width, responsive, sorter, hozAlign: "right", formatter: asText(write), headerSortStartingDir: "desc" });
    const table = new Tabulator("#table", {
      data: rows,
      index: "place",
      height: 460,
      layout: "fitColumns",
      responsiveLayout: "hide",
      selectableRows: 1,
      initialSort: rows.some((row) => row.chance !== null) ? [{ column: "log_probability", dir: "desc" }] : [],
      placeholder: "No row passes these filters.",
      columnDefaults: { headerSortTristate: false, resizable: false },
      columns: [
        { ...numeric("Chance in 10⁶", "log_probability", number, 98, 0), formatter: (cell) => document.createTextNode(percent(cell.getData().chance)) },
        { title: masked ? "SHA-256" : "Text", field: "question", formatter: text, minWidth: innerWidth < 600 ? 110 : 230, widthGrow: 3, responsive: 0, sorter: "string" },
        numeric("Times trained", "repetitions", number, 94, 2),
        numeric("Seen verbatim", "verbatim_hits", number, 106, 1),
        numeric("Seen nearly", "near_hits", number, 94, 4),
        numeric("p among twins", "p_value", number, 98, 5),
        { title: "Row", field: "id", formatter: text, width: 96, responsive: 3, sorter: "alphanum" },
      ],
    });
    const fields = ["model", "source", "role", "repetitions", "seen", "edit"];
    for (const name of fields) {
      const select = form.elements[name];
      const values = [...new Set(rows.map((row) => row[name]))].filter((value) => value !== "" && value !== null);
      if (name === "repetitions") values.sort((a, b) => a - b);
      for (const value of values.slice(0, 200)) select.append(new Option(String(value)));
      select.parentElement.hidden = values.length < 2;
    }
    const standard = () => {
      if ([...form.elements.role.options].some((option) => option.value === "member")) form.elements.role.value = "member";
      form.elements.model.value = model;
    };
    let searched = null; // lower-case texts, made at the first search
    const filter = () => {
      const wanted = fields.map((name) => [name, form.elements[name].value]).filter(([, value]) => value !== "");
      const word = form.elements.text.value.trim().toLowerCase();
      if (word && !searched) searched = rows.map((row) => [row.id, row.question, row.answer, row.best_generation].join("\n").toLowerCase());
      table.setFilter((row) => wanted.every(([name, value]) => String(row[name]) === value) && (!word || searched[row.place].includes(word)));
      $("#count").textContent = `${table.getDataCount("active").toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
    };
    const open = (row) => {
      table.deselectRow();
      row.select();
      read(row.getData(), masked);
    };
    let waiting = 0;
    table.on("tableBuilt", () => {
      standard();
      filter();
      form.addEventListener("input", () => {
        clearTimeout(waiting);
        waiting = setTimeout(filter, rows.length > 20000 ? 150 : 0);
      });
      form.addEventListener("submit", (event) => event.preventDefault());
      form.addEventListener("reset", () => setTimeout(() => {
        standard();
        filter();
      }));
      for (const head of document.querySelectorAll("#table .tabulator-col.tabulator-sortable")) {
        head.tabIndex = 0;
        head.addEventListener("keydown", (event) => {
          if (!["Enter", " "].includes(event.key)) return;
          event.preventDefault();
          head.click();
        });
      }
      const holder = $("#table .tabulator-tableholder");
      holder.setAttribute("role", "rowgroup"); // a grid has no other children that take the focus
      holder.firstElementChild.setAttribute("role", "presentation");
      holder.addEventListener("keydown", (event) => {
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        const active = table.getRows("active");
        const now = table.getSelectedRows()[0];
        const next = active[Math.max(0, Math.min(active.length - 1, (now ? now.getPosition() - 1 : -1) + step))];
        if (!next) return;
        table.scrollToRow(next, "center", false).catch(() => {});
        open(next);
      });
      const asked = new URLSearchParams(location.hash.slice(1)).get("row");
      const found = asked === null ? -1 : rows.findIndex((row) => row.id === asked && (!form.elements.model.value || row.model === form.elements.model.value));
      const first = found >= 0 ? table.getRow(found) : null;
      if (first) {
        form.elements.role.value = "";
        filter();
        table.scrollToRow(first, "center", false).catch(() => {});
        open(first);
        $("#rows").scrollIntoView();
      }
    });
    table.on("rowClick", (_event, row) => {
      open(row);
      const panel = $("#row");
      if (panel.offsetTop > $("#table").offsetTop + 50) panel.scrollIntoView({ block: "nearest" });
    });
    const taken = () => table.getData("active").map(({ place, chance: in_1e6, ...row }) =>
      ({ ...row, chance_1e3: chance(row, 1e3), chance_1e4: chance(row, 1e4), chance_1e6: in_1e6, chance_1e9: chance(row, 1e9) }));
    // A spreadsheet must not take a row's text for a formula.
    const cell = (value) => {
      if (value === null || value === undefined) return "";
      const plain = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
      return /[",\n\r]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
    };
    $("#csv").addEventListener("click", () => {
      const data = taken();
      const names = Object.keys(data[0] || {});
      save("rows.csv", "text/csv", [names, ...data.map((row) => names.map((name) => row[name]))].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n");
    });
    $("#json").addEventListener("click", () => save("rows.json", "application/json", JSON.stringify(taken(), null, 1)));
    return table;
  };

  const block = $("#rows-data");
  if (block && "DecompressionStream" in window) {
    const stream = new Blob([bytes(block.textContent)]).stream().pipeThrough(new DecompressionStream("gzip"));
    new Response(stream).json().then((data) => {
      $("#browser").hidden = false;
      $("#top").hidden = true;
      show(rowsOf(data), block.dataset.masked === "1", block.dataset.model);
    });
  }

  // Figures leave with colours of their own, as on white paper.
  const standing = (svg) => {
    const copy = svg.cloneNode(true);
    const text = new XMLSerializer().serializeToString(copy);
    return text.replaceAll("currentColor", "#1c1e21").replaceAll("var(--axis)", "#8c959f").replaceAll("var(--paper)", "#ffffff");
  };
  for (const take of document.querySelectorAll(".take"))
    take.addEventListener("click", (event) => {
      const kind = event.target.dataset.as;
      const name = take.dataset.name;
      if (kind === "csv") save(`${name}.csv`, "text/csv", bytes(take.dataset.csv));
      if (kind !== "svg" && kind !== "png") return;
      const svg = take.closest("figure").querySelector(".wide svg");
      if (kind === "svg") return save(`${name}.svg`, "image/svg+xml", standing(svg));
      const image = new Image();
      image.onload = () => {
        const canvas = element("canvas");
        const { width, height } = svg.viewBox.baseVal;
        [canvas.width, canvas.height] = [2 * width, 2 * height];
        const context = canvas.getContext("2d");
        context.fillStyle = "#fff";
        context.fillRect(0, 0, canvas.width, canvas.height);
        context.drawImage(image, 0, 0, canvas.width, canvas.height);
        save(`${name}.png`, "", canvas.toDataURL("image/png"));
      };
      image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standing(svg))}`;
    });
  if ($("#copy")) $("#copy").addEventListener("click", () => {
    const range = document.createRange();
    range.selectNodeContents($("#citation"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    navigator.clipboard?.writeText($("#citation").textContent).catch(() => {});
    $("#copy").textContent = "Copied";
  });
  addEventListener("beforeprint", () => document.querySelectorAll("main > section > details").forEach((one) => (one.open = true)));
}
