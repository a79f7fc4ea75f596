// Writing and acting on messages: the keys of the composer, names that complete, and the menu at each message by mouse,
// by touch and by keyboard.
import assert from "node:assert/strict";
import { eventually, harness, until } from "./harness.mjs";

const { scenario, serve } = await harness();
const server = await serve("--leave-grace", "1h", "--message-rate", "0");
const bubble = (one, text) => one.page.locator(".log .bubble[data-id]", { hasText: text });
const menu = (one) => one.page.getByRole("menu");
const entries = (one) => menu(one).getByRole("menuitem").allTextContents().then((all) => all.map((text) => text.replace(/[\u2068\u2069]/g, "")));
const press = (one, name) => menu(one).getByRole("menuitem", { name }).click();
const TOUCH = { hasTouch: true, isMobile: true };

scenario("on a touch keyboard Enter starts a line, and the button sends", async ({ person }) => {
	const ana = await person(TOUCH);
	await ana.open(server.url, "ana");
	assert.equal(await ana.box.getAttribute("enterkeyhint"), "enter");
	await ana.box.pressSequentially("one");
	await ana.box.press("Enter");
	await ana.box.pressSequentially("two");
	assert.equal(await ana.box.inputValue(), "one\ntwo");
	await ana.button("Send").click();
	await ana.reads("one\ntwo");
	// A keyboard at a tablet has a way, too.
	await ana.box.fill("three");
	await ana.box.press("Control+Enter");
	await ana.reads("one\ntwo", "three");
});

scenario("the up arrow recalls the last line, and moves in a text that is there", async ({ person }) => {
	const ana = await person();
	await ana.open(server.url, "ana");
	assert.equal(await ana.box.getAttribute("enterkeyhint"), "send");
	await ana.box.press("ArrowUp");
	assert.equal(await ana.box.inputValue(), "");
	await ana.say("a typo", "anotther");
	await ana.box.press("ArrowUp");
	assert.equal(await ana.box.inputValue(), "anotther");
	await ana.box.fill("mine");
	await ana.box.press("ArrowUp");
	assert.equal(await ana.box.inputValue(), "mine");
	await ana.box.press("Enter");
	await ana.reads("a typo", "anotther", "mine");
});

scenario("a name completes after an @", async ({ person }) => {
	const ana = await person(), bo = await person(), bob = await person();
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	await bob.enter(room, "Bob Dean");
	await until("both are there", () => ana.button("3 people").isVisible());
	const offers = () => ana.page.getByRole("option").allTextContents();
	const active = () => ana.box.evaluate((box) => document.getElementById(box.getAttribute("aria-activedescendant"))?.textContent ?? null);
	await ana.box.pressSequentially("hi @");
	assert.deepEqual(await offers(), ["bo", "Bob Dean"]);
	await ana.box.press("b");
	assert.equal(await active(), "bo");
	await ana.box.press("ArrowDown");
	assert.equal(await active(), "Bob Dean");
	await ana.box.press("Enter");
	assert.equal(await ana.box.inputValue(), "hi @Bob Dean ");
	assert.equal(await active(), null);
	await ana.box.pressSequentially("and @b");
	await ana.page.getByRole("option", { name: "bo", exact: true }).click();
	assert.equal(await ana.box.inputValue(), "hi @Bob Dean and @bo ");
	assert.ok(await ana.box.evaluate((box) => box === document.activeElement), "the box keeps the focus");
	await ana.box.press("Enter");
	await ana.reads("hi @Bob Dean and @bo");
	// A name in full is sent by the first Enter, and Escape puts the list away.
	await ana.say("@bo");
	await ana.box.pressSequentially("@bob");
	await ana.box.press("Escape");
	assert.deepEqual(await offers(), []);
	await ana.box.press("Enter");
	await ana.reads("hi @Bob Dean and @bo", "@bo", "@bob");
});

scenario("the mouse opens the menu of a message: reply, mention, copy", async ({ person }) => {
	const ana = await person({ viewport: { width: 1280, height: 800 } }), bo = await person();
	await ana.context.grantPermissions(["clipboard-read", "clipboard-write"]);
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	await bo.say("What about\nThursday?");
	await ana.reads("What about\nThursday?");
	const open = async (text) => {
		await bubble(ana, text).first().hover();
		await ana.button("Message actions").click();
	};
	await open("Thursday");
	assert.deepEqual(await entries(ana), ["Reply", "Copy text", "Mention bo", "Delete message", "Remove from the room"]);
	await press(ana, "Copy text");
	assert.equal(await ana.page.evaluate(() => navigator.clipboard.readText()), "What about\nThursday?");
	await open("Thursday");
	await press(ana, "Reply");
	assert.equal(await ana.box.inputValue(), "> What about\n> Thursday?\n@bo ");
	assert.ok(await ana.box.evaluate((box) => box === document.activeElement && box.selectionStart === box.value.length));
	await ana.page.keyboard.type("Fine");
	await ana.page.keyboard.press("Enter");
	await bo.reads("What about\nThursday?", "@bo Fine");
	assert.equal(await bo.page.locator("blockquote").textContent(), "What about\nThursday?");
	await open("What about Thursday?");
	await press(ana, "Mention");
	assert.equal(await ana.box.inputValue(), "@bo ");
	// A press elsewhere closes it and does nothing.
	await open("Fine");
	assert.deepEqual(await entries(ana), ["Reply", "Copy text", "Delete message"]);
	await ana.heading(/Room/).click();
	await menu(ana).waitFor({ state: "detached" });
});

