// The client of the page, for other programs too: browsers, Node, Deno and Bun; `client.d.ts` describes it. It owns the
// connection to a room and its messages: each comes exactly once and in order, although connections break. It must not
// know the DOM or a storage.
const second = 1000;
const SILENCE = 20 * second; // Then it pings: a half-open connection shows no error.
const ANSWER = 8 * second; // For the pong, and for the first event of a new connection.
const DOUBT = 3 * second; // For the pong after the network or the tab has come back.
const WAIT_MAX = 30 * second;
const TYPING_EVERY = 1500, TYPING_LASTS = 5000, PENDING_MAX = 100, SEEN_MAX = 5000;
const BLOCKED = 2; // Upgrades that failed in a row before one worked: a proxy is in the way.

export const LENGTH_MAX = 4000; // Unicode scalar values.
export const length = (text) => [...text.trim()].length;

// Close codes after which it does not reconnect (contract §7.1 to §7.17), and reasons that tell more.
const FINAL = { 4401: "session", 4403: "password", 4404: "gone", 4409: "name", 4410: "deleted", 4411: "removed" };
for (const code of [1002, 1003, 1007, 1008, 1009]) FINAL[code] = "broken";
const REASONS = { "left room": "left", banned: "banned", "room locked": "locked", "room expired": "expired" };
const LATER = { 1011: 3 * second, 1013: 3 * second, 4429: 15 * second };
// The close codes that correspond to refusals of an event stream (contract §14.7).
const REFUSED = { 401: 4401, 403: 4403, 404: 4404, 409: 4409, 429: 4429, 500: 1011, 503: 1013 };

const random = (size) => crypto.getRandomValues(new Uint8Array(size));
const toBytes = (text) => new TextEncoder().encode(text);
const toBase64 = (bytes) => btoa(String.fromCharCode(...bytes)).replace(/=/g, "").replace(/\+/g, "-").replace(/\//g, "_");
const fromBase64 = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (one) => one.charCodeAt(0));

// `{ok, status, wait, now, …fields of the response}`; without a response the status is 0.
export const request = async (base, session, method, path, body) => {
	try {
		const answer = await fetch(new URL(path, base), {
			method,
			headers: session ? { Authorization: `Bearer ${session}` } : {},
			body: body ? JSON.stringify(body) : null,
			signal: AbortSignal.timeout(SILENCE),
		});
		const { headers, ok, status } = answer, fields = status === 204 ? {} : await answer.json();
		return { ...fields, ok, status, wait: +headers.get("Retry-After"), now: Date.parse(headers.get("Date")) };
	} catch {
		return { ok: false, status: 0, code: "unreachable", detail: "The server can't be reached." };
	}
};

// The two ways to a room. Each calls `on`: open(), on a stream for all that arrives · event(event) · end(code, reason).
const socketTo = (base, session, room, query, on) => {
	const url = new URL(`ws/${room}?${query}`, base);
	url.protocol = url.protocol.replace("http", "ws");
	// The session goes into the subprotocol, for proxies log URLs.
	const socket = new WebSocket(url, ["chat", `bearer.${session}`]);
	let isOpen = false;
	const open = () => {
		isOpen = true;
		on.open();
	};
	socket.onopen = open;
	socket.onmessage = ({ data }) => on.event(JSON.parse(data));
	socket.onclose = ({ code, reason }) => {
		// If the server closes at once, Firefox often reports the close alone. Such a code is always the server's. A failed
		// handshake is no close for Node 20, and a 1002 for Bun.
		if (!isOpen && code >= 3000) open();
		on.end(isOpen ? code : 1006, reason);
	};
	socket.onerror = () => isOpen || on.end(1006, "");
	return {
		ping: () => socket.send('{"type":"ping"}'),
		send: (event) => socket.send(JSON.stringify(event)),
		close: (code, reason) => socket.close(code, reason),
	};
};

