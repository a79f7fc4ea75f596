// What is said in a room, as one person hears it: nothing twice, nothing missing, and nothing that was typed
// is lost before it has been heard. Knows no page.
import { ask } from "./rest.js";
import { Line } from "./line.js";
import { tab } from "./store.js";

export const LENGTH_MAX = 4000; // Unicode scalar values.
const PENDING_MAX = 100;
const TYPING_EVERY = 1500, TYPING_LASTS = 5000;

export const length = (text) => [...text.trim()].length;

const unique = () => [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// `view` is told: state(state, detail) · messages([message], isPast) · pending() · people() · typing() · gap().
export class Talk {
	last = null; // The newest message's id.
	you = null;
	owner = false;
	people = new Map(); // user_id → name, in order of arrival.
	typing = new Map(); // user_id → {user, timer}.
	#page = [];
	#sent = null; // The nonce that is under way: one at a time keeps the order, whatever is refused.
	#timer; #typed = 0;

	constructor(room, view) {
		this.room = room;
		this.view = view;
		// Those of this tab from before a reload, too. `{nonce, text, code?}`: with a code it was refused.
		this.pending = tab.get(`pending ${room}`) ?? [];
		this.line = new Line(room, {
			after: () => this.last,
			hear: (event) => this.#hear(event),
			tell: (state, detail) => {
				this.#page = [];
				this.#sent = null;
				if (state !== "open") this.#still();
				view.state(state, detail);
				this.#pump();
			},
		});
	}

	say(text) {
		if (this.pending.length >= PENDING_MAX) return false;
		this.pending.push({ nonce: unique(), text: text.trim().toWellFormed() });
		this.#changed();
		return true;
	}

	// A refused one: once more, as something new.
	retry(entry) {
		Object.assign(entry, { nonce: unique(), code: undefined });
		this.#changed();
	}

	discard(entry) {
		this.pending = this.pending.filter((one) => one !== entry);
		this.#changed();
	}

	keyed() {
		if (Date.now() - this.#typed < TYPING_EVERY) return;
		this.#typed = Date.now();
		this.line.send({ type: "typing" });
	}

	// The last thousand, from before that one.
	async older(id) {
		const answer = await ask("GET", `rooms/${this.room}/messages?limit=1000`);
		return answer.ok ? answer.messages.filter((one) => one.id < id) : null;
	}

	close() {
		clearTimeout(this.#timer);
		this.#still();
		this.line.close();
	}

	#changed() {
		tab.set(`pending ${this.room}`, this.pending.length ? this.pending : null);
		this.view.pending();
		this.#pump();
	}

	#pump() {
		const next = this.pending.find((one) => !one.code);
		if (!next || this.#sent || this.line.state !== "open") return;
		this.#sent = next.nonce;
		this.line.send({ type: "chat", message: next.text, nonce: next.nonce });
	}

	#hear(event) {
		if (event.type === "history") return this.#catchUp(event);
		if (event.type === "typing") return this.#types(event);
		if (event.type === "refused") return this.#refused(event);
		if (event.id) this.#take([event], false);
	}

	#catchUp({ messages, more, complete, you, owner, users }) {
		this.#page.push(...messages);
		if (more) return;
		if (!complete) this.view.gap();
		Object.assign(this, { you, owner });
		this.people = new Map(users.map(({ user_id, user }) => [user_id, user]));
		this.#take(this.#page, true);
		this.view.people();
		this.line.caughtUp();
	}

	#take(messages, isPast) {
		const fresh = messages.filter(({ id }) => !this.last || id > this.last);
		this.last = fresh.at(-1)?.id ?? this.last;
		// Nobody else can know a nonce of ours before it has been heard.
		const heard = new Set(messages.map(({ nonce }) => nonce)), left = this.pending.filter(({ nonce }) => !heard.has(nonce));
		if (!isPast) for (const one of fresh) this.#moves(one);
		this.view.messages(fresh, isPast);
		if (left.length === this.pending.length) return;
		if (heard.has(this.#sent)) this.#sent = null;
		this.pending = left;
		this.#changed();
	}

	#moves({ type, user_id, user }) {
		this.#stops(user_id);
		if (type === "user_joined") this.people.set(user_id, user);
		else if (type === "user_left") this.people.delete(user_id);
		if (type !== "chat") this.view.people();
	}

	#refused({ code, nonce, retry_after: wait }) {
		const entry = this.pending.find((one) => one.nonce === nonce);
		if (!entry) return;
		if (wait) {
			// Waiting helps, so nobody need be asked.
			this.#timer = setTimeout(() => {
				if (this.#sent === nonce) this.#sent = null;
				this.#pump();
			}, wait * 1000);
			return;
		}
		this.#sent = null;
		entry.code = code;
		this.#changed();
	}

	#types({ user_id, user }) {
		if (user_id === this.you) return;
		clearTimeout(this.typing.get(user_id)?.timer);
		this.typing.set(user_id, { user, timer: setTimeout(() => this.#stops(user_id), TYPING_LASTS) });
		this.view.typing();
	}

	#stops(user_id) {
		clearTimeout(this.typing.get(user_id)?.timer);
		if (this.typing.delete(user_id)) this.view.typing();
	}

	#still() {
		for (const user_id of [...this.typing.keys()]) this.#stops(user_id);
	}
}
