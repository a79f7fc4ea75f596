// No word is lost, and none is said twice: while the line is silent, cut or gone, while the server is killed, and
// while it says no.
import assert from "node:assert/strict";
import { BadLine, Server, eventually, stage, until } from "./stage.mjs";
import { after } from "node:test";

const { scene, serve } = await stage();
const server = await serve("--leave-grace", "1h", "--message-rate", "0", "--ping-interval", "1h");

const badLine = async (to = server) => {
	const line = await BadLine.to(to.port);
	after(() => line.break());
	return line;
};
const state = (one) => one.page.locator(".room").getAttribute("data-state");
const numbered = (who, from, to) => Array.from({ length: to - from }, (_, n) => `${who} ${from + n}`);
// Playwright's clock runs on by itself; this is how time passes.
const pass = (one, seconds) => one.page.clock.fastForward(seconds * 1000);
const REFUSED = /WebSocket connection to .* failed|net::ERR_(CONNECTION_|EMPTY_RESPONSE|INTERNET_DISCONNECTED)/;

scene("a message is shown at once, as not sent yet, until its echo confirms it", async ({ person }) => {
	const line = await badLine(), ana = await person();
	await ana.open(line.url, "ana");
	line.stall();
	await ana.say("one", "two");
	await eventually(() => ana.waiting(), ["one", "two"]);
	assert.deepEqual(await ana.texts(), []);
	assert.deepEqual(await ana.page.locator(".waiting .late").allTextContents(), ["Not sent yet", "Not sent yet"]);
	assert.equal(await ana.box.inputValue(), "");
	line.flow();
	await ana.reads("one", "two");
});

scene("what the server has heard and not confirmed is not said twice", async ({ person, noise }) => {
	noise(REFUSED);
	const line = await badLine(), ana = await person(), bo = await person();
	const room = await ana.open(line.url, "ana");
	await bo.enter(`${server.url}${new URL(room).hash}`, "bo");
	line.deafen();
	await ana.say("heard");
	await bo.reads("heard");
	assert.deepEqual(await ana.waiting(), ["heard"]);
	await ana.say("after it");
	line.cut();
	await ana.reads("heard", "after it");
	await bo.reads("heard", "after it");
});

scene("the line is cut for half a minute while both sides type", async ({ person, noise }) => {
	noise(REFUSED);
	const near = await badLine(), far = await badLine();
	const ana = await person(), bo = await person();
	for (const one of [ana, bo]) await one.page.clock.install();
	const room = await ana.open(near.url, "ana");
	await bo.enter(`${far.url}${new URL(room).hash}`, "bo");
	const rounds = async (from) => {
		for (let n = from; n < from + 10; n += 2) await Promise.all([ana.say(...numbered("ana", n, n + 2)), bo.say(...numbered("bo", n, n + 2))]);
	};
	await rounds(0);
	await Promise.all([near.break(), far.break()]);
	await rounds(10);
	for (const one of [ana, bo]) {
		await eventually(() => state(one), "waiting");
		await one.page.getByText("No connection. What you write is kept, and sent when there is one.").waitFor();
	}
	for (let second = 0; second < 30; second += 5) await Promise.all([pass(ana, 5), pass(bo, 5)]);
	await rounds(20);
	await Promise.all([near.mend(), far.mend()]);
	await Promise.all([pass(ana, 30), pass(bo, 30)]);
	for (const one of [ana, bo]) await eventually(() => one.waiting().then((all) => all.length), 0);
	await until("all is there", async () => (await ana.texts()).length === 60 && (await bo.texts()).length === 60);
	const heard = await ana.texts();
	assert.deepEqual(await bo.texts(), heard, "both read the same");
	for (const name of ["ana", "bo"]) assert.deepEqual(heard.filter((text) => text.startsWith(name)), numbered(name, 0, 30));
	const guest = await server.somebody("guest");
	assert.deepEqual(await server.said(guest, new URL(room).hash.slice(4)), heard, "so does the server");
	await until("nothing is said any more", async () => await ana.page.locator(".status").textContent() === "");
	assert.deepEqual(await bo.notices(), ["ana and bo joined"], "nobody was announced again");
});

scene("the line breaks again and again, and still each word comes once and in order", async ({ person, noise }) => {
	noise(REFUSED);
	const line = await badLine(), ana = await person(), bo = await person();
	const room = await ana.open(line.url, "ana");
	await bo.enter(`${server.url}${new URL(room).hash}`, "bo");
	for (let n = 0; n < 12; n++) {
		if (n % 3 === 1) line.deafen();
		await ana.say(...numbered("ana", n * 3, n * 3 + 3));
		if (n % 3 === 2) await eventually(() => ana.waiting().then((all) => all.length), 0);
		line.cut();
		await bo.say(`bo ${n}`);
		await ana.wake();
	}
	await until("all is there", async () => (await bo.texts()).length === 48 && (await ana.texts()).length === 48);
	const heard = await bo.texts();
	assert.deepEqual(heard.filter((text) => text.startsWith("ana")), numbered("ana", 0, 36));
	assert.deepEqual(heard.filter((text) => text.startsWith("bo")), numbered("bo", 0, 12));
	assert.deepEqual(await ana.texts(), heard);
});

