// Encrypted rooms: made and joined by the link, which holds the key; what the server gets; and what is said where the key
// is missing or wrong, a message does not open, or the browser can't encrypt.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { newKey } from "../../src/web/client.js";
import { eventually, harness, until } from "./harness.mjs";

const { default: jsQR } = createRequire(import.meta.url)("jsqr");
const { scenario, serve } = await harness();
const server = await serve("--leave-grace", "1h");
const wide = { viewport: { width: 1280, height: 800 } };
const PATH = /#\/r\/([0-9a-f]{32})\/([\w-]{43})$/;
const session = (one) => one.page.evaluate(() => JSON.parse(Object.entries(localStorage).find(([key]) => key.endsWith(" session"))[1]));
const dialog = (one, name) => one.page.getByRole("dialog", { name });
const signs = (one) => one.page.locator(".kind, .signs").allTextContents().then((all) => all.filter(Boolean).join(" · "));
const key = (one) => one.page.evaluate(() => location.hash.split("/")[3]);


// contract §10.17 §15.4
scenario("an encrypted room is made and joined by its link, and the server can't read it", async ({ person }) => {
	const ana = await person(wide), bo = await person(), asked = [];
	for (const one of [ana, bo]) one.page.on("request", (request) => asked.push(request.url(), request.postData() ?? ""));
	for (const one of [ana, bo]) one.page.on("websocket", (socket) => {
		asked.push(socket.url());
		socket.on("framesent", ({ payload }) => asked.push(payload));
	});
	await ana.page.goto(server.url);
	await ana.options();
	// What is listed is open to all.
	const listed = ana.page.getByLabel("List it publicly");
	await listed.check();
	await ana.page.getByLabel("Encrypted").check();
	assert.deepEqual([await listed.isChecked(), await listed.isDisabled()], [false, true]);
	await ana.page.getByLabel("Encrypted").uncheck();
	assert.equal(await listed.isDisabled(), false);
	await ana.page.getByText("whoever runs this server could read along, unless it is encrypted.").waitFor();
	const link = await ana.open(server.url, "ana", { title: "Tea", encrypted: true });
	const [, id, secret] = PATH.exec(link);
	const { encrypted, title, private: isPrivate } = await server.ask("GET", `rooms/${id}`);
	assert.deepEqual([encrypted, title, isPrivate], [true, "Tea", true]);
	await eventually(() => signs(ana), "Encrypted");
	await ana.page.getByText("The end of the link is the key.").waitFor();
	await bo.enter(link, "bo");
	await eventually(() => signs(bo), "Encrypted");
	await ana.say("Hello @bo", "`code` and 🦀");
	await bo.reads("Hello @bo", "code and 🦀");
	assert.equal(await bo.page.locator(".mention.me").textContent(), "@bo");
	await bo.box.pressSequentially("Hi");
	await eventually(() => ana.page.locator(".typing").textContent(), "bo is typing");
	await bo.box.press("Enter");
	await ana.reads("Hello @bo", "code and 🦀", "Hi");
	// A reload gets the history.
	await bo.page.reload();
	await bo.reads("Hello @bo", "code and 🦀", "Hi");
	const chats = await server.chats(await session(ana), id);
	assert.equal(chats.length, 3);
	for (const envelope of chats) assert.match(envelope, /^e1\.[\w-]+$/);
	for (const one of asked) for (const word of [secret, "Hello", "code and", "Hi\""]) assert.ok(!one.includes(word), `${word} in ${one}`);
});

scenario("what is shown, copied, shared and scanned is the link with the key", async ({ person }) => {
	const ana = await person();
	await ana.context.addInitScript(() => {
		window.shared = [];
		navigator.share = async (what) => { window.shared.push(what.url); };
	});
	const link = await ana.open(server.url, "ana", { encrypted: true });
	await ana.context.grantPermissions(["clipboard-read", "clipboard-write"]);
	await ana.button("Invite").click();
	const invite = dialog(ana, "Invite");
	assert.equal(await invite.getByRole("textbox", { name: "Link" }).inputValue(), link);
	await invite.getByText("The server never sees it.").waitFor();
	await invite.getByRole("button", { name: "Copy" }).click();
	await eventually(() => ana.page.evaluate(() => navigator.clipboard.readText()), link);
	await invite.getByRole("button", { name: "Share…" }).click();
	await eventually(() => ana.page.evaluate(() => window.shared), [link]);
	const picture = await invite.getByRole("img", { name: link }).screenshot();
	const page = await ana.context.newPage();
	const { width, height, data } = await page.evaluate(async (url) => {
		const image = new Image();
		image.src = url;
		await image.decode();
		const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
		context.drawImage(image, 0, 0);
		const { width, height, data } = context.getImageData(0, 0, image.width, image.height);
		return { width, height, data: [...data] };
	}, `data:image/png;base64,${picture.toString("base64")}`);
	await page.close();
	assert.equal(jsQR(Uint8ClampedArray.from(data), width, height)?.data, link);
});

