// Hostile messages, names, titles and addresses: they are shown as typed, change the direction of no other text, stay
// within their box, and are never HTML.
import assert from "node:assert/strict";
import { eventually, harness, until } from "./harness.mjs";

const { scenario, serve } = await harness();
const server = await serve("--leave-grace", "1h", "--message-rate", "0", "--session-rate", "0");

const MARKUP = [
	"<img src=x onerror=alert(1)>",
	"<script>alert(1)</script>",
	"</p></div><iframe src=javascript:alert(1)></iframe>",
	"<svg/onload=alert(1)>",
	"&lt;b&gt; &amp; &#60;i&#62;",
	"{{constructor.constructor('alert(1)')()}} ${alert(1)} {who} {n}|{user}",
	"javascript:alert(1)",
	"https://example.com/\"onmouseover=\"alert(1)",
	"https://example.com/<script>alert(1)</script>",
];
const ELEMENTS = "img, script, iframe, object, embed, base, style, link, meta, form, input, audio, video";
const elements = (one) => one.page.locator(ELEMENTS).count();
const guard = async (one) => {
	await one.context.addInitScript(() => {
		window.alert = () => console.error("alert!");
	});
};
const boxes = (one, query) => one.page.locator(query).evaluateAll((all) => all.map((node) => {
	const { left, right, top, bottom, width, height } = node.getBoundingClientRect();
	return { left, right, top, bottom, width, height };
}));
const apart = (all) => {
	for (const [n, one] of all.entries()) for (const other of all.slice(n + 1))
		assert.ok(one.bottom <= other.top + 1 || other.bottom <= one.top + 1, `${JSON.stringify(one)} overlaps ${JSON.stringify(other)}`);
};
// Whether text that extends beyond its own box is clipped.
const isClipped = (one, query) => one.page.locator(query).evaluateAll((all) => all.every((node) => {
	for (let at = node; at && at.tagName !== "BODY"; at = at.parentElement) if (getComputedStyle(at).overflowY !== "visible") {
		return at.getBoundingClientRect().height < 200 || at.matches(".log");
	}
	return false;
}));
// The elements that would have to be scrolled sideways.
const wide = (one) => one.page.evaluate(() => [document.documentElement, ...document.querySelectorAll("main, .log, .foot, .room > header, dialog")]
	.filter((node) => node.scrollWidth > node.clientWidth).map((node) => `${node.tagName}.${node.className} ${node.scrollWidth}`));
// Types until the other page shows it: after a message, typing is passed on only with a delay.
const isTyping = (sender, seen, key = "x") => until("typing is shown", async () => {
	await sender.box.pressSequentially(key);
	return (await seen.page.locator(".typing").textContent()).endsWith("is typing");
});

