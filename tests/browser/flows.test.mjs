// The main flows, with the part of the interface that Chromium and Firefox share: from the first page to the end of a
// room, and over a line that breaks.
import assert from "node:assert/strict";
import { after } from "node:test";
import { BROKEN, FaultyProxy, eventually, harness, until } from "./harness.mjs";

const { scenario, serve } = await harness();
const server = await serve("--leave-grace", "1h", "--message-rate", "0");

scenario("a room is created, found in the list, joined, talked in, and deleted", async ({ person, allow }) => {
	allow(/status of 404|40[0-9]/);
	const [ana, bo] = [await person(), await person({ viewport: { width: 1280, height: 800 } })];
	await ana.open(server.url, "ana", { title: "Tea" });
	await bo.page.goto(server.url);
	await bo.page.getByRole("link", { name: "Tea" }).click();
	await bo.page.getByLabel("Your name").fill("bo");
	await bo.button("Join").click();
	await bo.isIn();
	await bo.say("see https://example.com/a.", "two\nlines", "👨‍👩‍👧‍👦 é שלום");
	await ana.reads("see https://example.com/a.", "two\nlines", "👨‍👩‍👧‍👦 é שלום");
	assert.equal(await ana.page.locator(".bubble a").getAttribute("href"), "https://example.com/a");
	await ana.box.pressSequentially("Hello");
	await eventually(() => bo.page.locator(".typing").textContent(), "ana is typing");
	await ana.box.press("Shift+Enter");
	await ana.box.pressSequentially("again");
	await ana.box.press("Enter");
	await bo.reads("see https://example.com/a.", "two\nlines", "👨‍👩‍👧‍👦 é שלום", "Hello\nagain");
	await eventually(() => bo.page.locator(".typing").textContent(), "");
	await ana.button("2 people").click();
	await eventually(() => ana.page.getByRole("dialog").locator(".name").allTextContents(), ["ana", "bo"]);
	await ana.button("Close").click();
	await ana.more("Delete the room");
	await ana.page.getByRole("dialog").last().getByRole("button", { name: "Delete the room" }).click();
	await ana.heading("Disposable Chat").waitFor();
	await bo.heading("This room was deleted").waitFor();
});

scenario("what is said over a breaking line arrives once", async ({ person, allow }) => {
	allow(BROKEN);
	const proxy = await FaultyProxy.to(server.port);
	after(() => proxy.close());
	const [ana, bo] = [await person(), await person()];
	const room = await ana.open(proxy.url, "ana");
	await bo.enter(`${server.url}${new URL(room).hash}`, "bo");
	await ana.say("one");
	await bo.reads("one");
	// The server gets it, but the page never hears of it.
	proxy.stallReplies();
	await ana.say("two");
	await bo.reads("one", "two");
	await ana.shows(["one"], ["two"]);
	proxy.cut();
	await ana.shows(["one", "two"], []);
	await proxy.close();
	await ana.page.getByText("No connection.").waitFor();
	await ana.say("three");
	await bo.say("meanwhile");
	await ana.shows(["one", "two"], ["three"]);
	await proxy.reopen();
	await ana.wake();
	await ana.shows(["one", "two", "meanwhile", "three"], []);
	await bo.reads("one", "two", "meanwhile", "three");
});

scenario("a long conversation opens at its end, and scrolling up shows the rest", async ({ person }) => {
	const bo = await server.openSession("bo"), id = await server.room(bo);
	const all = Array.from({ length: 250 }, (_, n) => `line ${n}`);
	await server.post(bo, id, ...all);
	const ana = await person();
	await ana.enter(`${server.url}#/r/${id}`, "ana");
	const fromEnd = () => ana.log.evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight);
	await until("it is at the end", async () => (await ana.texts()).at(-1) === "line 249" && await fromEnd() < 2);
	await until("everything is loaded", async () => {
		await ana.log.evaluate((log) => { log.scrollTop = 0; });
		return (await ana.texts()).length === all.length;
	});
	assert.deepEqual(await ana.texts(), all);
	await server.post(bo, id, "news");
	await ana.page.locator(".jump").filter({ hasText: "1 new message" }).click();
	await until("it is at the end", async () => (await ana.texts()).at(-1) === "news" && await fromEnd() < 2);
});

