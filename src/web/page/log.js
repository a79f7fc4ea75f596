// The conversation on the screen: grouped by person and day, never longer than one can bear.
import { button, h, linked } from "./dom.js";
import { clock, day, listed, said, t, why } from "./words.js";

const SHOWN_MAX = 1000, SHOWN_BEARABLE = 3000, GROUP_MAX = 50, PAGE = 100;
const TOGETHER = 5 * 60_000; // What one person says within that time stands together.
const NEAR = 80; // So many pixels from the end is at the end.

export const hue = (user_id) => parseInt(user_id.slice(0, 4), 16) % 360;

// Names of several people: there each is shown with two digits of the `user_id`.
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
	#waiting = h("div.list.waiting");
	#at = {}; // Where the last message stands: its day, group and notice.
	#count = 0;
	you = null;
	#older = null; // Kept by the server and not shown; `null` until it was asked.
	#asking = false;
	hasOlder = false;
	atEnd = true;

	// `older(id)` fetches what was said before; `moved()` is told when the end is reached or left.
	constructor(older, moved) {
		this.fetch = older;
		this.node = h("div.log", { role: "log", ariaLive: "polite", ariaLabel: t("log"), tabIndex: 0 }, this.#list, this.#waiting);
		this.node.onscroll = () => {
			const { scrollHeight, scrollTop, clientHeight } = this.node, atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
			if (atEnd !== this.atEnd) {
				this.atEnd = atEnd;
				moved();
			}
			if (scrollTop < clientHeight) this.#reach();
		};
		// Whether something was added or a keyboard came up: who was at the end stays there.
		const follow = new ResizeObserver(() => this.atEnd && this.toEnd());
		for (const node of [this.node, this.#list, this.#waiting]) follow.observe(node);
	}

	toEnd() {
		this.node.scrollTop = this.node.scrollHeight;
	}

	append(messages, isPast) {
		// A screen reader is told what is said, not what was.
		this.node.ariaLive = isPast ? "off" : "polite";
		this.#at = this.#draw(messages, this.#list, this.#at);
		this.#trim();
	}

	note(text) {
		this.#list.append(h("p.notice", text));
		this.#at = {};
	}

	pending(entries, retry, discard) {
		this.#waiting.replaceChildren(...entries.map((entry) => h(`div.bubble.mine${entry.code ? ".refused" : ""}`,
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
				// Comings and goings of one kind share a line.
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
			if (at.user_id !== user_id || when - at.when > TOGETHER || at.size >= GROUP_MAX) {
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
		if (this.#count <= (this.atEnd ? SHOWN_MAX : SHOWN_BEARABLE)) return;
		while (this.#count > SHOWN_MAX - PAGE && this.#list.firstChild) {
			const { firstChild: first } = this.#list;
			this.#count -= first.dataset.id ? 1 : first.querySelectorAll("[data-id]").length;
			first.remove();
		}
		this.hasOlder = true;
		this.#older = null;
	}

	// Older messages come a page at a time, and what one reads stays where it is.
	async #reach() {
		if (!this.hasOlder || this.#asking) return;
		this.#asking = true;
		const first = this.#list.querySelector("[data-id]");
		this.#older ??= await this.fetch(first?.dataset.id ?? "");
		const page = this.#older?.splice(-PAGE) ?? [];
		this.#asking = false;
		if (this.#older?.length === 0) this.hasOlder = false;
		if (!page.length) return;
		const into = document.createDocumentFragment(), top = this.#list.firstChild;
		const { date } = this.#draw(page, into, {});
		// Its day has begun already, further up.
		if (top?.dataset.date === date) top.remove();
		const below = this.node.scrollHeight - this.node.scrollTop;
		this.#list.prepend(into);
		this.node.scrollTop = this.node.scrollHeight - below;
	}
}