const streamTo = (base, session, room, query, on) => {
	const gone = new AbortController();
	const read = async () => {
		const headers = { Accept: "text/event-stream", Authorization: `Bearer ${session}` };
		const answer = await fetch(new URL(`rooms/${room}/events?${query}`, base), { headers, signal: gone.signal });
		if (!answer.ok) return on.end(REFUSED[answer.status], (await answer.json()).code.replace("_", " "));
		const reader = answer.body.getReader(), decoder = new TextDecoder();
		for (let text = "", part; !(part = await reader.read()).done;) {
			const lines = (text + decoder.decode(part.value, { stream: true })).split("\n");
			text = lines.pop();
			on.open();
			for (const line of lines) {
				if (!line.startsWith("data:")) continue;
				const event = JSON.parse(line.slice(5));
				if (event.type === "close") on.end(event.code, event.reason);
				else on.event(event);
			}
		}
	};
	read().catch(() => {}).then(() => on.end(1006, ""));
	return {
		async send({ type, message, nonce }) {
			if (type === "typing") return request(base, session, "POST", `rooms/${room}/typing`);
			const answer = await request(base, session, "POST", `rooms/${room}/messages`, { message, nonce });
			const { ok, code, status, wait } = answer, isFinal = [403, 409, 413, 422].includes(status);
			on.event(ok ? { type: "posted", message: answer } : { type: "refused", nonce, code, retry_after: isFinal ? 0 : wait || 2 });
		},
		close: () => gone.abort(),
	};
};

// For encrypted rooms: a key for the link, and whether this place can encrypt (browsers can't without https).
export const newKey = () => toBase64(random(32));
export const isKey = (text) => /^[\w-]{42}[AEIMQUYcgkosw048]$/.test(text);
export const canEncrypt = () => !!globalThis.crypto?.subtle;

// Envelopes (contract §15.4). What is none opens as null. `iv` is for tests.
export const cipher = async (room, key) => {
	if (!isKey(key)) throw new Error("A room's key is 32 bytes in base64url.");
	const { subtle } = crypto, name = "AES-GCM";
	const secret = await subtle.importKey("raw", fromBase64(key), "HKDF", false, ["deriveKey"]);
	const derivation = { name: "HKDF", hash: "SHA-256", salt: toBytes(room), info: toBytes("disposable-chat e1") };
	const K = await subtle.deriveKey(derivation, secret, { name, length: 256 }, false, ["encrypt", "decrypt"]);
	const how = (iv, user_id, nonce) => ({ name, iv, additionalData: toBytes(`${room}\n${user_id}\n${nonce}`) });
	return {
		async seal(text, user_id, nonce, iv = random(12)) {
			const plain = toBytes(text), padded = new Uint8Array((plain.length + 64) & ~63);
			padded.set(plain);
			padded[plain.length] = 0x80;
			const sealed = new Uint8Array(await subtle.encrypt(how(iv, user_id, nonce), K, padded));
			return `e1.${toBase64([...iv, ...sealed])}`;
		},
		async open(envelope, user_id, nonce) {
			try {
				const bytes = fromBase64(/^e1\.(.+)/.exec(envelope)[1]);
				const plain = new Uint8Array(await subtle.decrypt(how(bytes.slice(0, 12), user_id, nonce), K, bytes.slice(12)));
				const end = plain.lastIndexOf(0x80);
				return plain.subarray(end + 1).some(Boolean) ? null : new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(plain.subarray(0, end));
			} catch {
				return null;
			}
		},
	};
};

// A connection to a room, made again until it ends for good. Calls onEvent(event) and onState(state, detail): "connecting",
// "open", "retrying" {code} or "closed" {why, code, reason, id}: a word of REASONS or FINAL, the session.
class Connection {
	#line; #timer; #tries = 0; #heard = 0;
	turn = 0; // Of the line: what an earlier one brings is ignored.
	#blocked = 0; // Upgrades that failed in a row; -1 after one that worked.
	state = "closed"; kind = null; // "websocket" or "events".

	constructor(of) { Object.assign(this, of); }

	open() {
		this.#tries = 0;
		this.#connect();
	}

	wake() {
		if (this.state === "retrying") this.#connect();
		else if (this.state === "open")
			if (this.#line.ping) this.#ping(DOUBT);
			else if (Date.now() - this.#heard > SILENCE + DOUBT) this.#connect();
	}

	// On purpose: the server announces it at once (contract §6.10).
	close() {
		this.#drop(1000);
		this.state = "closed";
	}

	send(event) {
		if (this.state === "open") this.#line.send(event);
	}

	caughtUp() {
		this.#tries = 0;
		this.state = "open";
		this.#alive();
		this.onState("open");
	}

	#connect() {
		this.#drop();
		const session = this.session();
		if (!session) return this.#end({ why: "session" });
		this.onState(this.state = "connecting");
		this.#expect(ANSWER * 2);
		const isStream = this.#blocked >= BLOCKED || !globalThis.WebSocket;
		if (this.#blocked >= 0 && !isStream) this.#blocked++; // Until it opens.
		this.kind = isStream ? "events" : "websocket";
		const { turn } = this, on = (act) => (...args) => turn === this.turn && act(...args);
		this.#line = (isStream ? streamTo : socketTo)(this.base, session, this.room, this.query(), {
			open: on(() => {
				this.#blocked = isStream ? BLOCKED : -1;
				this.#alive();
			}),
			event: on((event) => {
				this.#alive();
				if (event.type !== "pong") this.onEvent(event);
			}),
			end: on((code, reason) => {
				const why = REASONS[reason] ?? FINAL[code];
				if (why) this.#end({ why, code, reason, id: session });
				else this.#lost(LATER[code] ?? 0, code);
			}),
		});
	}

