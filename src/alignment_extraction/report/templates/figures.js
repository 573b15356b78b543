// Figures: what a mark stands for is shown on pointing at it, or with the arrow keys; a name in the
// legend, clicked, dims the other series. Without the script they are static SVG with titles.
{
  const tooltip = document.createElement("div");
  tooltip.id = "tooltip";
  tooltip.setAttribute("role", "status");
  tooltip.hidden = true;
  document.body.append(tooltip);
  let current = null;

  const show = (mark) => {
    current?.classList.remove("current");
    current = mark;
    tooltip.hidden = !mark;
    if (!mark) return;
    mark.classList.add("current");
    tooltip.textContent = mark.dataset.title;
    const box = mark.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    const left = Math.min(Math.max(8, box.left + box.width / 2 - tooltip.offsetWidth / 2), width - tooltip.offsetWidth - 8);
    const above = box.top - tooltip.offsetHeight - 8;
    tooltip.style.left = `${left + scrollX}px`;
    tooltip.style.top = `${(above > 0 ? above : box.bottom + 8) + scrollY}px`;
  };

  for (const figure of document.querySelectorAll("figure")) {
    const picture = figure.querySelector(".picture");
    const drawing = figure.querySelector("svg");
    if (!drawing) continue;
    const marks = [...drawing.querySelectorAll(".tip")];
    for (const mark of marks) {
      const title = mark.querySelector("title");
      mark.dataset.title = title.textContent;
      title.remove(); // else the browser shows it too
    }
    picture.setAttribute("role", "group");
    picture.setAttribute("aria-label", figure.querySelector("figcaption").textContent);
    drawing.addEventListener("pointerover", (event) => show(event.target.closest(".tip")));
    drawing.addEventListener("pointerleave", () => show(null));
    if (marks.length) {
      picture.tabIndex = 0;
      picture.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (event.key === "Escape") show(null);
        if (!step) return;
        event.preventDefault();
        show(marks[(marks.indexOf(current) + step + marks.length) % marks.length]);
      });
      picture.addEventListener("blur", () => show(null));
    }

    const series = [...drawing.querySelectorAll("[data-series]")];
    const names = new Set(series.map((one) => one.dataset.series));
    const labels = [...drawing.querySelectorAll("[data-legend]")].filter((one) => names.has(one.dataset.legend));
    if (labels.length < 2) continue;
    let alone = null;
    for (const label of labels) {
      label.setAttribute("role", "button");
      label.setAttribute("tabindex", "0");
      label.setAttribute("aria-pressed", "false");
      const toggle = () => {
        alone = alone === label.dataset.legend ? null : label.dataset.legend;
        for (const one of series) one.classList.toggle("dim", alone !== null && one.dataset.series !== alone);
        for (const other of labels) other.setAttribute("aria-pressed", other.dataset.legend === alone);
      };
      label.addEventListener("click", toggle);
      label.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        toggle();
      });
    }
  }
}
