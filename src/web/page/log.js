// The conversation on the screen: grouped by day and person, and limited in length. Must not know the network. A message
// that can't be drawn is shown as plain text, so that it doesn't take those after it along.
import { $, aria, button, copier, h } from "./dom.js";
import { shared } from "./store.js";
import { firstOf, fold, isEmoji, isMixed, split } from "./text.js";
import { clock, day, listed, said, t, why } from "./words.js";

const SHOWN_MAX = 1000, SCROLLED_MAX = 3000, GROUP_MAX = 50, PAGE = 100;
const GROUP_TIME = 5 * 60_000; // A group shows the time of its first message only.
const NEAR = 80; // Pixels from the end that count as the end.
const KEPT_MAX = 5000, NAMES_MAX = 2000, MOVES_MAX = 500;
const SHORT = 300, SHORT_LINES = 30; // A message within both can't fill 30 lines on the narrowest screen.

const hue = (user_id) => parseInt(user_id.slice(0, 4), 16) % 360;

// Names that several people use or that imitate others; these are shown with two digits of the `user_id`.
const known = new Map(), twins = new Set();
export const tag = (user, user_id) => {
	const key = fold(user);
	if (known.size > NAMES_MAX) known.clear();
	const first = known.get(key) ?? known.set(key, user_id).get(key);
	if ((first !== user_id || isMixed(user)) && !twins.has(key)) {
		twins.add(key);
		for (const one of document.querySelectorAll(".tag")) one.hidden = !twins.has(one.dataset.user);
	}
	const node = h("small.tag", { hidden: !twins.has(key) }, ` ·${user_id.slice(0, 2)}`);
	node.dataset.user = key;
	return node;
};

export const face = (user, user_id) => {
	const node = h("span.face", { ariaHidden: "true" }, firstOf(user));
	node.style.setProperty("--hue", hue(user_id));
	return node;
};

// Long texts are folded by the style sheet. The button appears while something is hidden, which depends on the width.
const watch = new ResizeObserver((all) => requestAnimationFrame(() => {
	for (const { target: node } of all) if (node.classList.contains("folded")) node.nextSibling.hidden = node.scrollHeight <= node.clientHeight + 1;
}));
const foldable = (node, text) => {
	if (text.length <= SHORT && text.split("\n").length <= SHORT_LINES) return node;
	const more = button(t("showAll"), () => { more.textContent = t(node.classList.toggle("folded") ? "showAll" : "showLess"); }, "quiet");
	node.classList.add("folded");
	more.hidden = true;
	watch.observe(node);
	return h("div.long", node, more);
};

export class Log {
	#list = h("div.list");
	#pending = h("div.list.pending");
	#at = {}; // The place of the last message: its day, and its group or notice.
	#count = 0;
	you = null;
	name = null; // One's own, for mentions.
	kept = new Map(); // Messages by id, for what is done with them later.
	names = new Map(); // Of the people seen here, by their folded form.
	#older = null; // Older messages, not shown yet; `null` until fetched.
	#isFetching;
	hasOlder = false;
	atEnd = true;
	top = 0; // Where the view was last.

