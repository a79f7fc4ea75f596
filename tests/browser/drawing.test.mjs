// How a conversation is drawn: whatever one message contains, and whatever the browser lacks, the others are drawn too.
// Folding, code, mentions, joins and leaves, look-alike names, deleted messages, and saving all of it.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { eventually, harness, until } from "./harness.mjs";

const { scenario, serve } = await harness();
const server = await serve("--leave-grace", "1h", "--message-rate", "0");
const roomOf = async (name, ...texts) => {
	const owner = await server.openSession(name), id = await server.room(owner);
	await server.post(owner, id, ...texts);
	return { owner, id, url: `${server.url}#/r/${id}` };
};
const height = (locator) => locator.evaluate((node) => node.getBoundingClientRect().height);
const bubble = (one, text) => one.page.locator(".bubble[data-id]", { hasText: text });

scenario("a message that can't be drawn is shown as plain text, and those after it are drawn", async ({ person, allow }) => {
	// Once nothing was drawn any more after the first exception, and after a reload the page stayed "Connecting…".
	allow(/no such element/);
	const { owner, id, url } = await roomOf("bo", "before", "see https://example.com", "after");
	const ana = await person();
	await ana.context.addInitScript(() => {
		const { createElement } = Document.prototype;
		// Any link in a message, and anything of a message by the person "broken".
		Document.prototype.createElement = function (name) {
			const node = createElement.call(this, name);
			if (name === "a") Object.defineProperty(node, "href", { set(link) { if (!link.startsWith("#") && link !== "docs") throw new Error("no such element"); else this.setAttribute("href", link); } });
			if (name === "bdi") node.append = function (text) { if (text === "broken") throw new Error("no such element"); return Element.prototype.append.call(this, text); };
			return node;
		};
	});
	await ana.enter(url, "ana");
	await ana.reads("before", "see https://example.com", "after");
	assert.equal(await ana.page.locator(".log a").count(), 0);
	await server.post(await server.openSession("broken"), id, "by broken");
	await server.post(owner, id, "later https://example.com", "last");
	await ana.reads("before", "see https://example.com", "after", "later https://example.com", "last");
	await until("a line of plain text", async () => (await ana.notices()).includes("broken: by broken"));
	await ana.say("mine");
	await eventually(async () => (await ana.texts()).at(-1), "mine");
});

scenario("drawing doesn't depend on sounds or notifications", async ({ person, allow }) => {
	allow(/away from home/);
	const { owner, id, url } = await roomOf("bo", "before");
	const ana = await person();
	await ana.context.addInitScript(() => {
		localStorage["disposable-chat / sound"] = "true";
		document.hasFocus = () => false;
		for (const name of ["AudioContext", "Notification"]) Object.defineProperty(window, name, { get() { throw new Error("away from home"); } });
	});
	await ana.enter(url, "ana");
	await server.post(owner, id, "one", "two");
	await ana.reads("before", "one", "two");
});

scenario("controls have names and states in a browser without ARIA reflection", async ({ person }) => {
	const ana = await person();
	await ana.context.addInitScript(() => {
		for (const name of Object.getOwnPropertyNames(Element.prototype)) if (name.startsWith("aria")) delete Element.prototype[name];
	});
	await ana.open(server.url, "ana");
	for (const name of ["Send", "Invite", "More"]) await ana.button(name, { exact: true }).waitFor();
	assert.equal(await ana.log.getAttribute("aria-label"), "Conversation");
	await ana.box.fill("x".repeat(4001));
	assert.equal(await ana.box.getAttribute("aria-invalid"), "true");
});

scenario("a long message of dots and brackets is drawn as a link and a text", async ({ person }) => {
	// The end of the link was searched in quadratic time: Firefox took 15 s.
	const text = `http://a/${".".repeat(1990)}b${")".repeat(1990)}`, { url } = await roomOf("bo", text);
	const ana = await person();
	await ana.enter(url, "ana");
	await ana.reads(text);
	assert.equal(await ana.page.locator(".text a").textContent(), `http://a/${".".repeat(1990)}b`);
});