	#alive() {
		this.#heard = Date.now();
		// On a stream the server pings, every 20 s (contract §14.5).
		this.#expect(this.state === "connecting" ? ANSWER * 2 : this.#line.ping ? SILENCE : SILENCE * 3);
	}

	// If nothing arrives for this long, pings, and then gives the connection up.
	#expect(timeout) {
		clearTimeout(this.#timer);
		this.#timer = setTimeout(() => timeout === SILENCE ? this.#ping(ANSWER) : this.#lost(0), timeout);
	}

	#ping(timeout) {
		this.#line.ping();
		this.#expect(timeout);
	}

	// Exponential backoff, with jitter against all clients reconnecting at once.
	#lost(least, code) {
		// Without a wait, so that blocked sockets cause no visible pause.
		if (this.#blocked > 0 && this.kind === "websocket") return this.#connect();
		// Without a stream either, it may have been the network: the next one is a socket again.
		if (this.kind === "events" && this.state === "connecting") this.#blocked = BLOCKED - 1;
		this.#drop();
		const wait = least + Math.min(WAIT_MAX, second * 2 ** this.#tries++) * (0.3 + 0.7 * Math.random());
		this.#timer = setTimeout(() => this.#connect(), wait);
		this.onState(this.state = "retrying", { code });
	}

	#end(detail) {
		this.#drop();
		this.onState(this.state = "closed", detail);
	}

	// After 3001 the server announces nothing for a while, as after a broken connection (contract §6.19).
	#drop(code = 3001, reason = code === 3001 ? "back soon" : "") {
		clearTimeout(this.#timer);
		this.turn++;
		this.#line?.close(code, reason);
		this.#line = null;
	}
}

// The messages of one room. What is said is kept until it comes back. Listeners get state(state, detail) · messages(all,
// isPast) · pending() · people() · typing() · gap() · room(info) · deleted(id) · announced(message), and each message
// under its type. With a key, nothing is sent or shown unencrypted, whatever the server says.
export class Chat {
	last = null; // The newest message's id.
	you = null; // Our user_id.
	info = null; // The room as everyone in it sees it (contract §13.1).
	people = new Map(); // user_id → name, in order of arrival.
	typing = new Map(); // user_id → {user, timer}.
	#page = [];
	#sent = null; // The nonce of the one message in flight: a refusal can't change the order.
	#timer; #typed = 0; #listeners = new Map();
	#cipher; #opening = Promise.resolve();
	#seen = new Map(); // Person and nonce → id: a repeated envelope is not shown.

	// `session()` is the session's id; `pending` is what `save(pending)` got last.
	constructor({ base, room, session, key, history = 100, pending, save, view, held }) {
		Object.assign(this, { base, room, session, key, save, held });
		for (const what in view) this.on(what, view[what]);
		this.#cipher = key && cipher(room, key);
		this.#cipher?.catch(() => {});
		// `{nonce, text, code?, until?}`: one with a code was refused, one with a time waits for it.
		this.pending = pending ?? [];
		this.connection = new Connection({
			base, room, session,
			query: () => this.last ? `after=${this.last}` : `history=${history}`,
			onEvent: (event) => this.#receive(event),
			onState: (state, detail) => {
				this.#page = [];
				this.#sent = null;
				if (state !== "open") this.#clearTyping();
				this.#tell("state", state, detail);
				this.#pump();
			},
		});
	}

	get state() { return this.connection.state; }
	get isOwner() { return !!this.you && this.info?.owner === this.you; }
	get link() { return `${this.base}#/r/${this.room}${this.key ? `/${this.key}` : ""}`; }

	on(what, listener) {
		const all = this.#listeners.get(what) ?? new Set();
		this.#listeners.set(what, all.add(listener));
		return () => all.delete(listener);
	}

