// The client of a Disposable Chat: one module without dependencies, for browsers, Node, Deno and Bun. The page uses it
// too. It owns the connection to one room and its messages: each is delivered exactly once and in order, although
// connections break. It must not know the DOM or any storage, so that it runs everywhere. `client.d.ts` describes it.
const second = 1000;
const SILENCE = 20 * second; // Then a ping is sent: a half-open connection shows no error.
const ANSWER = 8 * second; // For the pong, and for the first event of a new connection.
const DOUBT = 3 * second; // For the pong after the network or the tab has come back.
const WAIT_MAX = 30 * second;
const TYPING_EVERY = 1500, TYPING_LASTS = 5000;
const PENDING_MAX = 100;
const BLOCKED = 2; // Upgrades that failed in a row, before any worked: a proxy may be in the way.

export const LENGTH_MAX = 4000; // Unicode scalar values.
export const length = (text) => [...text.trim()].length;

// Close codes after which it does not reconnect (contract §7.1 to §7.17). A reason tells more than its code.
const FINAL = { 4401: "session", 4403: "password", 4404: "gone", 4409: "name", 4410: "deleted", 4411: "removed" };
for (const code of [1002, 1003, 1007, 1008, 1009]) FINAL[code] = "broken";
const REASONS = { "left room": "left", banned: "banned", "room locked": "locked", "room expired": "expired" };
const LATER = { 1011: 3 * second, 1013: 3 * second, 4429: 15 * second };
// The close codes that correspond to refusals of an event stream (contract §14.7).
const REFUSED = { missing_session: 4401, invalid_session: 4401, not_a_member: 4403, banned: 4403, room_locked: 4403, room_not_found: 4404, name_taken: 4409 };
const STATUS = { 429: 4429, 500: 1011, 503: 1013 };

