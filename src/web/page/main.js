// Which screen is shown: the address says it, `#/r/{room_id}` or nothing.

// All that the others import, too, so that it is fetched at once.
import "./rest.js";
import "./store.js";
import "./talk.js";
import "./line.js";
import "./log.js";
import "./qr.js";
import { $, h } from "./dom.js";
import { lang } from "./words.js";
import { entitle } from "./signals.js";
import { codeIn, lobby } from "./lobby.js";
import { room } from "./room.js";
import { over } from "./doors.js";

document.documentElement.lang = lang;
let screen, isFirst = true;

const go = () => {
	screen?.close();
	for (const one of document.querySelectorAll("dialog")) one.close();
	entitle("");
	const [, code] = location.hash.match(/^#\/r\/(.*)$/) ?? [];
	screen = code === undefined ? lobby(go)
		: codeIn(code) === code ? room(code) : { node: h("div.place", over("gone", code, null, [])), close() {} };
	$("main").replaceChildren(screen.node);
	// Whoever listens is told where they are.
	if (!isFirst) $("h1", screen.node)?.focus();
	isFirst = false;
};
addEventListener("hashchange", go);
go();

// An on-screen keyboard covers the page where it doesn't resize it.
const fit = () => {
	document.documentElement.style.setProperty("--height", `${visualViewport.height}px`);
	if (visualViewport.scale === 1) scrollTo(0, 0);
};
visualViewport.addEventListener("resize", fit);
