// The screen of a room, and the steps that lead to it.
import { $, aria, button, copier, dialog, field, form, h, icon, iconButton, svg } from "./dom.js";
import { said, listed, t, why } from "./words.js";
import { LENGTH_MAX, length } from "../client.js";
import { ask, end, forget, now, session, talkIn } from "./rest.js";
import { Log, face, tag } from "./log.js";
import { savers } from "./save.js";
import { askName, ended, titled } from "./entry.js";
import { notify, setTitle, switches } from "./alerts.js";
import { sure } from "./lobby.js";
import { path, qr } from "./qr.js";
import { tab } from "./store.js";

// An exception in one step must not stop the steps after it.
const guard = (deed) => { try { deed(); } catch (wrong) { console.error(wrong); } };

const put = (place, screen) => {
	place.replaceChildren(screen);
	($("input", screen) ?? $("h1", screen)).focus();
};

const share = (info) => {
	const link = location.href, grid = qr(link), size = grid && grid.length + 8;
	const input = h("input", { readOnly: true, value: link, ariaLabel: t("link") });
	dialog(t("share"), h("p", t("shareText")), input,
		h("div.row", copier(input), navigator.share ? button(t("shareOut"), () => navigator.share({ title: titled(info), url: link }).catch(() => {})) : ""),
		grid ? svg(size, path(grid), { class: "qr", role: "img", "aria-label": link }) : "");
};

class Room {
	#fresh = []; #dirty = new Set(); #unread = 0;

