// Shows the screen that the address names: a room for `#/r/{room_id}`, otherwise the lobby.
import { $, h } from "./dom.js";
import { lang, ready } from "./words.js";
import { setTitle } from "./alerts.js";
import { isLink, pathTo, roomIn } from "./link.js";
import { keptKey } from "./rest.js";
import { lobby } from "./lobby.js";
import { room } from "./room.js";
import { ended } from "./entry.js";

document.documentElement.lang = lang;
let screen, isFirst = true;

const go = () => {
	screen?.close();
	for (const one of document.querySelectorAll("dialog")) one.close();
	setTitle("", null);
	const isRoom = isLink(location.hash), link = isRoom && roomIn(location.hash);
	if (link) link.key ??= keptKey(link.id);
	// A link may have lost or gained characters on its way. What is shared again is the clean one.
	if (link && location.hash !== pathTo(link)) history.replaceState(null, "", pathTo(link));
	screen = !isRoom ? lobby(go) : link ? room(link.id, link.key) : { node: h("div.place", ended("gone", "", null, [])), close() {} };
	$("main").replaceChildren(screen.node);
	// Screen readers announce the focused heading.
	if (!isFirst) $("h1", screen.node)?.focus();
	isFirst = false;
};
ready.then(() => {
	addEventListener("hashchange", go);
	go();
});

// In some browsers an on-screen keyboard covers the page without resizing it, and iOS scrolls the page away under it.
// Zooming changes the same figures, and must not change the layout.
const fit = () => {
	const { height, scale, offsetTop } = visualViewport;
	if (Math.abs(scale - 1) > .01) return;
	document.documentElement.style.setProperty("--height", `${height}px`);
	$("main").style.transform = offsetTop > 1 ? `translateY(${offsetTop}px)` : "";
};
for (const name of ["resize", "scroll"]) visualViewport.addEventListener(name, fit);
visualViewport.addEventListener("resize", () => { if (visualViewport.scale === 1) scrollTo(0, 0); });