for (const signal of ["SIGKILL", "SIGTERM"])
	scene(`the server is ended by ${signal} in mid-conversation, and comes back knowing nothing`, async ({ person, noise }) => {
		noise(REFUSED);
		noise(/status of 40[14]/);
		let mortal = await Server.start();
		after(() => mortal.stop());
		const ana = await person();
		for (const one of [ana]) await one.page.clock.install();
		await ana.open(mortal.url, "ana");
		await ana.say("before");
		await ana.reads("before");
		await mortal.stop(signal);
		await ana.page.getByText("No connection.").waitFor();
		await ana.say("one", "two");
		await eventually(() => ana.waiting(), ["one", "two"]);
		assert.deepEqual(await ana.texts(), ["before"], "what was said stays");
		await pass(ana, 30);
		mortal = await mortal.again();
		await pass(ana, 30);
		await ana.heading("Your session has ended").waitFor();
		const unsent = ana.page.getByLabel("This was not sent:");
		assert.equal(await unsent.inputValue(), "one\n\ntwo");
		await ana.button("Go in").click();
		await ana.heading("There is no such room").waitFor();
		assert.equal(await unsent.inputValue(), "one\n\ntwo", "it can still be taken along");
		await ana.page.getByRole("link", { name: "All rooms" }).click();
		await ana.page.getByText("You are ana.").waitFor();
	});

scene("a half-open line is found by the page's own ping", async ({ person, noise }) => {
	noise(REFUSED);
	const line = await badLine(), ana = await person(), bo = await person();
	await ana.page.clock.install();
	const room = await ana.open(line.url, "ana");
	await bo.enter(`${server.url}${new URL(room).hash}`, "bo");
	await ana.button("2 people").waitFor();
	// On a sound line the ping is answered, and nothing comes of it.
	await pass(ana, 20);
	await bo.say("sound");
	await ana.reads("sound");
	line.stall();
	await bo.say("missed");
	await ana.say("mine");
	assert.equal(await state(ana), "open", "nobody has been told");
	await pass(ana, 20);
	assert.equal(await state(ana), "open", "an answer may be slow");
	await pass(ana, 8);
	await eventually(() => state(ana), "waiting");
	line.cut();
	await pass(ana, 30);
	await ana.reads("sound", "missed", "mine");
	await bo.reads("sound", "missed", "mine");
});

scene("a line that comes up and then says nothing is given up, too", async ({ person, noise }) => {
	noise(REFUSED);
	const line = await badLine(), ana = await person();
	await ana.page.clock.install();
	await ana.open(line.url, "ana");
	line.cut();
	line.stall();
	await eventually(() => state(ana), "waiting");
	await pass(ana, 2);
	await until("it tries", () => line.connections > 0);
	await eventually(() => state(ana), "connecting");
	await pass(ana, 16);
	await eventually(() => state(ana), "waiting");
	line.cut();
	await pass(ana, 30);
	await ana.isIn();
});

for (const [what, happen] of [
	["the network comes back", async ({ context }) => {
		await context.setOffline(true);
		await context.setOffline(false);
	}],
	["the tab is looked at", ({ page }) => page.evaluate(() => document.dispatchEvent(new Event("visibilitychange", { bubbles: true })))],
	["the window has the focus", ({ page }) => page.evaluate(() => dispatchEvent(new Event("focus")))],
	["somebody asks for it", ({ page }) => page.getByRole("button", { name: "Try again" }).click()],
])
	scene(`it connects at once when ${what}`, async ({ person, noise }) => {
		noise(REFUSED);
		const line = await badLine(), ana = await person();
		await ana.page.clock.install();
		await ana.open(line.url, "ana");
		// Time stands still, so that no timer can have done it, but for the few frames that show how it stands.
		await ana.page.clock.pauseAt(await ana.page.evaluate(() => Date.now() + 10_000));
		await line.break();
		await eventually(async () => {
			await ana.page.clock.runFor(20);
			return state(ana);
		}, "waiting");
		await line.mend();
		await happen(ana);
		await until("it connects", () => line.connections === 1);
		await ana.page.clock.resume();
		await ana.isIn();
	});

scene("an open line is doubted when the network comes back", async ({ person, noise }) => {
	noise(REFUSED);
	const line = await badLine(), ana = await person();
	await ana.page.clock.install();
	await ana.open(line.url, "ana");
	line.stall();
	await ana.page.evaluate(() => dispatchEvent(new Event("online")));
	await pass(ana, 3);
	await eventually(() => state(ana), "waiting");
	line.cut();
	await pass(ana, 30);
	await ana.isIn();
});