const random = (size) => crypto.getRandomValues(new Uint8Array(size));
const unique = () => [...random(12)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// `{ok, status, wait, now, …fields of the response}`, times in seconds and milliseconds; without a response the status is 0.
export const request = async (base, session, method, path, body) => {
	try {
		const answer = await fetch(new URL(path, base), {
			method,
			headers: session ? { Authorization: `Bearer ${session}` } : {},
			body: body ? JSON.stringify(body) : null,
			signal: AbortSignal.timeout(20 * second),
		});
		const { headers, ok, status } = answer, fields = status === 204 ? {} : await answer.json();
		return { ...fields, ok, status, wait: +headers.get("Retry-After"), now: Date.parse(headers.get("Date")) };
	} catch {
		return { ok: false, status: 0, code: "unreachable", detail: "The server can't be reached." };
	}
};

// The two ways to a room. Each calls `on`: open() · event(event) · alive() · end(code, reason), nothing after its close().
const socketTo = (base, session, room, query, on) => {
	const url = new URL(`ws/${room}?${query}`, base);
	url.protocol = url.protocol.replace("http", "ws");
	// The session goes into the subprotocol, for proxies log URLs.
	const socket = new WebSocket(url, ["chat", `bearer.${session}`]);
	let isOpen = false;
	socket.onopen = () => {
		isOpen = true;
		on.open();
	};
	socket.onmessage = ({ data }) => on.event(JSON.parse(data));
	socket.onclose = ({ code, reason }) => on.end(code, reason);
	// Some versions of Node fire no close for a failed handshake.
	socket.onerror = () => isOpen || on.end(1006, "");
	return {
		kind: "websocket",
		ping: () => socket.send('{"type":"ping"}'),
		send: (event) => socket.send(JSON.stringify(event)),
		close(code, reason) {
			socket.onopen = socket.onmessage = socket.onclose = null;
			socket.onerror = () => {}; // Node reports an error without a listener.
			socket.close(code, reason);
		},
	};
};

const streamTo = (base, session, room, query, on) => {
	const gone = new AbortController(), { signal } = gone;
	const tell = (what, ...args) => signal.aborted || on[what](...args);
	const read = async () => {
		const headers = { Accept: "text/event-stream", Authorization: `Bearer ${session}` };
		const answer = await fetch(new URL(`rooms/${room}/events?${query}`, base), { headers, signal, cache: "no-store" });
		if (!answer.ok) {
			const { code } = await answer.json();
			return tell("end", REFUSED[code] ?? STATUS[answer.status], code.replace("_", " "));
		}
		tell("open");
		const reader = answer.body.getReader(), decoder = new TextDecoder();
		for (let text = "", part; !(part = await reader.read()).done;) {
			const lines = (text + decoder.decode(part.value, { stream: true })).split("\n");
			text = lines.pop();
			tell("alive");
			for (const line of lines) {
				if (!line.startsWith("data:")) continue;
				const event = JSON.parse(line.slice(5));
				if (event.type === "close") tell("end", event.code, event.reason);
				else tell("event", event);
			}
		}
	};
	read().catch(() => {}).then(() => tell("end", 1006, ""));
	return {
		kind: "events",
		async send({ type, message, nonce }) {
			if (type === "typing") return request(base, session, "POST", `rooms/${room}/typing`);
			const answer = await request(base, session, "POST", `rooms/${room}/messages`, { message, nonce });
			const isFinal = [400, 403, 409, 413, 422].includes(answer.status);
			tell("event", answer.ok ? { type: "posted", message: answer }
				: { type: "refused", nonce, code: answer.code, retry_after: isFinal ? 0 : answer.wait || 2 });
		},
		close: () => gone.abort(),
	};
};

// A connection to a room, made again until it is closed for good. Calls `onEvent(event)` for each event, and
// `onState(state, detail)` with "connecting", "open", "retrying" `{code}` or "closed" `{why, code, reason, id}`: a
// word of FINAL or REASONS, and the session.
class Connection {
	#line; #timer; #tries = 0; #isProbing = false; #heard = 0;
	#blocked = 0; // Upgrades that failed in a row; negative after one that worked.
	state = "closed";

	constructor(of) {
		Object.assign(this, of);
	}

	get kind() { return this.#line?.kind ?? null; }

	open() {
		this.#tries = 0;
		this.#connect();
	}

	// The network or the user has come back, or the network has gone.
	wake() {
		if (this.state === "retrying") this.#connect();
		else if (this.state !== "open") return;
		else if (this.#line.ping) this.#ping(DOUBT);
		else if (Date.now() - this.#heard > SILENCE + DOUBT) this.#connect();
	}

	// Left on purpose: the server announces it at once (contract §6.10).
	close() {
		this.#drop(1000);
		this.state = "closed";
	}

	send(event) {
		if (this.state === "open") this.#line.send(event);
	}

	// All missed messages have been received.
	caughtUp() {
		this.#tries = 0;
		this.#enter("open");
	}

	#enter(state, detail) {
		this.state = state;
		this.onState(state, detail);
	}

	#connect() {
		this.#drop();
		const session = this.session();
		if (!session) return this.#end({ why: "session" });
		this.#enter("connecting");
		this.#expect(ANSWER * 2);
		const isStream = this.#blocked >= BLOCKED || !globalThis.WebSocket;
		// A socket counts as blocked until it opens.
		if (this.#blocked >= 0 && !isStream) this.#blocked++;
		this.#line = (isStream ? streamTo : socketTo)(this.base, session, this.room, this.query(), {
			open: () => {
				this.#blocked = isStream ? BLOCKED : -1;
				this.#alive();
			},
			alive: () => this.#alive(),
			event: (event) => {
				this.#alive();
				if (event.type !== "pong") this.onEvent(event);
			},
			end: (code, reason) => {
				const why = REASONS[reason] ?? FINAL[code];
				if (why) this.#end({ why, code, reason, id: session });
				else this.#lost(LATER[code] ?? 0, code);
			},
		});
	}

	#alive() {
		this.#heard = Date.now();
		if (this.state === "connecting") this.#expect(ANSWER * 2);
		// A stream has no ping; the server sends a comment every 20 s (contract §14.5).
		else this.#expect(this.#line.ping ? SILENCE : SILENCE * 3);
	}

	// If nothing arrives for this long, pings, and then gives the connection up.
	#expect(timeout) {
		this.#isProbing = timeout !== SILENCE;
		clearTimeout(this.#timer);
		this.#timer = setTimeout(() => this.#isProbing ? this.#lost(0) : this.#ping(ANSWER), timeout);
	}

	#ping(timeout) {
		this.#line.ping();
		this.#expect(timeout);
	}

	// Exponential backoff, with jitter against all clients reconnecting at once.
	#lost(least, code) {
		// Without a stream either, it may have been the network: the next one is a socket again.
		if (this.kind === "events" && this.state === "connecting") this.#blocked = BLOCKED - 1;
		this.#drop();
		const wait = least + Math.min(WAIT_MAX, second * 2 ** this.#tries++) * (0.3 + 0.7 * Math.random());
		this.#timer = setTimeout(() => this.#connect(), wait);
		this.#enter("retrying", { code });
	}

	#end(detail) {
		this.#drop();
		this.#enter("closed", detail);
	}

	// With 3001 the server takes the connection for a broken one, and announces nothing (contract §6.19).
	#drop(code = 3001, reason = code === 3001 ? "back soon" : "") {
		clearTimeout(this.#timer);
		this.#line?.close(code, reason);
		this.#line = null;
	}
}

