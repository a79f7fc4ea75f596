// Accessibility and environments: keyboard only, screen readers, both languages, narrow and wide screens, both colour
// schemes, reduced motion, a proxy with a prefix, and no JavaScript.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after } from "node:test";
import { BROKEN, FaultyProxy, eventually, mount, harness, until } from "./harness.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const { scenario, serve } = await harness();
const server = await serve("--leave-grace", "1h", "--message-rate", "0", "--probe-timeout", "1h", "--guess-rate", "0");

// The focused element: its label, and whether its focus ring is visible.
const focus = (one) => one.page.evaluate(() => {
	const { activeElement: node } = document, { outlineStyle, outlineWidth } = getComputedStyle(node);
	return { tag: node.tagName, name: node.ariaLabel ?? node.labels?.[0]?.textContent ?? node.textContent, isSeen: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 };
});
const tabTo = async (one, name, key = "Tab") => {
	for (let n = 0; n < 25; n++) {
		await one.page.keyboard.press(key);
		const at = await focus(one);
		assert.notEqual(at.tag, "BODY", `the focus is lost before ${name}`);
		assert.ok(at.isSeen, `the focus of ${at.tag} ${at.name} is visible`);
		if (at.name === name) return;
	}
	assert.fail(`${name} can't be reached`);
};
const hasFocus = (one, name) => eventually(() => focus(one).then((at) => at.name), name);

scenario("everything works by keyboard, with a visible focus that is never lost", async ({ person, allow }) => {
	allow(/status of 404/);
	const ana = await person({ viewport: { width: 1280, height: 800 } }), { keyboard } = ana.page;
	await ana.page.goto(server.url);
	await ana.page.getByLabel("Your name").waitFor();
	await tabTo(ana, "Your name");
	await keyboard.type("ana");
	await tabTo(ana, "Options");
	await keyboard.press("Enter");
	await tabTo(ana, "Title");
	await keyboard.type("Tea");
	await tabTo(ana, "List it publicly");
	await tabTo(ana, "Start a room");
	await keyboard.press("Enter");
	await ana.isIn();
	await ana.page.locator(".kind svg").waitFor();
	await hasFocus(ana, "Message");
	await keyboard.type("Hello");
	await keyboard.press("Enter");
	await ana.reads("Hello");
	await hasFocus(ana, "Message");
	for (const [button, dialog, inside] of [["More", "More", "Sound"], ["Invite", "Invite", "Copy"], ["1 person", "1 person", "Close"]]) {
		await tabTo(ana, button, "Shift+Tab");
		await keyboard.press("Enter");
		await ana.page.getByRole("dialog", { name: dialog }).waitFor();
		assert.ok(await ana.page.evaluate(() => document.querySelector("dialog").contains(document.activeElement)), "the focus is in the dialog");
		if (inside !== "Close") await tabTo(ana, inside);
		if (inside === "Sound") {
			await keyboard.press("Space");
			assert.equal(await ana.page.getByLabel("Sound").isChecked(), true);
		}
		await keyboard.press("Escape");
		await ana.page.getByRole("dialog").waitFor({ state: "detached" });
		await hasFocus(ana, button);
	}
	await tabTo(ana, "More");
	await keyboard.press("Enter");
	await tabTo(ana, "Start over");
	await keyboard.press("Enter");
	await ana.page.getByRole("dialog", { name: "Start over" }).waitFor();
	await keyboard.press("Escape");
	await ana.page.getByRole("dialog", { name: "Start over" }).waitFor({ state: "detached" });
	await hasFocus(ana, "Start over");
	await tabTo(ana, "Leave the room", "Shift+Tab");
	await keyboard.press("Enter");
	await ana.heading("Disposable Chat").waitFor();
	await hasFocus(ana, "Disposable Chat");
	await tabTo(ana, "Link or code");
	await keyboard.type("0123456789abcdef0123456789abcdef");
	await keyboard.press("Enter");
	await ana.heading("Room not found").waitFor();
	await hasFocus(ana, "Room not found");
	await tabTo(ana, "All rooms");
	await keyboard.press("Enter");
	await ana.heading("Disposable Chat").waitFor();
});

