// What all browser tests use: the real server as a process, a proxy that fails on demand, one browser per file and a
// context per person. The console of a page must stay empty. Tests wait for conditions, never for a time.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import test, { after } from "node:test";
import { setTimeout as moment } from "node:timers/promises";
import { chromium } from "playwright-core";
import { cipher, newKey } from "../../src/web/client.js";
import { launchFirefox } from "./firefox.mjs";

// The longest wait for any condition, and the pauses between looks: long waits must not keep a busy machine busier.
const DEADLINE = 15_000, PAUSE = 20, PAUSE_MAX = 100;
// Of two lists the last one counts, so this one begins with playwright-core's own. The others are pages of Chromium's
// own that each new window loads for its address bar, hidden: half of all the processor time.
const WITHOUT = ["AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades", "HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "PaintHolding", "ThirdPartyStoragePartitioning", "AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch",
	"WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup"];
const FLAGS = [`--disable-features=${WITHOUT}`, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"];

// What a browser writes to the console about requests and sockets that break or can't be made: which of its many errors
// it is depends on how far they had come, and a page may load something just then.
export const BROKEN = /WebSocket connection to .* failed|net::ERR_(?!BLOCKED)|can’t establish a connection|was interrupted/;

const BINARY = process.env.CHAT ?? "target/debug/disposable-chat";
const found = (name) => process.env.PATH.split(delimiter).map((place) => join(place, name)).find(existsSync);

// Reads until the value is the expected one, and fails with the difference after the deadline.
export const eventually = async (read, expected) => {
	for (let deadline = Date.now() + DEADLINE, pause = PAUSE; ; pause = Math.min(PAUSE_MAX, pause * 1.5)) {
		const value = await read();
		try {
			return assert.deepEqual(value, expected);
		} catch (difference) {
			if (Date.now() > deadline) throw difference;
		}
		await moment(pause);
	}
};
export const until = (what, read) => eventually(async () => await read() ? what : `not yet: ${what}`, what);

// The server as a process. A restarted one has the same address.
export class Server {
	static async start(flags = [], port = 0) {
		const server = new Server();
		server.flags = flags;
		const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("CHAT_")));
		const args = ["--listen", `127.0.0.1:${port}`, "--session-rate", "0", "--room-rate", "0", ...flags];
		server.child = spawn(BINARY, args, { env, stdio: ["ignore", "ignore", "pipe"] });
		server.ended = once(server.child, "exit");
		server.kill = () => server.child.kill("SIGKILL");
		process.on("exit", server.kill);
		const lines = createInterface({ input: server.child.stderr });
		const [line] = await Promise.race([once(lines, "line"), server.ended]);
		server.port = Number(/^listening on http:\/\/127\.0\.0\.1:(\d+)$/.exec(line)?.[1]);
		assert.ok(server.port, `no address in the first line: ${line}`);
		lines.on("line", () => {}); // Otherwise the server blocks on a full pipe.
		server.url = `http://127.0.0.1:${server.port}/`;
		return server;
	}

	async stop(signal = "SIGKILL") {
		this.child.kill(signal);
		await this.ended;
		process.off("exit", this.kill);
	}

	// The same flags and address, without the old state.
	restart() {
		return Server.start(this.flags, this.port);
	}

	async ask(method, path, body, session) {
		const headers = { Connection: "close", ...session ? { Authorization: `Bearer ${session}` } : {} };
		const answer = await fetch(new URL(path, this.url), { method, headers, body: body && JSON.stringify(body) });
		const json = await answer.json();
		assert.ok(answer.ok, `${method} ${path}: ${JSON.stringify(json)}`);
		return json;
	}

	// A session for REST: `{session_id, username}`.
	openSession(username) {
		return this.ask("POST", "sessions", { username });
	}

	async room(owner, of) {
		return (await this.ask("POST", "rooms", of, owner.session_id)).room_id;
	}

	async post({ session_id }, room, ...texts) {
		await this.ask("POST", `rooms/${room}/join`, null, session_id);
		if (!texts.length) return;
		// Pipelined on one connection: a thousand requests one after the other take a busy machine 15 s.
		const socket = net.connect(this.port, "127.0.0.1"), head = `POST /rooms/${room}/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${session_id}\r\n`;
		socket.write(texts.map((message, n) => {
			const body = JSON.stringify({ message });
			return `${head}${n === texts.length - 1 ? "Connection: close\r\n" : ""}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
		}).join(""));
		let answers = "";
		for await (const part of socket.setEncoding("utf8")) answers += part;
		assert.equal(answers.match(/HTTP\/1\.1 2\d\d /g)?.length, texts.length, answers.slice(-1000));
	}

	// A chat in an encrypted room, by default with a key that is not the room's.
	async postSealed({ session_id }, room, text = "?", key = newKey()) {
		const { user_id } = await this.ask("POST", `rooms/${room}/join`, null, session_id), nonce = newKey();
		const message = await (await cipher(room, key)).seal(text, user_id, nonce);
		return this.ask("POST", `rooms/${room}/messages`, { message, nonce }, session_id);
	}

	// The texts of all chats, in the server's order.
	async chats({ session_id }, room) {
		const { messages } = await this.ask("GET", `rooms/${room}/messages?limit=1000`, null, session_id);
		return messages.filter(({ type }) => type === "chat").map(({ message }) => message);
	}
}

// A TCP proxy that can stall, reset its connections, or refuse new ones. Where `isBlocking`, it refuses upgrades.
export class FaultyProxy {
	#pairs = new Set(); #isStalled = false; #listener; #socket; #isStream;
	isBlocking = false;

	static async to(port) {
		const proxy = new FaultyProxy();
		proxy.#listener = net.createServer({ pauseOnConnect: true }, (near) => proxy.#join(near, port));
		await proxy.reopen();
		return proxy;
	}

	#join(near, port) {
		const far = net.connect(port, "127.0.0.1"), pair = [near, far];
		this.#pairs.add(pair);
		near.on("data", (bytes) => {
			const [, kind] = /^GET \/(ws|rooms\/\w+\/events)[/?]/.exec(bytes.subarray(0, 60).toString("latin1")) ?? [];
			if (!kind) return;
			this.#socket = near;
			this.#isStream = kind !== "ws";
			if (this.#isStream) return;
			if (this.isBlocking) near.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
		});
		for (const [from, to] of [pair, [far, near]]) {
			from.on("data", (bytes) => to.write(bytes));
			from.on("end", () => this.#isStalled || to.end());
			from.on("error", () => {});
			from.on("close", () => {
				if (this.#isStalled) return;
				this.#pairs.delete(pair);
				to.destroy();
			});
			if (this.#isStalled) from.pause();
			else from.resume();
		}
	}

	// Half-open: nothing passes in either direction, without an error.
	stall() {
		this.#isStalled = true;
		for (const pair of this.#pairs) for (const end of pair) end.pause();
	}

	// Data reaches the server, but its replies don't reach the page.
	stallReplies() {
		this.#isStalled = true;
		for (const [, far] of this.#pairs) far.pause();
	}

	// Sends the page an event on its latest socket or event stream, as if the server had sent it: on a socket, `close` is
	// a frame of its own. The server must be silent meanwhile, because the frame must not fall into another one.
	inject(event) {
		const text = JSON.stringify(event);
		if (this.#isStream) {
			const line = `data: ${text}\n\n`;
			return this.#socket.write(`${Buffer.byteLength(line).toString(16)}\r\n${line}\r\n`);
		}
		const isClose = event.type === "close", code = Buffer.alloc(2);
		if (isClose) code.writeUInt16BE(event.code);
		const payload = isClose ? Buffer.concat([code, Buffer.from(event.reason)]) : Buffer.from(text), { length } = payload;
		const opcode = isClose ? 0x88 : 0x81, header = length < 126 ? [opcode, length] : [opcode, 126, length >> 8, length & 255];
		const frame = Buffer.concat([Buffer.from(header), payload]);
		if (isClose) this.#socket.end(frame); // The server's answer to the answer would be a violation.
		else this.#socket.write(frame);
	}

	// Delivers what a stall has kept back.
	resume() {
		this.#isStalled = false;
		for (const pair of this.#pairs) for (const end of pair) end.destroyed || end.resume();
	}

	// Resets all connections and loses data in transit. New connections are accepted.
	cut() {
		this.#isStalled = false;
		for (const pair of this.#pairs) for (const end of pair) end.resetAndDestroy();
		this.#pairs.clear();
	}

	// Resets all connections and refuses new ones.
	async close() {
		const closed = new Promise((resolve) => this.#listener.close(resolve));
		this.cut();
		await closed;
	}

	async reopen() {
		this.#listener.listen(this.port ?? 0, "127.0.0.1");
		await once(this.#listener, "listening");
		this.port = this.#listener.address().port;
		this.url = `http://127.0.0.1:${this.port}/`;
	}

	get connections() {
		return this.#pairs.size;
	}
}

// A proxy that mounts the server under a prefix.
export const mount = async (port, prefix) => {
	const below = ({ url }) => url.startsWith(prefix) ? url.slice(prefix.length - 1) : "/beyond";
	const proxy = http.createServer((request, response) => {
		const { method, headers } = request;
		const inner = http.request({ port, host: "127.0.0.1", method, headers, path: below(request) }, (reply) => {
			response.writeHead(reply.statusCode, reply.rawHeaders);
			reply.pipe(response);
		});
		inner.on("error", () => response.destroy());
		request.pipe(inner);
	});
	proxy.on("upgrade", (request, near) => {
		const far = net.connect(port, "127.0.0.1"), fields = [];
		for (let n = 0; n < request.rawHeaders.length; n += 2) fields.push(`${request.rawHeaders[n]}: ${request.rawHeaders[n + 1]}`);
		far.write(`GET ${below(request)} HTTP/1.1\r\n${fields.join("\r\n")}\r\n\r\n`);
		for (const [from, to] of [[near, far], [far, near]]) {
			from.pipe(to);
			from.on("error", () => to.destroy());
			from.on("close", () => to.destroy());
		}
	});
	proxy.listen(0, "127.0.0.1");
	await once(proxy, "listening");
	after(() => proxy.close());
	return `http://127.0.0.1:${proxy.address().port}${prefix}`;
};

// The browser context of one person, and the lines on its console.
export class Person {
	console = [];

	static async create(browser, { tabs, ...options } = {}) {
		const person = new Person();
		person.context = await browser.newContext({ viewport: { width: 360, height: 740 }, locale: "en-US", ...options });
		person.context.setDefaultTimeout(DEADLINE);
		person.context.on("console", (line) => person.console.push(`${line.text()} (${line.location().url})`));
		person.context.on("weberror", (broken) => person.console.push(broken.error().stack));
		if (options.javaScriptEnabled !== false)
			await person.context.addInitScript(() => addEventListener("securitypolicyviolation", (event) =>
				console.error(`blocked: ${event.violatedDirective} ${event.blockedURI}`)));
		person.page = await person.context.newPage();
		return person;
	}

	get box() { return this.page.getByRole("textbox", { name: "Message" }); }
	get log() { return this.page.getByRole("log"); }
	button(name, options) { return this.page.getByRole("button", { name, ...options }); }
	heading(name) { return this.page.getByRole("heading", { name, level: 1 }); }

	// Opens a link, gives a name, and joins.
	async enter(url, name) {
		await this.page.goto(url);
		await this.page.getByLabel("Your name").fill(name);
		await this.button("Join").click();
		await this.isIn();
	}

	// Creates a room and joins it.
	async open(url, name, { title = "", isPrivate = false, password = "", encrypted = false } = {}) {
		await this.page.goto(url);
		await this.page.getByLabel("Your name").fill(name);
		await this.options();
		await this.page.getByLabel("Title").fill(title);
		if (encrypted) await this.page.getByLabel("Encrypted").check();
		else if (!isPrivate && !password) await this.page.getByLabel("List it publicly").check();
		await this.page.getByLabel("Password").fill(password);
		await this.button("Start a room").click();
		await this.isIn();
		return this.page.url();
	}

	// Unfolds what may be chosen for a new room.
	options() {
		return this.page.locator("details").evaluate((fold) => { fold.open = true; });
	}

	// Makes the page reconnect at once. The button would do so too, but may vanish before it is pressed.
	wake() {
		return this.page.evaluate(() => dispatchEvent(new Event("online")));
	}

	isIn() {
		return this.page.locator(".room[data-state=open]").waitFor();
	}

	async say(...texts) {
		for (const text of texts) {
			await this.box.fill(text);
			await this.box.press("Enter");
		}
	}

	// The texts of the messages on the screen, in order; then the texts that are not sent yet.
	texts() {
		return this.page.locator(".log .bubble[data-id] p").allTextContents();
	}
	pending() {
		return this.page.locator(".log .pending .bubble p").allTextContents();
	}
	notices() {
		return this.page.locator(".log .notice").allTextContents();
	}

	reads(...texts) {
		return this.shows(texts, []);
	}
	shows(texts, pending) {
		return eventually(() => this.page.locator(".log .bubble p").evaluateAll((all) => {
			const isPending = (p) => !!p.closest(".pending"), isSent = (p) => !!p.closest("[data-id]");
			return [isSent, isPending].map((kind) => all.filter(kind).map((p) => p.textContent));
		}), [texts, pending]);
	}

	async more(action) {
		await this.button("More").click();
		if (action) await this.button(action).click();
	}
}

// Chromium, or with BROWSER=firefox the tests of main flows in Firefox.
export const isFirefox = process.env.BROWSER === "firefox";
export const launch = () => {
	if (isFirefox) return launchFirefox(process.env.FIREFOX ?? ["firefox-esr", "firefox"].map(found).find(Boolean));
	const executablePath = process.env.CHROMIUM ?? ["chromium", "chromium-browser", "google-chrome"].map(found).find(Boolean);
	return chromium.launch({ executablePath, args: FLAGS });
};

// For one file of tests. `scenario(name, run)` is a test. `run` gets `person(options)`, which creates a person, and
// `allow(...patterns)` for lines that the console may have when the network or the server fails on purpose.
export const harness = async () => {
	const browser = await launch();
	after(() => browser.close());
	const scenario = (name, run) => test(name, { timeout: 120_000 }, async () => {
		const people = [], patterns = [];
		const person = async (options) => {
			const one = await Person.create(browser, options);
			people.push(one);
			return one;
		};
		try {
			await run({ person, allow: (...those) => patterns.push(...those) });
			const lines = people.flatMap((one) => one.console).filter((line) => !patterns.some((pattern) => pattern.test(line)));
			assert.deepEqual(lines, [], "the console is empty");
		} catch (wrong) {
			for (const person of people) if (!person.page.isClosed()) wrong.stack += await report(person);
			throw wrong;
		} finally {
			for (const { context } of people) await context.close();
		}
	});
	const serve = async (...flags) => {
		const server = await Server.start(flags);
		after(() => server.stop());
		return server;
	};
	return { scenario, serve };
};

// The screen and the console of a person, for a failed test.
const report = async ({ page, console }) => {
	const shown = await page.locator("main").innerText({ timeout: 1000 }).catch((error) => `(${error.message})`);
	return `\n--- ${page.url()}\n${shown.slice(-1500)}\n${console.join("\n")}`;
};