// The messages of one room, received and sent. A typed one is kept until it comes back from the server.
// Tells `view` and the listeners of `on`: state(state, detail) · messages([message], isPast) · pending() · people() ·
// typing() · gap() · room(info) · deleted(id) · announced(message), and each message under its type.
export class Chat {
	last = null; // The newest message's id.
	you = null; // Our user_id.
	info = null; // The room as everyone in it sees it (contract §13.1).
	people = new Map(); // user_id → name, in order of arrival.
	typing = new Map(); // user_id → {user, timer}.
	#page = [];
	#sent = null; // The nonce of the only message in flight, so that a refusal can't change the order.
	#timer; #typed = 0; #listeners = new Map();

	// `session()` gives the session's id. `pending` are the entries that `save(entries)` was called with last.
	constructor({ base, room, session, history = 100, pending, save, view }) {
		Object.assign(this, { base, room, session, save, view });
		// `{nonce, text, code?, until?}`. One with a code was refused, one with a time waits until then.
		this.pending = pending ?? [];
		this.connection = new Connection({
			base, room, session,
			query: () => this.last ? `after=${this.last}` : `history=${history}`,
			onEvent: (event) => this.#onEvent(event),
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

	on(what, listener) {
		const all = this.#listeners.get(what) ?? new Set();
		this.#listeners.set(what, all.add(listener));
		return () => all.delete(listener);
	}

	// A listener's exception is reported, and disturbs nothing else.
	#tell(what, ...args) {
		for (const listener of [this.view?.[what], ...this.#listeners.get(what) ?? []])
			try { listener?.(...args); } catch (error) { setTimeout(() => { throw error; }); }
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
		this.pending.push({ nonce: unique(), text: text.trim().replace(/\p{Cs}/gu, "\ufffd") });
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
		return answer.ok ? answer.messages.filter((one) => one.id < id) : null;
	}

	#changed() {
		this.save?.(this.pending);
		this.#tell("pending");
		this.#pump();
	}

	#pump() {
		const next = this.pending.find((one) => !one.code);
		if (!next || this.#sent || this.state !== "open") return;
		this.#sent = next.nonce;
		this.connection.send({ type: "chat", message: next.text, nonce: next.nonce });
	}

	#onEvent(event) {
		const { type } = event;
		if (type === "history") this.#onHistory(event);
		else if (type === "users") this.#onUsers(event.users);
		else if (type === "typing") this.#onTyping(event);
		else if (type === "refused") this.#onRefused(event);
		else if (type === "room_changed") this.#onRoom(event.room);
		else if (type === "announcement") this.#tell("announced", event);
		// Its place among the others comes with the stream, which may be behind the answer.
		else if (type === "posted") event.message.id <= this.last && this.#add([event.message], false);
		else if (event.id) this.#add([event], false);
	}

	#onHistory({ messages, more, complete, you, room, users }) {
		this.#page.push(...messages);
		if (more) return;
		if (!complete) this.#tell("gap");
		this.you = you;
		this.people.clear();
		this.#onRoom(room);
		this.#add(this.#page, true);
		this.#onUsers(users);
		this.connection.caughtUp();
	}

	#onRoom(room) {
		this.info = room;
		this.#tell("room", room);
	}

	#onUsers(users) {
		for (const { user_id, user } of users) this.people.set(user_id, user);
		this.#tell("people");
	}

	#add(messages, isPast) {
		const fresh = messages.filter(({ id }) => !this.last || id > this.last);
		this.last = fresh.at(-1)?.id ?? this.last;
		// A nonce is random, so a message that has it is ours.
		const nonces = new Set(messages.map(({ nonce }) => nonce)), left = this.pending.filter(({ nonce }) => !nonces.has(nonce));
		if (!isPast) for (const one of fresh) this.#updatePeople(one);
		this.#tell("messages", fresh, isPast);
		for (const one of fresh) {
			this.#tell(one.type, one, isPast);
			if (one.type === "message_deleted") this.#tell("deleted", one.target);
		}
		if (left.length === this.pending.length) return;
		if (nonces.has(this.#sent)) this.#sent = null;
		this.pending = left;
		this.#changed();
	}

	#updatePeople({ type, user_id, user }) {
		this.#stopTyping(user_id);
		if (type === "user_joined") this.people.set(user_id, user);
		else if (type === "user_left") this.people.delete(user_id);
		else return;
		this.#tell("people");
	}

	#onRefused({ code, nonce, retry_after: wait }) {
		const entry = this.pending.find((one) => one.nonce === nonce);
		if (!entry) return;
		if (wait) {
			// Over a rate limit: the message is sent again without asking.
			this.#timer = setTimeout(() => {
				entry.until = undefined;
				if (this.#sent === nonce) this.#sent = null;
				this.#pump();
			}, wait * second);
			entry.until = Date.now() + wait * second;
			return this.#tell("pending");
		}
		this.#sent = null;
		entry.code = code;
		this.#changed();
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
		for (const user_id of [...this.typing.keys()]) this.#stopTyping(user_id);
	}
}
