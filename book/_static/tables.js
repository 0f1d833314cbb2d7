// A table that is wider than its box is marked, so that readers see that it scrolls.
document.addEventListener("DOMContentLoaded", () => {
  const BOX = ".pst-scrollable-table-container, .cell_output .text_html"; // what scrolls
  const LONG = 80; // letters; a cell of more of them gets a wide column

  for (const cell of document.querySelectorAll(".pst-scrollable-table-container td"))
    cell.classList.toggle("wide", cell.textContent.length > LONG);

  const mark = (box) => {
    const beyond = box.scrollWidth - box.clientWidth;
    box.classList.toggle("scrolls-sideways", beyond > 1);
    box.classList.toggle("more-to-come", beyond - box.scrollLeft > 1);
  };

  const boxes = [...document.querySelectorAll(".bd-article table")].map((each) => each.closest(BOX));
  for (const box of new Set(boxes.filter(Boolean))) {
    box.tabIndex = 0; // so that the arrow keys scroll it
    box.addEventListener("scroll", () => mark(box), { passive: true });
    new ResizeObserver(() => mark(box)).observe(box);
    mark(box);
  }
});
