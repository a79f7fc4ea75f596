// Menus, and how one is opened for a message: by mouse, long press, or keyboard. Owns the open menu, its place, its keys
// and its focus. Must not know what its entries do.
import { $, h, iconButton } from "./dom.js";
import { t } from "./words.js";

const HOLD = 500; // Milliseconds, as for the menus of phones.
const SLIP = 10; // Pixels that a resting finger may move.
const EDGE = 8;

let close = () => {};

// `items`: `[label, deed, class]`. The focus returns to where it was, unless a deed moves it.
export const menu = (label, { left, top, bottom }, items) => {
	close();
	const before = document.activeElement, buttons = items.map(([text, deed, kind = ""]) =>
		h("button", { type: "button", role: "menuitem", tabIndex: -1, className: kind, onclick: () => { end(); deed(); } }, text));
	const node = h("div.menu", { role: "menu", ariaLabel: label }, buttons);
	const outside = ({ target }) => { if (!node.contains(target)) end(); };
	const SIGNS = ["pointerdown", "scroll", "focusin", "resize", "hashchange"];
	const end = close = () => {
		close = () => {};
		for (const sign of SIGNS) removeEventListener(sign, outside, true);
		const isHere = node.contains(document.activeElement);
		node.remove();
		if (isHere) before?.focus({ preventScroll: true });
	};
	node.onkeydown = (event) => {
		const { key } = event, at = buttons.indexOf(document.activeElement), { length } = buttons;
		const next = { ArrowDown: at + 1, ArrowUp: at + length - 1, Home: 0, End: length - 1 }[key];
		if (next !== undefined) buttons[next % length].focus();
		else if (key === "Escape" || key === "Tab") end();
		else return;
		event.preventDefault();
		event.stopPropagation();
	};
	// A modal dialog makes everything outside it inert. What is moved, like the page above the keyboard of iOS, holds what is
	// fixed in it.
	const above = $("dialog[open]:modal"), place = above ?? $("main"), y = above ? 0 : place.getBoundingClientRect().top;
	place.append(node);
	const { offsetWidth: width, offsetHeight: height } = node;
	node.style.left = `${Math.max(EDGE, Math.min(left, innerWidth - width - EDGE))}px`;
	node.style.top = `${Math.max(EDGE, bottom + height + EDGE < innerHeight ? bottom : top - height) - y}px`;
	buttons[0].focus({ preventScroll: true });
	for (const sign of SIGNS) addEventListener(sign, outside, true);
};

// Opens `show(bubble)`, whose second argument is where it was asked for, for the messages of a log. Returns the button
// that appears beside the message under the mouse: outside the log, which screen readers announce additions to.
export const menusOf = (log, show) => {
	let under, timer, start, isHeld = false;
	const messageAt = (target) => target.closest?.(".bubble[data-id]");
	const place = (bubble) => bubble.getBoundingClientRect();
	const more = iconButton("dots", t("actions"), () => show(under, place(more)), "over");
	more.tabIndex = -1;
	more.hidden = true;
	const leave = ({ relatedTarget }) => { if (relatedTarget !== more && !more.contains(relatedTarget)) more.hidden = true; };
	log.addEventListener("pointerover", ({ pointerType, target }) => {
		const bubble = messageAt(target);
		if (pointerType !== "mouse" || !bubble) return;
		const { left, right, top } = place(bubble), size = 32;
		under = bubble;
		more.hidden = false;
		more.style.top = `${Math.max(top - EDGE, place(log).top)}px`;
		more.style.left = `${bubble.matches(".mine") ? left - size + EDGE : right - EDGE}px`;
	});
	log.addEventListener("pointerleave", leave);
	more.addEventListener("pointerleave", leave);
	log.addEventListener("scroll", () => { more.hidden = true; stop(); });

	const stop = () => clearTimeout(timer);
	log.addEventListener("pointerdown", (event) => {
		const bubble = messageAt(event.target);
		stop();
		isHeld = false;
		if (event.pointerType === "mouse" || !bubble || event.target.closest("a, button")) return;
		start = event;
		timer = setTimeout(() => {
			isHeld = true;
			show(bubble, { left: start.clientX, top: start.clientY, bottom: start.clientY });
		}, HOLD);
	});
	log.addEventListener("pointermove", ({ clientX, clientY }) => {
		if (start && Math.hypot(clientX - start.clientX, clientY - start.clientY) > SLIP) stop();
	});
	for (const name of ["pointerup", "pointercancel"]) log.addEventListener(name, stop);
	// Lifting the finger would be a press beside the menu, which closes it.
	log.addEventListener("touchend", (event) => { if (isHeld) event.preventDefault(); });
	// A phone's own menu would cover this one. A mouse keeps the browser's.
	log.addEventListener("contextmenu", (event) => {
		if (event.pointerType && event.pointerType !== "mouse" && messageAt(event.target) && !event.target.closest("a, button")) event.preventDefault();
	});

	log.addEventListener("keydown", (event) => {
		const { key, shiftKey, target } = event, bubble = target === log ? null : messageAt(target);
		if (target !== log && target !== bubble) return;
		const step = { ArrowUp: -1, ArrowDown: 1 }[key];
		if (step) {
			const all = [...log.querySelectorAll(".bubble[data-id]")], { bottom } = place(log);
			const next = bubble ? all[all.indexOf(bubble) + step] : all.findLast((one) => place(one).top < bottom);
			if (!next) return;
			next.tabIndex = -1;
			next.focus();
		} else if (!bubble) return;
		else if (key === "Enter" || key === "ContextMenu" || (key === "F10" && shiftKey)) show(bubble, place(bubble));
		else if (key === "Escape") log.focus();
		else return;
		event.preventDefault();
	});
	return more;
};