scenario("a long press opens the menu, and a short one does not", async ({ person }) => {
	const ana = await person(TOUCH), bo = await person();
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	await bo.say("Hello");
	await ana.reads("Hello");
	const devtools = await ana.context.newCDPSession(ana.page), { x, y } = await bubble(ana, "Hello").boundingBox();
	const touch = (type, points) => devtools.send("Input.dispatchTouchEvent", { type, touchPoints: points });
	await ana.page.clock.install();
	const point = { x: x + 12, y: y + 12 };
	await touch("touchStart", [point]);
	await ana.page.clock.runFor(300);
	await touch("touchEnd", []);
	await ana.page.clock.runFor(1000);
	assert.equal(await menu(ana).count(), 0);
	// Nor does one that moves, to scroll.
	await touch("touchStart", [point]);
	await touch("touchMove", [{ x: point.x, y: point.y - 30 }]);
	await ana.page.clock.runFor(1000);
	await touch("touchEnd", []);
	assert.equal(await menu(ana).count(), 0);
	await touch("touchStart", [point]);
	await ana.page.clock.runFor(500);
	await touch("touchEnd", []);
	await menu(ana).waitFor();
	await press(ana, "Reply");
	assert.equal(await ana.box.inputValue(), "> Hello\n@bo ");
});

scenario("the keyboard reaches each message and its menu, and the focus is never lost", async ({ person }) => {
	const ana = await person(), { keyboard } = ana.page;
	await ana.open(server.url, "ana");
	await ana.say("one", "two", "three");
	await ana.reads("one", "two", "three");
	const focused = () => ana.page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.innerText);
	await ana.log.focus();
	await keyboard.press("ArrowUp");
	assert.equal(await focused(), "three");
	await keyboard.press("ArrowUp");
	assert.equal(await focused(), "two");
	await keyboard.press("Enter");
	await menu(ana).waitFor();
	assert.equal(await focused(), "Reply");
	await keyboard.press("ArrowUp");
	assert.equal(await focused(), "Delete message");
	await keyboard.press("ArrowDown");
	await keyboard.press("End");
	await keyboard.press("Home");
	assert.equal(await focused(), "Reply");
	await keyboard.press("Escape");
	assert.equal(await menu(ana).count(), 0);
	assert.equal(await focused(), "two");
	await keyboard.press("Shift+F10");
	await keyboard.press("End");
	await keyboard.press("Enter");
	await ana.page.getByRole("dialog").getByRole("button", { name: "Delete message" }).waitFor();
	await keyboard.press("Escape");
	await ana.page.getByRole("dialog").waitFor({ state: "detached" });
	await eventually(focused, "two");
	await keyboard.press("Escape");
	assert.equal(await focused(), "Conversation");
});

scenario("people delete their own messages, and the owner any", async ({ person }) => {
	const ana = await person({ viewport: { width: 1280, height: 800 } }), bo = await person({ viewport: { width: 1280, height: 800 } });
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	await ana.say("of ana");
	await bo.say("of bo", "rude");
	await bo.reads("of ana", "of bo", "rude");
	const open = async (one, text) => {
		await bubble(one, text).hover();
		await one.button("Message actions").click();
	};
	await open(bo, "of ana");
	assert.deepEqual(await entries(bo), ["Reply", "Copy text", "Mention ana"]);
	await bo.page.keyboard.press("Escape");
	const remove = async (one, text) => {
		await open(one, text);
		await press(one, "Delete message");
		await one.page.getByRole("dialog").getByText("The message is deleted for everyone.").waitFor();
		await one.page.getByRole("dialog").getByRole("button", { name: "Delete message" }).click();
	};
	const kept = async () => (await server.chats(await bo.page.evaluate(() => JSON.parse(Object.entries(localStorage).find(([key]) => key.endsWith(" session"))[1])), new URL(room).hash.slice(4))).filter(Boolean);
	await remove(bo, "of bo");
	await eventually(kept, ["of ana", "rude"]);
	await remove(ana, "rude");
	await eventually(kept, ["of ana"]);
});
