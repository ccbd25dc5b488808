// Before the page is drawn: the palette chosen by hand, or the system's.
"use strict";
(() => {
  const KEY = "firstray-theme";
  const chosen = localStorage.getItem(KEY);
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  window.firstrayTheme = {
    now: () =>
      document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark"),
    use: (name) => {
      localStorage.setItem(KEY, name);
      document.documentElement.dataset.theme = name;
    },
  };
})();
