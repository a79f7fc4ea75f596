// What few people ask for. The page loads this module when a button for it is pressed.
export { removal, roomSettings } from "./owner.js";
export { program } from "./program.js";
export { askRename } from "./rename.js";