	// `fetch(id)` returns messages before this one; `moved()` is called when the end is reached or left; `now()` is the
	// server's time.
	constructor(fetch, moved, now) {
		Object.assign(this, { fetch, moved, now });
		known.clear();
		twins.clear();
		this.node = h("div.log", { role: "log", ariaLive: "polite", ariaLabel: t("log"), ariaDescribedBy: "log-keys", tabIndex: 0 }, this.#list, this.#pending);
		this.node.onscroll = () => {
			const { scrollHeight, scrollTop, clientHeight, clientWidth } = this.node;
			// The browser scrolls when a phone is turned, before the observer below has followed the end.
			if (clientWidth !== this.width) return;
			// Only a visitor moves the view up. If the log has grown or the view has shrunk since this scroll, the observer
			// follows the end.
			this.#mark(scrollHeight - scrollTop - clientHeight < NEAR || this.atEnd && scrollTop > this.top - 2);
			if (scrollTop < clientHeight) this.#reach();
		};
		// A new message or an on-screen keyboard does not move the view away from the end.
		this.node.classList.toggle("still", !!shared.get("hides moves"));
		const follow = new ResizeObserver(() => {
			this.width = this.node.clientWidth;
			if (this.atEnd) this.toEnd();
		});
		for (const one of [this.node, this.#list, this.#pending]) follow.observe(one);
	}

	// Whether joins and leaves are hidden, in this browser.
	get hidesMoves() { return this.node.classList.contains("still"); }
	set hidesMoves(on) {
		this.node.classList.toggle("still", on);
		shared.set("hides moves", on || null);
	}

	#mark(atEnd) {
		this.top = this.node.scrollTop;
		if (atEnd !== this.atEnd) this.moved(this.atEnd = atEnd);
	}

	toEnd() {
		this.node.scrollTop = 1e9; // The browser takes the largest possible value.
		this.#mark(true);
	}

	append(messages, isPast) {
		// Screen readers announce new messages only.
		aria(this.node, "ariaLive", isPast ? "off" : "polite");
		this.#at = this.#draw(messages, this.#list, this.#at);
		this.#trim();
		// Removing messages may have moved the view, which would be taken for a visitor's scroll.
		if (this.atEnd) this.toEnd();
	}

	note(text) {
		this.#list.append(h("p.notice", text));
		this.#at = {};
	}

	pending(entries, retry, discard) {
		this.#pending.replaceChildren(...entries.map((entry) => h(`div.bubble.mine${entry.code ? ".refused" : ""}`, this.#text(entry.text),
			entry.code ? h("div.row", h("span", { role: "alert" }, t("refused", { why: why(entry) })),
				button(t("retry"), () => retry(entry)), button(t("discard"), () => discard(entry))) : h("small.late", t("pending")))));
	}

	// Shows a message as deleted.
	deleted(id) {
		for (const one of [this.kept.get(id), ...this.#older ?? []]) if (one?.id === id) Object.assign(one, { message: "", deleted: true });
		$(`.bubble[data-id="${CSS.escape(id)}"]`, this.#list)?.replaceChildren(h("p.gone", t("deletedMessage")));
	}

	// All messages that are known here or still kept by the server, oldest first.
	async all() {
		const [first] = [...this.kept.keys()].sort(), older = this.hasOlder && await this.fetch(first ?? "");
		return [...older || [], ...this.kept.values()].sort((one, other) => one.id < other.id ? -1 : 1);
	}

	know(user) {
		if (this.names.size > NAMES_MAX) this.names.clear();
		this.names.set(fold(user), user);
	}

	#keep(messages) {
		for (const message of messages) {
			this.know(message.user);
			this.kept.set(message.id, message);
		}
		for (const id of this.kept.keys()) if (this.kept.size > KEPT_MAX) this.kept.delete(id); else break;
	}

	// The text of a message as nodes: paragraphs, and blocks of code between them.
	#text(text) {
		const node = h("div.text"), own = this.name && fold(this.name);
		try {
			let line = null;
			const [quote] = /^(?:>.*\n)*/.exec(text);
			if (quote) node.append(h("blockquote", { dir: "auto" }, quote.trimEnd().replace(/^> ?/gm, "")));
			for (const { type, text: part } of split(text.slice(quote.length), (name) => this.names.has(name))) {
				if (type === "block") node.append(h("div.code", h("pre", { dir: "ltr" }, h("code", part)), copier(part)));
				else {
					if (!line || line !== node.lastChild) node.append(line = h("p", { dir: "auto" }));
					line.append(type === "link" ? h("a", { href: part, target: "_blank", rel: "noopener noreferrer nofollow" }, part)
						: type === "code" ? h("code", { dir: "ltr" }, part)
						: type === "mention" ? h(`bdi.mention${fold(part.slice(1)) === own ? ".me" : ""}`, part) : part);
				}
			}
			if (isEmoji(text)) node.classList.add("emoji");
			return foldable(node, text);
		} catch (wrong) {
			console.error(wrong);
			return h("div.text", h("p", text));
		}
	}

	#draw(messages, into, at) {
		this.#keep(messages);
		for (const message of messages) {
			try {
				at = this.#drawOne(message, into, at);
			} catch (wrong) {
				console.error(wrong);
				const line = h("p.notice", `${message.user}: ${message.message}`);
				line.dataset.id = message.id;
				into.append(line);
				at = {};
				this.#count++;
			}
		}
		this.#drawMoves(at);
		return at;
	}

	// Returns the place of this message.
	#drawOne(message, into, at) {
		const { id, type, user, user_id, timestamp } = message, when = new Date(timestamp), date = when.toDateString(), mine = user_id === this.you ? ".mine" : "";
		if (type === "message_deleted") this.deleted(message.target);
		const move = { user_joined: "joined", user_left: message.removed ? "removed" : "gone" }[type];
		if (type !== "chat" && !move) return at;
		if (at.date !== date) {
			this.#drawMoves(at);
			this.drawDays();
			const line = h("h2.day", day(when, this.now()));
			line.dataset.date = date;
			into.append(line);
			at = { date };
		}
		if (move) {
			// Joins and leaves in a row share a line, which says how each person's ended.
			if (!at.moves || at.moves.size >= MOVES_MAX) {
				this.#drawMoves(at);
				at = { date, moves: new Map(), line: h("p.notice.moves") };
				at.line.dataset.id = id;
				into.append(at.line);
				this.#count++;
			}
			at.moves.set(user_id, [move, user]);
			return at;
		}
		const text = message.deleted ? h("p.gone", t("deletedMessage")) : message.unreadable ? h("p.gone", t("unreadable")) : this.#text(message.message);
		if (at.user_id !== user_id || when - at.when > GROUP_TIME || at.size >= GROUP_MAX) {
			this.#drawMoves(at);
			const who = h("div.who", face(user, user_id), h("bdi.name", user), tag(user, user_id), mine ? h("small.unseen", ` (${t("you")})`) : "", h("time", { dateTime: timestamp }, clock(when)));
			const group = h(`div.group${mine}`, who);
			group.style.setProperty("--hue", hue(user_id));
			into.append(group);
			at = { date, user_id, group, when, size: 0 };
		}
		const bubble = h(`div.bubble${mine}${text.matches(".emoji") ? ".bare" : ""}`, text);
		bubble.dataset.id = id;
		at.group.append(bubble);
		at.size++;
		this.#count++;
		return at;
	}

	// After midnight "Today" is "Yesterday". What has not changed would be read aloud again.
	drawDays() {
		for (const one of this.#list.querySelectorAll(".day")) {
			const text = day(new Date(one.dataset.date), this.now());
			if (one.textContent !== text) one.textContent = text;
		}
	}

	#drawMoves({ moves, line }) {
		if (!moves) return;
		const all = [...moves.values()];
		line.replaceChildren(...["joined", "gone", "removed"].map((key) => [key, all.filter(([move]) => move === key).map(([, user]) => user)])
			.filter(([, { length }]) => length).flatMap(([key, users], n) => [n ? " · " : "", ...said(key, { who: listed(users) }, users.length)]));
	}

	#trim() {
		if (this.#count <= (this.atEnd ? SHOWN_MAX : SCROLLED_MAX)) return;
		while (this.#count > SHOWN_MAX - PAGE && this.#list.firstChild) {
			const { firstChild: first } = this.#list;
			this.#count -= first.dataset.id ? 1 : first.querySelectorAll("[data-id]").length;
			first.remove();
		}
		this.hasOlder = true;
		this.#older = null;
	}

	// Adds a page of older messages without moving the visible ones.
	async #reach() {
		if (!this.hasOlder || this.#isFetching) return;
		this.#isFetching = true;
		const first = this.#list.querySelector("[data-id]");
		this.#older ??= await this.fetch(first?.dataset.id ?? "");
		const page = this.#older?.splice(-PAGE) ?? [];
		this.#isFetching = false;
		if (this.#older?.length === 0) this.hasOlder = false;
		if (!page.length) return;
		const into = document.createDocumentFragment(), top = this.#list.firstChild;
		const { date } = this.#draw(page, into, {});
		// The page already has this day's heading.
		if (top?.dataset.date === date) top.remove();
		const below = this.node.scrollHeight - this.node.scrollTop;
		this.#list.prepend(into);
		this.node.scrollTop = this.node.scrollHeight - below;
	}
}