scenario("the conversation can be scrolled by keyboard", async ({ person }) => {
	const bo = await server.openSession("bo"), id = await server.room(bo);
	await server.post(bo, id, ...Array.from({ length: 60 }, (_, n) => `line ${n}`));
	const ana = await person();
	await ana.enter(`${server.url}#/r/${id}`, "ana");
	await until("it is at the end", async () => (await ana.texts()).length === 60 && await ana.log.evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight < 2));
	await tabTo(ana, "Conversation", "Shift+Tab");
	// The listener is there before the key is pressed: on a busy machine the scroll had ended before.
	await ana.log.evaluate((log) => {
		window.rests = new Promise((resolve) => log.addEventListener("scrollend", () => resolve(true), { once: true }));
	});
	await ana.page.keyboard.press("PageUp");
	assert.ok(await ana.page.evaluate(() => window.rests));
	await ana.page.locator(".jump").waitFor();
	await tabTo(ana, "Latest");
	await ana.page.keyboard.press("Enter");
	await ana.page.locator(".jump").waitFor({ state: "hidden" });
	await hasFocus(ana, "Conversation");
});

scenario("a screen reader announces new messages, not the history", async ({ person }) => {
	const ana = await person(), bo = await person();
	const room = await ana.open(server.url, "ana");
	await ana.say("Hello");
	await ana.reads("Hello");
	await bo.enter(room, "bo");
	await bo.reads("Hello");
	// Collects what a screen reader would announce: messages added while the log is polite.
	const spoken = await person();
	await spoken.page.addInitScript(() => {
		window.spoken = [];
		new MutationObserver((changes) => {
			for (const { addedNodes } of changes) for (const node of addedNodes)
				for (const p of node.querySelectorAll?.(".bubble[data-id] p, .bubble[data-id] > p") ?? [])
					if (p.closest("[role=log]")?.getAttribute("aria-live") === "polite") window.spoken.push(p.textContent);
		}).observe(document, { childList: true, subtree: true });
	});
	await spoken.enter(room, "cy");
	await spoken.reads("Hello");
	await ana.say("now");
	await spoken.reads("Hello", "now");
	await bo.say("and now");
	await spoken.reads("Hello", "now", "and now");
	assert.deepEqual(await spoken.page.evaluate(() => window.spoken.filter((text) => text === "Hello")), []);
	assert.equal(await spoken.log.getAttribute("aria-live"), "polite");
	assert.equal(await spoken.page.getByRole("log", { name: "Conversation" }).count(), 1);
	for (const button of await spoken.page.getByRole("button").all()) assert.notEqual((await button.getAttribute("aria-label") ?? await button.innerText()).trim(), "");
});

const SIZES = [[360, 740], [1280, 800]];
// Only the size that the screen has: a change of it closes a menu, as turning a phone does.
const HERE = [["as it is"]];
// Checks the current screen with axe in both colour schemes and sizes, and that nothing scrolls sideways.
const look = async (one, screen, sizes = SIZES) => {
	const { page } = one, wrong = [];
	const kept = page.viewportSize();
	await page.evaluate(AXE);
	for (const colorScheme of ["light", "dark"]) {
		await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
		for (const [width, height] of sizes) {
			if (sizes !== HERE) await page.setViewportSize({ width, height });
			const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
			for (const { id, nodes } of violations) for (const { html, any } of nodes) wrong.push(`${screen}, ${colorScheme}, ${width}: ${id} ${html} ${any[0]?.message ?? ""}`);
		}
	}
	if (sizes !== HERE) await page.setViewportSize({ width: 320, height: 560 });
	const wide = await page.evaluate(() => [document.documentElement, ...document.querySelectorAll("main, main *, dialog, dialog *")].filter((node) => {
		// Text with an ellipsis, or for screen readers only, is cut off on purpose. Inputs and commands scroll their text.
		const { overflowX, textOverflow, clipPath } = getComputedStyle(node), isMeant = textOverflow === "ellipsis" || clipPath !== "none" || node.matches("input, .commands");
		return node.scrollWidth > node.clientWidth && !isMeant && (overflowX !== "visible" || node === document.documentElement);
	}).map((node) => `${node.tagName}.${node.className}`));
	if (wide.length) wrong.push(`${screen} at 320 pixels: ${wide}`);
	if (sizes !== HERE) await page.setViewportSize(kept);
	assert.deepEqual(wrong, []);
};
const dialog = async (one, open, screen) => {
	await open();
	await one.page.getByRole("dialog").last().waitFor();
	await look(one, screen);
	await one.page.keyboard.press("Escape");
};

