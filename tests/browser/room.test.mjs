// The room: messages with their senders and times, links and keys, the people present and typing, and scrolling back.
import assert from "node:assert/strict";
import { eventually, harness, until } from "./harness.mjs";

const { scenario, serve } = await harness();
const server = await serve("--leave-grace", "1h", "--message-rate", "0", "--history", "5000");
const colour = (locator) => locator.evaluate((node) => getComputedStyle(node).color);
const box = (locator) => locator.boundingBox();
const length = (one) => one.page.locator("[data-id]").count();
const fromEnd = (one) => one.log.evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight);

scenario("messages are grouped by person, with one's own on the other side", async ({ person }) => {
	const ana = await person(), bo = await person();
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	await ana.say("one", "two");
	await ana.reads("one", "two");
	await bo.say("three");
	await ana.reads("one", "two", "three");
	await ana.say("four");
	await bo.reads("one", "two", "three", "four");
	const groups = (one) => one.page.locator(".group").evaluateAll((all) => all.map((group) =>
		[group.querySelector(".who .name").textContent, ...[...group.querySelectorAll(".bubble p")].map((p) => p.textContent)]));
	for (const one of [ana, bo]) assert.deepEqual(await groups(one), [["ana", "one", "two"], ["bo", "three"], ["ana", "four"]]);
	const log = await box(ana.log), mine = await box(ana.page.locator(".bubble", { hasText: "one" })), theirs = await box(ana.page.locator(".bubble", { hasText: "three" }));
	assert.ok(log.x + log.width - mine.x - mine.width < 20, "own messages at the end");
	assert.ok(theirs.x < 50, "those of others at the start");
	// Times are in the local time zone.
	const stamp = ana.page.locator(".who time").first();
	const when = new Date(await stamp.getAttribute("datetime"));
	assert.equal(await stamp.textContent(), new Intl.DateTimeFormat("en", { hour: "numeric", minute: "2-digit" }).format(when));
});

scenario("messages are grouped by day in the reader's time zone", async ({ person }) => {
	const ana = await server.openSession("ana"), id = await server.room(ana);
	await server.post(ana, id, "four days ago", "late", "after midnight", "now");
	const times = { "four days ago": "2031-03-06T12:00:00", late: "2031-03-10T02:58:00", "after midnight": "2031-03-10T03:01:00", now: "2031-03-11T18:00:00" };
	const bo = await person({ timezoneId: "America/Sao_Paulo" });
	await bo.page.clock.install({ time: new Date("2031-03-11T18:00:00Z") });
	// "Today" is the server's day.
	await bo.page.route(/\/rooms\/|\/sessions$/, async (route) => {
		const response = await route.fetch();
		await route.fulfill({ response, headers: { ...response.headers(), date: "Tue, 11 Mar 2031 18:00:00 GMT" } });
	});
	await bo.page.routeWebSocket(/\/ws\//, (socket) => {
		const far = socket.connectToServer();
		far.onMessage((text) => {
			const event = JSON.parse(text);
			for (const message of event.messages ?? []) if (message.message in times) message.timestamp = `${times[message.message]}.000000Z`;
			if (event.messages) event.messages = event.messages.filter(({ type }) => type === "chat");
			socket.send(JSON.stringify(event));
		});
	});
	await bo.enter(`${server.url}#/r/${id}`, "bo");
	const lines = () => bo.page.locator(".day, .who time, .bubble p").allTextContents();
	await eventually(() => lines().then((all) => all.slice(0, 12)), ["Thursday, March 6", "9:00 AM", "four days ago", "Sunday, March 9", "11:58 PM", "late", "Yesterday", "12:01 AM", "after midnight", "Today", "3:00 PM", "now"]);
});

scenario("people with the same name differ by colour and by tag", async ({ person }) => {
	const ana = await person(), bo = await person(), other = await person();
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	await bo.say("I am bo");
	await ana.reads("I am bo");
	assert.equal(await ana.page.locator(".group .tag").isVisible(), false);
	await bo.more("Leave the room");
	await bo.heading("Disposable Chat").waitFor();
	await other.enter(room, "bo");
	await other.say("I am bo, too");
	await ana.reads("I am bo", "I am bo, too");
	const tags = ana.page.locator(".group .tag");
	await eventually(() => tags.evaluateAll((all) => all.map((tag) => !tag.hidden && /^ ·[0-9a-f]{2}$/.test(tag.textContent))), [true, true]);
	const [first, second] = await Promise.all([tags.first().evaluate((tag) => tag.closest(".group").style.getPropertyValue("--hue")), tags.last().evaluate((tag) => tag.closest(".group").style.getPropertyValue("--hue"))]);
	assert.notEqual(first, second);
	const names = ana.page.locator(".group .who");
	assert.notEqual(await colour(names.first()), await colour(names.last()));
	// A person has the same colour on every page and after a reload.
	await other.page.reload();
	await other.reads("I am bo", "I am bo, too");
	assert.equal(await colour(other.page.locator(".group .who").first()), await colour(names.first()));
});