scenario("long messages are folded after thirty lines, until all is shown", async ({ person }) => {
	const many = Array.from({ length: 1500 }, () => "x").join("\n"), { url } = await roomOf("bo", many, "word ".repeat(200).trim(), "short");
	const ana = await person({ viewport: { width: 1280, height: 800 } });
	await ana.enter(url, "ana");
	await ana.reads(many, "word ".repeat(200).trim(), "short");
	const first = bubble(ana, "x\nx"), words = bubble(ana, "word word"), all = ana.button("Show all");
	await eventually(() => all.count(), 1);
	const line = 1.45 * 16;
	assert.ok(await height(first.locator(".text")) <= 30 * line + 1);
	await all.click();
	await until("all lines are shown", async () => await height(first.locator(".text")) >= 1490 * line);
	await ana.button("Show less").click();
	await until("it is folded again", async () => await height(first.locator(".text")) <= 30 * line + 1);
	assert.equal(await first.locator("button").evaluate((node) => node === document.activeElement), true, "the focus stays");
	assert.ok(await words.locator("button").isHidden());
	// The same words need more than thirty lines on a narrow screen.
	await ana.page.setViewportSize({ width: 200, height: 500 });
	await words.locator("button").waitFor();
});

scenario("code is shown in a monospaced font, as text, and is copied by a button", async ({ person }) => {
	const { url } = await roomOf("bo", "use `<b>x</b>` here", "look:\n```js\nlet <a> = 1;\n\treturn \"https://example.com\"\n```\nthere");
	const ana = await person();
	await ana.context.grantPermissions(["clipboard-read", "clipboard-write"]);
	await ana.enter(url, "ana");
	await ana.reads("use <b>x</b> here", "look:", "there");
	const block = ana.page.locator(".code"), code = "let <a> = 1;\n\treturn \"https://example.com\"";
	assert.equal(await block.locator("code").textContent(), code);
	assert.equal(await ana.page.locator(".text b, .text a").count(), 0);
	assert.deepEqual(await ana.page.locator(".text code").evaluateAll((all) => all.map((one) => /mono/.test(getComputedStyle(one).fontFamily))), [true, true]);
	await block.getByRole("button", { name: "Copy" }).click();
	await block.getByRole("button", { name: "Copied" }).waitFor();
	assert.equal(await ana.page.evaluate(() => navigator.clipboard.readText()), code);
	// Without https there is no clipboard interface.
	await ana.page.evaluate(() => {
		Object.defineProperty(navigator, "clipboard", { value: undefined });
		document.execCommand = (command) => { window.copied = [command, getSelection().toString() || document.activeElement.value]; };
	});
	await block.getByRole("button", { name: "Copied" }).click();
	await eventually(() => ana.page.evaluate(() => window.copied), ["copy", code]);
	assert.equal(await block.getByRole("button").evaluate((node) => node === document.activeElement), true, "the focus returns");
});

scenario("emoji alone are larger, and an avatar is a whole grapheme", async ({ person }) => {
	const { owner, id, url } = await roomOf("👨‍👩‍👧‍👦 us", "👍🏽 🇧🇷", "👍 yes");
	const ana = await person();
	await ana.enter(url, "ana");
	await ana.reads("👍🏽 🇧🇷", "👍 yes");
	const size = (text) => bubble(ana, text).locator("p").evaluate((node) => parseFloat(getComputedStyle(node).fontSize));
	assert.ok(await size("🇧🇷") >= 2 * await size("yes"));
	assert.equal(await ana.page.locator(".group .face").first().textContent(), "👨‍👩‍👧‍👦");
	await server.post(owner, id, "more");
	await eventually(async () => (await ana.texts()).at(-1), "more");
});

scenario("mentions are highlighted, one's own more than others", async ({ person }) => {
	const { owner, id, url } = await roomOf("bo b", "@bo b it is I", "@ana come in");
	const ana = await person();
	await ana.enter(url, "ana");
	await server.post(owner, id, "hi @Ana, and mail@ana, @cy");
	await ana.reads("@bo b it is I", "@ana come in", "hi @Ana, and mail@ana, @cy");
	const marks = await ana.page.locator(".mention").evaluateAll((all) => all.map((one) => [one.textContent, one.classList.contains("me")]));
	assert.deepEqual(marks, [["@bo b", false], ["@ana", true], ["@Ana", true]]);
});

