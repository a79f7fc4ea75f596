// For everybody: by keyboard alone, by screen reader, in both languages and directions of text, on narrow screens and
// wide ones, in the light and in the dark, with still pictures, behind a proxy, and without JavaScript.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after } from "node:test";
import { BadLine, eventually, mount, stage, until } from "./stage.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const { scene, serve } = await stage();
const server = await serve("--leave-grace", "1h", "--message-rate", "0", "--probe-timeout", "1h", "--guess-rate", "0");

// Who has the focus: its label, and whether one sees that.
const focus = (one) => one.page.evaluate(() => {
	const { activeElement: node } = document, { outlineStyle, outlineWidth } = getComputedStyle(node);
	return { tag: node.tagName, name: node.ariaLabel ?? node.labels?.[0]?.textContent ?? node.textContent, isSeen: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 };
});
const tabTo = async (one, name, key = "Tab") => {
	for (let n = 0; n < 25; n++) {
		await one.page.keyboard.press(key);
		const at = await focus(one);
		assert.notEqual(at.tag, "BODY", `on the way to ${name}`);
		assert.ok(at.isSeen, `one sees that ${at.tag} ${at.name} has the focus`);
		if (at.name === name) return;
	}
	assert.fail(`no way to ${name}`);
};
const hasFocus = (one, name) => eventually(() => focus(one).then((at) => at.name), name);

scene("the keyboard is enough, and the focus is seen and never lost", async ({ person, noise }) => {
	noise(/status of 404/);
	const ana = await person({ viewport: { width: 1280, height: 800 } }), { keyboard } = ana.page;
	await ana.page.goto(server.url);
	await ana.page.getByLabel("Your name").waitFor();
	await tabTo(ana, "Your name");
	await keyboard.type("ana");
	await tabTo(ana, "Title (optional)");
	await keyboard.type("Tea");
	await tabTo(ana, "Private");
	await keyboard.press("Space");
	await tabTo(ana, "Open a room");
	await keyboard.press("Enter");
	await ana.isIn();
	await ana.page.locator(".title > svg").waitFor();
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
	await tabTo(ana, "End my session");
	await keyboard.press("Enter");
	await ana.page.getByRole("dialog", { name: "End my session" }).waitFor();
	await keyboard.press("Escape");
	await ana.page.getByRole("dialog", { name: "End my session" }).waitFor({ state: "detached" });
	await hasFocus(ana, "End my session");
	await tabTo(ana, "Leave the room", "Shift+Tab");
	await keyboard.press("Enter");
	await ana.heading("Disposable Chat").waitFor();
	await hasFocus(ana, "Disposable Chat");
	await tabTo(ana, "Link or code");
	await keyboard.type("0123456789abcdef0123456789abcdef");
	await keyboard.press("Enter");
	await ana.heading("There is no such room").waitFor();
	await hasFocus(ana, "There is no such room");
	await tabTo(ana, "All rooms");
	await keyboard.press("Enter");
	await ana.heading("Disposable Chat").waitFor();
});

scene("what was said can be scrolled by keyboard", async ({ person }) => {
	const bo = await server.somebody("bo"), id = await server.room(bo);
	await server.says(bo, id, ...Array.from({ length: 60 }, (_, n) => `line ${n}`));
	const ana = await person();
	await ana.enter(`${server.url}#/r/${id}`, "ana");
	await until("it is at the end", async () => (await ana.texts()).length === 60 && await ana.log.evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight < 2));
	await tabTo(ana, "Conversation", "Shift+Tab");
	const rests = ana.log.evaluate((log) => new Promise((resolve) => { log.addEventListener("scrollend", resolve, { once: true }); }).then(() => true));
	await ana.page.keyboard.press("PageUp");
	assert.ok(await rests);
	await ana.page.locator(".jump").waitFor();
	await tabTo(ana, "Newest");
	await ana.page.keyboard.press("Enter");
	await ana.page.locator(".jump").waitFor({ state: "hidden" });
	await hasFocus(ana, "Conversation");
});

