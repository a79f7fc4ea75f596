// The messages of one room, received and sent. Each is delivered exactly once, and a typed one is kept until
// it comes back from the server. Knows no HTML.
import { ask } from "./rest.js";
import { Connection } from "./connection.js";
import { tab } from "./store.js";

export const LENGTH_MAX = 4000; // Unicode scalar values.
const PENDING_MAX = 100;
const TYPING_EVERY = 1500, TYPING_LASTS = 5000;

export const length = (text) => [...text.trim()].length;

const unique = () => [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// Calls `view`: state(state, detail) · messages([message], isPast) · pending() · people() · typing() · gap().
export class Talk {
	last = null; // The newest message's id.
	you = null;
	owner = false;
	people = new Map(); // user_id → name, in order of arrival.
	typing = new Map(); // user_id → {user, timer}.
	#page = [];
	#sent = null; // The nonce of the only message in flight, so that a refusal can't change the order.
	#timer; #typed = 0;

	constructor(room, view) {
		this.room = room;
		this.view = view;
		// `{nonce, text, code?}`, kept over reloads. One with a code was refused.
		this.pending = tab.get(`pending ${room}`) ?? [];
		this.connection = new Connection(room, {
			after: () => this.last,
			onEvent: (event) => this.#onEvent(event),
			onState: (state, detail) => {
				this.#page = [];
				this.#sent = null;
				if (state !== "open") this.#clearTyping();
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

	// Sends a refused message again, as a new one.
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
		this.connection.send({ type: "typing" });
	}

	// Messages before this one, among the last 1000.
	async older(id) {
		const answer = await ask("GET", `rooms/${this.room}/messages?limit=1000`);
		return answer.ok ? answer.messages.filter((one) => one.id < id) : null;
	}

	close() {
		clearTimeout(this.#timer);
		this.#clearTyping();
		this.connection.close();
	}

	#changed() {
		tab.set(`pending ${this.room}`, this.pending.length ? this.pending : null);
		this.view.pending();
		this.#pump();
	}

	#pump() {
		const next = this.pending.find((one) => !one.code);
		if (!next || this.#sent || this.connection.state !== "open") return;
		this.#sent = next.nonce;
		this.connection.send({ type: "chat", message: next.text, nonce: next.nonce });
	}

	#onEvent(event) {
		if (event.type === "history") return this.#onHistory(event);
		if (event.type === "typing") return this.#onTyping(event);
		if (event.type === "refused") return this.#onRefused(event);
		if (event.id) this.#add([event], false);
	}

	#onHistory({ messages, more, complete, you, owner, users }) {
		this.#page.push(...messages);
		if (more) return;
		if (!complete) this.view.gap();
		Object.assign(this, { you, owner });
		this.people = new Map(users.map(({ user_id, user }) => [user_id, user]));
		this.#add(this.#page, true);
		this.view.people();
		this.connection.caughtUp();
	}

	#add(messages, isPast) {
		const fresh = messages.filter(({ id }) => !this.last || id > this.last);
		this.last = fresh.at(-1)?.id ?? this.last;
		// A nonce is random, so a message that has it is ours.
		const nonces = new Set(messages.map(({ nonce }) => nonce)), left = this.pending.filter(({ nonce }) => !nonces.has(nonce));
		if (!isPast) for (const one of fresh) this.#updatePeople(one);
		this.view.messages(fresh, isPast);
		if (left.length === this.pending.length) return;
		if (nonces.has(this.#sent)) this.#sent = null;
		this.pending = left;
		this.#changed();
	}

	#updatePeople({ type, user_id, user }) {
		this.#stopTyping(user_id);
		if (type === "user_joined") this.people.set(user_id, user);
		else if (type === "user_left") this.people.delete(user_id);
		if (type !== "chat") this.view.people();
	}

	#onRefused({ code, nonce, retry_after: wait }) {
		const entry = this.pending.find((one) => one.nonce === nonce);
		if (!entry) return;
		if (wait) {
			// Over the rate limit: the message is sent again without asking.
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

	#onTyping({ user_id, user }) {
		if (user_id === this.you) return;
		clearTimeout(this.typing.get(user_id)?.timer);
		this.typing.set(user_id, { user, timer: setTimeout(() => this.#stopTyping(user_id), TYPING_LASTS) });
		this.view.typing();
	}

	#stopTyping(user_id) {
		clearTimeout(this.typing.get(user_id)?.timer);
		if (this.typing.delete(user_id)) this.view.typing();
	}

	#clearTyping() {
		for (const user_id of [...this.typing.keys()]) this.#stopTyping(user_id);
	}
}