scenario("axe finds no fault with the first screen", async ({ person, allow }) => {
	allow(/status of 4/);
	const owner = await server.openSession("owner");
	const ana = await person();
	await server.room(owner, { title: "A rather long title for a room that is to be listed in the lobby" });
	await ana.page.goto(server.url);
	await ana.page.getByRole("link", { name: /rather long/ }).waitFor();
	await look(ana, "lobby");
	await ana.button("Start a room").click();
	await ana.page.getByRole("alert").filter({ hasText: /./ }).first().waitFor();
	await look(ana, "lobby, with an error");
	await ana.open(server.url, "ana", { isPrivate: true });
	await ana.page.goto(server.url);
	await ana.page.getByText("Private room").waitFor();
	await look(ana, "lobby, with a session");
	await dialog(ana, () => ana.button("Start over").click(), "end the session?");
});

scenario("axe finds no fault with a room", async ({ person, allow }) => {
	allow(BROKEN);
	const proxy = await FaultyProxy.to(server.port);
	after(() => proxy.close());
	const ana = await person(), bo = await person();
	const room = await ana.open(proxy.url, "ana", { title: "Tea", isPrivate: true });
	await look(ana, "an empty room");
	await bo.enter(`${server.url}${new URL(room).hash}`, "bo");
	await bo.say("Hello", "see https://example.com/", "שלום");
	await ana.say("Hi", "and https://example.org/", "\u0085");
	await ana.page.locator(".refused").waitFor();
	await ana.box.fill("x".repeat(4001));
	await until("bo is typing", async () => {
		await bo.box.pressSequentially("x");
		return await ana.page.locator(".typing").textContent() !== "";
	});
	await look(ana, "a room");
	await dialog(ana, () => ana.button("Invite").click(), "invite");
	await dialog(ana, () => ana.button("More").click(), "more");
	await dialog(ana, () => ana.button("2 people").click(), "people");
	await ana.more();
	await dialog(ana, () => ana.button("Delete the room").click(), "delete?");
	await ana.page.keyboard.press("Escape");
	for (const button of ["Change name", "Room settings", "Use from a program"]) {
		await ana.more();
		await dialog(ana, () => ana.button(button).click(), button);
		await ana.page.keyboard.press("Escape");
	}
	await bo.say("> Hi\nHello again `code`\n```\nblock\n```", "🎉");
	await ana.page.locator(".bare").waitFor();
	await look(ana, "a quote, code and emoji");
	const menus = async (open, screen) => {
		await open();
		await ana.page.getByRole("menu").waitFor();
		await look(ana, screen, HERE);
		await ana.page.keyboard.press("Escape");
	};
	await menus(async () => {
		await ana.log.focus();
		await ana.page.keyboard.press("ArrowUp");
		await ana.page.keyboard.press("Enter");
	}, "the menu of a message");
	await ana.button("2 people").click();
	await menus(() => ana.button(/Actions for/).click(), "the menu of a person");
	await ana.button(/Actions for/).click();
	await dialog(ana, () => ana.page.getByRole("menuitem", { name: "Remove from the room" }).click(), "remove somebody");
	await ana.page.keyboard.press("Escape");
	await ana.box.fill("@b");
	await ana.page.getByRole("option").waitFor();
	await look(ana, "names that complete", HERE);
	await ana.box.fill("");
	const names = "abcdefghijkl".split("").map((letter) => `guest ${letter}`);
	for (const name of names) await server.post(await server.openSession(name), new URL(room).hash.slice(4), `I am ${name}`);
	await until("all messages are shown", async () => (await ana.texts()).at(-1) === "I am guest l");
	// Twelve colours of names, and the button that leads to the end.
	await ana.log.evaluate((log) => { log.scrollTop = 300; });
	await ana.page.locator(".jump").waitFor();
	await look(ana, "a room, scrolled up");
	await proxy.close();
	await ana.page.getByText("No connection.").waitFor();
	await ana.say("Not sent");
	await look(ana, "a room without a connection");
});

