// Messages are neither lost nor duplicated when the connection stalls, breaks or can't be made, when the server is
// killed, and when it refuses them.
import assert from "node:assert/strict";
import { BROKEN, FaultyProxy, Server, eventually, harness, until } from "./harness.mjs";
import { after } from "node:test";

const { scenario, serve } = await harness();
const server = await serve("--leave-grace", "1h", "--message-rate", "0", "--ping-interval", "1h");

const faultyProxy = async (to = server) => {
	const proxy = await FaultyProxy.to(to.port);
	after(() => proxy.close());
	return proxy;
};
const state = (one) => one.page.locator(".room").getAttribute("data-state");
// A broken connection is made again within a second, and then waits for an answer.
const givenUp = (one) => until("the connection is given up", async () => await state(one) !== "open");
const numbered = (name, from, to) => Array.from({ length: to - from }, (_, n) => `${name} ${from + n}`);
// Playwright's clock runs in real time; this makes it jump.
const pass = (one, seconds) => one.page.clock.fastForward(seconds * 1000);

scenario("a message is shown at once as not sent yet, until its echo confirms it", async ({ person }) => {
	const proxy = await faultyProxy(), ana = await person();
	await ana.open(proxy.url, "ana");
	proxy.stall();
	await ana.say("one", "two");
	await eventually(() => ana.pending(), ["one", "two"]);
	assert.deepEqual(await ana.texts(), []);
	assert.deepEqual(await ana.page.locator(".pending .late").allTextContents(), ["Not sent yet", "Not sent yet"]);
	assert.equal(await ana.box.inputValue(), "");
	proxy.resume();
	await ana.reads("one", "two");
});

scenario("a message that the server received but did not confirm is not duplicated", async ({ person, allow }) => {
	allow(BROKEN);
	const proxy = await faultyProxy(), ana = await person(), bo = await person();
	const room = await ana.open(proxy.url, "ana");
	await bo.enter(`${server.url}${new URL(room).hash}`, "bo");
	proxy.stallReplies();
	await ana.say("received");
	await bo.reads("received");
	assert.deepEqual(await ana.pending(), ["received"]);
	await ana.say("after it");
	proxy.cut();
	await ana.reads("received", "after it");
	await bo.reads("received", "after it");
});

scenario("nothing is lost when both sides type during half a minute without a connection", async ({ person, allow }) => {
	allow(BROKEN);
	const near = await faultyProxy(), far = await faultyProxy();
	const ana = await person(), bo = await person();
	for (const one of [ana, bo]) await one.page.clock.install();
	const room = await ana.open(near.url, "ana");
	await bo.enter(`${far.url}${new URL(room).hash}`, "bo");
	const rounds = async (from) => {
		for (let n = from; n < from + 10; n += 2) await Promise.all([ana.say(...numbered("ana", n, n + 2)), bo.say(...numbered("bo", n, n + 2))]);
	};
	await rounds(0);
	await Promise.all([near.close(), far.close()]);
	await rounds(10);
	for (const one of [ana, bo]) {
		await eventually(() => state(one), "retrying");
		await one.page.getByText("No connection. Your messages will be sent when it's back.").waitFor();
	}
	for (let second = 0; second < 30; second += 5) await Promise.all([pass(ana, 5), pass(bo, 5)]);
	await rounds(20);
	await Promise.all([near.reopen(), far.reopen()]);
	await Promise.all([pass(ana, 30), pass(bo, 30)]);
	for (const one of [ana, bo]) await eventually(() => one.pending().then((all) => all.length), 0);
	await until("all messages are shown", async () => (await ana.texts()).length === 60 && (await bo.texts()).length === 60);
	const texts = await ana.texts();
	assert.deepEqual(await bo.texts(), texts, "both show the same");
	for (const name of ["ana", "bo"]) assert.deepEqual(texts.filter((text) => text.startsWith(name)), numbered(name, 0, 30));
	const guest = await server.openSession("guest");
	assert.deepEqual(await server.chats(guest, new URL(room).hash.slice(4)), texts, "and the server has the same");
	await until("the status line is empty", async () => await ana.page.locator(".status").textContent() === "");
	assert.deepEqual(await bo.notices(), ["ana and bo joined"], "no join is announced again");
});

