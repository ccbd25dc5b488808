// On every page: the palette's switch, ages of moments, questions before what cannot be undone.
"use strict";
(() => {
  const themeSwitch = document.querySelector("[data-theme-switch]");
  if (themeSwitch) {
    const other = () => (firstrayTheme.now() === "dark" ? "light" : "dark");
    const label = () => (themeSwitch.textContent = themeSwitch.dataset[other()]);
    themeSwitch.addEventListener("click", () => (firstrayTheme.use(other()), label()));
    label();
  }

  // <time data-since datetime="..."> counts minutes up, <time data-until> down.
  const tell = (element) => {
    const minutes = Math.round((Date.now() - Date.parse(element.dateTime)) / 60000);
    const shown = element.dataset.until === undefined ? Math.max(0, minutes) : -minutes;
    const hours = Math.floor(Math.abs(shown) / 60);
    const rest = Math.abs(shown) % 60;
    const [h, min] = document.documentElement.lang === "ko" ? ["시간", "분"] : [" h", " min"];
    const text = hours ? `${hours}${h} ${String(rest).padStart(2, "0")}${min}` : `${rest}${min}`;
    element.textContent = (shown < 0 ? "−" : "") + text;
  };
  const tellAll = (within) => within.querySelectorAll("time[data-since], time[data-until]").forEach(tell);
  tellAll(document);
  setInterval(() => tellAll(document), 10000);
  window.firstrayTell = tellAll;

  // <button data-open="id"> opens a <dialog>; <button data-close> closes the one it stands in.
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open]");
    if (opener) document.getElementById(opener.dataset.open)?.showModal();
    event.target.closest("[data-close]")?.closest("dialog")?.close();
  });

  // A form is sent once, however often its button is pressed.
  document.addEventListener("submit", (event) => {
    if (event.target.dataset.sent) event.preventDefault();
    else if (event.target.method === "post" && !event.target.hasAttribute("data-stays")) {
      event.target.dataset.sent = "yes";
      setTimeout(() => delete event.target.dataset.sent, 5000);
    }
  });
})();