	constructor(info, place) {
		this.info = info;
		this.place = place;
		this.talk = talkIn(info.room_id, {
			state: (state, detail) => {
				this.state = { state, ...detail };
				if (state === "closed") this.#end(detail);
				else this.#draw(this.#drawState);
			},
			messages: (messages, isPast) => this.#add(messages, isPast),
			gap: () => {
				this.#flush();
				this.log.note(t("gap"));
			},
			pending: () => this.#draw(this.#drawPending),
			people: () => this.#draw(this.#drawPeople),
			typing: () => this.#draw(this.#drawTyping),
		});
		this.log = new Log((id) => this.talk.older(id), () => this.#draw(this.#drawJump), now);
		this.status = h("div.status", { role: "status" });
		this.types = h("p.typing");
		this.jump = h("button.jump", { type: "button", hidden: true, onclick: () => {
			this.log.toEnd();
			this.log.node.focus();
		} });
		this.count = button("", () => dialog(t("people", { n: this.talk.people.size }), this.#list()), "count quiet");
		this.node = h("div.room",
			h("header", h("a.only-icon", { href: "#", ariaLabel: t("home"), title: t("home") }, icon("back")),
				h("div.title", h("h1", { dir: "auto", tabIndex: -1 }, titled(info)), info.private ? icon("lock") : "", this.count),
				iconButton("share", t("share"), () => share(info)), iconButton("more", t("more"), () => this.#more())),
			this.status, this.log.node, h("div.foot", this.jump, this.types, this.#composer()),
			h("aside", { ariaLabel: t("here") }, this.people = h("ul.people")));
		this.#draw(this.#drawPending);
		this.talk.open();
	}

	close() {
		this.talk.close();
	}

	#composer() {
		const key = `draft ${this.info.room_id}`, left = h("small.left", { role: "status" });
		const input = this.input = h("textarea", { rows: 1, value: tab.get(key) ?? "", ariaLabel: t("message"), placeholder: t("message"), dir: "auto", enterKeyHint: "send" });
		const send = iconButton("send", t("send"), null, "primary");
		const measure = () => {
			const rest = LENGTH_MAX - length(input.value);
			input.style.height = "auto";
			input.style.height = `${input.scrollHeight}px`;
			left.textContent = rest > 400 ? "" : rest < 0 ? t("tooLong", { n: -rest }) : t("left", { n: rest });
			aria(input, "ariaInvalid", rest < 0);
			return rest >= 0 && rest < LENGTH_MAX;
		};
		const node = h("form.composer", input, send, left);
		send.type = "submit";
		node.onsubmit = (event) => {
			event.preventDefault();
			if (!measure()) return;
			if (!this.talk.say(input.value)) return left.textContent = t("full");
			input.value = "";
			tab.set(key, null);
			measure();
			input.focus();
			this.log.toEnd();
		};
		input.oninput = () => {
			measure();
			tab.set(key, input.value || null);
			if (input.value) this.talk.keyed();
		};
		input.onkeydown = (event) => {
			if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return; // Enter in an input method.
			event.preventDefault();
			node.requestSubmit();
		};
		requestAnimationFrame(measure);
		return node;
	}

	#more() {
		const { room_id } = this.info, wrong = h("p.wrong", { role: "alert" });
		// Closing first keeps the server's close from showing a screen of its own.
		const act = (key, deed, question) => button(t(key), async () => {
			if (question && !await sure(t(question), t(key))) return;
			this.talk.close();
			const answer = await deed();
			if (answer.ok) return location.hash = "";
			wrong.textContent = why(answer);
			this.talk.open();
		}, question && "danger");
		dialog(t("more"), h("p", said("youAre", { user: session()?.username ?? "" })),
			switches(),
			field(t("moves"), { type: "checkbox", checked: !this.log.hidesMoves, onchange: ({ target }) => { this.log.hidesMoves = !target.checked; } }),
			savers(() => this.log.all(), titled(this.info)),
			act("leave", () => ask("DELETE", `rooms/${room_id}/leave`)),
			this.talk.isOwner ? act("remove", () => ask("DELETE", `rooms/${room_id}`), "removeAsk") : "",
			act("end", end, "endAsk"), wrong);
	}

	#add(messages, isPast) {
		const { log, talk } = this, isFirst = !log.you;
		log.you = talk.you;
		log.name = session()?.username;
		if (isPast) {
			this.#flush();
			if (isFirst) log.hasOlder = messages.length >= 100;
			log.append(messages, true);
		} else if (this.#fresh.push(...messages) > 500) this.#flush(); // A hidden tab rarely draws.
		const others = messages.filter(({ type, user_id }) => type === "chat" && user_id !== talk.you);
		if (!log.atEnd) this.#unread += others.length;
		this.#draw(this.#drawJump);
		// Last, because a browser may lack what it needs.
		if (!isFirst) guard(() => notify(others, log.name));
	}

	#flush() {
		if (this.#fresh.length) this.log.append(this.#fresh.splice(0), false);
	}

	// Draws once per frame, or rarely in a hidden tab.
	#draw(what) {
		const { size } = this.#dirty;
		this.#dirty.add(what);
		if (size) return;
		const draw = () => {
			const parts = [...this.#dirty];
			this.#dirty.clear();
			guard(() => this.#flush());
			for (const part of parts) guard(() => part.call(this));
		};
		if (document.hidden) setTimeout(draw, 300);
		else requestAnimationFrame(draw);
	}

	#drawState() {
		const { state, code } = this.state, words = code === 4429 || code === 1013 ? "busy" : "lost";
		this.node.dataset.state = state;
		if (state === "open") this.status.replaceChildren();
		else if (state === "retrying") this.status.replaceChildren(t(words), button(t("retry"), () => { this.talk.wake(); this.log.node.focus(); }));
		else if (!this.wasLost) this.status.replaceChildren(t("connecting"));
		this.wasLost = state === "retrying" || (this.wasLost && state !== "open");
	}

	#drawPending() {
		const act = (deed) => (entry) => { this.talk[deed](entry); this.input.focus(); };
		this.log.pending(this.talk.pending, act("retry"), act("discard"));
	}

	#drawJump() {
		if (this.log.atEnd) this.#unread = 0;
		this.jump.hidden = this.log.atEnd;
		this.jump.replaceChildren(icon("down"), this.#unread ? t("unread", { n: this.#unread }) : t("newest"));
	}

	#list() {
		const { people, you } = this.talk;
		return h("ul.people", [...people].slice(0, 500).map(([user_id, user]) => h("li", face(user, user_id), h("bdi.name", user), tag(user, user_id), user_id === you ? h("small", ` (${t("you")})`) : "")),
			people.size > 500 ? h("li", t("others", { n: people.size - 500 })) : "");
	}

	#drawPeople() {
		this.count.replaceChildren(icon("people"), t("people", { n: this.talk.people.size }));
		const list = this.#list();
		this.people.replaceWith(list);
		this.people = list;
		$("dialog .people")?.replaceWith(this.#list());
	}

	#drawTyping() {
		const users = [...this.talk.typing.values()].map(({ user }) => user);
		this.types.replaceChildren(...users.length ? said("types", { who: listed(users) }, users.length) : []);
	}

	#end({ why: reason, id }) {
		const { talk, place } = this, room = this.info.room_id;
		if (reason === "session") {
			forget(id);
			// Another tab has opened a new one.
			if (session()) return talk.open();
		}
		const isForGood = ["deleted", "expired", "gone"].includes(reason);
		const texts = talk.pending.map(({ text }) => text);
		if (isForGood) {
			tab.set(`pending ${room}`, null);
			tab.set(`draft ${room}`, null);
			if (this.input.value.trim()) texts.push(this.input.value.trim());
		}
		for (const one of document.querySelectorAll("dialog")) one.close();
		const screen = ended(reason, room, isForGood ? null : reason === "broken" ? () => location.reload() : () => {
			place.replaceChildren(this.node);
			talk.open();
		}, texts);
		put(place, screen);
	}
}

export const room = (id) => {
	const place = h("div.place", h("p.notice", { role: "status" }, t("connecting")));
	let screen, isClosed = false;
	const enter = async () => {
		const info = await ask("GET", `rooms/${id}`);
		if (isClosed) return;
		if (!info.ok) return put(place, info.status === 404 ? ended("gone", id, null, []) : ended("lost", id, enter, []));
		setTitle(titled(info), id);
		if (!session()) return put(place, askName(info, enter));
		screen = new Room(info, place);
		place.replaceChildren(screen.node);
		if (matchMedia("(pointer: fine)").matches) screen.input.focus();
	};
	enter();
	return {
		node: place,
		close() {
			isClosed = true;
			screen?.close();
		},
	};
};