	// A listener's exception is reported, and disturbs nothing else.
	#tell(what, ...args) {
		if (this.held && what !== "state") return this.held.push([what, ...args]);
		for (const listener of this.#listeners.get(what) ?? [])
			try { listener(...args); } catch (error) { setTimeout(() => { throw error; }); }
	}

	release() {
		const { held } = this;
		this.held = null;
		for (const one of held) this.#tell(...one);
	}

	open() { this.connection.open(); }
	wake() { this.connection.wake(); }

	close() {
		clearTimeout(this.#timer);
		this.#clearTyping();
		this.connection.close();
	}

	// False if too many messages wait.
	say(text) {
		if (this.pending.length >= PENDING_MAX) return false;
		// Half a surrogate pair can't be sent.
		this.pending.push({ nonce: toBase64(random(12)), text: text.trim().replace(/\p{Cs}/gu, "\ufffd") });
		this.#changed();
		return true;
	}

	// Sends a refused message again, as a new one.
	retry(entry) {
		Object.assign(entry, { nonce: toBase64(random(12)), code: undefined });
		this.#changed();
	}

	discard(entry) {
		this.pending = this.pending.filter((one) => one !== entry);
		if (this.#sent === entry.nonce) this.#sent = null;
		this.#changed();
	}

	keyed() {
		if (Date.now() - this.#typed < TYPING_EVERY) return;
		this.#typed = Date.now();
		this.connection.send({ type: "typing" });
	}

	// A request about this room, for example ("PATCH", "", {locked: true}).
	ask(method, path, body) {
		return request(this.base, this.session(), method, `rooms/${this.room}${path}`, body);
	}

	// Messages before this one, among the last 1000.
	async older(id) {
		const answer = await this.ask("GET", "/messages?limit=1000");
		return answer.ok ? this.#opened(answer.messages.filter((one) => one.id < id)) : null;
	}

	#changed() {
		this.save?.(this.pending);
		this.#tell("pending");
		this.#pump();
	}

	async #pump() {
		const next = this.pending.find((one) => !one.code);
		if (!next || this.#sent || this.state !== "open") return;
		const { nonce, text } = next, { turn } = this.connection;
		this.#sent = nonce;
		const message = this.#cipher ? await (await this.#cipher).seal(text, this.you, nonce) : text;
		if (this.connection.turn === turn && this.#sent === nonce) this.connection.send({ type: "chat", message, nonce });
	}

	// One event after the other, so that their order stays.
	#receive(event) {
		if (!this.#cipher) return this.#onEvent(event);
		const { turn } = this.connection, { messages } = event;
		this.#opening = this.#opening.then(async () => {
			const opened = await this.#opened(messages ?? [event]);
			if (this.connection.turn === turn) this.#onEvent(messages ? { ...event, messages: opened } : opened[0] ?? {});
		});
	}

	// The messages with their texts, or `unreadable`; without repeated envelopes.
	async #opened(messages) {
		if (!this.#cipher) return messages;
		const isEnvelope = ({ type, deleted }) => type === "chat" && !deleted, code = await this.#cipher.catch(() => null);
		const texts = await Promise.all(messages.map((one) => isEnvelope(one) ? code?.open(one.message, one.user_id, one.nonce) : null));
		return messages.flatMap((one, at) => {
			const text = texts[at] ?? null, { id } = one, key = one.user_id + one.nonce;
			if (!isEnvelope(one)) return one;
			if (text === null) return { ...one, message: "", unreadable: true };
			if ((this.#seen.get(key) ?? id) !== id) return [];
			if (this.#seen.set(key, id).size > SEEN_MAX) this.#seen.delete(this.#seen.keys().next().value);
			return { ...one, message: text };
		});
	}

	#onEvent(event) {
		const { type } = event;
		if (type === "history") this.#onHistory(event);
		else if (type === "users") this.#onUsers(event.users);
		else if (type === "typing") this.#onTyping(event);
		else if (type === "refused") this.#onRefused(event);
		else if (type === "room_changed") this.#onRoom(event.room);
		else if (type === "announcement") this.#tell("announced", event);
		// A newer one comes with the stream, in its place.
		else if (type === "posted") event.message.id <= this.last && this.#add([event.message], false);
		else if (event.id) this.#add([event], false);
	}

	#onHistory({ messages, more, complete, you, room, users }) {
		this.#page.push(...messages);
		if (more) return;
		const isFirst = !this.you;
		if (!complete) this.#tell("gap");
		this.you = you;
		this.people.clear();
		this.#onRoom(room);
		this.#onUsers(users);
		this.#add(this.#page, true, isFirst);
		this.connection.caughtUp();
	}

	#onRoom(room) {
		if (this.info?.slow_mode !== room.slow_mode) this.#again();
		this.info = room;
		this.#tell("room", room);
	}

	#onUsers(users) {
		for (const { user_id, user } of users) this.people.set(user_id, user);
		this.#tell("people", users);
	}

