// One room's socket, for as long as somebody wants to be in the room: it breaks, it comes back. Knows no page.
import { base, session } from "./rest.js";

const second = 1000;
const SILENCE = 20 * second; // Then a ping: a half-open line says nothing by itself.
const ANSWER = 8 * second; // For the pong, and for whatever comes first on a new line.
const DOUBT = 3 * second; // For the pong when the network or the tab has just come back.
const WAIT_MAX = 30 * second;

// The closes after which the page does not connect again by itself (contract §7.1 to §7.15).
const FINAL = { 4401: "session", 4403: "password", 4404: "gone", 4409: "name", 4410: "deleted" };
for (const code of [1002, 1003, 1007, 1009]) FINAL[code] = "broken";
const WAKES = ["online", "pageshow", "focus", "visibilitychange"]; // The network or the tab comes back.
const LATER = { 1011: 3 * second, 1013: 3 * second, 4429: 15 * second };

// `hear(event)` is told what the server says; `tell(state, detail)` how the line is:
// "connecting" · "open" · "waiting" `{until, code}` · "over" `{why, id}`: a reason above or "left", and whose session.
export class Line {
	#socket; #timer; #tries = 0; #asked = false;
	state = "over";

	constructor(room, { after, hear, tell }) {
		Object.assign(this, { room, after, hear, tell });
		this.wake = () => {
			if (document.hidden) return;
			if (this.state === "waiting") this.#connect();
			else if (this.state === "open") this.#ping(DOUBT);
		};
	}

	open() {
		for (const name of WAKES) addEventListener(name, this.wake);
		this.#tries = 0;
		this.#connect();
	}

	// For good.
	close() {
		for (const name of WAKES) removeEventListener(name, this.wake);
		this.#drop();
		this.state = "over";
	}

	send(event) {
		if (this.state === "open") this.#socket.send(JSON.stringify(event));
	}

	// All that was missed has come.
	caughtUp() {
		this.#tries = 0;
		this.#be("open");
	}

	#be(state, detail) {
		this.state = state;
		this.tell(state, detail);
	}

	#connect() {
		this.#drop();
		const me = session();
		if (!me) return this.#end("session");
		this.#be("connecting");
		const after = this.after(), url = new URL(`ws/${this.room}?${after ? `after=${after}` : "history=100"}`, base);
		url.protocol = url.protocol.replace("http", "ws");
		// In the subprotocol, since addresses are logged on the way.
		const socket = this.#socket = new WebSocket(url, ["chat", `bearer.${me.session_id}`]);
		this.#listen(ANSWER * 2);
		socket.onmessage = ({ data }) => {
			this.#listen(SILENCE);
			const event = JSON.parse(data);
			if (event.type !== "pong") this.hear(event);
		};
		socket.onclose = ({ code, reason }) => {
			const why = code === 1000 && reason === "left room" ? "left" : FINAL[code];
			if (why) this.#end(why, me.session_id);
			else this.#lost(LATER[code] ?? 0, code);
		};
	}

	// Waits that long for anything to be said.
	#listen(patience) {
		this.#asked = patience !== SILENCE;
		clearTimeout(this.#timer);
		this.#timer = setTimeout(() => this.#asked ? this.#lost(0) : this.#ping(ANSWER), patience);
	}

	#ping(patience) {
		if (this.state === "open") this.send({ type: "ping" });
		this.#listen(patience);
	}

	// At first soon, then ever later; never all at once.
	#lost(least, code) {
		this.#drop();
		const wait = least + Math.min(WAIT_MAX, second * 2 ** this.#tries++) * (0.3 + 0.7 * Math.random());
		this.#timer = setTimeout(() => this.#connect(), wait);
		this.#be("waiting", { until: Date.now() + wait, code });
	}

	#end(why, id) {
		this.close();
		this.tell("over", { why, id });
	}

	#drop() {
		clearTimeout(this.#timer);
		if (!this.#socket) return;
		this.#socket.onmessage = this.#socket.onclose = null;
		this.#socket.close();
		this.#socket = null;
	}
}