scenario("the key is kept with the session: one's own list and a bare code open the room", async ({ person }) => {
	const ana = await person(), bo = await person();
	const link = await ana.open(server.url, "ana", { title: "Kept", encrypted: true }), [, id] = PATH.exec(link);
	await ana.say("Hello");
	await ana.reads("Hello");
	await bo.enter(link, "bo");
	for (const one of [ana, bo]) {
		await one.page.goto(server.url);
		assert.equal(await one.page.getByRole("link", { name: /Kept/ }).evaluate(({ href }) => href), link);
		await one.page.getByRole("link", { name: /Kept/ }).click();
		await one.reads("Hello");
		assert.equal(one.page.url(), link);
		await one.page.goto(server.url);
		await one.page.getByLabel("Link or code").fill(id);
		await one.button("Join").click();
		await one.reads("Hello");
		assert.equal(one.page.url(), link);
	}
	// It goes with the room or the membership, and with the session.
	const kept = (one) => one.page.evaluate(() => Object.entries(localStorage).some(([name, value]) => name.endsWith(" keys") && /[\w-]{43}/.test(value)));
	assert.equal(await kept(bo), true);
	await bo.more("Leave the room");
	await bo.heading("Disposable Chat").waitFor();
	assert.equal(await kept(bo), false);
	await bo.page.goto(`${server.url}#/r/${id}`);
	await bo.heading("This link is incomplete").waitFor();
	const cy = await person(), sure = (one, action) => one.page.getByRole("dialog").last().getByRole("button", { name: action }).click();
	await cy.enter(link, "cy");
	await ana.more("Delete the room");
	await sure(ana, "Delete the room");
	await ana.heading("Disposable Chat").waitFor();
	await cy.heading("This room was deleted").waitFor();
	for (const one of [ana, cy]) assert.equal(await kept(one), false);
	for (const title of ["One", "Two"]) {
		await cy.page.goto(server.url);
		await cy.options();
		await cy.page.getByLabel("Title").fill(title);
		await cy.page.getByLabel("Encrypted").check();
		await cy.button("Start a room").click();
		await cy.heading(title).waitFor();
		await cy.isIn();
	}
	assert.equal(await kept(cy), true);
	await cy.more("Start over");
	await sure(cy, "Start over");
	await cy.heading("Disposable Chat").waitFor();
	assert.equal(await kept(cy), false);
});

scenario("a link without its key says so before it asks for a name, and takes the whole one", async ({ person }) => {
	const ana = await person(), bo = await person();
	const link = await ana.open(server.url, "ana", { title: "Tea", password: "sesame", encrypted: true });
	await bo.page.goto(link.slice(0, -1));
	await bo.heading("This link is incomplete").waitFor();
	const field = bo.page.getByLabel("Link or code");
	await eventually(() => bo.page.evaluate(() => document.activeElement.name), "link");
	await field.fill(link.slice(0, -44));
	await bo.button("Join").click();
	await bo.page.getByRole("alert").filter({ hasText: "This link is incomplete" }).waitFor();
	await field.fill(`Come: ${link}.`);
	await bo.button("Join").click();
	await bo.heading("Join Tea").waitFor();
	await bo.page.getByLabel("Your name").fill("bo");
	await bo.page.getByLabel("Password").fill("sesame");
	await bo.button("Join").click();
	await bo.isIn();
	await bo.say("made it");
	await ana.reads("made it");
});

