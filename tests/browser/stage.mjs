// What every browser test stands on: the real server as a process, a bad line, one browser per file, a context per
// person, and the rule that nothing is ever said on a page's console. Waits for conditions, never for a time.
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

// How long anything may take that must happen.
const DEADLINE = 15_000;
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"];

const BINARY = process.env.CHAT ?? "target/debug/disposable-chat";
const found = (name) => process.env.PATH.split(delimiter).map((place) => join(place, name)).find(existsSync);

// Reads until what is read is what is expected; if that never happens, says how it differed.
export const eventually = async (read, expected) => {
	for (const deadline = Date.now() + DEADLINE; ;) {
		const value = await read();
		try {
			return assert.deepEqual(value, expected);
		} catch (difference) {
			if (Date.now() > deadline) throw difference;
		}
		await moment(20);
	}
};
export const until = (what, read) => eventually(async () => await read() ? what : `not yet: ${what}`, what);

// The server as a process. Whoever restarts it finds it at the same address.
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
		assert.ok(server.port, `the server says: ${line}`);
		lines.on("line", () => {}); // Or it would block on a full pipe.
		server.url = `http://127.0.0.1:${server.port}/`;
		return server;
	}

	async stop(signal = "SIGKILL") {
		this.child.kill(signal);
		await this.ended;
		process.off("exit", this.kill);
	}

	// The same again, with nothing of what it knew.
	again() {
		return Server.start(this.flags, this.port);
	}

	async ask(method, path, body, session) {
		const headers = { Connection: "close", ...session ? { Authorization: `Bearer ${session}` } : {} };
		const answer = await fetch(new URL(path, this.url), { method, headers, body: body && JSON.stringify(body) });
		const json = await answer.json();
		assert.ok(answer.ok, `${method} ${path}: ${JSON.stringify(json)}`);
		return json;
	}

	// Somebody who only speaks REST: `{session_id, username}`.
	somebody(username) {
		return this.ask("POST", "sessions", { username });
	}

	async room(owner, of) {
		return (await this.ask("POST", "rooms", of, owner.session_id)).room_id;
	}

	async says(who, room, ...texts) {
		await this.ask("POST", `rooms/${room}/join`, null, who.session_id);
		for (const message of texts) await this.ask("POST", `rooms/${room}/messages`, { message }, who.session_id);
	}

	// All that was said, in the server's order.
	async said(who, room) {
		const { messages } = await this.ask("GET", `rooms/${room}/messages?limit=1000`, null, who.session_id);
		return messages.filter(({ type }) => type === "chat").map(({ message }) => message);
	}
}

// A bad line: a TCP proxy that can be silent both ways, be cut, or be gone.
export class BadLine {
	#pairs = new Set(); #isStalled = false; #listener; #socket;

	static async to(port) {
		const line = new BadLine();
		line.#listener = net.createServer({ pauseOnConnect: true }, (near) => line.#join(near, port));
		await line.mend();
		return line;
	}

