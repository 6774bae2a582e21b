// One explorer: a row for each control and an image below. All images were drawn by Python; this only chooses one.

const EXPLORER_CSS = `
.diffusion-explorer { margin: 8px 0; font-size: 14px; line-height: 20px; }
.diffusion-explorer .explorer-controls, .diffusion-explorer .explorer-image { max-width: 100%; box-sizing: border-box; }
.diffusion-explorer .explorer-controls { display: grid; grid-template-columns: max-content minmax(8em, 1fr) minmax(7em, max-content);
  gap: 5px 12px; align-items: center; padding: 2px 2px 8px; }
.diffusion-explorer label { display: contents; font-weight: normal; }
.diffusion-explorer label > span:last-of-type { font-variant-numeric: tabular-nums; }
.diffusion-explorer input, .diffusion-explorer select, .diffusion-explorer button { accent-color: #0072B2; font: inherit; margin: 0; }
.diffusion-explorer input[type=range] { width: 100%; min-width: 0; height: 20px; cursor: pointer; }
.diffusion-explorer select, .diffusion-explorer input[type=file] { justify-self: start; max-width: 100%; }
.diffusion-explorer :is(input, select, button):focus-visible { outline: 2px solid #56B4E9; outline-offset: 2px; border-radius: 3px; }
.diffusion-explorer :disabled { cursor: not-allowed; opacity: .5; }
.diffusion-explorer .explorer-note { grid-column: 1 / -1; margin: 0; font-size: 12px; opacity: .8; }
.diffusion-explorer .explorer-image { position: relative; overflow: hidden; background: #fff; border-radius: 4px; transition: opacity .15s; }
.diffusion-explorer .explorer-image[aria-busy=true] { opacity: .55; }
.diffusion-explorer .explorer-image > div { position: absolute; inset: 0; }
.diffusion-explorer .explorer-image img { position: absolute; left: 0; top: 0; max-width: none; height: auto; margin: 0; padding: 0; }
`;

const PATIENCE = 5000; // milliseconds
const NO_ANSWER = "No answer yet: the notebook's kernel is busy, or it has stopped. If it has, run this cell again.";

function make(tag, parent, attributes = {}) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return parent.appendChild(node);
}

// The three kinds of row. Each returns its input and a function that brings it up to date.

function sliderRow(row, control, attributes, choose) {
  const input = make("input", row, { type: "range", min: 0, max: control.texts.length - 1, step: 1, ...attributes });
  const text = make("span", row, { "aria-hidden": "true" });
  input.addEventListener("input", () => choose(Number(input.value)));
  return [input, (place, description) => {
    input.value = place;
    text.textContent = control.texts[place];
    input.setAttribute("aria-valuetext", control.texts[place]);
    input.setAttribute("aria-description", description);
  }];
}

function listRow(row, control, attributes, choose) {
  const input = make("select", row, attributes);
  for (const text of control.texts) make("option", input).textContent = text;
  make("span", row);
  input.addEventListener("change", () => choose(input.selectedIndex));
  return [input, (place, description) => {
    input.selectedIndex = place;
    input.setAttribute("aria-description", description);
  }];
}

function fileRow(row, control, attributes, choose, kernel, complain) {
  const input = make("input", row, { type: "file", accept: "image/*", ...attributes });
  const back = make("button", make("span", row), { type: "button", "data-lm-suppress-shortcuts": "true" });
  back.textContent = "take it away";
  back.addEventListener("click", () => { input.value = ""; choose(0); });
  input.addEventListener("click", () => { input.value = ""; }); // or a file of the same name would change nothing
  input.addEventListener("change", async () => {
    if (!input.files.length) return;
    try {
      choose(Date.now(), await kernel.shrink(input.files[0])); // a number that no earlier upload had
    } catch (error) {
      complain(error.message);
    }
  });
  return [input, (place) => { back.style.visibility = place ? "visible" : "hidden"; }];
}

