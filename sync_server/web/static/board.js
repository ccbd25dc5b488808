// The board: takes each new drawing, marks what is new or changed, and sounds for what is urgent.
"use strict";
(() => {
  const board = document.getElementById("board");
  const announce = document.querySelector("[data-announce]");
  const seen = new Map();
  const news = new Map(); // run -> {kind, until}
  const STANDS_OUT_MS = 120000;

  const runs = () => [...board.querySelectorAll("[data-run]")];
  const show = () => {
    for (const run of runs()) {
      const what = news.get(run.dataset.run);
      const fresh = what && what.until > Date.now();
      const label = run.querySelector(".news");
      run.classList.toggle("is-new", Boolean(fresh && what.kind === "new"));
      run.classList.toggle("is-changed", Boolean(fresh && what.kind === "changed"));
      label.hidden = !fresh;
      label.textContent = fresh ? label.dataset[`${what.kind}Label`] : "";
    }
  };

  const take = (html) => {
    const focused = document.activeElement?.id;
    const open = board.querySelector("details")?.open;
    board.innerHTML = html;
    if (open) board.querySelector("details")?.setAttribute("open", "");
    firstrayTell(board);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    const said = [];
    let alarm = 0;
    for (const run of runs()) {
      const { run: id, version, urgent, name } = run.dataset;
      const before = seen.get(id);
      if (!before || before.version !== version) {
        const kind = before ? "changed" : "new";
        const standing = news.get(id);
        const stays = standing?.kind === "new" && standing.until > Date.now();
        news.set(id, { kind: stays ? "new" : kind, until: Date.now() + STANDS_OUT_MS });
        said.push(board.dataset[kind].replace("{run}", name));
        if (!before) alarm = Math.max(alarm, 1 + Number(urgent));
        else if (Number(urgent) > before.urgent) alarm = Math.max(alarm, 1 + Number(urgent));
        seen.set(id, { version, urgent: Number(urgent) });
      }
    }
    show();
    if (said.length) announce.textContent = said.join(". ");
    if (alarm) sound(alarm);
  };

  // --- sound: one tone for a new run, two for an urgent one, three rising ones for what may kill within minutes ------
  const KEY = "firstray-sound";
  const button = document.querySelector("[data-sound]");
  let context = null;
  const wanted = () => localStorage.getItem(KEY) !== "off";
  const audible = () => wanted() && context?.state === "running";
  const label = () => {
    button.setAttribute("aria-pressed", String(audible()));
    button.textContent = audible() ? button.dataset.on : button.dataset.off;
  };
  const sound = (tones) => {
    if (!audible()) return;
    for (let number = 0; number < tones; number += 1) {
      const at = context.currentTime + number * 0.28;
      const tone = context.createOscillator();
      const gain = context.createGain();
      tone.frequency.value = tones === 3 ? 660 + number * 220 : 660;
      gain.gain.setValueAtTime(0, at);
      gain.gain.linearRampToValueAtTime(0.35, at + 0.02);
      gain.gain.linearRampToValueAtTime(0, at + 0.24);
      tone.connect(gain).connect(context.destination);
      tone.start(at);
      tone.stop(at + 0.25);
    }
    board.dispatchEvent(new CustomEvent("firstray:sounded", { detail: tones, bubbles: true }));
  };
  // Browsers allow sound only after somebody has touched the page.
  const wake = async () => {
    context ??= new AudioContext();
    if (context.state !== "running") await context.resume();
    label();
  };
  button.addEventListener("click", async (event) => {
    event.stopPropagation();
    const silence = audible();
    localStorage.setItem(KEY, silence ? "off" : "on");
    await wake();
    if (!silence) sound(1);
    label();
  });
  document.addEventListener("pointerdown", (event) => wanted() && !button.contains(event.target) && wake());
  document.addEventListener("keydown", (event) => wanted() && !button.contains(event.target) && wake());
  label();
  addEventListener("storage", label);

  for (const run of runs()) seen.set(run.dataset.run, { version: run.dataset.version, urgent: Number(run.dataset.urgent) });
  setInterval(show, 5000);
  let latest;
  firstrayLive(board.dataset.live, {
    board: async (html) => {
      latest = html;
      await firstrayReleased();
      if (html === latest) take(html);
    },
  });
})();