// Comes by event stream, and returns how to leave.
const visit = async (name, id) => {
	const { session_id } = await server.openSession(name), gone = new AbortController();
	const { body } = await fetch(new URL(`rooms/${id}/events?session_id=${session_id}`, server.url), { signal: gone.signal });
	await body.getReader().read();
	return async () => {
		await server.ask("DELETE", `rooms/${id}/leave`, null, session_id);
		gone.abort();
	};
};

// A person who was present before the first message shown was not recognized in mentions.
scenario("who is here, and who has spoken, can be mentioned", async ({ person }) => {
	const { owner, id, url } = await roomOf("Bob Dean", "I was here");
	const leave = await visit("cy", id);
	await server.post(owner, id, ...Array.from({ length: 110 }, (_, n) => `bo ${n}`), "@cy and @Bob Dean, not @di");
	const ana = await person();
	await ana.enter(url, "ana");
	await until("the last one", async () => (await ana.texts()).at(-1) === "@cy and @Bob Dean, not @di");
	assert.deepEqual(await ana.page.locator(".mention").allTextContents(), ["@cy", "@Bob Dean"]);
	await ana.box.pressSequentially("@");
	assert.deepEqual(await ana.page.getByRole("option").allTextContents(), ["cy", "Bob Dean"], "who is here comes first");
	await ana.box.pressSequentially("b");
	await ana.box.press("Enter");
	assert.equal(await ana.box.inputValue(), "@Bob Dean ");
	await leave();
});

scenario("joins and leaves in a row share one line, which can be hidden", async ({ person }) => {
	const { id, url } = await roomOf("bo", "Hello");
	const ana = await person();
	await ana.enter(url, "ana");
	await eventually(() => ana.notices(), ["ana joined"]);
	const leave = await visit("cy", id);
	await (await visit("di", id))();
	await eventually(() => ana.notices(), ["ana and cy joined · di left"]);
	await leave();
	await eventually(() => ana.notices(), ["ana joined · cy and di left"]);
	await ana.more();
	await ana.page.getByLabel("Show who joins and leaves").uncheck();
	await ana.page.keyboard.press("Escape");
	assert.equal(await ana.page.locator(".moves").isVisible(), false);
	await ana.page.reload();
	await ana.isIn();
	await ana.page.locator(".moves").waitFor({ state: "attached" });
	assert.equal(await ana.page.locator(".moves").isVisible(), false, "after a reload");
	await ana.more();
	await ana.page.getByLabel("Show who joins and leaves").check();
	assert.equal(await ana.page.locator(".moves").isVisible(), true);
});

scenario("a group has one author and one time, also one's own for screen readers", async ({ person }) => {
	const ana = await person();
	await ana.open(server.url, "ana");
	await ana.say("one", "two");
	await ana.reads("one", "two");
	const who = ana.page.locator(".group .who");
	assert.equal(await who.count(), 1);
	assert.match(await who.textContent(), /^aana ·[0-9a-f]{2} \(you\)\d+:\d\d [AP]M$/);
	assert.match(await ana.log.ariaSnapshot(), /ana \(you\)/);
	assert.equal(await ana.page.locator(".group time").count(), 1);
	assert.ok((await who.locator(".name").boundingBox()).width <= 1, "nobody needs to see one's own name");
});

scenario("names that look like others show their tag", async ({ person }) => {
	const { id, url } = await roomOf("ana", "I am ana");
	for (const [name, text] of [["ＡＮＡ", "I am too"], ["bo", "I am bo"], ["cесil", "mixed"]]) await server.post(await server.openSession(name), id, text);
	const di = await person();
	await di.enter(url, "di");
	await di.reads("I am ana", "I am too", "I am bo", "mixed");
	assert.deepEqual(await di.page.locator(".group .tag").evaluateAll((all) => all.map((tag) => !tag.hidden)), [true, true, false, true]);
});

scenario("a device clock that is a day ahead doesn't put new messages under Yesterday", async ({ person }) => {
	const { url } = await roomOf("bo", "just now");
	const ana = await person({ timezoneId: "UTC" });
	await ana.page.clock.install({ time: Date.now() + 86_400_000 });
	await ana.enter(url, "ana");
	await ana.reads("just now");
	await eventually(() => ana.page.locator(".day").allTextContents(), ["Today"]);
});

