// One explorer: a row for each control and a picture below. All pictures were drawn by Python; this only chooses one.
// root: an empty <figure>, or one that holds the first picture. spec: what Python made (see explorer.py).
// kernel: null where none runs (exported pages); otherwise {index, live, send, listen, shrink} (see live.js).

const EXPLORER_CSS = `
.diffusion-explorer { margin: 8px 0; font-size: 14px; line-height: 20px; }
.diffusion-explorer .explorer-controls, .diffusion-explorer .explorer-picture { max-width: 100%; box-sizing: border-box; }
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
.diffusion-explorer .explorer-picture { position: relative; overflow: hidden; background: #fff; border-radius: 4px; transition: opacity .15s; }
.diffusion-explorer .explorer-picture[aria-busy=true] { opacity: .55; }
.diffusion-explorer .explorer-picture > div { position: absolute; inset: 0; }
.diffusion-explorer .explorer-picture img { position: absolute; left: 0; top: 0; max-width: none; height: auto; margin: 0; padding: 0; }
`;

function explorer(root, spec, kernel) {
  const make = (tag, parent, attributes = {}) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return parent.appendChild(node);
  };
  let index = { ...(kernel ? kernel.index() : Object.fromEntries(spec.controls.map((control) => [control.name, control.start]))) };
  const [frame, ...others] = spec.controls.map((control) => control.name);
  const key = () => others.map((name) => index[name]).join(",");

  const first = root.querySelector("img");
  root.replaceChildren();
  root.classList.add("diffusion-explorer");
  make("style", root).textContent = EXPLORER_CSS;
  const panel = make("div", root, { class: "explorer-controls", style: `width:${Math.max(400, spec.width)}px` });
  const picture = make("div", root, { class: "explorer-picture", style: `width:${spec.width}px;aspect-ratio:${spec.width}/${spec.height}` });
  if (first) picture.append(first);

  // One pane for each sheet: its first cell, the background, and over it the cell of the frame, which is only moved
  // behind the window `picture`. Panes are kept once decoded, so that a key press decodes nothing.
  const panes = new Map();
  const paneOf = (block) => {
    if (!panes.has(block.sheet)) {
      const pane = document.createElement("div");
      const layers = ["", " "].map((alt) => make("img", pane, { alt, decoding: "sync", src: block.sheet }));
      panes.set(block.sheet, pane);
      Promise.allSettled(layers.map((layer) => layer.decode())).then(() => { pane.dataset.ready = "yes"; show(); });
    }
    return panes.get(block.sheet);
  };
  const lay = (pane, block, k) => {
    const cells = block.texts.length + 1;
    const across = Math.ceil(Math.sqrt(cells));
    const down = Math.ceil(cells / across);
    const [, layer] = pane.children;
    for (const each of pane.children) each.style.width = `${100 * across}%`;
    layer.style.transform = `translate(${-100 * ((k + 1) % across) / across}%, ${-100 * Math.floor((k + 1) / across) / down}%)`;
    layer.alt = block.texts[k];
    if (picture.firstChild !== pane) picture.replaceChildren(pane);
  };
  const chosen = () => {
    const live = kernel ? kernel.live() : {};
    const block = spec.sheets[key()] || (live.key === key() && live.sheet ? live : null);
    const k = block ? index[frame] - block.first : -1;
    return block && k >= 0 && k < block.texts.length ? [block, k] : [null, k];
  };
  const show = () => {
    const [block, k] = chosen();
    const refusal = kernel && kernel.live().key === key() ? kernel.live().message || "" : "";
    picture.setAttribute("aria-busy", String(!block && !refusal));
    if (note.dataset.from !== "browser") note.textContent = refusal;
    for (const update of updates) update(block ? block.texts[k] : "");
    if (block && paneOf(block).dataset.ready) lay(paneOf(block), block, k);
  };
  const choose = (name, value, upload) => {
    index = { ...index, [name]: value };
    note.dataset.from = "";
    show();
    if (kernel) kernel.send(index, upload);
  };

  const updates = [];
  for (const control of spec.controls) {
    const row = make("label", panel);
    make("span", row).textContent = control.label;
    const shared = { "aria-label": control.label, "data-lm-suppress-shortcuts": "true", "data-control": control.name };
    const enabled = kernel || !control.live;
    let input;
    if (control.form === "range") {
      input = make("input", row, { type: "range", min: 0, max: control.texts.length - 1, step: 1, ...shared });
      const text = make("span", row, { "aria-hidden": "true" });
      updates.push((description) => {
        input.value = index[control.name];
        text.textContent = control.texts[index[control.name]];
        input.setAttribute("aria-valuetext", text.textContent);
        input.setAttribute("aria-description", description);
      });
      input.addEventListener("input", () => choose(control.name, Number(input.value)));
    } else if (control.form === "select") {
      input = make("select", row, shared);
      for (const text of control.texts) make("option", input).textContent = text;
      make("span", row);
      updates.push((description) => {
        input.selectedIndex = index[control.name];
        input.setAttribute("aria-description", description);
      });
      input.addEventListener("change", () => choose(control.name, input.selectedIndex));
    } else {
      input = make("input", row, { type: "file", accept: "image/png,image/jpeg", ...shared });
      const back = make("button", make("span", row), { type: "button", "data-lm-suppress-shortcuts": "true" });
      back.textContent = "take it away";
      updates.push(() => { back.style.visibility = index[control.name] ? "visible" : "hidden"; });
      back.addEventListener("click", () => { input.value = ""; choose(control.name, 0); });
      let uploads = 0;
      input.addEventListener("change", async () => {
        if (!input.files.length) return;
        try {
          choose(control.name, Math.max(uploads, index[control.name]) + 1, await kernel.shrink(input.files[0]));
          uploads = index[control.name];
        } catch (error) {
          note.dataset.from = "browser";
          note.textContent = error.message;
        }
      });
    }
    input.disabled = !enabled;
  }
  if (!kernel && spec.controls.some((control) => control.live)) {
    make("p", panel, { class: "explorer-note" }).textContent =
      "The greyed control needs a running kernel: run this cell in JupyterLab to use it.";
  }
  const note = make("p", panel, { class: "explorer-note", role: "status", "aria-live": "polite" });

  for (const block of Object.values(spec.sheets)) paneOf(block);
  if (kernel) kernel.listen(() => { index = { ...kernel.index() }; show(); });
  show();
}