scenario("axe finds no fault with the screens before and after a room", async ({ person, allow }) => {
	allow(BROKEN, /status of 4/);
	const proxy = await FaultyProxy.to(server.port);
	after(() => proxy.close());
	const owner = await person(), ana = await person(), guest = await person();
	const room = await owner.open(server.url, "owner", { title: "Tea", password: "sesame" });
	await guest.page.goto(room);
	await guest.heading(/^Join /).waitFor();
	await look(guest, "name and password");
	await ana.open(server.url, "ana");
	await ana.page.goto(room);
	await ana.heading("This room has a password").waitFor();
	await look(ana, "password");
	await ana.page.getByLabel("Password").fill("wrong");
	await ana.button("Join").click();
	await ana.page.getByRole("alert").filter({ hasText: /./ }).waitFor();
	await look(ana, "wrong password");
	await ana.page.getByLabel("Password").fill("sesame");
	await ana.button("Join").click();
	await ana.isIn();
	await guest.page.getByLabel("Your name").fill("ana");
	await guest.page.getByLabel("Password").fill("sesame");
	await guest.button("Join").click();
	await guest.heading("The name ana is taken").waitFor();
	await look(guest, "name taken");
	const { session_id } = await ana.page.evaluate(() => JSON.parse(localStorage["disposable-chat / session"]));
	await server.ask("DELETE", `rooms/${new URL(room).hash.slice(4)}/leave`, null, session_id);
	await ana.heading("You have left this room").waitFor();
	await look(ana, "left");
	await ana.page.goto(`${server.url}#/r/0123456789`);
	await ana.heading("Room not found").waitFor();
	await look(ana, "gone");
	// The remaining screens follow a visit to a room.
	const mine = await server.ask("POST", "rooms", { title: "Mine" }, session_id);
	await owner.page.goto(`${proxy.url}#/r/${mine.room_id}`);
	await owner.page.getByLabel("Your name").fill("somebody");
	await owner.button("Join").click();
	await owner.isIn();
	await owner.box.fill("never sent");
	await server.ask("DELETE", `rooms/${mine.room_id}`, null, session_id);
	await owner.heading("This room was deleted").waitFor();
	await look(owner, "deleted");
	await proxy.close();
	await owner.page.evaluate(() => { location.hash = "#/r/0123456789"; });
	await owner.heading("The server can't be reached").waitFor();
	await look(owner, "unreachable");
	const { session_id: guests } = await guest.page.evaluate(() => JSON.parse(localStorage["disposable-chat / session"]));
	await guest.page.getByLabel("Your name").fill("guest");
	await guest.button("Join").click();
	await guest.heading("This room has a password").waitFor();
	await guest.page.getByLabel("Password").fill("sesame");
	await guest.button("Join").click();
	await guest.isIn();
	const fresh = await guest.page.evaluate(() => JSON.parse(localStorage["disposable-chat / session"]).session_id);
	assert.notEqual(fresh, guests);
	await server.ask("DELETE", "sessions/me", null, fresh);
	await guest.heading("Your session has ended").waitFor();
	await look(guest, "session ended");
});

scenario("an on-screen keyboard leaves space for the conversation", async ({ person }) => {
	const bo = await server.openSession("bo"), id = await server.room(bo);
	await server.post(bo, id, ...Array.from({ length: 30 }, (_, n) => `line ${n}`));
	const ana = await person();
	await ana.enter(`${server.url}#/r/${id}`, "ana");
	await until("all messages are shown", async () => (await ana.texts()).length === 30);
	await ana.box.focus();
	for (const [width, height] of [[360, 330], [320, 250], [360, 740]]) {
		await ana.page.setViewportSize({ width, height });
		await until(`the last message is visible above the input at ${width} × ${height}`, async () => {
			const last = await ana.page.locator(".list > :last-child").boundingBox(), box = await ana.box.boundingBox(), log = await ana.log.boundingBox();
			return last.y + last.height <= log.y + log.height && log.y + log.height <= box.y && box.y + box.height <= height && log.height > 60;
		});
	}
});