scenario("a wrong key is noticed when the owner speaks, and sends nothing", async ({ person }) => {
	const ana = await person(), bo = await person();
	const link = await ana.open(server.url, "ana", { encrypted: true }), [, id, secret] = PATH.exec(link);
	const wrong = `${link.slice(0, -43)}${newKey()}`;
	// Until another person writes, nothing shows that the key is wrong. A deleted message opens with any key.
	await ana.say("oops");
	await ana.reads("oops");
	const { messages } = await server.ask("GET", `rooms/${id}/messages`, null, (await session(ana)).session_id);
	await server.ask("DELETE", `rooms/${id}/messages/${messages.at(-1).id}`, null, (await session(ana)).session_id);
	await bo.enter(wrong, "bo");
	await bo.reads("Message deleted");
	await bo.box.fill("a draft");
	await ana.say("Hello");
	await bo.heading("This link is incomplete").waitFor();
	// After a reload it still is.
	await bo.page.reload();
	await bo.heading("This link is incomplete").waitFor();
	await bo.page.getByLabel("Link or code").fill(wrong);
	await bo.button("Join").click();
	await bo.page.getByRole("alert").filter({ hasText: "This link is incomplete" }).waitFor();
	await bo.page.getByLabel("Link or code").fill(link);
	await bo.button("Join").click();
	await bo.reads("Message deleted", "Hello");
	assert.equal(await bo.box.inputValue(), "a draft");
	// The right key is sure now, and survives a wrong link.
	await bo.page.goto(wrong);
	await bo.heading("This link is incomplete").waitFor();
	await bo.page.goto(`${server.url}#/r/${id}`);
	await bo.reads("Message deleted", "Hello");
	assert.equal(await key(bo), secret);
	assert.equal((await server.chats(await session(ana), id)).length, 2);
});

scenario("one guest with a wrong key puts nobody out, and two who have the right one show it", async ({ person }) => {
	const ana = await person(), bo = await person(), cy = await person(), dan = await person();
	const link = await ana.open(server.url, "ana", { encrypted: true });
	await bo.enter(link, "bo");
	// As if something on the way had changed capitals.
	const changed = [...link].map((one, at) => at < link.length - 43 ? one : one === one.toLowerCase() ? one.toUpperCase() : one.toLowerCase()).join("").replace(/.$/, "A");
	await cy.enter(changed, "cy");
	await cy.say("Hello?");
	for (const one of [ana, bo]) await one.reads("Unreadable message");
	await bo.say("Hello");
	await cy.reads("Hello?", "Unreadable message");
	await dan.enter(link, "dan");
	await dan.reads("Unreadable message", "Hello");
	await dan.say("Hey");
	await cy.heading("This link is incomplete").waitFor();
	for (const one of [ana, bo, dan]) await one.reads("Unreadable message", "Hello", "Hey");
});

scenario("a room that the server calls unencrypted is not told what a link with a key encrypts", async ({ person }) => {
	const owner = await server.openSession("owner"), id = await server.room(owner, { private: true });
	const ana = await person();
	await ana.page.goto(`${server.url}#/r/${id}/${newKey()}`);
	await ana.heading("This link is incomplete").waitFor();
	assert.equal(await ana.page.getByLabel("Your name").count(), 0);
});

// contract §15.4
scenario("an envelope that does not open is a quiet line, and raises no alert", async ({ person }) => {
	const ana = await person(wide), robot = await server.openSession("robot");
	await ana.context.addInitScript(() => {
		window.shown = [];
		window.Notification = class { static permission = "granted"; static requestPermission = async () => "granted"; constructor(title, { body }) { window.shown.push(body); } };
		Object.defineProperty(navigator, "serviceWorker", { value: undefined });
	});
	const link = await ana.open(server.url, "ana", { encrypted: true }), [, id, secret] = PATH.exec(link);
	await ana.more();
	await ana.page.getByLabel("Notifications").selectOption("all");
	await eventually(() => ana.page.evaluate(() => window.shown.splice(0).length), 1);
	await ana.page.keyboard.press("Escape");
	// The maker's key is right, whatever others send first.
	await server.postSealed(await server.openSession("rogue"), id);
	await server.postSealed(robot, id);
	await ana.reads("Unreadable message", "Unreadable message");
	await ana.page.evaluate(() => { Document.prototype.hasFocus = () => false; });
	await server.postSealed(robot, id);
	await server.postSealed(robot, id, "Hello", secret);
	await ana.reads(...Array(3).fill("Unreadable message"), "Hello");
	await eventually(() => ana.page.evaluate(() => window.shown), ["Hello"]);
	assert.equal(await ana.page.title(), "(1) Private room · Disposable Chat");
	// One that can be read can be answered; the other only removed.
	const entries = async (text) => {
		await ana.page.locator(".bubble", { hasText: text }).last().hover();
		await ana.button("Message actions").click();
		const all = await ana.page.getByRole("menuitem").allTextContents();
		await ana.page.keyboard.press("Escape");
		return all.map((one) => one.replace(/[\u2068\u2069]/g, ""));
	};
	assert.deepEqual(await entries("Hello"), ["Reply", "Copy text", "Mention robot", "Delete message", "Remove from the room"]);
	assert.deepEqual(await entries("Unreadable message"), ["Mention robot", "Delete message", "Remove from the room"]);
	await ana.page.locator(".bubble", { hasText: "Hello" }).hover();
	await ana.button("Message actions").click();
	await ana.page.getByRole("menuitem", { name: "Reply" }).click();
	assert.equal(await ana.box.inputValue(), "> Hello\n@robot ");
	// What is saved is what is read.
	await ana.more();
	const save = async (name) => {
		const [file] = await Promise.all([ana.page.waitForEvent("download"), dialog(ana, "More").getByRole("button", { name, exact: true }).click()]);
		return readFileSync(await file.path(), "utf8");
	};
	assert.match(await save("Text"), /rogue: \(Unreadable message\)\n.*(robot: \(Unreadable message\)\n.*){2}robot: Hello\n$/);
	assert.deepEqual(JSON.parse(await save("JSON")).filter(({ type }) => type === "chat").map(({ message, unreadable }) => unreadable ?? message), [true, true, true, "Hello"]);
	await ana.page.keyboard.press("Escape");
	// A deleted one is shown as deleted.
	const { messages } = await server.ask("GET", `rooms/${id}/messages`, null, robot.session_id), [first] = messages.filter(({ type }) => type === "chat");
	await server.ask("DELETE", `rooms/${id}/messages/${first.id}`, null, (await session(ana)).session_id);
	await ana.reads("Message deleted", "Unreadable message", "Unreadable message", "Hello");
	await ana.page.reload();
	await ana.reads("Message deleted", "Unreadable message", "Unreadable message", "Hello");
});