scenario("addresses become links, and nothing else does", async ({ person }) => {
	const ana = await server.openSession("ana"), id = await server.room(ana);
	const cases = [
		["https://example.com", "https://example.com"],
		["see http://example.com/a?b=c#d.", "http://example.com/a?b=c#d"],
		["(https://example.com/a)", "https://example.com/a"],
		["https://example.com/a_(b)", "https://example.com/a_(b)"],
		["[x](https://example.com/y), \"https://example.com/z\"!", "https://example.com/y", "https://example.com/z"],
		["https://example.com/a… https://example.com/b?!", "https://example.com/a", "https://example.com/b"],
		["HTTPS://EXAMPLE.COM/", "HTTPS://EXAMPLE.COM/"],
		["https://example.com/\u202egpj.exe", "https://example.com/"],
		["https://пример.example/путь", "https://пример.example/путь"],
		["javascript:alert(1) data:text/html,x ftp://example.com xhttps://example.com"],
		["https:// http://[ https:///"],
		["<a href=\"https://example.com/q\">", "https://example.com/q"],
		["javascript://https://example.com/%0aalert(1)", "https://example.com/%0aalert(1)"],
	];
	await server.post(ana, id, ...cases.map(([text]) => text));
	const bo = await person();
	await bo.enter(`${server.url}#/r/${id}`, "bo");
	await bo.reads(...cases.map(([text]) => text));
	const links = await bo.page.locator(".bubble[data-id] p").evaluateAll((all) => all.map((p) => [p.textContent, ...[...p.querySelectorAll("a")].map((a) => a.getAttribute("href"))]));
	assert.deepEqual(links, cases);
	for (const a of await bo.page.locator(".bubble a").all()) {
		assert.match(await a.getAttribute("rel"), /\bnoopener\b.*\bnoreferrer\b/);
		assert.equal(await a.getAttribute("target"), "_blank");
		assert.match(await a.evaluate((node) => node.protocol), /^https?:$/);
	}
});

scenario("Enter sends, Shift+Enter starts a line, and Enter in an input method does neither", async ({ person }) => {
	const ana = await person();
	await ana.open(server.url, "ana");
	await ana.box.pressSequentially("one");
	const { height } = await box(ana.box);
	await ana.box.press("Shift+Enter");
	await ana.box.pressSequentially("two");
	assert.equal(await ana.box.inputValue(), "one\ntwo");
	assert.ok((await box(ana.box)).height > height, "it has grown");
	await ana.box.press("Enter");
	await ana.reads("one\ntwo");
	assert.equal(await ana.box.inputValue(), "");
	assert.equal((await box(ana.box)).height, height);
	// White space alone is not sent.
	await ana.box.fill(" \n ");
	await ana.box.press("Enter");
	await ana.box.fill("");
	// Input methods report Enter as composing. Safari reports it after the end, with key code 229.
	await ana.box.fill("日本");
	const prevented = (init) => ana.box.evaluate((node, init) => !node.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true, ...init })), init);
	assert.equal(await prevented({ isComposing: true }), false);
	assert.equal(await prevented({ keyCode: 229 }), false);
	assert.equal(await ana.box.inputValue(), "日本");
	await ana.box.press("Enter");
	await ana.reads("one\ntwo", "日本");
});

scenario("characters are counted near the limit, as the server counts them", async ({ person }) => {
	const ana = await person();
	await ana.open(server.url, "ana");
	const count = ana.page.locator(".left");
	await ana.box.fill("a".repeat(3599));
	assert.equal(await count.textContent(), "");
	await ana.box.fill("a".repeat(3600));
	assert.equal(await count.textContent(), "400 characters left");
	await ana.box.fill(`  ${"👍".repeat(3999)}\n`);
	assert.equal(await count.textContent(), "1 character left");
	await ana.box.fill("👍".repeat(4001));
	assert.equal(await count.textContent(), "1 character too many");
	assert.equal(await ana.box.getAttribute("aria-invalid"), "true");
	await ana.box.press("Enter");
	assert.equal((await ana.box.inputValue()).length, 8002, "the text stays in the input");
	await ana.box.fill("👍".repeat(4000));
	assert.equal(await ana.box.getAttribute("aria-invalid"), "false");
	await ana.box.press("Enter");
	await ana.reads("👍".repeat(4000));
	assert.equal(await count.textContent(), "");
});

