// What few people ask for. The page loads this module when they do.
export { removal, roomSettings } from "./owner.js";
export { program } from "./program.js";
export { path, qr } from "./qr.js";
export { askRename } from "./rename.js";