scenario("axe finds no fault with encrypted rooms", async ({ person }) => {
	const ana = await person(), bo = await person(), cy = await person(), robot = await server.openSession("robot");
	await ana.page.goto(server.url);
	await ana.options();
	await ana.page.getByLabel("Encrypted").check();
	await look(ana, "an encrypted room is chosen");
	const link = await ana.open(server.url, "ana", { encrypted: true }), [id, key] = new URL(link).hash.split("/").slice(2);
	await look(ana, "an empty encrypted room");
	await dialog(ana, () => ana.button("Invite").click(), "invite, with a key");
	await server.postSealed(robot, id);
	await server.postSealed(robot, id, "Hello", key);
	await ana.reads("Unreadable message", "Hello");
	await look(ana, "an unreadable message");
	await ana.more();
	await dialog(ana, () => ana.button("Use from a program").click(), "from a program, with a key");
	await bo.page.goto(link.slice(0, -44));
	await bo.heading("This link is incomplete").waitFor();
	await look(bo, "a key is missing");
	await bo.button("Join").click();
	await bo.page.getByRole("alert").filter({ hasText: /./ }).waitFor();
	await look(bo, "a key is still missing");
	await cy.context.addInitScript(() => Object.defineProperty(Crypto.prototype, "subtle", { value: undefined }));
	await cy.page.goto(link);
	await cy.heading("This room is encrypted").waitFor();
	await look(cy, "no WebCrypto");
	await cy.page.goto(server.url);
	await cy.options();
	await look(cy, "no encryption can be chosen");
});

scenario("a turned phone still shows the end of the conversation", async ({ person }) => {
	const bo = await server.openSession("bo"), id = await server.room(bo);
	await server.post(bo, id, ...Array.from({ length: 30 }, (_, n) => `${"some more words ".repeat(12)}${n}`));
	const ana = await person({ viewport: { width: 740, height: 360 } });
	await ana.enter(`${server.url}#/r/${id}`, "ana");
	const end = () => ana.log.evaluate((log) => Math.round(log.scrollHeight - log.scrollTop - log.clientHeight));
	await until("all messages are shown", async () => (await ana.texts()).length === 30 && await end() === 0);
	for (const [width, height] of [[360, 740], [740, 360], [360, 740]]) {
		await ana.page.setViewportSize({ width, height });
		// The scroll event comes in the frame after the layout.
		await ana.page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(resolve)))));
		await eventually(async () => [await end(), await ana.page.locator(".jump").isVisible()], [0, false]);
	}
});

scenario("a text that is too long says by how much", async ({ person }) => {
	const ana = await person();
	await ana.open(server.url, "ana");
	await ana.box.fill("x".repeat(3990));
	await ana.page.getByText("10 characters left").waitFor();
	await ana.box.fill("x".repeat(4001));
	await ana.page.getByText("1 character too many").waitFor();
});

scenario("the header says whether a room is public, and every question has an action and a way back", async ({ person }) => {
	const ana = await person(), bo = await person();
	const room = await ana.open(server.url, "ana", { title: "Tea" });
	const kind = () => ana.page.locator(".kind").textContent();
	await eventually(kind, "Public");
	await bo.enter(room, "bo");
	await ana.button("2 people").click();
	await ana.button(/Actions for/).last().click();
	for (const name of ["Make owner", "Remove from the room"]) {
		await ana.page.getByRole("menuitem", { name }).click();
		const box = ana.page.getByRole("dialog").last();
		await box.getByRole("button", { name, exact: true }).waitFor();
		await box.getByRole("button", { name: "Cancel" }).click();
		await eventually(() => ana.page.getByRole("dialog").count(), 1);
		await ana.button(/Actions for/).last().click();
	}
	await ana.page.keyboard.press("Escape");
	await ana.page.keyboard.press("Escape");
	await ana.more("Leave the room");
	await ana.page.goto(server.url);
	await ana.options();
	await ana.page.getByLabel("Title").fill("Quiet");
	await ana.button("Start a room").click();
	await ana.isIn();
	await eventually(kind, "Private");
});

scenario("zooming changes no layout, and the page follows what the keyboard of iOS scrolls away", async ({ person }) => {
	const ana = await person({ isMobile: true, hasTouch: true });
	await ana.open(server.url, "ana");
	const height = () => ana.log.evaluate((log) => log.clientHeight), before = await height();
	const devtools = await ana.context.newCDPSession(ana.page);
	await devtools.send("Emulation.setPageScaleFactor", { pageScaleFactor: 5 });
	await until("it is zoomed", () => ana.page.evaluate(() => visualViewport.scale > 4.9 && visualViewport.height < 200));
	await ana.page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
	assert.equal(await height(), before);
	await devtools.send("Emulation.setPageScaleFactor", { pageScaleFactor: 1 });
	await until("it is not zoomed", () => ana.page.evaluate(() => visualViewport.scale === 1));
	// iOS shrinks the visual viewport only, and scrolls it.
	await ana.page.evaluate(() => {
		for (const [name, value] of [["height", 400], ["offsetTop", 120]]) Object.defineProperty(visualViewport, name, { value });
		visualViewport.dispatchEvent(new Event("scroll"));
	});
	await eventually(() => ana.page.locator(".room").boundingBox().then(({ y, height }) => [y, height]), [120, 400]);
});