scenario("a change of name, and the owner's settings, keep the key", async ({ person }) => {
	const ana = await person(wide), bo = await person(wide);
	const link = await ana.open(server.url, "ana", { title: "Tea", encrypted: true });
	await bo.enter(link, "bo");
	await ana.say("before");
	await bo.reads("before");
	await ana.more("Change name");
	await dialog(ana, "Change name").getByLabel("Your name").fill("Ana");
	await dialog(ana, "Change name").getByRole("button", { name: "Change name" }).click();
	await until("it is said", async () => (await ana.notices()).some((line) => line.includes("You are now")));
	assert.equal(ana.page.url(), link);
	await ana.say("after");
	await bo.reads("before", "after");
	await ana.reads("before", "after");
	await ana.more("Room settings");
	await dialog(ana, "Room settings").getByLabel("Title").fill("Coffee");
	await dialog(ana, "Room settings").getByLabel("Lock the room").check();
	await dialog(ana, "Room settings").getByRole("button", { name: "Save" }).click();
	await bo.heading("Coffee").waitFor();
	await eventually(() => signs(bo), "Encrypted · Locked");
	await bo.page.reload();
	await bo.reads("before", "after");
	await bo.say("still here");
	await ana.reads("before", "after", "still here");
});

scenario("without WebCrypto the option is off with a reason, and a room says why it can't open", async ({ person }) => {
	const ana = await person(), bo = await person();
	const link = await ana.open(server.url, "ana", { encrypted: true });
	await bo.context.addInitScript(() => Object.defineProperty(Crypto.prototype, "subtle", { value: undefined }));
	await bo.page.goto(server.url);
	await bo.options();
	assert.equal(await bo.page.getByLabel("Encrypted").isDisabled(), true);
	await bo.page.getByText("Encryption needs a secure connection (https).").waitFor();
	for (const address of [link, link.slice(0, -44)]) {
		await bo.page.goto(address);
		await bo.heading("This room is encrypted").waitFor();
		await bo.page.getByText("Encryption needs a secure connection (https).").waitFor();
	}
	// Other rooms work as ever.
	await bo.page.goto(server.url);
	await bo.page.getByLabel("Your name").fill("bo");
	await bo.button("Start a room").click();
	await bo.isIn();
});

scenario("the lines for a program contain the key, and work in a shell", async ({ person }) => {
	const ana = await person();
	await ana.open(server.url, "ana", { encrypted: true });
	await ana.more("Use from a program");
	await dialog(ana, "Use from a program").getByText("These lines contain the room's key").waitFor();
	const text = await ana.page.locator(".commands").textContent();
	assert.ok(text.includes(await key(ana)));
	const shell = spawn("sh", ["-c", `${text.replace(/^node /m, "exec node ")}`], { cwd: mkdtempSync(join(tmpdir(), "robot-")), stdio: ["ignore", "pipe", "inherit"] });
	after(() => shell.kill());
	const ended = once(shell, "exit");
	await ana.reads("Hello from a program");
	let heard = "";
	shell.stdout.on("data", (bytes) => { heard += bytes; });
	await ana.page.keyboard.press("Escape");
	await ana.page.keyboard.press("Escape");
	await ana.say("Hello, robot");
	await until("it hears", () => heard.includes("ana Hello, robot"));
	shell.kill();
	await ended;
});