	#join(near, port) {
		const far = net.connect(port, "127.0.0.1"), pair = [near, far];
		this.#pairs.add(pair);
		near.on("data", (bytes) => {
			if (bytes.subarray(0, 8).toString() === "GET /ws/") this.#socket = near;
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

	// Half-open: nothing comes through, and nobody is told.
	stall() {
		this.#isStalled = true;
		for (const pair of this.#pairs) for (const end of pair) end.pause();
	}

	// The server hears us and we don't hear the server.
	deafen() {
		this.#isStalled = true;
		for (const [, far] of this.#pairs) far.pause();
	}

	// The page gets this event on its latest socket, as if the server had sent it. For a moment in which the server
	// sends nothing: the frame must not fall into another.
	inject(event) {
		const text = Buffer.from(JSON.stringify(event)), { length } = text;
		const header = length < 126 ? [0x81, length] : [0x81, 126, length >> 8, length & 255];
		this.#socket.write(Buffer.concat([Buffer.from(header), text]));
	}

	// Whatever was under way arrives after all.
	flow() {
		this.#isStalled = false;
		for (const pair of this.#pairs) for (const end of pair) end.destroyed || end.resume();
	}

	// Every connection is reset, and what was under way is lost; new ones are let through.
	cut() {
		this.#isStalled = false;
		for (const pair of this.#pairs) for (const end of pair) end.resetAndDestroy();
		this.#pairs.clear();
	}

	// Cut, and nobody answers.
	async break() {
		const closed = new Promise((resolve) => this.#listener.close(resolve));
		this.cut();
		await closed;
	}

	async mend() {
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
	const proxy = http.createServer((asked, answer) => {
		const { method, headers } = asked;
		const inner = http.request({ port, host: "127.0.0.1", method, headers, path: below(asked) }, (got) => {
			answer.writeHead(got.statusCode, got.rawHeaders);
			got.pipe(answer);
		});
		inner.on("error", () => answer.destroy());
		asked.pipe(inner);
	});
	proxy.on("upgrade", (asked, near) => {
		const far = net.connect(port, "127.0.0.1"), fields = [];
		for (let n = 0; n < asked.rawHeaders.length; n += 2) fields.push(`${asked.rawHeaders[n]}: ${asked.rawHeaders[n + 1]}`);
		far.write(`GET ${below(asked)} HTTP/1.1\r\n${fields.join("\r\n")}\r\n\r\n`);
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

// One person's browser: a context of its own, and what its console has said.
class Person {
	heard = [];

	static async come(browser, { tabs, ...options } = {}) {
		const person = new Person();
		person.context = await browser.newContext({ viewport: { width: 360, height: 740 }, locale: "en-US", ...options });
		person.context.setDefaultTimeout(DEADLINE);
		person.context.on("console", (line) => person.heard.push(`${line.text()} (${line.location().url})`));
		person.context.on("weberror", (broken) => person.heard.push(broken.error().stack));
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

	// By name and link; the session is there afterwards.
	async enter(url, name) {
		await this.page.goto(url);
		await this.page.getByLabel("Your name").fill(name);
		await this.button("Go in").click();
		await this.isIn();
	}

	// With a room of one's own.
	async open(url, name, { title = "", isPrivate = false, password = "" } = {}) {
		await this.page.goto(url);
		await this.page.getByLabel("Your name").fill(name);
		await this.page.getByLabel("Title").fill(title);
		if (isPrivate) await this.page.getByLabel("Private").check();
		await this.page.getByLabel("Password").fill(password);
		await this.button("Open a room").click();
		await this.isIn();
		return this.page.url();
	}

	// Connects at once, if it isn't about to: no button, which would go away as soon as it did by itself.
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

	// What the screen shows as said, from above; then what waits.
	texts() {
		return this.page.locator(".log .bubble[data-id] p").allTextContents();
	}
	waiting() {
		return this.page.locator(".log .waiting .bubble p").allTextContents();
	}
	notices() {
		return this.page.locator(".log .notice").allTextContents();
	}

	reads(...texts) {
		return this.shows(texts, []);
	}
	shows(texts, waiting) {
		return eventually(async () => [await this.texts(), await this.waiting()], [texts, waiting]);
	}

	async more(action) {
		await this.button("More").click();
		if (action) await this.button(action).click();
	}
}

export const launch = () => {
	const executablePath = process.env.CHROMIUM ?? ["chromium", "chromium-browser", "google-chrome"].map(found).find(Boolean);
	return chromium.launch({ executablePath, args: FLAGS });
};

// A file's stage. `scene(name, play)` is a test; `play` is given `person(options)`, which lets somebody come, and
// `noise(pattern)`, for what a console may say when the network or the server is told to fail.
export const stage = async () => {
	const browser = await launch();
	after(() => browser.close());
	const scene = (name, play) => test(name, { timeout: 120_000 }, async () => {
		const people = [], patterns = [];
		const person = async (options) => {
			const one = await Person.come(browser, options);
			people.push(one);
			return one;
		};
		try {
			await play({ person, noise: (pattern) => patterns.push(pattern) });
			const heard = people.flatMap((one) => one.heard).filter((line) => !patterns.some((pattern) => pattern.test(line)));
			assert.deepEqual(heard, [], "the console is empty");
		} catch (wrong) {
			for (const { page, heard } of people) if (!page.isClosed()) wrong.message += await seen(page, heard);
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
	return { scene, serve };
};

// What somebody saw when it went wrong.
const seen = async (page, heard) => {
	const shown = await page.locator("main").innerText({ timeout: 1000 }).catch((error) => `(${error.message})`);
	return `\n--- ${page.url()}\n${shown.slice(-1500)}\n${heard.join("\n")}`;
};