scenario("a dialog closes by a press outside only, which begins and ends there", async ({ person }) => {
	const ana = await person({ viewport: { width: 800, height: 700 } }), { mouse } = ana.page;
	await ana.open(server.url, "ana");
	await ana.button("Invite").click();
	const box = ana.page.getByRole("dialog"), { x, y, width, height } = await box.boundingBox();
	const drag = async (from, to) => {
		await mouse.move(...from);
		await mouse.down();
		await mouse.move(...to);
		await mouse.up();
	};
	const inside = [x + width / 2, y + height / 2], padding = [x + 6, y + height / 2], outside = [x - 40, y + height / 2];
	for (const [from, to] of [[inside, outside], [outside, inside], [padding, padding], [padding, outside]]) {
		await drag(from, to);
		assert.equal(await box.count(), 1, `${from} to ${to}`);
	}
	await drag(outside, [outside[0], outside[1] + 5]);
	await box.waitFor({ state: "detached" });
});

scenario("with forced colours bubbles have a border, and long names leave what they do readable", async ({ person }) => {
	const ana = await person({ forcedColors: "active" }), bo = await person();
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "b".repeat(50));
	await bo.say("Hello");
	await ana.say("Hi");
	await ana.reads("Hello", "Hi");
	assert.deepEqual(await ana.page.locator(".bubble").evaluateAll((all) => all.map((node) => getComputedStyle(node).borderTopWidth)), ["1px", "3px"]);
	await until("bo is shown as typing", async () => {
		await bo.box.pressSequentially("x");
		return await ana.page.locator(".typing").textContent() !== "";
	});
	const [typing, end] = await ana.page.locator(".typing").evaluate((node) => {
		const range = document.createRange();
		range.selectNodeContents(node.lastChild);
		return [node.getBoundingClientRect().right, range.getBoundingClientRect().right];
	});
	assert.ok(end <= typing && end > 0, `${end} is within ${typing}`);
	const { height } = await ana.button("2 people").boundingBox();
	assert.ok(height >= 44, `${height}`);
});

scenario("on a wide screen the conversation is centred and no wider than 60 rem", async ({ person }) => {
	const ana = await person({ viewport: { width: 1920, height: 900 } }), bo = await person();
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	await bo.say("Hello");
	await ana.say("Hi");
	await ana.reads("Hello", "Hi");
	const [log, list] = [await ana.log.boundingBox(), await ana.page.locator(".list").first().boundingBox()];
	assert.ok(list.width <= 960 && Math.abs(list.x + list.width / 2 - log.x - log.width / 2) < 10, JSON.stringify([log, list]));
});

scenario("with reduced motion nothing is animated", async ({ person }) => {
	const ana = await person({ reducedMotion: "reduce" });
	await ana.open(server.url, "ana");
	await ana.say("Hello");
	await ana.reads("Hello");
	await ana.more();
	// The only animation shows a note after a second, in one step.
	assert.deepEqual(await ana.page.evaluate(() => document.getAnimations().map((one) => one.animationName).filter((name) => name !== "late")), []);
	assert.deepEqual(await ana.page.evaluate(() => [...new Set([...document.querySelectorAll("*")].flatMap((node) => {
		const { transitionDuration, scrollBehavior } = getComputedStyle(node);
		return [transitionDuration, scrollBehavior];
	}))].sort()), ["0s", "auto"]);
});

