// The screen of a room, and the steps that lead to it.
import { $, button, copy, dialog, field, h, icon, iconButton } from "./dom.js";
import { said, listed, span, t, why } from "./words.js";
import { ask, end, forget, keepKey, keptKey, now, session, talkIn } from "./rest.js";
import { Composer } from "./composer.js";
import { Log } from "./log.js";
import { menu, menusOf } from "./menu.js";
import { list } from "./people.js";
import { reply } from "./typed.js";
import { savers } from "./save.js";
import { askName, ended, titled } from "./entry.js";
import { notify, setTitle, switches } from "./alerts.js";
import { sure } from "./lobby.js";
import { invitation, share } from "./invite.js";
import { tab } from "./store.js";
import { canEncrypt } from "../client.js";

// An exception in one step must not stop the steps after it.
const guard = (deed) => { try { deed(); } catch (wrong) { console.error(wrong); } };

// Loads what few people need, when they ask for it.
const later = async (deed) => {
	try { deed(await import("./extras.js")); } catch (wrong) {
		console.error(wrong);
		dialog(t("ended_lost"), h("p", t("ended_lost_text")));
	}
};

const put = (place, screen) => {
	place.replaceChildren(screen);
	($("input", screen) ?? $("h1", screen)).focus();
};

const SOON = 3600; // Seconds before its end in which a room counts down.

class Room {
	#fresh = []; #dirty = new Set(); #strange = new Set(); #unread = 0;