	// Under its type, only a message from before this chat is past.
	#add(messages, isPast, isFirst = false) {
		const fresh = messages.filter(({ id }) => !this.last || id > this.last);
		this.last = fresh.at(-1)?.id ?? this.last;
		if (!isPast) for (const one of fresh) this.#updatePeople(one);
		this.#tell("messages", fresh, isPast);
		for (const one of fresh) {
			this.#tell(one.type, one, isFirst);
			if (one.type === "message_deleted") this.#tell("deleted", one.target);
		}
		// A nonce is random, so a message that has it is ours. Only now, because a listener may have said something.
		const nonces = new Set(messages.map(({ nonce }) => nonce)), left = this.pending.filter(({ nonce }) => !nonces.has(nonce));
		if (left.length === this.pending.length) return;
		if (nonces.has(this.#sent)) this.#sent = null;
		this.pending = left;
		this.#changed();
	}

	#updatePeople({ type, user_id, user }) {
		this.#stopTyping(user_id);
		if (type === "user_joined") this.people.set(user_id, user);
		if (type === "user_left") this.people.delete(user_id);
		if (/^user_/.test(type)) this.#tell("people");
	}

	#onRefused({ code, nonce, retry_after: wait }) {
		const entry = this.pending.find((one) => one.nonce === nonce);
		if (!entry) return;
		if (wait) {
			// Over a rate limit: the message is sent again without asking.
			this.#timer = setTimeout(() => this.#again(), wait * second);
			entry.until = Date.now() + wait * second;
			return this.#tell("pending");
		}
		this.#sent = null;
		entry.code = code;
		this.#changed();
	}

	// Sends what waits. What is in flight may be sent twice, and comes once, by its nonce.
	#again() {
		clearTimeout(this.#timer);
		this.#sent = null;
		for (const entry of this.pending) delete entry.until;
		this.#tell("pending");
		this.#pump();
	}

	#onTyping({ user_id, user }) {
		if (user_id === this.you) return;
		clearTimeout(this.typing.get(user_id)?.timer);
		this.typing.set(user_id, { user, timer: setTimeout(() => this.#stopTyping(user_id), TYPING_LASTS) });
		this.#tell("typing");
	}

	#stopTyping(user_id) {
		clearTimeout(this.typing.get(user_id)?.timer);
		if (this.typing.delete(user_id)) this.#tell("typing");
	}

	#clearTyping() {
		for (const user_id of this.typing.keys()) this.#stopTyping(user_id);
	}
}

// Resolves with a Chat when its history has come. Listeners added at once miss nothing.
export const connect = async ({ base, room, name, session, password, key, ...rest }) => {
	base = new URL(`${base}`.replace(/\/*$/, "/"));
	const failure = (text, fields) => Object.assign(new Error(text), fields);
	const ask = async (method, path, body) => {
		const answer = await request(base, session, method, path, body);
		if (!answer.ok) throw failure(answer.detail, answer);
		return answer;
	};
	session ??= (await ask("POST", "sessions", { username: name })).session_id;
	if (typeof room === "object") {
		if (room.encrypted) key ??= newKey();
		room = (await ask("POST", "rooms", room)).room_id;
	} else {
		room = room.toLowerCase();
		if (!key && (await ask("GET", `rooms/${room}`)).encrypted)
			throw failure("The room is encrypted, and its key is missing.", { code: "key_missing" });
		await ask("POST", `rooms/${room}/join`, { password });
	}
	if (key) await cipher(room, key);
	return new Promise((resolve, reject) => {
		const state = (now, detail) => {
			if (now === "closed") reject(failure(`The room closed: ${detail.reason || detail.why}.`, detail));
			if (now !== "open" || !chat.held) return;
			resolve(chat);
			setTimeout(() => chat.release());
		};
		const chat = new Chat({ ...rest, base, room, session: () => session, key, view: { state }, held: [] });
		chat.open();
	});
};