scene("a screen reader is told what is said, and not what was", async ({ person }) => {
	const ana = await person(), bo = await person();
	const room = await ana.open(server.url, "ana");
	await ana.say("Hello");
	await ana.reads("Hello");
	await bo.enter(room, "bo");
	await bo.reads("Hello");
	// What is added while it is polite is read out; this is what was.
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
// Looks at the present screen with axe in both colour schemes and sizes, and whether it must be scrolled sideways.
const look = async (one, screen) => {
	const { page } = one, wrong = [];
	const kept = page.viewportSize();
	await page.evaluate(AXE);
	for (const colorScheme of ["light", "dark"]) {
		await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
		for (const [width, height] of SIZES) {
			await page.setViewportSize({ width, height });
			const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
			for (const { id, nodes } of violations) for (const { html, any } of nodes) wrong.push(`${screen}, ${colorScheme}, ${width}: ${id} ${html} ${any[0]?.message ?? ""}`);
		}
	}
	await page.setViewportSize({ width: 320, height: 560 });
	const wide = await page.evaluate(() => [document.documentElement, ...document.querySelectorAll("main, main *, dialog, dialog *")].filter((node) => {
		// What ends in an ellipsis is meant to, and what one types in scrolls by itself.
		const { overflowX, textOverflow } = getComputedStyle(node), isMeant = textOverflow === "ellipsis" || node.matches("input");
		return node.scrollWidth > node.clientWidth && !isMeant && (overflowX !== "visible" || node === document.documentElement);
	}).map((node) => `${node.tagName}.${node.className}`));
	if (wide.length) wrong.push(`${screen} at 320 pixels: ${wide}`);
	await page.setViewportSize(kept);
	assert.deepEqual(wrong, []);
};
const dialog = async (one, open, screen) => {
	await open();
	await one.page.getByRole("dialog").last().waitFor();
	await look(one, screen);
	await one.page.keyboard.press("Escape");
};

scene("axe finds nothing wrong with the first screen", async ({ person, noise }) => {
	noise(/status of 4/);
	const owner = await server.somebody("owner");
	const ana = await person();
	await server.room(owner, { title: "A rather long title for a room that is to be listed in the lobby" });
	await ana.page.goto(server.url);
	await ana.page.getByRole("link", { name: /rather long/ }).waitFor();
	await look(ana, "lobby");
	await ana.button("Open a room").click();
	await ana.page.getByRole("alert").filter({ hasText: /./ }).first().waitFor();
	await look(ana, "lobby, something wrong");
	await ana.open(server.url, "ana", { isPrivate: true });
	await ana.page.goto(server.url);
	await ana.page.getByText("Private room").waitFor();
	await look(ana, "lobby, as somebody");
	await dialog(ana, () => ana.button("End my session").click(), "end the session?");
});

scene("axe finds nothing wrong with a room", async ({ person, noise }) => {
	noise(/WebSocket connection to .* failed|ERR_CONNECTION/);
	const line = await BadLine.to(server.port);
	after(() => line.break());
	const ana = await person(), bo = await person();
	const room = await ana.open(line.url, "ana", { title: "Tea", isPrivate: true });
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
	await ana.box.fill("");
	const names = "abcdefghijkl".split("").map((letter) => `guest ${letter}`);
	for (const name of names) await server.says(await server.somebody(name), new URL(room).hash.slice(4), `I am ${name}`);
	await until("all have spoken", async () => (await ana.texts()).at(-1) === "I am guest l");
	// Twelve colours of names, and the way down.
	await ana.log.evaluate((log) => { log.scrollTop = 300; });
	await ana.page.locator(".jump").waitFor();
	await look(ana, "a room, scrolled up");
	await line.break();
	await ana.page.getByText("No connection.").waitFor();
	await ana.say("Is anybody there?");
	await look(ana, "a room without a line");
});

scene("axe finds nothing wrong with the doors and the endings", async ({ person, noise }) => {
	noise(/status of 4|WebSocket connection to .* failed|ERR_CONNECTION/);
	const line = await BadLine.to(server.port);
	after(() => line.break());
	const owner = await person(), ana = await person(), guest = await person();
	const room = await owner.open(server.url, "owner", { title: "Tea", password: "sesame" });
	await guest.page.goto(room);
	await guest.heading("Who are you?").waitFor();
	await look(guest, "name and password");
	await ana.open(server.url, "ana");
	await ana.page.goto(room);
	await ana.heading("This room has a password").waitFor();
	await look(ana, "password");
	await ana.page.getByLabel("Password").fill("wrong");
	await ana.button("Go in").click();
	await ana.page.getByRole("alert").filter({ hasText: /./ }).waitFor();
	await look(ana, "wrong password");
	await ana.page.getByLabel("Password").fill("sesame");
	await ana.button("Go in").click();
	await ana.isIn();
	await guest.page.getByLabel("Your name").fill("ana");
	await guest.page.getByLabel("Password").fill("sesame");
	await guest.button("Go in").click();
	await guest.heading("Somebody here is called ana").waitFor();
	await look(guest, "name taken");
	const { session_id } = await ana.page.evaluate(() => JSON.parse(localStorage["disposable-chat / session"]));
	await server.ask("DELETE", `rooms/${new URL(room).hash.slice(4)}/leave`, null, session_id);
	await ana.heading("You have left this room").waitFor();
	await look(ana, "left");
	await ana.page.goto(`${server.url}#/r/0123456789`);
	await ana.heading("There is no such room").waitFor();
	await look(ana, "gone");
	// The others come from within a room.
	const mine = await server.ask("POST", "rooms", { title: "Mine" }, session_id);
	await owner.page.goto(`${line.url}#/r/${mine.room_id}`);
	await owner.page.getByLabel("Your name").fill("somebody");
	await owner.button("Go in").click();
	await owner.isIn();
	await owner.box.fill("never sent");
	await server.ask("DELETE", `rooms/${mine.room_id}`, null, session_id);
	await owner.heading("This room was deleted").waitFor();
	await look(owner, "deleted");
	await line.break();
	await owner.page.evaluate(() => { location.hash = "#/r/0123456789"; });
	await owner.heading("The server can't be reached").waitFor();
	await look(owner, "unreachable");
	const { session_id: guests } = await guest.page.evaluate(() => JSON.parse(localStorage["disposable-chat / session"]));
	await guest.page.getByLabel("Your name").fill("guest");
	await guest.button("Go in").click();
	await guest.heading("This room has a password").waitFor();
	await guest.page.getByLabel("Password").fill("sesame");
	await guest.button("Go in").click();
	await guest.isIn();
	const fresh = await guest.page.evaluate(() => JSON.parse(localStorage["disposable-chat / session"]).session_id);
	assert.notEqual(fresh, guests);
	await server.ask("DELETE", "sessions/me", null, fresh);
	await guest.heading("Your session has ended").waitFor();
	await look(guest, "session ended");
});

scene("a keyboard on the screen leaves room for the talk", async ({ person }) => {
	const bo = await server.somebody("bo"), id = await server.room(bo);
	await server.says(bo, id, ...Array.from({ length: 30 }, (_, n) => `line ${n}`));
	const ana = await person();
	await ana.enter(`${server.url}#/r/${id}`, "ana");
	await until("it has all come", async () => (await ana.texts()).length === 30);
	await ana.box.focus();
	for (const [width, height] of [[360, 330], [320, 250], [360, 740]]) {
		await ana.page.setViewportSize({ width, height });
		await until(`the last line is seen above the box at ${width} × ${height}`, async () => {
			const last = await ana.page.locator(".list > :last-child").boundingBox(), box = await ana.box.boundingBox(), log = await ana.log.boundingBox();
			return last.y + last.height <= log.y + log.height && log.y + log.height <= box.y && box.y + box.height <= height && log.height > 60;
		});
	}
});

scene("who wants less motion gets none", async ({ person }) => {
	const ana = await person({ reducedMotion: "reduce" });
	await ana.open(server.url, "ana");
	await ana.say("Hello");
	await ana.reads("Hello");
	await ana.more();
	// The one animation there is lets something appear after a second, at once.
	assert.deepEqual(await ana.page.evaluate(() => document.getAnimations().map((one) => one.animationName).filter((name) => name !== "late")), []);
	assert.deepEqual(await ana.page.evaluate(() => [...new Set([...document.querySelectorAll("*")].flatMap((node) => {
		const { transitionDuration, scrollBehavior } = getComputedStyle(node);
		return [transitionDuration, scrollBehavior];
	}))].sort()), ["0s", "auto"]);
});

scene("it speaks Brazilian Portuguese to whom it is told to, and English to all others", async ({ person }) => {
	const ana = await person({ locale: "pt-BR" }), bo = await person({ locale: "de-DE" });
	await ana.page.goto(server.url);
	await ana.page.getByLabel("Seu nome").fill("ana");
	assert.equal(await ana.page.evaluate(() => document.documentElement.lang), "pt-BR");
	await ana.button("Abrir uma sala").click();
	await ana.isIn();
	await ana.page.getByText("1 pessoa").waitFor();
	await bo.enter(ana.page.url(), "bo");
	assert.equal(await bo.page.evaluate(() => document.documentElement.lang), "en");
	await ana.page.getByText("2 pessoas").waitFor();
	await eventually(() => ana.notices(), ["ana e bo entraram"]);
	await ana.page.getByRole("textbox", { name: "Mensagem" }).fill("Olá");
	await ana.page.keyboard.press("Enter");
	await bo.reads("Olá");
	await until("bo is seen to type", async () => {
		await bo.box.pressSequentially("x");
		return await ana.page.locator(".typing").textContent() === "bo está digitando";
	});
	await ana.button("Mais", { exact: true }).click();
	await ana.button("Apagar a sala").click();
	await ana.page.getByRole("dialog", { name: "Apagar a sala" }).getByRole("button", { name: "Apagar a sala" }).click();
	await ana.page.getByText("Você é ana.").waitFor();
	await bo.heading("This room was deleted").waitFor();
});

scene("every word it has is there in both languages", async ({ person }) => {
	const keys = async (locale) => {
		const one = await person({ locale });
		await one.page.goto(server.url);
		await one.page.getByRole("textbox").first().waitFor();
		return one.page.evaluate(async () => {
			const words = await (await fetch("page/words.js")).text(), { t } = await import(new URL("page/words.js", location));
			const found = [...words.matchAll(/^\t(\w+): \[/gm)].map(([, key]) => key);
			return found.map((key) => [key, t(key, { n: 2, user: "u", room: "r", who: "w", why: "y", id: "i" })]);
		});
	};
	const [english, portuguese] = [await keys("en-US"), await keys("pt-BR")];
	assert.ok(english.length > 70);
	for (const [n, [key, text]] of english.entries()) {
		assert.ok(text && portuguese[n][1], key);
		assert.doesNotMatch(text + portuguese[n][1], /undefined|[{}|]/, key);
		assert.notEqual(text, portuguese[n][1], key);
	}
});

scene("without JavaScript it says what it is, and where the API is", async ({ person, noise }) => {
	noise(/favicon\.ico/); // A document of JSON can't say that it has none.
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

scene("all works below a proxy's prefix", async ({ person }) => {
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
	await bo.page.getByRole("link", { name: "For programs" }).click();
	await bo.page.waitForURL(`${url}docs`);
	assert.deepEqual(asked.filter((one) => !one.startsWith(url) && !one.startsWith("data:")), [], "nothing from anywhere else");
	// Another server of the same host isn't told who one is.
	const other = await mount(server.port, "/other/");
	assert.notEqual(new URL(other).origin, new URL(url).origin);
	await ana.page.goto(`${new URL(url).origin}/tools/chat/?again`);
	await ana.page.getByText("You are ana.").waitFor();
});