scenario("a name that is taken and a password that is wrong are said, and mended", async ({ person, allow }) => {
	allow(/status of 4|40[0-9]|WebSocket/);
	const [ana, bo] = [await person(), await person()];
	const room = await ana.open(server.url, "ana", { password: "sesame" });
	await bo.page.goto(room);
	await bo.page.getByLabel("Your name").fill("ana");
	await bo.page.getByLabel("Password").fill("wrong");
	await bo.button("Join").click();
	await bo.page.getByRole("alert").filter({ hasText: /Wrong password/ }).waitFor();
	await bo.page.getByLabel("Password").fill("sesame");
	await bo.button("Join").click();
	await bo.heading("The name ana is taken").waitFor();
	await bo.page.getByLabel("Your name").fill("bo");
	await bo.button("Join").click();
	await bo.heading("This room has a password").waitFor();
	await bo.page.getByLabel("Password").fill("sesame");
	await bo.button("Join").click();
	await bo.isIn();
	await bo.say("made it");
	await ana.reads("made it");
});

scenario("an encrypted room is made, joined by its link, and read again after a reload", async ({ person }) => {
	const [ana, bo] = [await person(), await person()];
	const link = await ana.open(server.url, "ana", { title: "Tea", encrypted: true });
	await eventually(() => ana.page.locator(".kind").textContent(), "Encrypted");
	await bo.page.goto(link.slice(0, -1));
	await bo.heading("This link is incomplete").waitFor();
	await bo.page.getByLabel("Link or code").fill(link);
	await bo.button("Join").click();
	await bo.page.getByLabel("Your name").fill("bo");
	await bo.button("Join").click();
	await bo.isIn();
	await bo.say("Hello", "🦀".repeat(2000) + "x".repeat(2000));
	await ana.reads("Hello", "🦀".repeat(2000) + "x".repeat(2000));
	const { session_id } = await server.openSession("cy"), id = new URL(link).hash.split("/")[2];
	for (const envelope of await server.chats({ session_id }, id)) assert.match(envelope, /^e1\.[\w-]+$/);
	await ana.page.reload();
	await ana.reads("Hello", "🦀".repeat(2000) + "x".repeat(2000));
	assert.equal(ana.page.url(), link);
});

scenario("messages of every kind are drawn: links, code, mentions, emoji, long and deleted ones", async ({ person }) => {
	const bo = await server.openSession("bo"), id = await server.room(bo);
	// The first text took Firefox 15 s.
	const dots = `http://a/${".".repeat(1990)}b${")".repeat(1990)}`, many = Array(1500).fill("x").join("\n");
	await server.post(bo, id, dots, "hi @ana, `a < b`", "```\nlet x\n```", "👍", many, "oops");
	const { messages } = await server.ask("GET", `rooms/${id}/messages`, null, bo.session_id);
	await server.ask("DELETE", `rooms/${id}/messages/${messages.at(-1).id}`, null, bo.session_id);
	const ana = await person();
	await ana.enter(`${server.url}#/r/${id}`, "ana");
	await ana.reads(dots, "hi @ana, a < b", "👍", many, "Message deleted");
	const drawn = await ana.page.evaluate(() => ["a", ".mention.me", "p > code", "pre > code", ".emoji", ".gone"].map((query) => document.querySelector(`.bubble ${query}`)?.textContent));
	assert.deepEqual(drawn, [dots.slice(0, -1990), "@ana", "a < b", "let x", "👍", "Message deleted"]);
	const height = () => ana.page.evaluate(() => [...document.querySelectorAll(".long .text")].at(-1).getBoundingClientRect().height);
	assert.ok(await height() < 31 * 1.45 * 16);
	await ana.page.evaluate(() => [...document.querySelectorAll(".long button")].at(-1).click());
	await until("all is shown", async () => await height() > 30_000);
});

scenario("where upgrades are refused, people talk over event streams", async ({ person, allow }) => {
	allow(BROKEN);
	const proxy = await FaultyProxy.to(server.port);
	after(() => proxy.close());
	proxy.isBlocking = true;
	const ana = await person(), bo = await person(), room = await ana.open(proxy.url, "ana");
	await bo.enter(room, "bo");
	for (let n = 0; n < 3; n++) {
		await ana.say(`ana ${n}`);
		await bo.say(`bo ${n}`);
	}
	const all = ["ana 0", "ana 1", "ana 2", "bo 0", "bo 1", "bo 2"];
	for (const one of [ana, bo]) await eventually(async () => (await one.texts()).sort(), all);
	assert.deepEqual(await ana.texts(), await bo.texts());
	await bo.more();
	await bo.page.getByText("Connected without WebSockets, which are blocked here.").waitFor();
});