scenario("at midnight, Today becomes Yesterday by itself", async ({ person }) => {
	const { owner, id, url } = await roomOf("bo", "today's");
	const { messages: [{ timestamp }] } = await server.ask("GET", `rooms/${id}/messages`, null, owner.session_id);
	const ana = await person({ timezoneId: "UTC" });
	await ana.page.clock.install();
	let sockets = 0;
	ana.page.on("websocket", () => sockets++);
	// The server's clock shows half past eleven.
	const date = new Date(`${timestamp.slice(0, 10)}T23:30:00Z`).toUTCString();
	await ana.page.route(/\/(rooms|sessions)/, async (route) => {
		const response = await route.fetch();
		await route.fulfill({ response, headers: { ...response.headers(), date } });
	});
	await ana.enter(url, "ana");
	await ana.reads("today's");
	const days = () => ana.page.locator(".day").allTextContents();
	assert.deepEqual((await days())[0], "Today");
	await ana.page.clock.fastForward(31 * 60_000);
	await eventually(() => days().then(([first]) => first), "Yesterday");
	assert.equal(sockets, 1, "the connection was not made again");
});

scenario("the title of the window has no invisible characters", async ({ person }) => {
	const { id, url } = await roomOf("bo", "Hello");
	const ana = await person();
	await ana.enter(url, "ana");
	assert.equal(await ana.page.title(), `Room ${id} · Disposable Chat`);
});

scenario("a deleted message is shown as deleted, at once and after a reload", async ({ person }) => {
	const { owner, id, url } = await roomOf("bo", "one", "two");
	const ana = await person();
	await ana.enter(url, "ana");
	await ana.reads("one", "two");
	const target = await bubble(ana, "two").getAttribute("data-id");
	await server.ask("DELETE", `rooms/${id}/messages/${target}`, null, owner.session_id);
	await ana.reads("one", "Message deleted");
	assert.equal(await ana.page.locator(".gone").count(), 1);
	await ana.page.reload();
	await ana.reads("one", "Message deleted");
	assert.equal(await ana.page.locator(".gone").count(), 1);
});

scenario("the conversation is saved as text and as JSON, with what is not on the screen yet", async ({ person }) => {
	const lines = Array.from({ length: 120 }, (_, n) => `line ${n}`), { owner, id, url } = await roomOf("bo", ...lines, "a\n2031-01-01 00:00  ana: forged", "gone");
	const { messages: kept } = await server.ask("GET", `rooms/${id}/messages?limit=1000`, null, owner.session_id);
	await server.ask("DELETE", `rooms/${id}/messages/${kept.at(-1).id}`, null, owner.session_id);
	const ana = await person({ timezoneId: "UTC" });
	await ana.enter(url, "ana");
	await until("the last messages are shown", async () => (await ana.texts()).at(-1) === "Message deleted");
	await ana.more();
	const saved = async (format) => {
		const [download] = await Promise.all([ana.page.waitForEvent("download"), ana.page.getByRole("group", { name: "Save the conversation" }).getByRole("button", { name: format }).click()]);
		return [download.suggestedFilename(), await readFile(await download.path(), "utf8")];
	};
	const { messages } = await server.ask("GET", `rooms/${id}/messages?limit=1000`, null, owner.session_id);
	const [jsonName, json] = await saved("JSON");
	assert.equal(jsonName, `Room-${id}.json`);
	assert.deepEqual(JSON.parse(json), messages);
	const [textName, text] = await saved("Text");
	assert.equal(textName, `Room-${id}.txt`);
	const [title, empty, ...rest] = text.trimEnd().split("\n");
	assert.deepEqual([title, empty], [`Room ${id}`, ""]);
	const stamp = /^\d{4}-\d\d-\d\d \d\d:\d\d  /;
	assert.deepEqual(rest.map((line) => line.replace(stamp, "")),
		[...lines.map((line) => `bo: ${line}`), "bo: a", "\t2031-01-01 00:00  ana: forged", "bo: (Message deleted)", "ana joined"]);
	assert.equal(rest.filter((line) => stamp.test(line)).length, rest.length - 1);
});
