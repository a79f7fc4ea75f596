// The socket of a room, reconnected until closed for good. Knows no HTML.
import { base, session } from "./rest.js";

const second = 1000;
const SILENCE = 20 * second; // Then a ping is sent: a half-open connection shows no error.
const ANSWER = 8 * second; // For the pong, and for the first event of a new connection.
const DOUBT = 3 * second; // For the pong after the network or the tab has come back.
const WAIT_MAX = 30 * second;

// Close codes after which it does not reconnect (contract §7.1 to §7.16).
const FINAL = { 4401: "session", 4403: "password", 4404: "gone", 4409: "name", 4410: "deleted" };
for (const code of [1002, 1003, 1007, 1008, 1009]) FINAL[code] = "broken";
const WAKES = ["online", "pageshow", "focus", "visibilitychange"]; // The network or the tab is back.
const LATER = { 1011: 3 * second, 1013: 3 * second, 4429: 15 * second };

// Calls `onEvent(event)` for each event, and `onState(state, detail)` with "connecting", "open",
// "retrying" `{code}` or "closed" `{why, id}`: a reason above or "left", and the session.
export class Connection {
	#socket; #timer; #tries = 0; #isProbing = false;
	state = "closed";

	constructor(room, { after, onEvent, onState }) {
		Object.assign(this, { room, after, onEvent, onState });
		this.wake = () => {
			if (document.hidden) return;
			if (this.state === "retrying") this.#connect();
			else if (this.state === "open") this.#ping(DOUBT);
		};
	}

	open() {
		for (const name of WAKES) addEventListener(name, this.wake);
		this.#tries = 0;
		this.#connect();
	}

	close() {
		for (const name of WAKES) removeEventListener(name, this.wake);
		this.#drop();
		this.state = "closed";
	}

	send(event) {
		if (this.state === "open") this.#socket.send(JSON.stringify(event));
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
		const me = session();
		if (!me) return this.#end("session");
		this.#enter("connecting");
		const after = this.after(), url = new URL(`ws/${this.room}?${after ? `after=${after}` : "history=100"}`, base);
		url.protocol = url.protocol.replace("http", "ws");
		// The session goes into the subprotocol, for proxies log URLs.
		const socket = this.#socket = new WebSocket(url, ["chat", `bearer.${me.session_id}`]);
		this.#expect(ANSWER * 2);
		socket.onmessage = ({ data }) => {
			this.#expect(SILENCE);
			const event = JSON.parse(data);
			if (event.type !== "pong") this.onEvent(event);
		};
		socket.onclose = ({ code, reason }) => {
			const why = code === 1000 && reason === "left room" ? "left" : FINAL[code];
			if (why) this.#end(why, me.session_id);
			else this.#lost(LATER[code] ?? 0, code);
		};
	}

	// If nothing arrives for this long, pings, and then gives the connection up.
	#expect(timeout) {
		this.#isProbing = timeout !== SILENCE;
		clearTimeout(this.#timer);
		this.#timer = setTimeout(() => this.#isProbing ? this.#lost(0) : this.#ping(ANSWER), timeout);
	}

	#ping(timeout) {
		if (this.state === "open") this.send({ type: "ping" });
		this.#expect(timeout);
	}

	// Exponential backoff, with jitter against all clients reconnecting at once.
	#lost(least, code) {
		this.#drop();
		const wait = least + Math.min(WAIT_MAX, second * 2 ** this.#tries++) * (0.3 + 0.7 * Math.random());
		this.#timer = setTimeout(() => this.#connect(), wait);
		this.#enter("retrying", { code });
	}

	#end(why, id) {
		this.close();
		this.onState("closed", { why, id });
	}

	#drop() {
		clearTimeout(this.#timer);
		if (!this.#socket) return;
		this.#socket.onmessage = this.#socket.onclose = null;
		this.#socket.close();
		this.#socket = null;
	}
}