scenario("people present are listed: beside the conversation, or on a phone in a dialog", async ({ person }) => {
	const ana = await person(), bo = await person({ viewport: { width: 1280, height: 800 } });
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	const people = bo.page.getByRole("complementary", { name: "Who is here" }).getByRole("listitem");
	const names = (list) => () => list.locator(".name").allTextContents();
	await eventually(names(people), ["ana", "bo"]);
	assert.match(await people.last().textContent(), /bo.*\(you\)$/);
	await ana.button("2 people").click();
	const listed = ana.page.getByRole("dialog").getByRole("listitem");
	await eventually(names(listed), ["ana", "bo"]);
	const cy = await person();
	await cy.enter(room, "cy");
	await eventually(names(listed), ["ana", "bo", "cy"]);
	await cy.more("Leave the room");
	await eventually(names(listed), ["ana", "bo"]);
	await eventually(names(people), ["ana", "bo"]);
	await ana.button("Close").click();
	assert.equal(await ana.page.getByRole("complementary").count(), 0, "no list beside it on a phone");
});

scenario("a join or a leave redraws one row of the list, and the others keep the focus", async ({ person }) => {
	const ana = await person({ viewport: { width: 1280, height: 800 } }), bo = await person();
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	const list = ana.page.getByRole("complementary", { name: "Who is here" });
	const names = () => list.locator(".name").allTextContents();
	await eventually(names, ["ana", "bo"]);
	await ana.page.evaluate(() => {
		window.rows = [];
		const note = (sign, nodes) => rows.push(...[...nodes].map((node) => `${sign}${node.querySelector?.(".name")?.textContent ?? node.nodeName}`));
		new MutationObserver((all) => { for (const { addedNodes, removedNodes } of all) note("+", addedNodes), note("-", removedNodes); })
			.observe(document.querySelector("aside"), { childList: true, subtree: true });
	});
	await list.getByRole("listitem").filter({ hasText: "bo" }).getByRole("button").focus();
	const cy = await person();
	await cy.enter(room, "cy");
	await eventually(names, ["ana", "bo", "cy"]);
	await cy.more("Leave the room");
	await eventually(names, ["ana", "bo"]);
	assert.deepEqual(await ana.page.evaluate(() => rows), ["+cy", "-cy"]);
	assert.equal(await ana.page.evaluate(() => document.activeElement.closest("li")?.querySelector(".name").textContent), "bo");
});

scenario("typing is shown until a message comes or the typing stops", async ({ person }) => {
	const ana = await person(), bo = await person(), cy = await person();
	await ana.page.clock.install();
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	await cy.enter(room, "cy");
	const types = () => ana.page.locator(".typing").textContent();
	await bo.box.pressSequentially("H");
	await eventually(types, "bo is typing");
	await cy.box.pressSequentially("H");
	await eventually(types, "bo and cy are typing");
	await bo.box.press("Enter");
	await eventually(types, "cy is typing");
	await ana.page.clock.fastForward(5_000);
	await eventually(types, "");
	// Typing ends when a person leaves. A person's own typing is not shown.
	await ana.box.pressSequentially("x");
	await eventually(() => cy.page.locator(".typing").textContent(), "ana is typing");
	assert.equal(await types(), "");
	await ana.more("Leave the room");
	await eventually(() => cy.page.locator(".typing").textContent(), "");
});

scenario("new messages do not move a scrolled-up view, and are counted", async ({ person }) => {
	const bo = await server.openSession("bo"), id = await server.room(bo);
	await server.post(bo, id, ...Array.from({ length: 40 }, (_, n) => `line ${n}`));
	const ana = await person();
	await ana.enter(`${server.url}#/r/${id}`, "ana");
	await until("it opens at the end", async () => await length(ana) > 40 && await fromEnd(ana) < 2);
	const jump = ana.page.locator(".jump");
	assert.equal(await jump.isVisible(), false);
	await ana.log.evaluate((log) => { log.scrollTop -= 500; });
	await jump.filter({ hasText: "Latest" }).waitFor();
	const top = () => ana.log.evaluate((log) => log.scrollTop);
	const before = await top();
	await server.post(bo, id, "news 1");
	await jump.filter({ hasText: "1 new message" }).waitFor();
	await server.post(bo, id, "news 2");
	await jump.filter({ hasText: "2 new messages" }).waitFor();
	assert.equal(await top(), before);
	await jump.click();
	await jump.waitFor({ state: "hidden" });
	assert.ok(await fromEnd(ana) < 2);
	assert.ok(await ana.log.evaluate((log) => log === document.activeElement), "the focus moves to the log");
	await server.post(bo, id, "news 3");
	await until("a view at the end stays at the end", async () => (await ana.texts()).at(-1) === "news 3" && await fromEnd(ana) < 2);
	// Sending a message scrolls to the end.
	await ana.log.evaluate((log) => { log.scrollTop -= 500; });
	await jump.waitFor();
	await ana.say("me");
	await until("the view is at the end", async () => (await ana.texts()).at(-1) === "me" && await fromEnd(ana) < 2);
});

