// Shows the screen that the address names: a room for `#/r/{room_id}`, otherwise the lobby.

// Indirect imports are listed too, so that the browser fetches all modules at once.
import "./rest.js";
import "./store.js";
import "../client.js";
import "./log.js";
import "./text.js";
import "./qr.js";
import { $, h } from "./dom.js";
import { lang, ready } from "./words.js";
import { setTitle } from "./alerts.js";
import { codeIn, lobby } from "./lobby.js";
import { room } from "./room.js";
import { ended } from "./entry.js";

document.documentElement.lang = lang;
let screen, isFirst = true;

const go = () => {
	screen?.close();
	for (const one of document.querySelectorAll("dialog")) one.close();
	setTitle("");
	const [, code] = location.hash.match(/^#\/r\/(.*)$/) ?? [];
	screen = code === undefined ? lobby(go)
		: codeIn(code) === code ? room(code) : { node: h("div.place", ended("gone", code, null, [])), close() {} };
	$("main").replaceChildren(screen.node);
	// Screen readers announce the focused heading.
	if (!isFirst) $("h1", screen.node)?.focus();
	isFirst = false;
};
ready.then(() => {
	addEventListener("hashchange", go);
	go();
});

// In some browsers an on-screen keyboard covers the page without resizing it.
const fit = () => {
	document.documentElement.style.setProperty("--height", `${visualViewport.height}px`);
	if (visualViewport.scale === 1) scrollTo(0, 0);
};
visualViewport.addEventListener("resize", fit);
