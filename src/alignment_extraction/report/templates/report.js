"use strict";
// Sorts and filters the matches that are already on the page; without it they are all shown.
const list = document.querySelector("#match-list");
if (list) {
  const controls = document.querySelector("#match-controls");
  const count = document.querySelector("#match-count");
  const cards = [...list.children];
  const fields = [...controls.querySelectorAll("input, select")];
  const apply = () => {
    const values = Object.fromEntries(fields.map((field) => [field.name, field.value]));
    const wanted = values.text.toLowerCase();
    let shown = 0;
    for (const card of cards) {
      const visible =
        (!values.model || card.dataset.model === values.model) &&
        (!values.prefix || card.dataset.prefix === values.prefix) &&
        Number(card.dataset[values.sort]) >= Number(values.least || -1) &&
        (!wanted || card.textContent.toLowerCase().includes(wanted));
      card.hidden = !visible;
      shown += visible;
    }
    cards.sort((a, b) => Number(b.dataset[values.sort]) - Number(a.dataset[values.sort]));
    list.append(...cards);
    count.textContent = `${shown} of ${cards.length} shown`;
    const set = Object.entries(values).filter(([, value]) => value);
    history.replaceState(null, "", `#matches?${new URLSearchParams(set)}`);
  };
  const [, given] = location.hash.split("?");
  for (const [name, value] of new URLSearchParams(given || "")) {
    const field = fields.find((one) => one.name === name);
    if (field) field.value = value;
  }
  controls.hidden = false;
  controls.addEventListener("input", apply);
  if (given) {
    apply();
    document.querySelector("#matches").scrollIntoView();
  }
}