scenario("scrolling up loads a thousand older messages without moving the visible ones", async ({ person }) => {
	const bo = await server.openSession("bo"), id = await server.room(bo);
	const all = Array.from({ length: 999 }, (_, n) => n % 7 ? `line ${n}` : `line ${n}\nand more\nof it`);
	await server.post(bo, id, ...all);
	const ana = await person();
	await ana.enter(`${server.url}#/r/${id}`, "ana");
	await until("it opens with the last hundred", async () => (await ana.texts()).length === 100 && await fromEnd(ana) < 2);
	for (let shown = 100; shown < 999;) {
		// How far the first message moves when older ones are added above it.
		const moved = await ana.log.evaluate((log) => new Promise((resolve) => {
			const first = log.querySelector(".bubble"), count = log.querySelectorAll(".bubble").length;
			let before;
			new MutationObserver((_, watch) => {
				watch.disconnect();
				requestAnimationFrame(() => resolve(Math.abs(first.getBoundingClientRect().top - before) + (log.querySelectorAll(".bubble").length > count ? 0 : 1e6)));
			}).observe(first.closest(".log > *"), { childList: true });
			log.scrollTop = 40;
			before = first.getBoundingClientRect().top;
		}));
		// A line is 20 pixels high.
		assert.ok(moved < 2, `it moved by ${moved} pixels`);
		shown = (await ana.texts()).length;
	}
	assert.deepEqual(await ana.texts(), all);
	assert.equal(await ana.page.locator(".day").count(), 1);
	assert.deepEqual(await ana.notices(), ["ana joined"], "bo only posts over REST");
});

// The event of a scroll comes later, and found the view far from the end that it had reached.
scenario("only a visitor's scroll leaves the end", async ({ person }) => {
	const bo = await server.openSession("bo"), id = await server.room(bo), ana = await person();
	await server.post(bo, id, ...Array.from({ length: 30 }, (_, n) => `line ${n}`));
	await ana.enter(`${server.url}#/r/${id}`, "ana");
	await until("it opens at the end", async () => (await ana.texts()).length === 30 && await fromEnd(ana) < 2);
	await ana.log.evaluate((log) => {
		log.style.maxHeight = "150px";
		log.dispatchEvent(new Event("scroll"));
	});
	await until("the view follows the end", async () => await fromEnd(ana) < 2);
	assert.ok(await ana.page.locator(".jump").isHidden());
	await ana.log.evaluate((log) => { log.scrollTop -= 200; });
	await ana.page.locator(".jump").waitFor();
	await server.post(bo, id, "news");
	await eventually(async () => (await ana.texts()).at(-1), "news");
	assert.ok(await fromEnd(ana) > 199);
});

scenario("the page limits the number of messages it shows", async ({ person }) => {
	const bo = await server.openSession("bo"), id = await server.room(bo);
	const ana = await person();
	await ana.enter(`${server.url}#/r/${id}`, "ana");
	await ana.page.evaluate(() => {
		window.most = 0;
		new MutationObserver(() => { window.most = Math.max(window.most, document.querySelectorAll("[data-id]").length); }).observe(document.querySelector(".list"), { childList: true, subtree: true });
	});
	const most = () => ana.page.evaluate(() => { const { most } = window; window.most = 0; return most; });
	const talk = async (from, to) => {
		for (let n = from; n < to; n += 100) await server.post(bo, id, ...Array.from({ length: 100 }, (_, m) => `line ${n + m}`));
		await eventually(async () => (await ana.texts()).at(-1), `line ${to - 1}`);
	};
	await talk(0, 1200);
	assert.ok(await most() <= 1100);
	assert.ok(await length(ana) <= 1000);
	assert.ok(await fromEnd(ana) < 2, "the view follows, however many messages come at once");
	await ana.log.evaluate((log) => { log.scrollTop = 3000; });
	await ana.page.locator(".jump").waitFor();
	// The first bubble that is whole within the view, and its place.
	const first = () => ana.log.evaluate((log) => [...log.querySelectorAll(".bubble")].map((one) => [one.textContent, Math.round(one.getBoundingClientRect().top)]).find(([, top]) => top > 100));
	const reads = await first();
	await talk(1200, 2400);
	assert.ok(await length(ana) > 1500, "visible messages are not removed");
	assert.deepEqual(await first(), reads);
	await talk(2400, 4000);
	assert.ok(await most() <= 3100);
	await ana.page.locator(".jump").click();
	await talk(4000, 4100);
	assert.ok(await length(ana) <= 1000);
	assert.ok(await fromEnd(ana) < 2);
});
