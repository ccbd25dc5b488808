// A run's page: facts come anew when something changes, forms stay as they are while somebody types.
"use strict";
(() => {
  const page = document.querySelector(".run-page");
  const facts = document.getElementById("facts");
  let known = filmIds();
  let drawn = "";
  let pending = false;
  let loading = false;

  function filmIds() {
    return [...facts.querySelectorAll("[data-film-id]")].map((film) => film.dataset.filmId).join();
  }

  const refresh = async () => {
    if (loading) return void (pending = true);
    loading = true;
    try {
      const answer = await fetch(facts.dataset.url, { headers: { "X-Fragment": "1" }, cache: "no-store" });
      if (answer.status === 401) return location.reload();
      if (answer.status === 404) return location.reload(); // the run was deleted: the page says so
      if (!answer.ok) return;
      const text = await answer.text();
      if (text === drawn) return;
      await firstrayReleased();
      drawn = text;
      const open = [...facts.querySelectorAll("details[open][data-keep]")].map((one) => one.dataset.keep);
      const focused = document.activeElement && facts.contains(document.activeElement) ? path(document.activeElement) : null;
      facts.innerHTML = text;
      for (const name of open) facts.querySelector(`[data-keep="${name}"]`)?.setAttribute("open", "");
      if (focused) facts.querySelector(focused)?.focus({ preventScroll: true });
      firstrayTell(facts);
      facts.dispatchEvent(new CustomEvent("firstray:facts", { bubbles: true }));
      // The first film of a run brings the viewer and its forms: nothing is typed yet that could be lost but a message.
      if (known === "" && filmIds() !== "" && !document.getElementById("message-text").value) location.reload();
      known = filmIds();
    } finally {
      loading = false;
      if (pending) {
        pending = false;
        refresh();
      }
    }
  };
  const path = (element) => {
    if (element.id) return `#${CSS.escape(element.id)}`;
    const href = element.getAttribute("href");
    return href ? `a[href="${CSS.escape(href)}"]` : element.tagName.toLowerCase();
  };

  // Forms are sent by script, so that what is typed in another one stays; without script they load the page again.
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("[data-act]")) return;
    event.preventDefault();
    if (form.dataset.busy) return;
    form.dataset.busy = "yes";
    const answerPlace = form.querySelector("[data-answer]");
    const button = form.querySelector("button:not([type=button])");
    button.disabled = true;
    try {
      const answer = await fetch(form.action, {
        method: "POST",
        body: new URLSearchParams(new FormData(form)),
        headers: { "X-Fragment": "1" },
      });
      if (answer.status === 401) return location.assign("/login");
      answerPlace.innerHTML = await answer.text();
      if (answer.ok) {
        if (form.hasAttribute("data-stays")) form.reset();
        await refresh();
      }
    } catch {
      answerPlace.innerHTML = "";
      const said = document.createElement("p");
      said.className = "said urgent";
      said.setAttribute("role", "alert");
      said.textContent = document.querySelector("[data-lost]").firstChild.textContent;
      answerPlace.append(said);
    } finally {
      delete form.dataset.busy;
      button.disabled = false;
    }
  });

  // Closing the page with something typed asks first.
  addEventListener("beforeunload", (event) => {
    const typed = [...document.querySelectorAll("form[data-stays]")].some((form) =>
      [...form.elements].some((field) => (field.type === "radio" ? field.checked !== field.defaultChecked : field.tagName === "TEXTAREA" && field.value)),
    );
    if (typed) event.preventDefault();
  });

  firstrayLive(page.dataset.live, {
    changed: refresh, // said once when the stream opens as well: something may have changed since the page was drawn
  });
})();
