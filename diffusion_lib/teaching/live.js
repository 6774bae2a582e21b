// The live half: ties one explorer (explorer.js) to the Python object, and makes readers' images small before they go there.

const SIDE = 256; // pixels: no image larger than this leaves the browser
const MEGAPIXELS = 60; // more than this is refused before it is decoded

// [width, height] from the header of a PNG or JPEG; null where it does not say: then the browser decodes, and decides.
function sizeInHeader(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes[0] === 0x89) return view.byteLength < 24 ? null : [view.getUint32(16), view.getUint32(20)];
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return null;
  for (let at = 2; at + 9 < view.byteLength; at += 2 + view.getUint16(at + 2)) {
    const marker = bytes[at + 1];
    if (bytes[at] !== 0xff) return null;
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) return [view.getUint16(at + 7), view.getUint16(at + 5)];
  }
  return null;
}

function refuseLarge(width, height) {
  if (width * height <= MEGAPIXELS * 1e6) return;
  throw new Error(`This image has ${width} x ${height} pixels: please choose one of at most ${MEGAPIXELS} megapixels.`);
}

// A File -> DataView of a PNG whose longer side is at most SIDE pixels, upright as the camera meant it.
async function shrink(file) {
  const size = sizeInHeader(new Uint8Array(await file.arrayBuffer()));
  if (size) refuseLarge(...size);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error("This file does not hold an image that your browser can read.");
  }
  refuseLarge(bitmap.width, bitmap.height);
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  return new DataView(await blob.arrayBuffer());
}

function render({ model, el }) {
  const listening = [];
  let alive = true; // false from the moment a kernel is restarted until Python has answered
  const root = document.createElement("figure");
  el.append(root);
  explorer(root, model.get("baked"), {
    shrink,
    index: () => model.get("index"),
    live: () => model.get("live"),
    alive: () => alive,
    send: (index, upload) => {
      if (upload) model.set("upload", upload);
      model.set("index", index);
      model.save_changes();
    },
    listen: (hear) => {
      const ask = () => { // the line to Python was cut, or is there again
        alive = false;
        hear();
        try { model.send({ alive: "?" }); } catch { /* it was cut */ }
      };
      const answered = () => { alive = true; hear(); };
      listening.push(["change:index", hear], ["change:live", hear], ["comm_live_update", ask], ["msg:custom", answered]);
      for (const [event, listener] of listening) model.on(event, listener);
    },
  });
  return () => listening.forEach(([event, listener]) => model.off(event, listener));
}

export default { render };