scenario("markup is shown as text everywhere", async ({ person }) => {
	const ana = await person(), bo = await person();
	for (const one of [ana, bo]) await guard(one);
	const title = "<img src=x onerror=alert(1)>";
	const room = await ana.open(server.url, "<script>alert(1)</script>", { title });
	await bo.page.goto(room);
	await bo.heading(`Join ${title}`).waitFor();
	await bo.page.getByLabel("Your name").fill("<b>bo</b>");
	await bo.button("Join").click();
	await bo.isIn();
	await ana.button("2 people").waitFor(); // The invitation, which has a field, is gone.
	const [before, beforeBo] = [await elements(ana), await elements(bo)];
	await ana.say(...MARKUP);
	await ana.reads(...MARKUP);
	await bo.reads(...MARKUP);
	await bo.box.pressSequentially("x");
	await ana.page.getByText("<b>bo</b> is typing").waitFor();
	assert.deepEqual([await elements(ana), await elements(bo)], [before, beforeBo]);
	assert.equal(await ana.page.locator(".log b, .log svg, .typing b, h1 img").count(), 0);
	await eventually(() => bo.notices(), ["<script>alert(1)</script> and <b>bo</b> joined"]);
	assert.equal(await bo.page.title(), `${title} · Disposable Chat`);
	await bo.button("2 people").click();
	assert.deepEqual(await bo.page.getByRole("dialog").locator(".name").allTextContents(), ["<script>alert(1)</script>", "<b>bo</b>"]);
	for (const href of await bo.page.locator(".log a").evaluateAll((all) => all.map((a) => a.href))) assert.match(href, /^https:\/\/example\.com\//);
	assert.equal(await bo.page.locator(".log a").evaluateAll((all) => all.some((a) => a.onmouseover || a.hasAttribute("onmouseover"))), false);
	await bo.page.keyboard.press("Escape");
	await bo.page.goto(server.url);
	await bo.page.getByRole("link", { name: title }).first().waitFor();
	assert.equal(await bo.page.locator("img:not(.lobby > header img)").count(), 0);
});

scenario("the content security policy stops injected HTML", async ({ person, allow }) => {
	allow(/Content Security Policy|^blocked: /);
	const ana = await person();
	await guard(ana);
	await ana.page.goto(server.url);
	await ana.page.getByLabel("Your name").waitFor();
	await ana.page.evaluate(() => {
		const node = document.createElement("div");
		document.body.append(node);
		node.innerHTML = `<img src="https://example.com/x" onerror="alert(1)"><a id="evil" href="javascript:alert(1)">evil</a>`;
		const script = document.createElement("script");
		script.textContent = "alert(1)";
		document.body.append(script);
	});
	await ana.page.locator("#evil").click();
	await until("all three are blocked", () => ["script-src-elem inline", "img-src https://example.com/x"].every((what) => ana.console.some((line) => line.includes(what))));
	await until("the javascript: link is blocked too", () => ana.console.filter((line) => line.startsWith("blocked: script-src")).length >= 2);
	assert.equal(ana.console.some((line) => line.startsWith("alert!")), false);
});

scenario("direction controls affect only the text that contains them", async ({ person }) => {
	const bo = await server.openSession("bo"), id = await server.room(bo, { title: "Tea" });
	const texts = ["abc \u202eevil", "abc \u2067evil", "\u202eevil https://example.com/moc.knab", "plain", "\u2066\u2066.\u2066"];
	await server.post(bo, id, ...texts);
	const ana = await person();
	await ana.enter(`${server.url}#/r/${id}`, "ana");
	await ana.reads(...texts);
	// Whether the letters of an element run from left to right.
	const isStraight = (query) => ana.page.locator(query).evaluateAll((all) => all.length > 0 && all.every((node) => {
		const walk = document.createTreeWalker(node, NodeFilter.SHOW_TEXT), lefts = [];
		while (walk.nextNode()) for (let n = 0; n < walk.currentNode.length; n++) {
			const range = document.createRange();
			range.setStart(walk.currentNode, n);
			range.setEnd(walk.currentNode, n + 1);
			lefts.push(range.getBoundingClientRect().left);
		}
		return lefts.every((left, n) => n === 0 || left >= lefts[n - 1]);
	}));
	assert.equal(await isStraight(".who time"), true);
	assert.equal(await isStraight(".group .name"), true);
	assert.equal(await isStraight(".notice"), true);
	assert.equal(await ana.page.locator(".bubble p").nth(0).evaluate((p) => getComputedStyle(p).unicodeBidi), "isolate");
	// Within the message the control has an effect, which proves that the check can fail.
	assert.equal(await isStraight(".bubble[data-id] p"), false);
	// The text of a link is its target.
	for (const [text, href] of await ana.page.locator(".bubble a").evaluateAll((all) => all.map((a) => [a.textContent, a.getAttribute("href")]))) assert.equal(text, href);
});

scenario("right-to-left and left-to-right text each keep their direction", async ({ person }) => {
	const ana = await person(), bo = await person();
	const room = await ana.open(server.url, "שרה", { title: "שלום (tea)" });
	await bo.enter(room, "bo");
	await ana.say("שלום עולם, hello!", "hello");
	await bo.reads("שלום עולם, hello!", "hello");
	const directions = await bo.page.locator(".bubble p").evaluateAll((all) => all.map((p) => getComputedStyle(p).direction));
	assert.deepEqual(directions, ["rtl", "ltr"]);
	assert.equal(await bo.page.locator("h1").evaluate((h1) => getComputedStyle(h1).direction), "rtl");
	await isTyping(ana, bo, "ש");
	assert.equal(await ana.box.evaluate((box) => getComputedStyle(box).direction), "rtl");
	await eventually(() => bo.page.locator(".typing").textContent(), "שרה is typing");
	// The name comes first although it is written from right to left.
	const [name, rest] = await bo.page.locator(".typing").evaluate((line) => {
		const range = document.createRange();
		range.selectNodeContents(line.lastChild);
		return [line.querySelector("bdi").getBoundingClientRect().left, range.getBoundingClientRect().left];
	});
	assert.ok(name < rest);
});

scenario("stacked combining marks stay within their line", async ({ person }) => {
	const zalgo = `Z${"\u0301\u0316\u0489".repeat(16)}o`; // 50 characters, the longest possible name.
	const ana = await person(), bo = await person({ viewport: { width: 1280, height: 800 } });
	const room = await ana.open(server.url, zalgo, { title: `T${"\u0301".repeat(79)}` });
	await bo.enter(room, "bo");
	await bo.say("before");
	await ana.reads("before");
	await ana.say(`a${"\u0301\u0316".repeat(1500)}`);
	await bo.reads("before", `a${"\u0301\u0316".repeat(1500)}`);
	await bo.say("after");
	await ana.reads("before", `a${"\u0301\u0316".repeat(1500)}`, "after");
	for (const one of [ana, bo]) {
		apart(await boxes(one, ".log .day, .log .notice, .log .who, .log .bubble"));
		assert.equal(await isClipped(one, ".log .who .name, .log .bubble p, .log .notice bdi, .title h1"), true);
		for (const { height } of await boxes(one, ".title h1, .log .who .name, .people .name")) assert.ok(height < 40, `${height}`);
		assert.deepEqual(await wide(one), []);
	}
	await isTyping(ana, bo);
	const [typing] = await boxes(bo, ".typing");
	assert.ok(typing.height < 40);
	assert.equal(await bo.page.locator(".typing").evaluate((line) => getComputedStyle(line).overflow), "hidden");
});

scenario("endless words are wrapped, even at 320 pixels", async ({ person }) => {
	const ana = await person({ viewport: { width: 320, height: 600 } }), bo = await person({ viewport: { width: 320, height: 600 } });
	const long = "W".repeat(50), title = "T".repeat(80);
	const room = await ana.open(server.url, long, { title });
	await bo.page.goto(room);
	await bo.heading(/^Join /).waitFor();
	assert.deepEqual(await wide(bo), [], "the screen that asks for a name");
	await bo.page.getByLabel("Your name").fill("bo");
	await bo.button("Join").click();
	await bo.isIn();
	const texts = ["x".repeat(4000), `https://example.com/${"y".repeat(3000)}`, "👍".repeat(4000), "\u00a0".repeat(10) + "nbsp"];
	for (const text of texts) await ana.say(text);
	const shown = texts.map((text) => text.trim());
	await bo.reads(...shown);
	await ana.box.fill("z".repeat(4100));
	assert.deepEqual(await wide(ana), [], "the input");
	await ana.box.fill("");
	await isTyping(ana, bo);
	for (const one of [ana, bo]) {
		assert.deepEqual(await wide(one), [], "the room");
		for (const { left, right } of await boxes(one, ".log .bubble, .log .bubble p, .log .who")) assert.ok(left >= 0 && right <= 320);
	}
	for (const name of ["2 people", "Invite", "More"]) {
		await bo.button(name).click();
		assert.deepEqual(await wide(bo), [], name);
		await bo.page.keyboard.press("Escape");
	}
	await bo.page.goto(server.url);
	await bo.page.getByRole("link", { name: title }).first().waitFor();
	assert.deepEqual(await wide(bo), [], "the lobby");
});

scenario("four thousand emoji count as 4000 characters and stay whole", async ({ person }) => {
	const ana = await person(), bo = await person();
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	const family = "👩‍👩‍👧‍👦".repeat(571); // 7 characters each.
	await ana.say("👍".repeat(4000), family);
	await bo.reads("👍".repeat(4000), family);
	await ana.reads("👍".repeat(4000), family);
});

scenario("an emoji in a name becomes the avatar", async ({ person }) => {
	const ana = await person();
	await ana.open(server.url, "👍🏽 ok");
	await ana.button("1 person").click();
	assert.equal(await ana.page.getByRole("dialog").locator(".face").textContent(), "👍🏽");
});

scenario("a name or title with control characters is refused with a message", async ({ person, allow }) => {
	allow(/status of (400|422)/);
	const ana = await person();
	await ana.page.goto(server.url);
	await ana.page.getByLabel("Your name").fill("ana\u202e");
	await ana.button("Start a room").click();
	await ana.page.getByRole("alert").filter({ hasText: "A name has 2 to 50 visible characters." }).waitFor();
	await ana.page.getByLabel("Your name").fill("ana");
	await ana.options();
	await ana.page.getByLabel("Title").fill("\u202eTea");
	await ana.button("Start a room").click();
	await ana.page.getByRole("alert").filter({ hasText: "Too long, or has invisible characters." }).waitFor();
});

scenario("invalid stored data does not break the page", async ({ person, allow }) => {
	allow(/status of 401/);
	const ana = await person();
	await ana.page.goto(server.url);
	for (const nonsense of ["", "{", "null", "5", "\"text\"", "{}", "{\"session_id\":\"no\"}"]) {
		await ana.page.evaluate((nonsense) => {
			for (const key of ["session", "name", "notify", "sound"]) localStorage[`disposable-chat / ${key}`] = key === "session" ? nonsense : "{";
		}, nonsense);
		await ana.page.reload();
		await ana.button("Start a room").waitFor();
		await until(`a name can be given after ${nonsense}`, () => ana.page.getByLabel("Your name").isVisible());
	}
	await ana.open(server.url, "ana");
});
