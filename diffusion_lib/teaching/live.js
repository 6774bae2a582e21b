// The live half: ties one explorer (explorer.js) to the Python object, and makes readers' images small before they go there.

const SIDE = 256; // pixels: no image larger than this leaves the browser
const MEGAPIXELS = 60; // more than this is refused before it is decoded

// [width, height] from the header of a PNG or JPEG; null where the file does not say.
function sizeInHeader(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes[0] === 0x89) return view.byteLength < 24 ? null : [view.getUint32(16), view.getUint32(20)];
  for (let at = 2; at + 9 < view.byteLength; at += 2 + view.getUint16(at + 2)) {
    const marker = bytes[at + 1];
    if (bytes[at] !== 0xff) return null;
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) return [view.getUint16(at + 7), view.getUint16(at + 5)];
  }
  return null;
}

function isAnimation(bytes) {
  // An animated PNG has an acTL chunk before its first IDAT chunk.
  if (bytes[0] !== 0x89) return false;
  const text = new TextDecoder("latin1").decode(bytes.subarray(0, 65536));
  const animation = text.indexOf("acTL"), data = text.indexOf("IDAT");
  return animation > 0 && (data < 0 || animation < data);
}

function refuse(bytes) {
  const png = [0x89, 0x50, 0x4e, 0x47].every((byte, k) => bytes[k] === byte);
  const jpeg = bytes[0] === 0xff && bytes[1] === 0xd8;
  if (!png && !jpeg) throw new Error("Please choose a PNG or a JPEG file: this is neither.");
  if (isAnimation(bytes)) throw new Error("This is an animation: please choose a still image.");
  const size = sizeInHeader(bytes);
  if (!size || !size[0] || !size[1]) throw new Error("This file does not hold a readable image.");
  if (size[0] * size[1] > MEGAPIXELS * 1e6) {
    throw new Error(`This image has ${size[0]} x ${size[1]} pixels: please choose one of at most ${MEGAPIXELS} megapixels.`);
  }
}

// A File -> DataView of a PNG whose longer side is at most SIDE pixels, upright as the camera meant it.
async function shrink(file) {
  refuse(new Uint8Array(await file.arrayBuffer()));
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error("This file does not hold a readable image.");
  }
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
  const listeners = [];
  const root = document.createElement("figure");
  el.append(root);
  explorer(root, model.get("baked"), {
    shrink,
    index: () => model.get("index"),
    live: () => model.get("live"),
    send: (index, upload) => {
      if (upload) model.set("upload", upload);
      model.set("index", index);
      model.save_changes();
    },
    listen: (hear) => {
      listeners.push(hear);
      model.on("change:index", hear);
      model.on("change:live", hear);
    },
  });
  return () => listeners.forEach((hear) => { model.off("change:index", hear); model.off("change:live", hear); });
}

export default { render };