// The window through which one frame is seen. A sheet has a pane: its first cell, the background, and over it the cell of
// the frame, which is only moved. Panes are kept once decoded, so that a key press decodes nothing.
function stage(image, whenReady) {
  const panes = new Map();
  const paneOf = (block) => {
    if (!panes.has(block.sheet)) {
      const pane = document.createElement("div");
      const layers = [0, 1].map(() => make("img", pane, { alt: "", decoding: "sync", src: block.sheet }));
      panes.set(block.sheet, pane);
      Promise.allSettled(layers.map((layer) => layer.decode())).then(() => { pane.dataset.ready = "yes"; whenReady(); });
    }
    return panes.get(block.sheet);
  };
  const lay = (block, k) => {
    const pane = paneOf(block);
    if (!pane.dataset.ready) return;
    const [cell, cells] = [k + 1, block.texts.length + 1];
    const across = Math.ceil(Math.sqrt(cells)), down = Math.ceil(cells / across);
    const [back, front] = pane.children;
    back.style.width = front.style.width = `${100 * across}%`;
    front.style.transform = `translate(${-100 * (cell % across) / across}%, ${-100 * Math.floor(cell / across) / down}%)`;
    front.alt = block.texts[k];
    if (image.firstChild !== pane) image.replaceChildren(pane);
  };
  return { prepare: paneOf, lay };
}

// root: an empty <figure>, or one that holds the first image. spec: what Python made (see explorer.py).
// kernel: null where none runs (exported pages); otherwise {index, live, alive, send, listen, shrink} (see live.js).
function explorer(root, spec, kernel) {
  const first = root.querySelector("img");
  root.replaceChildren();
  root.classList.add("diffusion-explorer");
  make("style", root).textContent = EXPLORER_CSS;
  const panel = make("div", root, { class: "explorer-controls", style: `width:${Math.max(400, spec.width)}px` });
  const size = `width:${spec.width}px;aspect-ratio:${spec.width}/${spec.height}`;
  const image = make("div", root, { class: "explorer-image", style: size });
  if (first) image.append(first);

  let index = kernel ? kernel.index() : Object.fromEntries(spec.controls.map((control) => [control.name, control.start]));
  let complaint = ""; // about a file that never reached Python
  let patience; // a timer
  const [frame, ...others] = spec.controls.map((control) => control.name);
  const works = () => kernel !== null && kernel.alive();
  const chosen = () => {
    const key = others.map((name) => index[name]).join(",");
    if (spec.sheets[key]) return spec.sheets[key];
    return kernel && kernel.live().key === key ? kernel.live() : {};
  };
  const found = () => {
    const { first, texts = [] } = chosen();
    return index[frame] >= first && index[frame] < first + texts.length;
  };
  const show = () => {
    if (!works() && !found()) { // what was asked will never come: back to what was drawn beforehand
      for (const control of spec.controls) if (control.live) index = { ...index, [control.name]: control.start };
    }
    const { sheet, first, texts, message } = chosen();
    const k = index[frame] - first;
    const waits = !found() && !message;
    image.setAttribute("aria-busy", String(waits));
    note.textContent = complaint || message || "";
    clearTimeout(patience);
    if (waits) patience = setTimeout(() => { note.textContent = NO_ANSWER; }, PATIENCE);
    for (const input of liveInputs) input.disabled = !works();
    if (greyed) greyed.hidden = works();
    for (const [name, update] of updates) update(index[name], found() ? texts[k] : "");
    if (found()) scene.lay({ sheet, texts }, k);
  };
  const choose = (name, place, upload) => {
    index = { ...index, [name]: place };
    complaint = "";
    show();
    if (works()) kernel.send(index, upload);
  };
  const complain = (text) => { complaint = text; show(); };

  const liveInputs = [];
  const build = { range: sliderRow, select: listRow, image: fileRow };
  const updates = spec.controls.map((control) => {
    const row = make("label", panel);
    make("span", row).textContent = control.label;
    const attributes = { "aria-label": control.label, "data-lm-suppress-shortcuts": "true", "data-control": control.name };
    const pick = (place, upload) => choose(control.name, place, upload);
    const [input, update] = build[control.form](row, control, attributes, pick, kernel, complain);
    if (control.live) liveInputs.push(input);
    return [control.name, update];
  });
  const greyed = liveInputs.length ? make("p", panel, { class: "explorer-note" }) : null;
  if (greyed) greyed.textContent = "What is greyed needs a running kernel: run this cell in JupyterLab.";
  const note = make("p", panel, { class: "explorer-note", role: "status", "aria-live": "polite" });

  const scene = stage(image, show);
  for (const block of Object.values(spec.sheets)) scene.prepare(block);
  if (kernel) kernel.listen(() => { index = kernel.index(); show(); });
  show();
}
