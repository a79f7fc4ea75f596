// The conversation on the screen: grouped by day and person, and limited in length.
import { aria, button, h, linked } from "./dom.js";
import { clock, day, listed, said, t, why } from "./words.js";

const SHOWN_MAX = 1000, SCROLLED_MAX = 3000, GROUP_MAX = 50, PAGE = 100;
const GROUP_TIME = 5 * 60_000; // The longest pause within a group.
const NEAR = 80; // Pixels from the end that count as the end.

const hue = (user_id) => parseInt(user_id.slice(0, 4), 16) % 360;

// Names that several people use; these are shown with two digits of the `user_id`.
const known = new Map(), twins = new Set();
export const tag = (user, user_id) => {
	if (known.size > 2000) known.clear();
	const first = known.get(user) ?? known.set(user, user_id).get(user);
	if (first !== user_id && !twins.has(user)) {
		twins.add(user);
		for (const one of document.querySelectorAll(".tag")) one.hidden = !twins.has(one.dataset.user);
	}
	const node = h("small.tag", { hidden: !twins.has(user) }, ` ·${user_id.slice(0, 2)}`);
	node.dataset.user = user;
	return node;
};

export const face = (user, user_id) => {
	const node = h("span.face", { ariaHidden: "true" }, [...user][0]);
	node.style.setProperty("--hue", hue(user_id));
	return node;
};

export class Log {
	#list = h("div.list");
	#pending = h("div.list.pending");
	#at = {}; // The place of the last message: its day, and its group or notice.
	#count = 0;
	you = null;
	#older = null; // Older messages, not shown yet; `null` until fetched.
	#isFetching = false;
	hasOlder = false;
	atEnd = true;

	// `older(id)` fetches messages before this one; `moved()` is called when the end is reached or left.
	constructor(older, moved) {
		this.fetch = older;
		this.node = h("div.log", { role: "log", ariaLive: "polite", ariaLabel: t("log"), tabIndex: 0 }, this.#list, this.#pending);
		this.node.onscroll = () => {
			const { scrollHeight, scrollTop, clientHeight } = this.node, atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
			if (atEnd !== this.atEnd) {
				this.atEnd = atEnd;
				moved();
			}
			if (scrollTop < clientHeight) this.#reach();
		};
		// A new message or an on-screen keyboard does not move the view away from the end.
		const follow = new ResizeObserver(() => this.atEnd && this.toEnd());
		for (const node of [this.node, this.#list, this.#pending]) follow.observe(node);
	}

	toEnd() {
		this.node.scrollTop = this.node.scrollHeight;
	}

	append(messages, isPast) {
		// Screen readers announce new messages only.
		aria(this.node, "ariaLive", isPast ? "off" : "polite");
		this.#at = this.#draw(messages, this.#list, this.#at);
		this.#trim();
	}

	note(text) {
		this.#list.append(h("p.notice", text));
		this.#at = {};
	}

	pending(entries, retry, discard) {
		this.#pending.replaceChildren(...entries.map((entry) => h(`div.bubble.mine${entry.code ? ".refused" : ""}`,
			h("p", { dir: "auto" }, linked(entry.text)),
			entry.code ? h("div.row", h("span", { role: "alert" }, t("refused", { why: why(entry) })),
				button(t("retry"), () => retry(entry)), button(t("discard"), () => discard(entry))) : h("small.late", t("pending")))));
	}

	#draw(messages, into, at) {
		for (const message of messages) {
			const { type, user, user_id, timestamp } = message, when = new Date(timestamp), date = when.toDateString(), mine = user_id === this.you ? ".mine" : "";
			if (at.date !== date) {
				const line = h("h2.day", day(when));
				line.dataset.date = date;
				into.append(line);
				at = { date };
			}
			if (type !== "chat") {
				// Consecutive joins share a line, and so do consecutive leaves.
				const key = { user_joined: "joined", user_left: "gone" }[type];
				if (!key) continue;
				if (at.key !== key) {
					at = { date, key, line: h("p.notice"), users: [], size: 0 };
					at.line.dataset.id = message.id;
					into.append(at.line);
					this.#count++;
				}
				at.size++;
				if (at.size < 5) at.users.push(user);
				at.line.replaceChildren(...said(key, { who: listed(at.users, at.size) }, at.size));
				continue;
			}
			if (at.user_id !== user_id || when - at.when > GROUP_TIME || at.size >= GROUP_MAX) {
				const group = h(`div.group${mine}`, h("div.who", face(user, user_id), h("bdi.name", user), tag(user, user_id)));
				group.style.setProperty("--hue", hue(user_id));
				into.append(group);
				at = { date, user_id, group, size: 0 };
			}
			const bubble = h(`div.bubble${mine}`, h("p", { dir: "auto" }, linked(message.message)), h("time", { dateTime: timestamp }, clock(when)));
			bubble.dataset.id = message.id;
			at.group.append(bubble);
			at.when = when;
			at.size++;
			this.#count++;
		}
		return at;
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
