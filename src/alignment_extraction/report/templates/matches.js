"use strict";
// The browser of matches. Rows have one height, so that only those in view need to be elements.
{
  const block = document.querySelector("#match-data");
  const element = (tag, text, kind) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

  // Both texts cut into [text, common] pieces at word boundaries: their longest common subsequence.
  const words = (text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\p{L}\p{N}_\s]/gu) || [];
  const compare = (left, right) => {
    const [a, b] = [words(left), words(right)];
    let start = 0;
    while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
    let [n, m] = [a.length, b.length];
    while (n > start && m > start && a[n - 1] === b[m - 1]) [n, m] = [n - 1, m - 1];
    const [ours, theirs] = [a.map((_, i) => i < start || i >= n), b.map((_, j) => j < start || j >= m)];
    const [rows, columns] = [n - start, m - start];
    if (rows * columns <= 4e6) {
      const width = columns + 1;
      const lengths = new Uint16Array((rows + 1) * width);
      for (let i = rows - 1; i >= 0; i -= 1)
        for (let j = columns - 1; j >= 0; j -= 1)
          lengths[i * width + j] =
            a[start + i] === b[start + j]
              ? lengths[(i + 1) * width + j + 1] + 1
              : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
      for (let i = 0, j = 0; i < rows && j < columns; )
        if (a[start + i] === b[start + j]) {
          ours[start + i] = theirs[start + j] = true;
          [i, j] = [i + 1, j + 1];
        } else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i += 1;
        else j += 1;
    }
    return [pieces(a, ours), pieces(b, theirs)];
  };
  const pieces = (parts, common) => {
    const joined = [];
    parts.forEach((part, i) => {
      const last = joined.at(-1);
      if (last && last[1] === common[i]) last[0] += part;
      else joined.push([part, common[i]]);
    });
    return joined;
  };

  if (block) {
    const data = JSON.parse(block.textContent);
    const total = data.generation.length;
    const [browser, controls, count, list, space, shown] = [
      "#browser",
      "#match-controls",
      "#match-count",
      "#match-rows",
      "#match-space",
      "#match-shown",
    ].map((name) => document.querySelector(name));
    const cards = document.querySelector("#match-list");
    const value = (name, i) => data[name].values[data[name].codes[i]];
    const name = (i) =>
      [value("model", i), value("prefix", i), data.seed[i], data.index[i], value("part", i)].join("/");
    const score = (number) => (number === null ? "–" : number.toFixed(3));
    let searched = null; // lower-case texts, made at the first search
    let order = []; // matches that pass the filters, sorted
    let chosen = -1; // place in `order`
    let height = 0;

    const fields = [...controls.elements].filter((field) => field.name);
    const chosenValues = () => Object.fromEntries(fields.map((field) => [field.name, field.value]));
    const link = (values) => {
      const set = Object.entries(values).filter(
        ([key, text]) => text && !(["sort", "score"].includes(key) && text === "cosine"),
      );
      return set.length ? `#matches?${new URLSearchParams(set)}` : "#matches";
    };
    const remember = () => {
      const values = chosenValues();
      if (chosen >= 0) values.match = name(order[chosen]);
      history.replaceState(null, "", link(values));
    };

    const filter = () => {
      const values = chosenValues();
      const wanted = values.text.toLowerCase();
      const codes = ["model", "prefix", "part", "kind", "source"]
        .filter((key) => values[key])
        .map((key) => [data[key].codes, data[key].values.indexOf(values[key])]);
      const [least, most] = [values.least, values.most].map((text) => (text === "" ? null : Number(text)));
      const ranged = data[values.score];
      if (wanted && !searched) {
        const texts = data.match.values.map((text) => text.toLowerCase());
        searched = data.generation.map(
          (text, i) =>
            `${text.toLowerCase()}\n${texts[data.match.codes[i]]}\n${value("match_id", i).toLowerCase()}`,
        );
      }
      order = [];
      for (let i = 0; i < total; i += 1)
        if (
          codes.every(([column, code]) => column[i] === code) &&
          (least === null || ranged[i] >= least) &&
          (most === null || ranged[i] <= most) &&
          (!wanted || searched[i].includes(wanted))
        )
          order.push(i);
      const column = data[values.sort];
      const sign = values.order ? 1 : -1;
      // What has no value comes last either way; equals keep the order of the data.
      order.sort((a, b) => {
        if (column[a] === null || column[b] === null) return (column[a] === null) - (column[b] === null);
        return sign * (column[a] - column[b]) || a - b;
      });
      count.textContent = `${order.length.toLocaleString("en")} of ${total.toLocaleString("en")} shown.`;
    };

    const row = (place) => {
      const i = order[place];
      const made = element("div", undefined, "row");
      made.id = `match-row-${place}`;
      made.setAttribute("role", "option");
      made.setAttribute("aria-setsize", order.length);
      made.setAttribute("aria-posinset", place + 1);
      made.setAttribute("aria-selected", place === chosen);
      made.dataset.place = place;
      made.style.transform = `translateY(${place * height}px)`;
      const numbers = `${score(data.cosine[i])} · ${score(data.levenshtein[i])} · ${score(data.indel[i])}`;
      const about = element("div", undefined, "about");
      about.append(element("b", numbers), element("span", `${value("model", i)}, ${value("prefix", i)}`));
      about.append(element("span", value("kind", i)));
      // Enough for one line of the widest window.
      made.append(about, element("div", data.generation[i].slice(0, 300)));
      made.append(element("div", value("match", i).slice(0, 300), "soft"));
      return made;
    };
    const draw = () => {
      height ||= parseFloat(getComputedStyle(space).lineHeight) * 4;
      space.style.height = `${order.length * height}px`;
      const first = Math.max(0, Math.floor(list.scrollTop / height) - 5);
      const last = Math.min(order.length, Math.ceil((list.scrollTop + list.clientHeight) / height) + 5);
      const rows = [];
      for (let place = first; place < last; place += 1) rows.push(row(place));
      space.replaceChildren(...rows);
      if (chosen >= first && chosen < last) list.setAttribute("aria-activedescendant", `match-row-${chosen}`);
      else list.removeAttribute("aria-activedescendant");
    };

    const card = (i, parent) => {
      const header = element("header");
      const plural = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
      const about = [
        `cosine ${score(data.cosine[i])}`,
        `Levenshtein ${score(data.levenshtein[i])}`,
        `Indel ${score(data.indel[i])}`,
        value("kind", i),
        `${value("model", i)}, prefix ${value("prefix", i)}, seed ${data.seed[i]}, sample ${data.index[i]}`,
        `${value("part", i)} against ${value("match_id", i)}`,
        `written ${plural(data.occurrences[i], "time")}`,
      ];
      if (data.span[i] !== null) {
        const share = data.covered[i] === null ? "" : `, ${(100 * data.covered[i]).toFixed(0)} % of the match`;
        about.push(`longest common run ${plural(data.span[i], "word")}${share}`);
      }
      header.append(...about.map((text) => element("span", text)));
      const permalink = element("a", "Link to this match");
      permalink.href = link({ match: name(i) });
      header.append(permalink);
      const both = element("div", undefined, "sides");
      const sides = compare(data.generation[i], value("match", i));
      const titles = ["Generation", `Corpus (${value("source", i)})`];
      sides.forEach((side, at) => {
        const part = element("section");
        const text = element("div");
        text.append(...side.map(([words, common]) => (common ? words : element("mark", words))));
        part.append(element("h4", titles[at]), text);
        both.append(part);
      });
      parent.replaceChildren(header, both);
      return parent;
    };
    const choose = (place) => {
      chosen = order.length ? Math.max(0, Math.min(order.length - 1, place)) : -1;
      if (chosen < 0) {
        shown.replaceChildren(element("p", "No match passes these filters.", "soft"));
        draw();
        return;
      }
      const [top, bottom] = [chosen * height, (chosen + 1) * height];
      if (top < list.scrollTop) list.scrollTop = top;
      if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
      card(order[chosen], shown);
      draw();
    };

    const update = () => {
      filter();
      list.scrollTop = 0;
      draw();
      choose(0);
    };
    // What a link says, also one that is followed on the open page.
    const follow = () => {
      const [place, given] = location.hash.split("?");
      if (place !== "#matches") return;
      const values = new URLSearchParams(given || "");
      controls.reset();
      for (const field of fields) if (values.has(field.name)) field.value = values.get(field.name);
      update();
      const found = order.findIndex((i) => name(i) === values.get("match"));
      if (found >= 0) choose(found);
      document.querySelector("#matches").scrollIntoView();
    };

    browser.hidden = false;
    cards.hidden = true;
    update();
    follow();
    controls.addEventListener("input", () => {
      update();
      remember();
    });
    document.querySelector("#match-reset").addEventListener("click", () => {
      controls.reset();
      update();
      remember();
    });
    controls.addEventListener("submit", (event) => event.preventDefault());
    let waiting = false;
    list.addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        draw();
      });
    });
    list.addEventListener("click", (event) => {
      const clicked = event.target.closest(".row");
      if (!clicked) return;
      choose(Number(clicked.dataset.place));
      remember();
      if (shown.offsetTop > list.offsetTop + 10) shown.scrollIntoView({ block: "nearest" });
    });
    list.addEventListener("keydown", (event) => {
      const page = Math.max(1, Math.floor(list.clientHeight / height) - 1);
      const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
      steps.Home = -Infinity;
      steps.End = Infinity;
      if (!(event.key in steps)) return;
      event.preventDefault();
      choose(chosen + steps[event.key]);
      remember();
    });
    addEventListener("hashchange", follow);
    addEventListener("resize", () => {
      height = 0;
      draw();
    });
    // Paper cannot be scrolled: it gets the first matches of the list in full.
    matchMedia("print").addEventListener("change", (event) => {
      browser.hidden = event.matches;
      cards.hidden = !event.matches;
      if (!event.matches) return;
      const some = order.slice(0, 50).map((i) => card(i, element("article", undefined, "match")));
      const head = element("p", `The first ${some.length} of ${order.length.toLocaleString("en")}.`, "soft");
      cards.replaceChildren(head, ...some);
    });
  }
}
