// The viewer: one or two panes on a film; zoom, pan, window and level, inverted greys, boxes of both readings.
"use strict";
(() => {
  const viewer = document.getElementById("viewer");
  if (!viewer) return;
  const panes = viewer.querySelector(".panes");
  const list = viewer.querySelector("[data-boxes]");
  const SVG = "http://www.w3.org/2000/svg";
  const MOST_ZOOM = 16;

  let film = read();
  let mode = "edge";
  let view = { zoom: 1, x: 0, y: 0 }; // zoom 1 fits; x, y: fraction of the pane by which the film is moved
  let greys = { low: 0, high: 255, invert: false };
  let windowing = false;
  let boxesOn = true;
  const hidden = new Set();
  let shown = [];

  function read() {
    const data = document.getElementById("film-data");
    return data ? JSON.parse(data.dataset.film) : null;
  }

  const make = (name, attributes, parent) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    parent?.append(element);
    return element;
  };

  // --- panes ------------------------------------------------------------------------------------------------------
  const sidesOf = (one) => ({ edge: [["edge"]], server: [["server"]], side: [["edge"], ["server"]], over: [["edge", "server"]] })[one];

  function build() {
    panes.replaceChildren();
    panes.classList.toggle("two", mode === "side");
    shown = sidesOf(mode).map((names) => pane(names));
    for (const button of viewer.querySelectorAll("[data-mode]")) {
      button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
      const one = button.dataset.mode;
      button.disabled = (one === "over" && !film.overlay) || ((one === "server" || one === "side") && !film.sides.server.read);
    }
    legend();
    draw();
  }

  function pane(names) {
    const element = document.createElement("div");
    element.className = "pane";
    element.tabIndex = 0;
    element.setAttribute("role", "group");
    element.setAttribute("aria-label", names.map((name) => film.sides[name].label).join(" + "));
    const side = film.sides[names[0]];
    const image = document.createElement("img");
    image.draggable = false;
    image.alt = film.alt;
    const boxes = make("svg", { class: "boxes", "aria-hidden": "true" }, element);
    const caption = document.createElement("p");
    caption.className = "caption";
    caption.textContent = names.map((name) => film.sides[name].label).join(" + ");
    const note = document.createElement("p");
    note.className = "pane-note";
    element.prepend(image);
    element.append(caption, note);
    panes.append(element);
    const one = { element, image, boxes, names, note, ready: false };
    const say = (text) => ((note.textContent = text), (note.hidden = !text));
    if (side.image) {
      say(film.original ? "" : film.preview);
      image.addEventListener("load", () => ((one.ready = true), draw()));
      image.addEventListener("error", () => {
        image.hidden = true;
        say(film.failed);
      });
      image.src = side.image;
    } else {
      image.hidden = true;
      say(film.waiting);
    }
    return one;
  }

  // --- drawing ----------------------------------------------------------------------------------------------------
  function draw() {
    const span = Math.max(1, greys.high - greys.low);
    let slope = 255 / span;
    let intercept = -greys.low / span;
    if (greys.invert) [slope, intercept] = [-slope, 1 - intercept];
    for (const part of document.querySelectorAll("#greys feComponentTransfer > *")) {
      part.setAttribute("slope", slope);
      part.setAttribute("intercept", intercept);
    }
    const plain = greys.low === 0 && greys.high === 255 && !greys.invert;
    for (const one of shown) {
      if (!one.ready) continue;
      const place = rect(one);
      one.image.style.filter = plain ? "" : "url(#greys)";
      one.image.style.width = `${place.width}px`;
      one.image.style.height = `${place.height}px`;
      one.image.style.transform = `translate(${place.x}px, ${place.y}px)`;
      drawBoxes(one, place);
    }
  }

  function rect(one) {
    const { clientWidth: width, clientHeight: height } = one.element;
    const scale = Math.min(width / one.image.naturalWidth, height / one.image.naturalHeight) * view.zoom;
    const size = { width: one.image.naturalWidth * scale, height: one.image.naturalHeight * scale };
    return { ...size, x: (width - size.width) / 2 + view.x * width, y: (height - size.height) / 2 + view.y * height };
  }

  function drawBoxes(one, place) {
    one.boxes.replaceChildren();
    if (!film.original) return; // the preview has its boxes drawn in
    const taken = [];
    for (const name of one.names) {
      for (const box of film.sides[name].boxes) {
        if (!boxesOn || hidden.has(box.finding)) continue;
        const frame = { x: place.x + box.x * place.width, y: place.y + box.y * place.height, width: box.w * place.width, height: box.h * place.height };
        const group = make("g", { class: `box ${name}${box.dashed ? " dashed" : ""}` }, one.boxes);
        make("rect", { class: "rim", ...frame }, group);
        make("rect", { class: "line", ...frame }, group);
        const label = make("text", { y: 0 }, group);
        label.textContent = one.names.length > 1 ? `${film.sides[name].short}: ${box.name}` : box.name;
        const width = label.getComputedTextLength() + 10;
        const left = Math.max(0, Math.min(frame.x, one.element.clientWidth - width));
        label.setAttribute("x", left + 5);
        let top = frame.y - 22;
        if (top < 0) top = frame.y + frame.height + 2;
        while (taken.some((other) => Math.abs(other.top - top) < 22 && left < other.right && left + width > other.left)) top += 22;
        taken.push({ top, left, right: left + width });
        label.setAttribute("y", top + 15);
        const ground = make("rect", { class: "ground", x: left, y: top, width, height: 20, rx: 3 });
        group.insertBefore(ground, label);
      }
    }
  }

  function legend() {
    const found = new Map();
    for (const one of shown) for (const name of one.names) for (const box of film.sides[name].boxes) found.set(box.finding, box.name);
    list.replaceChildren();
    for (const [key, name] of film.original ? found : []) {
      const label = document.createElement("label");
      label.className = "check";
      const check = document.createElement("input");
      check.type = "checkbox";
      check.checked = !hidden.has(key);
      check.addEventListener("change", () => (check.checked ? hidden.delete(key) : hidden.add(key), draw()));
      label.append(check, name);
      list.append(label);
    }
    viewer.querySelector("[data-legend]").hidden = !list.childElementCount;
  }

  // --- moving -----------------------------------------------------------------------------------------------------
  function zoomBy(factor, one = shown[0], clientX, clientY) {
    const zoom = Math.min(MOST_ZOOM, Math.max(1, view.zoom * factor));
    const change = zoom / view.zoom;
    const box = one.element.getBoundingClientRect();
    const px = clientX === undefined ? 0 : (clientX - box.left - box.width / 2) / box.width;
    const py = clientY === undefined ? 0 : (clientY - box.top - box.height / 2) / box.height;
    view = { zoom, x: px + (view.x - px) * change, y: py + (view.y - py) * change };
    keep();
    draw();
  }
  const keep = () => {
    const most = (view.zoom - 1) / 2 + 0.25 * Math.min(1, view.zoom - 1);
    view.x = Math.min(most, Math.max(-most, view.x));
    view.y = Math.min(most, Math.max(-most, view.y));
  };
  const moveBy = (x, y) => ((view.x += x), (view.y += y), keep(), draw());
  const windowBy = (x, y) => {
    // As at a workstation: sideways changes the contrast, up and down the brightness.
    const centre = (greys.low + greys.high) / 2 + y;
    const half = Math.min(255, Math.max(4, (greys.high - greys.low) / 2 + x));
    greys.low = Math.min(250, Math.max(-255, centre - half));
    greys.high = Math.max(5, Math.min(510, centre + half));
    draw();
  };

  const pointers = new Map();
  panes.addEventListener("pointerdown", (event) => {
    const one = shown.find((candidate) => candidate.element.contains(event.target));
    if (!one) return;
    one.element.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, one, right: event.button === 2 });
  });
  panes.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = { ...before, x: event.clientX, y: event.clientY };
    const box = before.one.element.getBoundingClientRect();
    if (pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, where]) => where);
      const apart = (a, b) => Math.max(1, Math.hypot(a.x - b.x, a.y - b.y));
      zoomBy(apart(now, other) / apart(before, other), before.one, (now.x + other.x) / 2, (now.y + other.y) / 2);
      moveBy((now.x - before.x) / 2 / box.width, (now.y - before.y) / 2 / box.height);
    } else if (windowing || before.right) {
      windowBy((now.x - before.x) / 3, (now.y - before.y) / 3);
    } else {
      moveBy((now.x - before.x) / box.width, (now.y - before.y) / box.height);
    }
    pointers.set(event.pointerId, now);
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
    panes.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
  panes.addEventListener("contextmenu", (event) => event.preventDefault());
  panes.addEventListener(
    "wheel",
    (event) => {
      const one = shown.find((candidate) => candidate.element.contains(event.target));
      if (!one) return;
      event.preventDefault();
      zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), one, event.clientX, event.clientY);
    },
    { passive: false },
  );

  // --- buttons and keys -------------------------------------------------------------------------------------------
  const toggle = (name, on) => viewer.querySelector(`[data-do="${name}"]`).setAttribute("aria-pressed", String(on));
  const acts = {
    in: () => zoomBy(1.4),
    out: () => zoomBy(1 / 1.4),
    fit: () => ((view = { zoom: 1, x: 0, y: 0 }), draw()),
    window: () => ((windowing = !windowing), toggle("window", windowing), panes.classList.toggle("windowing", windowing)),
    invert: () => ((greys.invert = !greys.invert), toggle("invert", greys.invert), draw()),
    boxes: () => ((boxesOn = !boxesOn), toggle("boxes", boxesOn), draw()),
    reset: () => ((greys = { low: 0, high: 255, invert: false }), toggle("invert", false), acts.fit()),
  };
  viewer.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.mode) ((mode = button.dataset.mode), build());
    else acts[button.dataset.do]?.();
  });
  const KEYS = { "+": "in", "=": "in", "-": "out", 0: "fit", i: "invert", b: "boxes", w: "window" };
  const MOVES = { ArrowLeft: [0.08, 0], ArrowRight: [-0.08, 0], ArrowUp: [0, 0.08], ArrowDown: [0, -0.08] };
  panes.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const act = KEYS[event.key.toLowerCase()];
    if (act) acts[act]();
    else if (MOVES[event.key]) (windowing ? windowBy(MOVES[event.key][0] * -60, MOVES[event.key][1] * -60) : moveBy(...MOVES[event.key]));
    else return;
    event.preventDefault();
  });

  // --- news -------------------------------------------------------------------------------------------------------
  document.addEventListener("firstray:facts", () => {
    const now = read();
    if (!now || JSON.stringify(now) === JSON.stringify(film)) return;
    const images = (one) => `${one.sides.edge.image} ${one.sides.server.image} ${one.sides.server.read}`;
    const same = images(now) === images(film);
    film = now;
    if (same) (legend(), draw());
    else build();
  });
  new ResizeObserver(draw).observe(panes);

  if (film) build();
})();
