// The admin's pages: choosing all rows, counting the chosen, filters that are open where there is room, and a button
// that waits for the typed name.
"use strict";
(() => {
  const boxes = (name) => [...document.querySelectorAll(`input[type="checkbox"][name="${name}"]`)];
  const tell = (name) => {
    const all = boxes(name);
    const chosen = all.filter((box) => box.checked).length;
    document.querySelectorAll(`[data-count="${name}"]`).forEach((line) => {
      line.textContent = line.dataset.text.replace("#", String(chosen));
    });
    document.querySelectorAll(`[data-all="${name}"]`).forEach((box) => {
      box.checked = all.length > 0 && chosen === all.length;
      box.indeterminate = chosen > 0 && chosen < all.length;
    });
  };
  document.addEventListener("change", (event) => {
    const box = event.target;
    if (box.dataset.all) boxes(box.dataset.all).forEach((one) => (one.checked = box.checked));
    const name = box.dataset.all || box.name;
    if (box.type === "checkbox" && name) tell(name);
  });
  document.querySelectorAll("[data-all]").forEach((box) => tell(box.dataset.all));

  if (matchMedia("(min-width: 701px)").matches) {
    document.querySelectorAll("details[data-open-wide]").forEach((details) => (details.open = true));
  }

  document.querySelectorAll("[data-confirms]").forEach((field) => {
    const button = field.form.querySelector("button");
    const check = () => (button.disabled = field.value.trim() !== field.dataset.confirms.trim());
    field.addEventListener("input", check);
    check();
  });
})();