scenario("a browser set to Portuguese gets Brazilian Portuguese, all others English", async ({ person }) => {
	const ana = await person({ locale: "pt-BR" }), bo = await person({ locale: "de-DE" });
	await ana.page.goto(server.url);
	await ana.page.getByLabel("Seu nome").fill("ana");
	assert.equal(await ana.page.evaluate(() => document.documentElement.lang), "pt-BR");
	await ana.button("Criar uma sala").click();
	await ana.isIn();
	await ana.page.getByText("1 pessoa").waitFor();
	await bo.enter(ana.page.url(), "bo");
	assert.equal(await bo.page.evaluate(() => document.documentElement.lang), "en");
	await ana.page.getByText("2 pessoas").waitFor();
	await eventually(() => ana.notices(), ["ana e bo entraram"]);
	await ana.page.getByRole("textbox", { name: "Mensagem" }).fill("Olá");
	await ana.page.keyboard.press("Enter");
	await bo.reads("Olá");
	await until("bo is shown as typing", async () => {
		await bo.box.pressSequentially("x");
		return await ana.page.locator(".typing").textContent() === "bo está digitando";
	});
	await ana.button("Mais", { exact: true }).click();
	await ana.button("Apagar a sala").click();
	await ana.page.getByRole("dialog", { name: "Apagar a sala" }).getByRole("button", { name: "Apagar a sala" }).click();
	await ana.page.locator("p.row").getByText("Você é ana.").waitFor();
	await bo.heading("This room was deleted").waitFor();
});

scenario("a language is what the browser prefers of those there are, and loads no other", async ({ person }) => {
	for (const [languages, lang, label] of [
		[["de", "es-MX", "en"], "es-MX", "Tu nombre"],
		[["EN-us", "pt"], "EN-us", "Your name"],
		[["en-US@posix"], "en", "Your name"], // No language tag: Intl throws.
		[["en-US@posix", "pt-PT"], "pt-PT", "Seu nome"],
		[[], "en", "Your name"],
	]) {
		const one = await person(), asked = [];
		await one.context.addInitScript((languages) => Object.defineProperty(navigator, "languages", { value: languages }), languages);
		one.page.on("request", (request) => asked.push(new URL(request.url()).pathname));
		await one.page.goto(server.url);
		await one.page.getByLabel(label).waitFor();
		assert.equal(await one.page.evaluate(() => document.documentElement.lang), lang);
		assert.deepEqual(asked.filter((path) => /page\/(?!qr)..\.js$/.test(path)), [`/page/${lang.slice(0, 2).toLowerCase()}.js`]);
	}
});

scenario("without JavaScript the page describes itself and links to the API", async ({ person, allow }) => {
	allow(/favicon\.ico/); // JSON documents can't declare an icon.
	const url = await mount(server.port, "/tools/chat/");
	const ana = await person({ javaScriptEnabled: false });
	await ana.page.goto(url);
	await ana.heading("Disposable Chat").waitFor();
	assert.match(await ana.page.locator("noscript p").innerText(), /^Chat rooms that vanish .* This page needs JavaScript; .* API: see the docs and openapi\.json\.$/);
	for (const name of ["docs", "openapi.json"]) {
		const link = ana.page.getByRole("link", { name, exact: true });
		const [answer] = await Promise.all([ana.page.waitForResponse(`${url}${name}`), link.click()]);
		assert.equal(answer.status(), 200);
		await ana.page.goto(url);
	}
});

scenario("everything works under a proxy's prefix", async ({ person }) => {
	const url = await mount(server.port, "/tools/chat/");
	const ana = await person(), bo = await person();
	const asked = [];
	for (const one of [ana, bo]) one.page.on("request", (request) => asked.push(request.url()));
	const room = await ana.open(url, "ana", { title: "Below" });
	assert.ok(room.startsWith(`${url}#/r/`));
	await bo.enter(room, "bo");
	await ana.say("Hello");
	await bo.say("Hi");
	await ana.reads("Hello", "Hi");
	await bo.page.reload();
	await bo.reads("Hello", "Hi");
	await bo.button("Invite").click();
	assert.equal(await bo.page.getByRole("textbox", { name: "Link" }).inputValue(), room);
	await bo.page.keyboard.press("Escape");
	await bo.more("Leave the room");
	await bo.page.getByRole("link", { name: /Below/ }).first().waitFor();
	assert.equal(bo.page.url().replace("#", ""), url);
	await ana.button("1 person").waitFor();
	await bo.page.getByRole("link", { name: "API", exact: true }).click();
	await bo.page.waitForURL(`${url}docs`);
	assert.deepEqual(asked.filter((one) => !one.startsWith(url) && !one.startsWith("data:")), [], "no requests to other origins");
	// The session is not shared with another server on the same host.
	const other = await mount(server.port, "/other/");
	assert.notEqual(new URL(other).origin, new URL(url).origin);
	await ana.page.goto(`${new URL(url).origin}/tools/chat/?again`);
	await ana.page.getByText("You are ana.").waitFor();
});
