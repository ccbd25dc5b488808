// A stream of server-sent events that finds its way back, and says when it is lost.
"use strict";
// What comes anew between press and release would be taken from under the finger, and the click lost: it waits for this.
window.firstrayReleased = (() => {
  const HELD_MS = 3000; // should the release never be heard
  let waiting = Promise.resolve();
  let end = () => {};
  document.addEventListener("pointerdown", () => {
    end();
    waiting = new Promise((resolve) => (end = resolve));
    setTimeout(end, HELD_MS);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    document.addEventListener(name, () => setTimeout(end)); // after the click that follows
  }
  return () => waiting;
})();
window.firstrayLive = (url, handlers) => {
  const banner = document.querySelector("[data-lost]");
  const since = document.querySelector("[data-lost-since]");
  let source;
  let heard = Date.now();
  let lostAt = null;
  let again;

  const lost = () => {
    if (lostAt === null) lostAt = new Date();
    if (since) since.textContent = lostAt.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    if (banner) banner.hidden = false;
    document.body.classList.add("is-lost");
  };
  const found = () => {
    heard = Date.now();
    lostAt = null;
    if (banner) banner.hidden = true;
    document.body.classList.remove("is-lost");
  };
  const open = () => {
    clearTimeout(again);
    source?.close();
    source = new EventSource(url);
    source.onopen = found;
    source.onerror = () => {
      lost();
      // A refusal (a log-in that has ended, a proxy's error) closes the stream for good: ask again, and find out why.
      if (source.readyState === EventSource.CLOSED) {
        again = setTimeout(retry, 2000);
      }
    };
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => (found(), handle(event.data)));
    }
    source.addEventListener("ended", () => location.reload());
  };
  const retry = async () => {
    try {
      const answer = await fetch("/session", { cache: "no-store", redirect: "manual" });
      if (answer.status === 401) return location.reload();
    } catch {
      again = setTimeout(retry, 2000);
      return;
    }
    open();
  };
  // The server says something every 10 seconds, as a comment that scripts do not see; a browser notices a connection
  // that is cut, but not one that silently leads nowhere: ask where nothing came for long.
  setInterval(async () => {
    if (Date.now() - heard < 25000 || lostAt) return;
    try {
      await fetch("/session", { cache: "no-store", signal: AbortSignal.timeout(5000) });
      heard = Date.now();
    } catch {
      lost();
      open();
    }
  }, 5000);
  addEventListener("online", open);
  open();
};