	constructor(info, key, place) {
		Object.assign(this, { info, key, place });
		this.talk = talkIn(info.room_id, {
			state: (state, detail) => {
				this.state = { state, ...detail };
				// Not in place of one that may be right.
				if (state === "open" && key && !keptKey(info.room_id)) keepKey(info.room_id, key);
				if (state === "closed") this.#end(detail);
				else this.#draw(this.#drawState);
			},
			messages: (messages, isPast) => this.#add(messages, isPast),
			gap: () => this.#note(t("gap")),
			pending: () => this.#draw(this.#drawPending),
			people: (users = []) => {
				for (const { user } of users) this.log.know(user);
				this.#draw(this.#drawPeople);
			},
			typing: () => this.#draw(this.#drawTyping),
			room: (info) => this.#change(info),
			announced: ({ message }) => this.#note(said("announced", { text: message })),
		}, key);
		this.log = new Log((id) => this.talk.older(id), () => this.#draw(this.#drawJump), now);
		this.log.node.prepend(this.invitation = h("div", { hidden: true }));
		this.status = h("div.status", { role: "status" });
		this.types = h("p.typing");
		this.waits = h("p.waits");
		this.signs = h("small.signs");
		this.wrong = h("p.wrong", { role: "alert" });
		this.composer = new Composer(info.room_id, {
			// People who are present come first.
			names: () => [...this.talk.people.values(), ...this.log.names.values()].filter((user) => user !== this.log.name),
			keyed: () => this.talk.keyed(),
			say: (text) => {
				const taken = this.talk.say(text);
				if (taken) this.log.toEnd();
				return taken;
			},
		});
		this.jump = h("button.jump", { type: "button", hidden: true, onclick: () => {
			this.log.toEnd();
			this.log.node.focus();
		} });
		this.count = button("", () => {
			this.listed = this.#list();
			dialog(t("people", { n: this.talk.people.size }), this.listed.node);
			this.listed.draw();
		}, "count quiet");
		this.node = h("div.room",
			h("header", h("a.only-icon", { href: "#", ariaLabel: t("home"), title: t("home") }, icon("back")),
				h("div.title", this.heading = h("h1", { dir: "auto", tabIndex: -1 }, titled(info)), this.kind = h("small.kind"), this.count, this.signs),
				iconButton("share", t("share"), () => share(info)), iconButton("more", t("more"), () => this.#more())),
			this.status, this.log.node, h("p", { id: "log-keys", hidden: true }, t("logKeys")), menusOf(this.log.node, (bubble, place) => this.#message(bubble, place)), h("div.foot", this.jump, this.types, this.waits, this.wrong, this.composer.node),
			h("aside", { ariaLabel: t("here") }, (this.people = this.#list()).node));
		this.#draw(this.#drawRoom);
		this.#draw(this.#drawPending);
		this.talk.open();
	}

	close() {
		clearTimeout(this.clock);
		clearTimeout(this.wait);
		this.talk.close();
	}

	// Messages of others show whether the key is right. It is wrong if it opens nothing that the owner or two other people
	// have written: a single guest may have the wrong one. The owner's own key is trusted, so that garbage shuts no owner out.
	#try(others) {
		const { key, talk, info } = this, chats = others.filter(({ deleted }) => !deleted), strange = this.#strange;
		if (!key || this.isSure) return;
		if (this.isSure = chats.some(({ unreadable }) => !unreadable)) return keepKey(info.room_id, key);
		for (const { user_id } of chats) strange.add(user_id);
		if (talk.isOwner || strange.size < 2 && !strange.has(info.owner)) return;
		// After the client has done with the event.
		queueMicrotask(() => {
			talk.close();
			this.#end({ why: "key" });
		});
	}

	// A line of the page's own among the messages.
	#note(text) {
		this.#flush();
		this.log.note(text);
	}

	// The room as it is now.
	#change(info) {
		const { owner } = this.info, { people, you } = this.talk, isRenamed = titled(info) !== titled(this.info);
		Object.assign(this.info, info);
		if (isRenamed) setTitle(titled(info), info.room_id);
		this.#draw(this.#drawRoom);
		this.#draw(this.#drawPeople);
		// The first one comes with the history.
		if (owner !== undefined && info.owner && info.owner !== owner) this.#note(info.owner === you ? t("ownerYou") : said("ownerIs", { user: people.get(info.owner) ?? "" }));
	}

	#drawRoom() {
		const { info } = this, { locked, slow_mode, expires_at } = info, name = titled(info);
		if (this.heading.textContent !== name) this.heading.textContent = name;
		// What is encrypted is private, too, and says so in one word. A room without a title has the other one for it.
		this.kind.replaceChildren(...info.private ? [icon("lock"), this.key ? t("encrypted") : info.title ? t("private") : ""] : [t("public")]);
		const rest = expires_at ? Math.max(0, (Date.parse(expires_at) - now()) / 1000) : Infinity;
		this.signs.textContent = [locked && t("isLocked"), slow_mode && t("slow"), rest < SOON && t("endsIn", { time: span(rest || 1) })].filter(Boolean).join(" · ");
		clearTimeout(this.clock);
		// Each minute, because a timer for midnight would be late after a sleep.
		this.log.drawDays();
		// Just past the minute: at the full hour a room does not count down yet.
		this.clock = setTimeout(() => this.#draw(this.#drawRoom), rest < 61 ? 1000 : 1000 * (rest % 60) + 1 || 60_000);
	}

	// The entries of a message's menu.
	#message(bubble, place) {
		const { id, user, user_id, message, deleted, unreadable } = this.log.kept.get(bubble.dataset.id) ?? {}, { composer } = this, mine = user_id === this.talk.you;
		if (!id || deleted) return;
		menu(t("actions"), place, [
			...unreadable ? [] : [[t("reply"), () => composer.insert(reply(message, mine ? "" : user))], [t("copyText"), () => copy(message)]],
			...mine ? [] : [this.#mention(user)],
			...mine || this.talk.isOwner ? [[t("deleteOne"), async () => {
				if (await sure(t("deleteOneAsk"), t("deleteOne"))) this.#do(ask("DELETE", `rooms/${this.info.room_id}/messages/${id}`));
			}, "danger"]] : [],
			...mine || !this.talk.isOwner ? [] : [this.#removal(user_id, user)],
		]);
	}

	#mention(user) {
		return [t("mention", { user }), () => {
			for (const one of document.querySelectorAll("dialog")) one.close();
			this.composer.insert(`@${user} `);
		}];
	}

	#removal(user_id, user) {
		return [t("removeOne"), () => later(({ removal }) => removal(this.info.room_id, user_id, user)), "danger"];
	}

	// The entries of a person's menu.
	#person(user_id, user) {
		return [this.#mention(user), ...this.talk.isOwner ? [
			[t("handOver"), async () => {
				if (await sure(said("handOverAsk", { user }), t("handOver"))) this.#do(ask("PATCH", `rooms/${this.info.room_id}`, { owner: user_id }));
			}],
			this.#removal(user_id, user),
		] : []];
	}

	// Says why a request was refused.
	async #do(request) {
		const answer = await request;
		this.wrong.textContent = answer.ok ? "" : why(answer);
	}

