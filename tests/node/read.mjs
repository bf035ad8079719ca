// Prints what zarrita sees of a group: `node read.mjs GROUP ARRAY...`
import { createHash } from "node:crypto";
import * as zarr from "zarrita";
import { FileSystemStore } from "@zarrita/storage";

const [folder, ...names] = process.argv.slice(2);
const group = await zarr.open(new FileSystemStore(folder), { kind: "group" });
const arrays = {};
for (const name of names) {
  const array = await zarr.open(group.resolve(name), { kind: "array" });
  const { data, shape } = await zarr.get(array);
  const sha256 = createHash("sha256").update(data).digest("hex");
  arrays[name] = { dtype: array.dtype, shape, chunks: array.chunks, attributes: array.attrs, sha256 };
}
console.log(JSON.stringify({ attributes: group.attrs, arrays }));