scene("waits grow, each within its jitter, up to half a minute", async ({ person, noise }) => {
	noise(REFUSED);
	const line = await badLine(), ana = await person();
	await ana.page.addInitScript(() => {
		window.waits = [];
		const { setTimeout } = window;
		window.setTimeout = (deed, wait, ...rest) => {
			// Of the line, not of its patience with one that is there.
			if (/#connect/.test(deed)) window.waits.push(wait);
			return setTimeout(deed, wait, ...rest);
		};
	});
	await ana.open(line.url, "ana");
	await line.break();
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
	await line.mend();
	await ana.wake();
	await ana.isIn();
});

scene("what comes too fast is sent by itself when it may be, in order", async ({ person }) => {
	const strict = await serve("--message-rate", "5", "--message-burst", "3");
	const ana = await person(), bo = await person();
	const room = await ana.open(strict.url, "ana");
	await bo.enter(room, "bo");
	const all = numbered("ana", 0, 10);
	await ana.say(...all);
	await bo.reads(...all);
	await ana.reads(...all);
});

scene("what waits outlives a reload", async ({ person }) => {
	const strict = await serve("--message-rate", "1", "--message-burst", "1");
	const ana = await person(), bo = await person();
	const room = await ana.open(strict.url, "ana");
	await bo.enter(room, "bo");
	await ana.say("one", "two", "three");
	await ana.box.fill("half a thou");
	await eventually(async () => (await ana.waiting()).at(-1), "three");
	await ana.page.reload();
	await bo.reads("one", "two", "three");
	await ana.reads("one", "two", "three");
	assert.equal(await ana.box.inputValue(), "half a thou");
});

scene("what is refused holds nothing up, and can be tried again or discarded", async ({ person }) => {
	const ana = await person();
	await ana.open(server.url, "ana");
	// White space to the server, and not to the page.
	await ana.say("\u0085", "two");
	await ana.shows(["two"], ["\u0085"]);
	const refused = ana.page.locator(".refused");
	assert.match(await refused.getByRole("alert").textContent(), /^Not accepted: .+/);
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
scene("fields and events that the page does not know are ignored", async ({ person }) => {
	const line = await badLine(), ana = await person(), bo = await server.somebody("bo");
	const room = await ana.open(line.url, "ana"), id = new URL(room).hash.slice(4);
	await ana.say("one");
	await ana.reads("one");
	const { messages } = await server.ask("GET", `rooms/${id}/messages`, null, bo.session_id);
	const last = messages.at(-1), ids = [1, 2].map((n) => {
		const end = (parseInt(last.id.slice(24), 16) + n).toString(16);
		return last.id.slice(0, 24) + end.padStart(12, "0");
	});
	line.inject({ type: "weather", sky: "blue" });
	line.inject({ ...last, id: ids[0], type: "weather", message: "rain" });
	line.inject({ ...last, id: ids[1], message: "two", weather: { sky: "blue" } });
	await ana.reads("one", "two");
	await ana.say("three");
	await ana.reads("one", "two", "three");
	assert.deepEqual(await ana.notices(), ["ana joined"]);
});

scene("half a character doesn't hold up what follows", async ({ person }) => {
	const ana = await person();
	await ana.open(server.url, "ana");
	await ana.box.evaluate((box) => { box.value = "half \ud83d"; });
	await ana.box.press("Enter");
	await ana.say("whole");
	await ana.reads("half \ufffd", "whole");
});

scene("more than a hundred don't wait: the next stays where it was typed", async ({ person, noise }) => {
	noise(REFUSED);
	const line = await badLine(), ana = await person();
	await ana.page.clock.install();
	await ana.open(line.url, "ana");
	await line.break();
	await ana.say(...numbered("ana", 0, 101));
	assert.equal(await ana.box.inputValue(), "ana 100");
	await ana.page.getByText("Too much waits to be sent.").waitFor();
	await line.mend();
	await pass(ana, 30);
	await ana.reads(...numbered("ana", 0, 100));
	await ana.box.press("Enter");
	await ana.reads(...numbered("ana", 0, 101));
});

scene("however much was missed, it all comes", async ({ person, noise }) => {
	noise(REFUSED);
	const line = await badLine(), ana = await person(), bo = await server.somebody("bo");
	const room = await ana.open(line.url, "ana"), id = new URL(room).hash.slice(4);
	await server.says(bo, id, ...numbered("bo", 0, 5));
	await ana.reads(...numbered("bo", 0, 5));
	await line.break();
	await server.says(bo, id, ...numbered("bo", 5, 250));
	await line.mend();
	await ana.wake();
	await ana.reads(...numbered("bo", 0, 250));
	assert.deepEqual(await ana.notices(), ["ana joined"]);
});

scene("what is no longer kept is said to be missing", async ({ person, noise }) => {
	noise(REFUSED);
	const short = await serve("--history", "5", "--leave-grace", "1h", "--message-rate", "0");
	const line = await badLine(short), ana = await person(), bo = await person();
	const room = await ana.open(line.url, "ana");
	await bo.enter(`${short.url}${new URL(room).hash}`, "bo");
	await bo.say("before");
	await ana.reads("before");
	await line.break();
	await bo.say(...numbered("bo", 0, 8));
	await bo.reads("before", ...numbered("bo", 0, 8));
	await line.mend();
	await ana.wake();
	await ana.reads("before", ...numbered("bo", 3, 8));
	assert.deepEqual((await ana.notices()).at(-1), "Some messages are no longer kept.");
});