	#more() {
		const { room_id } = this.info, wrong = h("p.wrong", { role: "alert" });
		// Closing first keeps the server's close from showing a screen of its own.
		const act = (key, deed, question) => button(t(key), async () => {
			if (question && !await sure(t(question), t(key))) return;
			this.talk.close();
			const answer = await deed();
			if (answer.ok) {
				keepKey(room_id);
				return location.hash = "";
			}
			wrong.textContent = why(answer);
			this.talk.open();
		}, question && "danger");
		const { isOwner, people } = this.talk, owner = people.get(this.info.owner);
		dialog(t("more"), h("p.row.line", h("span", said("youAre", { user: session()?.username ?? "" })), button(t("rename"), () => later(({ askRename }) => askRename(this.talk, (user) => this.#note(said("renamed", { user })))), "quiet")),
			isOwner ? h("p.row.line", h("span", t("ownerYou")), button(t("settings"), () => later(({ roomSettings }) => roomSettings(this.info)), "quiet")) : owner ? h("p", said("ownerIs", { user: owner })) : "",
			switches(),
			this.talk.connection.kind === "events" ? h("small", t("byStream")) : "",
			field(t("moves"), { type: "checkbox", checked: !this.log.hidesMoves, onchange: ({ target }) => { this.log.hidesMoves = !target.checked; } }),
			savers(() => this.log.all(), titled(this.info)),
			h("div.acts", button(t("program"), () => later(({ program }) => program(this.info, this.key))),
			act("leave", () => ask("DELETE", `rooms/${room_id}/leave`)),
			this.talk.isOwner ? act("remove", () => ask("DELETE", `rooms/${room_id}`), "removeAsk") : "",
			act("end", end, "endAsk")), wrong);
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
		this.isVisited ||= messages.some(({ type, user_id }) => type === "chat" || user_id && user_id !== talk.you);
		this.#draw(this.#drawInvitation);
		this.#draw(this.#drawJump);
		this.#try(others);
		// Last, because a browser may lack what it needs.
		if (!isFirst) guard(() => notify(others.filter(({ unreadable }) => !unreadable), log.name));
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
		this.#drawInvitation();
		const act = (deed) => (entry) => { this.talk[deed](entry); this.composer.input.focus(); };
		this.log.pending(this.talk.pending, act("retry"), act("discard"));
		// Slow mode holds a message back for as long as an hour.
		const rest = Math.max(0, ...this.talk.pending.map(({ until }) => (until ?? 0) - Date.now())) / 1000;
		this.waits.textContent = this.info.slow_mode && rest ? t("slowWait", { time: span(Math.max(rest, 1)) }) : "";
		clearTimeout(this.wait);
		if (rest) this.wait = setTimeout(() => this.#draw(this.#drawPending), 1000);
	}

	#drawJump() {
		if (this.log.atEnd) this.#unread = 0;
		this.jump.hidden = this.log.atEnd;
		this.jump.replaceChildren(icon("down"), this.#unread ? t("unread", { n: this.#unread }) : t("newest"));
	}

	#list() {
		return list(this.talk, this.info, (user_id, user) => this.#person(user_id, user));
	}

	// Until the first guest or message, in view above the empty conversation.
	#drawInvitation() {
		const isShown = !this.isVisited && this.talk.people.size === 1 && !this.talk.pending.length;
		if (isShown === this.invitation.hidden) this.invitation.replaceChildren(...isShown ? [invitation(this.info)] : []);
		this.invitation.hidden = !isShown;
	}

	#drawPeople() {
		this.#drawInvitation();
		this.count.replaceChildren(icon("people"), t("people", { n: this.talk.people.size }));
		this.people.draw();
		if (this.listed?.node.isConnected) this.listed.draw();
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
			keepKey(room);
			if (this.composer.input.value.trim()) texts.push(this.composer.input.value.trim());
		}
		for (const one of document.querySelectorAll("dialog")) one.close();
		const screen = ended(reason, room, isForGood || reason === "key" ? null : reason === "broken" ? () => location.reload() : () => {
			place.replaceChildren(this.node);
			talk.open();
		}, texts);
		put(place, screen);
	}
}

// `key` is that of an encrypted room.
export const room = (id, key) => {
	const place = h("div.place", h("p.notice", { role: "status" }, t("connecting")));
	let screen, isClosed = false;
	const enter = async () => {
		const info = await ask("GET", `rooms/${id}`);
		if (isClosed) return;
		if (!info.ok) return put(place, info.status === 404 ? ended("gone", id, null, []) : ended("lost", id, enter, []));
		setTitle(titled(info), id);
		if (key || info.encrypted) {
			if (!canEncrypt()) return put(place, ended("crypto", id, null, []));
			// A server that denies what the link says would get plain text.
			if (!key || !info.encrypted) return put(place, ended("key", id, null, []));
		}
		if (!session()) return put(place, info.locked ? ended("locked", id, enter, []) : askName(info, enter));
		screen = new Room(info, key, place);
		place.replaceChildren(screen.node);
		if (matchMedia("(pointer: fine)").matches) screen.composer.input.focus();
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