scenario("each message comes once and in order although the connection keeps breaking", async ({ person, allow }) => {
	allow(BROKEN);
	const proxy = await faultyProxy(), ana = await person(), bo = await person();
	const room = await ana.open(proxy.url, "ana");
	await bo.enter(`${server.url}${new URL(room).hash}`, "bo");
	for (let n = 0; n < 12; n++) {
		if (n % 3 === 1) proxy.stallReplies();
		await ana.say(...numbered("ana", n * 3, n * 3 + 3));
		if (n % 3 === 2) await eventually(() => ana.pending().then((all) => all.length), 0);
		proxy.cut();
		await bo.say(`bo ${n}`);
		await ana.wake();
	}
	await until("all messages are shown", async () => (await bo.texts()).length === 48 && (await ana.texts()).length === 48);
	const texts = await bo.texts();
	assert.deepEqual(texts.filter((text) => text.startsWith("ana")), numbered("ana", 0, 36));
	assert.deepEqual(texts.filter((text) => text.startsWith("bo")), numbered("bo", 0, 12));
	assert.deepEqual(await ana.texts(), texts);
});

for (const signal of ["SIGKILL", "SIGTERM"])
	scenario(`after a restart by ${signal} without state, unsent messages are still shown`, async ({ person, allow }) => {
		allow(BROKEN, /status of 40[14]/);
		let mortal = await Server.start();
		after(() => mortal.stop());
		const ana = await person();
		await ana.page.clock.install();
		await ana.open(mortal.url, "ana");
		await ana.say("before");
		await ana.reads("before");
		await mortal.stop(signal);
		await ana.page.getByText("No connection.").waitFor();
		await ana.say("one", "two");
		await eventually(() => ana.pending(), ["one", "two"]);
		assert.deepEqual(await ana.texts(), ["before"], "earlier messages stay");
		await pass(ana, 30);
		mortal = await mortal.restart();
		await pass(ana, 30);
		await ana.heading("Your session has ended").waitFor();
		const unsent = ana.page.getByLabel("This was not sent:");
		assert.equal(await unsent.inputValue(), "one\n\ntwo");
		await ana.button("Join").click();
		await ana.heading("Room not found").waitFor();
		assert.equal(await unsent.inputValue(), "one\n\ntwo", "the texts can still be copied");
		await ana.page.getByRole("link", { name: "All rooms" }).click();
		await ana.page.getByText("You are ana.").waitFor();
	});

scenario("the page's own ping detects a half-open connection", async ({ person, allow }) => {
	allow(BROKEN);
	const proxy = await faultyProxy(), ana = await person(), bo = await person();
	await ana.page.clock.install();
	const room = await ana.open(proxy.url, "ana");
	await bo.enter(`${server.url}${new URL(room).hash}`, "bo");
	await ana.button("2 people").waitFor();
	// On a working connection the ping is answered, and nothing changes.
	await pass(ana, 20);
	await bo.say("works");
	await ana.reads("works");
	proxy.stall();
	await bo.say("missed");
	await ana.say("mine");
	assert.equal(await state(ana), "open", "the page can't know yet");
	await pass(ana, 20);
	assert.equal(await state(ana), "open", "the answer may be slow");
	await pass(ana, 8);
	await givenUp(ana);
	proxy.cut();
	await pass(ana, 30);
	await ana.reads("works", "missed", "mine");
	await bo.reads("works", "missed", "mine");
});

scenario("a connection that opens and then stays silent is given up", async ({ person, allow }) => {
	allow(BROKEN);
	const proxy = await faultyProxy(), ana = await person();
	await ana.page.clock.install();
	await ana.open(proxy.url, "ana");
	proxy.cut();
	proxy.stall();
	await eventually(() => state(ana), "retrying");
	await pass(ana, 2);
	await until("it reconnects", () => proxy.connections > 0);
	await eventually(() => state(ana), "connecting");
	await pass(ana, 16);
	await eventually(() => state(ana), "retrying");
	proxy.cut();
	await pass(ana, 30);
	await ana.isIn();
});

// What the page loads on demand may be on its way when the connection breaks.
scenario("without the code that draws the invitation's QR code, its link is enough", async ({ person, allow }) => {
	allow(BROKEN);
	const ana = await person();
	await ana.page.route("**/qr.js", (route) => route.abort("addressunreachable"));
	await ana.open(server.url, "ana");
	await until("the console tells of it", () => ana.console.some((line) => line.includes("qr.js")));
	assert.equal(await ana.page.getByRole("textbox", { name: "Link or code" }).inputValue(), ana.page.url());
	assert.equal(await ana.page.getByRole("img", { name: ana.page.url() }).count(), 0);
	await ana.say("still here");
	await ana.reads("still here");
});

// It was closed 16 s after it had caught up, if nothing was said until then.
scenario("a resumed connection in a silent room stays open", async ({ person, allow }) => {
	allow(BROKEN);
	const proxy = await faultyProxy(), ana = await person();
	let sockets = 0;
	ana.page.on("websocket", () => sockets++);
	await ana.page.clock.install();
	await ana.open(proxy.url, "ana");
	proxy.cut();
	await eventually(() => state(ana), "retrying");
	await ana.wake();
	await ana.isIn();
	const before = sockets;
	for (let n = 0; n < 3; n++) await ana.page.clock.runFor(6900);
	await ana.say("still there");
	await ana.reads("still there");
	assert.equal(sockets, before);
});

// contract §6.19
scenario("a socket that is given up closes with 3001, one that is left with 1000, and a reload closes none", async ({ person }) => {
	const ana = await person();
	await ana.page.clock.install();
	await ana.page.addInitScript(() => {
		const { close } = WebSocket.prototype;
		WebSocket.prototype.close = function (...how) {
			console.debug(`close ${how}`);
			close.apply(this, how);
		};
	});
	const closes = () => ana.console.splice(0).map((line) => line.replace(/ \(.*/, ""));
	const proxy = await faultyProxy();
	await ana.open(proxy.url, "ana");
	await ana.page.reload();
	await ana.isIn();
	assert.deepEqual(closes(), []);
	proxy.stall();
	await ana.wake();
	await pass(ana, 3);
	await givenUp(ana);
	assert.deepEqual(closes(), ["close 3001,back soon"]);
	proxy.resume();
	await pass(ana, 30);
	await ana.isIn();
	await ana.page.evaluate(() => { location.hash = ""; });
	await ana.heading("Disposable Chat").waitFor();
	// On a busy machine the clock of the page has passed another time limit before a socket is open.
	const more = closes().filter((line) => line.startsWith("close "));
	assert.equal(more.pop(), "close 1000,");
	assert.deepEqual(more.filter((line) => line !== "close 3001,back soon"), []);
});

scenario("the page says within three seconds that the network is gone", async ({ person, allow }) => {
	allow(BROKEN);
	const proxy = await faultyProxy(), ana = await person();
	await ana.page.clock.install();
	await ana.open(proxy.url, "ana");
	proxy.stall();
	await ana.page.evaluate(() => dispatchEvent(new Event("offline")));
	await pass(ana, 3);
	await givenUp(ana);
	proxy.cut();
	await ana.wake();
	await ana.isIn();
});

for (const [cause, act] of [
	["the network comes back", async ({ context }) => {
		await context.setOffline(true);
		await context.setOffline(false);
	}],
	["the tab becomes visible", ({ page }) => page.evaluate(() => document.dispatchEvent(new Event("visibilitychange", { bubbles: true })))],
	["the window gets the focus", ({ page }) => page.evaluate(() => dispatchEvent(new Event("focus")))],
	["the button is pressed", ({ page }) => page.getByRole("button", { name: "Try again" }).click()],
])
	scenario(`it connects at once when ${cause}`, async ({ person, allow }) => {
		allow(BROKEN);
		const proxy = await faultyProxy(), ana = await person();
		await ana.page.clock.install();
		await ana.open(proxy.url, "ana");
		// The clock is stopped, apart from a few frames for drawing, so that no timer can cause the reconnection.
		await ana.page.clock.pauseAt(await ana.page.evaluate(() => Date.now() + 10_000));
		await proxy.close();
		await eventually(async () => {
			await ana.page.clock.runFor(20);
			return state(ana);
		}, "retrying");
		await proxy.reopen();
		await act(ana);
		await until("it connects", () => proxy.connections === 1);
		await ana.page.clock.resume();
		await ana.isIn();
	});

scenario("an open connection is checked when the network comes back", async ({ person, allow }) => {
	allow(BROKEN);
	const proxy = await faultyProxy(), ana = await person();
	await ana.page.clock.install();
	await ana.open(proxy.url, "ana");
	proxy.stall();
	await ana.page.evaluate(() => dispatchEvent(new Event("online")));
	await pass(ana, 3);
	await givenUp(ana);
	proxy.cut();
	await pass(ana, 30);
	await ana.isIn();
});

scenario("the delay before reconnecting grows, with jitter, up to half a minute", async ({ person, allow }) => {
	allow(BROKEN);
	const proxy = await faultyProxy(), ana = await person();
	await ana.page.addInitScript(() => {
		window.waits = [];
		const { setTimeout } = window;
		window.setTimeout = (callback, wait, ...rest) => {
			// Only the timers that reconnect.
			if (/#connect/.test(callback)) window.waits.push(wait);
			return setTimeout(callback, wait, ...rest);
		};
	});
	await ana.open(proxy.url, "ana");
	await proxy.close();
	const waits = () => ana.page.evaluate(() => window.waits);
	for (let n = 1; n <= 9; n++) {
		await until(`try ${n}`, async () => {
			await ana.wake();
			return (await waits()).length >= n;
		});
	}
	for (const [n, wait] of (await waits()).entries()) {
		const most = Math.min(30, 2 ** n) * 1000;
		assert.ok(wait >= most * 0.3 && wait <= most, `try ${n} after ${wait} ms`);
	}
	await proxy.reopen();
	await ana.wake();
	await ana.isIn();
});

scenario("messages over the rate limit are sent later, without asking and in order", async ({ person }) => {
	const strict = await serve("--message-rate", "5", "--message-burst", "3");
	const ana = await person(), bo = await person();
	const room = await ana.open(strict.url, "ana");
	await bo.enter(room, "bo");
	const all = numbered("ana", 0, 10);
	await ana.say(...all);
	await bo.reads(...all);
	await ana.reads(...all);
});

scenario("unsent messages survive a reload", async ({ person }) => {
	const strict = await serve("--message-rate", "1", "--message-burst", "1");
	const ana = await person(), bo = await person();
	const room = await ana.open(strict.url, "ana");
	await bo.enter(room, "bo");
	const all = numbered("ana", 0, 8);
	await ana.say(...all);
	await ana.box.fill("half a thou");
	await eventually(async () => (await ana.pending()).at(-1), all.at(-1));
	await ana.page.reload();
	await bo.reads(...all);
	await ana.reads(...all);
	assert.equal(await ana.box.inputValue(), "half a thou");
});

scenario("a refused message does not delay others, and can be retried or discarded", async ({ person }) => {
	const ana = await person();
	await ana.open(server.url, "ana");
	// The server counts this character as white space, JavaScript does not.
	await ana.say("\u0085", "two");
	await ana.shows(["two"], ["\u0085"]);
	const refused = ana.page.locator(".refused");
	assert.match(await refused.getByRole("alert").textContent(), /^Not sent: .+/);
	await refused.getByRole("button", { name: "Try again" }).click();
	await ana.say("three");
	await ana.shows(["two", "three"], ["\u0085"]);
	await refused.waitFor();
	await refused.getByRole("button", { name: "Discard" }).click();
	await ana.reads("two", "three");
	await ana.page.reload();
	await ana.reads("two", "three");
});

// contract §1.2
scenario("fields and events that the page does not know are ignored", async ({ person }) => {
	const proxy = await faultyProxy(), ana = await person(), bo = await server.openSession("bo");
	const room = await ana.open(proxy.url, "ana"), id = new URL(room).hash.slice(4);
	await ana.say("one");
	await ana.reads("one");
	const { messages } = await server.ask("GET", `rooms/${id}/messages`, null, bo.session_id);
	const last = messages.at(-1), ids = [1, 2].map((n) => {
		const end = (parseInt(last.id.slice(24), 16) + n).toString(16);
		return last.id.slice(0, 24) + end.padStart(12, "0");
	});
	proxy.inject({ type: "weather", sky: "blue" });
	proxy.inject({ ...last, id: ids[0], type: "weather", message: "rain" });
	proxy.inject({ ...last, id: ids[1], message: "two", weather: { sky: "blue" } });
	await ana.reads("one", "two");
	await ana.say("three");
	await ana.reads("one", "two", "three");
	assert.deepEqual(await ana.notices(), ["ana joined"]);
});

scenario("half a surrogate pair does not block later messages", async ({ person }) => {
	const ana = await person();
	await ana.open(server.url, "ana");
	await ana.box.evaluate((box) => { box.value = "half \ud83d"; });
	await ana.box.press("Enter");
	await ana.say("whole");
	await ana.reads("half \ufffd", "whole");
});

scenario("at most a hundred messages wait: the next one stays in the input", async ({ person, allow }) => {
	allow(BROKEN);
	const proxy = await faultyProxy(), ana = await person();
	await ana.page.clock.install();
	await ana.open(proxy.url, "ana");
	await proxy.close();
	// All in one step: each key press by itself takes a busy machine half a second.
	await ana.box.evaluate((box, texts) => {
		for (const text of texts) {
			box.value = text;
			box.dispatchEvent(new Event("input", { bubbles: true }));
			box.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
		}
	}, numbered("ana", 0, 101));
	assert.equal(await ana.box.inputValue(), "ana 100");
	await ana.page.getByText("Too many unsent messages.").waitFor();
	await proxy.reopen();
	await pass(ana, 30);
	await ana.reads(...numbered("ana", 0, 100));
	await ana.box.press("Enter");
	await ana.reads(...numbered("ana", 0, 101));
});

scenario("all missed messages are fetched, however many", async ({ person, allow }) => {
	allow(BROKEN);
	const proxy = await faultyProxy(), ana = await person(), bo = await server.openSession("bo");
	const room = await ana.open(proxy.url, "ana"), id = new URL(room).hash.slice(4);
	await server.post(bo, id, ...numbered("bo", 0, 5));
	await ana.reads(...numbered("bo", 0, 5));
	await proxy.close();
	await server.post(bo, id, ...numbered("bo", 5, 250));
	await proxy.reopen();
	await ana.wake();
	await ana.reads(...numbered("bo", 0, 250));
	assert.deepEqual(await ana.notices(), ["ana joined"]);
});

scenario("a gap is shown where messages are no longer kept", async ({ person, allow }) => {
	allow(BROKEN);
	const short = await serve("--history", "5", "--leave-grace", "1h", "--message-rate", "0");
	const proxy = await faultyProxy(short), ana = await person(), bo = await person();
	const room = await ana.open(proxy.url, "ana");
	await bo.enter(`${short.url}${new URL(room).hash}`, "bo");
	await bo.say("before");
	await ana.reads("before");
	await proxy.close();
	await bo.say(...numbered("bo", 0, 8));
	await bo.reads("before", ...numbered("bo", 0, 8));
	await proxy.reopen();
	await ana.wake();
	await ana.reads("before", ...numbered("bo", 3, 8));
	assert.deepEqual((await ana.notices()).at(-1), "Some messages are no longer available.");
});

const streams = (one) => one.page.evaluate(() => performance.getEntriesByType("resource").filter(({ name }) => /\/events\?/.test(name)).length);

// It was two seconds or more, under a banner that said there was no connection.
scenario("where upgrades are refused, the event stream takes over, and only the menu says so", async ({ person, allow }) => {
	allow(/WebSocket connection to .* failed: Error during WebSocket handshake: Unexpected response code: 403/);
	const proxy = await faultyProxy(), ana = await person(), bo = await person();
	proxy.isBlocking = true;
	const note = (one) => one.page.getByText("Connected without WebSockets, which are blocked here.");
	const room = await bo.open(server.url, "bo");
	await bo.more();
	assert.equal(await note(bo).count(), 0, "nothing is said of a socket");
	await bo.page.keyboard.press("Escape");
	await ana.page.addInitScript(() => {
		window.states = [];
		new MutationObserver(() => {
			const state = document.querySelector(".room")?.dataset.state;
			if (state && state !== window.states.at(-1)) window.states.push(state);
		}).observe(document, { subtree: true, childList: true, attributes: true });
	});
	let sockets = 0;
	ana.page.on("websocket", () => sockets++);
	await ana.enter(`${proxy.url}${new URL(room).hash}`, "ana");
	assert.deepEqual(await ana.page.evaluate(() => window.states), ["connecting", "open"]);
	assert.equal(sockets, 2);
	assert.equal(await ana.page.locator(".status").textContent(), "");
	// All goes on as with a socket.
	await bo.box.press("h");
	await ana.page.getByText("bo is typing").waitFor();
	await ana.say(...numbered("ana", 0, 3));
	await bo.reads(...numbered("ana", 0, 3));
	await bo.say("bo");
	await ana.reads(...numbered("ana", 0, 3), "bo");
	// Rarely said, so that one key may not do.
	await until("bo sees it", async () => {
		await ana.box.press("h");
		return bo.page.getByText("ana is typing").isVisible();
	});
	await ana.more();
	await note(ana).waitFor();
	await ana.page.keyboard.press("Escape");
	// A break is mended by a stream, without another socket.
	allow(BROKEN);
	const before = await streams(ana);
	proxy.cut();
	await bo.say("missed?");
	await ana.reads(...numbered("ana", 0, 3), "bo", "missed?");
	await until("another stream", async () => await streams(ana) > before);
	assert.equal(sockets, 2);
	await ana.reads(...numbered("ana", 0, 3), "bo", "missed?");
});
