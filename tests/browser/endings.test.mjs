// How a visit to a room ends: each reason has its own screen, with a way back if there is one.
import assert from "node:assert/strict";
import { after } from "node:test";
import { BROKEN, FaultyProxy, Server, eventually, harness, until } from "./harness.mjs";

const { scenario, serve } = await harness();
const server = await serve("--leave-grace", "1h", "--probe-timeout", "1h", "--guess-rate", "0");
const unsent = (one) => one.page.getByLabel("This was not sent:");
const home = (one) => one.page.getByRole("link", { name: "All rooms" });
const dialogs = (one) => one.page.getByRole("dialog").count();
const hasDelete = async (one) => {
	await one.more();
	const has = await one.button("Delete the room").count();
	await one.page.keyboard.press("Escape");
	return has === 1;
};
const session = (one) => one.page.evaluate(() => JSON.parse(Object.entries(localStorage).find(([key]) => key.endsWith(" session"))[1]).session_id);

scenario("only the owner can delete a room, and must confirm", async ({ person }) => {
	const ana = await person(), bo = await person();
	const room = await ana.open(server.url, "ana", { title: "Tea" });
	await bo.enter(room, "bo");
	assert.equal(await hasDelete(bo), false);
	await bo.box.fill("I was about to say");
	await bo.button("Invite").click();
	await ana.more("Delete the room");
	await ana.page.getByText("The room and all its messages are deleted for everyone.").waitFor();
	await ana.page.getByRole("dialog", { name: "Delete the room" }).getByRole("button", { name: "Cancel" }).click();
	await ana.page.keyboard.press("Escape");
	await eventually(() => dialogs(ana), 0);
	await ana.more("Delete the room");
	await ana.page.getByRole("dialog", { name: "Delete the room" }).getByRole("button", { name: "Delete the room" }).click();
	await ana.heading("Disposable Chat").waitFor();
	assert.equal(await dialogs(ana), 0);
	await bo.heading("This room was deleted").waitFor();
	assert.equal(await dialogs(bo), 0, "no dialog covers the screen");
	assert.equal(await unsent(bo).inputValue(), "I was about to say");
	assert.equal(await bo.button("Try again").count(), 0, "a deleted room can't be retried");
	await home(bo).click();
	await bo.heading("Disposable Chat").waitFor();
	assert.equal(await bo.page.getByText("Tea").count(), 0);
});

scenario("when the owner's session ends, the other member becomes the owner", async ({ person }) => {
	const ana = await person(), bo = await person();
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	await ana.more("Start over");
	await ana.page.getByText("You leave all rooms, in all tabs, and choose a new name.").waitFor();
	await ana.page.getByRole("dialog", { name: "Start over" }).getByRole("button", { name: "Start over" }).click();
	await eventually(() => ana.page.getByLabel("Your name").inputValue(), "ana");
	await bo.page.getByText("ana left").waitFor();
	await bo.page.reload();
	await bo.isIn();
	assert.equal(await hasDelete(bo), true);
});

scenario("a room deleted during a disconnection shows the unsent messages", async ({ person, allow }) => {
	allow(BROKEN, /status of 404/);
	const proxy = await FaultyProxy.to(server.port);
	after(() => proxy.close());
	const ana = await person();
	const room = await ana.open(proxy.url, "ana");
	const secret = await session(ana);
	await proxy.close();
	await ana.page.getByText("No connection.").waitFor();
	await ana.say("one");
	await ana.box.fill("two");
	await server.ask("DELETE", `rooms/${new URL(room).hash.slice(4)}`, null, secret);
	await proxy.reopen();
	await ana.wake();
	await ana.heading("Room not found").waitFor();
	assert.equal(await unsent(ana).inputValue(), "one\n\ntwo");
	await ana.context.grantPermissions(["clipboard-read", "clipboard-write"]);
	await ana.button("Copy").click();
	await ana.button("Copied").waitFor();
	assert.equal(await ana.page.evaluate(() => navigator.clipboard.readText()), "one\n\ntwo");
	await ana.page.reload();
	await ana.heading("Room not found").waitFor();
	assert.equal(await unsent(ana).count(), 0, "they are not stored");
});

scenario("a session ended in one tab has ended in the other", async ({ person }) => {
	const ana = await person();
	const room = await ana.open(server.url, "ana");
	const second = await ana.context.newPage();
	await second.goto(server.url);
	await second.getByRole("button", { name: "Start over" }).click();
	await second.getByRole("dialog").getByRole("button", { name: "Start over" }).click();
	await ana.heading("Your session has ended").waitFor();
	assert.equal(await ana.page.getByLabel("Your name").inputValue(), "ana");
	await ana.page.getByLabel("Your name").fill("bea");
	await ana.button("Join").click();
	await ana.isIn();
	assert.equal(ana.page.url(), room);
	await ana.more();
	await ana.page.getByText("You are bea.").waitFor();
});

scenario("a new session opened in one tab is used by the other", async ({ person }) => {
	const ana = await person();
	await ana.open(server.url, "ana");
	const old = await session(ana), second = await ana.context.newPage();
	await second.goto(server.url);
	const { session_id, username } = await server.openSession("new");
	await second.evaluate((one) => {
		const key = Object.keys(localStorage).find((key) => key.endsWith(" session"));
		localStorage[key] = JSON.stringify(one);
	}, { session_id, username });
	await eventually(() => session(ana), session_id); // Each tab has a copy, which is brought up to date a moment later.
	await server.ask("DELETE", "sessions/me", null, old);
	await ana.page.getByText("new joined").waitFor();
	await ana.isIn();
	assert.equal(await session(ana), session_id);
});

scenario("if a name is taken, another one leads into the same room", async ({ person }) => {
	const ana = await person(), other = await person();
	const room = await ana.open(server.url, "ana");
	await other.page.goto(room);
	await other.page.getByLabel("Your name").fill("Ana");
	await other.button("Join").click();
	await other.heading("The name Ana is taken").waitFor();
	await other.page.getByLabel("Your name").fill("ana b");
	await other.page.keyboard.press("Enter");
	await other.isIn();
	assert.equal(other.page.url(), room);
	await other.say("Hello, other ana");
	await ana.reads("Hello, other ana");
});

scenario("a room with a password asks for it, with or without the name", async ({ person, allow }) => {
	allow(/status of 403/);
	const ana = await person(), bo = await person(), cy = await person();
	const room = await ana.open(server.url, "ana", { title: "Ours", password: "sesame" });
	// Without a session.
	await bo.page.goto(room);
	await bo.page.getByLabel("Your name").fill("bo");
	await bo.page.getByLabel("Password").fill("open");
	await bo.button("Join").click();
	await bo.page.getByRole("alert").filter({ hasText: "Wrong password." }).waitFor();
	await bo.page.getByLabel("Password").fill("sesame");
	await bo.page.keyboard.press("Enter");
	await bo.isIn();
	// With a session.
	await cy.open(server.url, "cy");
	await cy.page.goto(room);
	await cy.heading("This room has a password").waitFor();
	await cy.page.getByLabel("Password").fill("open");
	await cy.button("Join").click();
	await cy.page.getByRole("alert").filter({ hasText: "Wrong password." }).waitFor();
	await cy.page.getByLabel("Password").fill("sesame");
	await cy.button("Join").click();
	await cy.isIn();
	await cy.say("Hello");
	await bo.reads("Hello");
	// A member is not asked again.
	await cy.page.reload();
	await cy.isIn();
});

// As Firefox does now and then, if the server closes a socket at once. The page tried again and again.
scenario("a close is understood that comes without an opening", async ({ person }) => {
	const ana = await person(), bo = await person();
	const room = await ana.open(server.url, "ana", { password: "sesame" });
	await bo.open(server.url, "bo");
	await bo.context.addInitScript(() => Object.defineProperty(WebSocket.prototype, "onopen", { set() {} }));
	await bo.page.goto("about:blank");
	await bo.page.goto(room);
	await bo.heading("This room has a password").waitFor();
});

scenario("guessing passwords is limited, and the page shows for how long", async ({ person, allow }) => {
	allow(/status of (403|429)/);
	const strict = await serve("--guess-rate", "6");
	const ana = await person(), bo = await person();
	const room = await ana.open(strict.url, "ana", { password: "sesame" });
	await bo.page.goto(room);
	await bo.page.getByLabel("Your name").fill("bo");
	const alert = bo.page.getByRole("alert");
	for (let n = 0; n < 5; n++) {
		await bo.page.getByLabel("Password").fill(`guess ${n}`);
		const answer = bo.page.waitForResponse(/\/join$/);
		await bo.button("Join").click();
		await answer;
		await alert.filter({ hasText: "Wrong password." }).waitFor();
		await until("the button is enabled", () => bo.page.locator("form button[aria-busy=false]").count());
	}
	await bo.button("Join").click();
	await alert.filter({ hasText: /\d+ second/ }).waitFor();
});

scenario("a room left in one tab is left in the other, which can join again", async ({ person }) => {
	const ana = await person(), bo = await person();
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	await bo.say("hello");
	await ana.reads("hello");
	const second = await bo.context.newPage();
	await second.goto(room);
	await second.locator(".room[data-state=open]").waitFor();
	await second.getByRole("button", { name: "More" }).click();
	await second.getByRole("button", { name: "Leave the room" }).click();
	await second.getByRole("heading", { name: "Disposable Chat" }).waitFor();
	await bo.heading("You have left this room").waitFor();
	await ana.button("1 person").waitFor();
	await bo.button("Try again").click();
	await bo.isIn();
	await ana.button("2 people").waitFor();
	await bo.say("I am back");
	await ana.reads("hello", "I am back");
	await eventually(() => ana.notices(), ["ana and bo joined", "bo joined"]);
});

scenario("an unreachable server is not taken for a deleted room", async ({ person, allow }) => {
	allow(BROKEN);
	let mortal = await Server.start();
	after(() => mortal.stop());
	const ana = await person();
	await ana.page.clock.install();
	await ana.page.goto(mortal.url);
	await ana.page.getByText("No public rooms right now.").waitFor();
	await mortal.stop();
	await ana.page.clock.fastForward(10_000);
	await ana.page.getByText("The server can't be reached").waitFor();
	await ana.page.getByLabel("Your name").fill("ana");
	await ana.button("Start a room").click();
	await ana.page.getByRole("alert").filter({ hasText: "The server can't be reached" }).waitFor();
	await ana.page.getByLabel("Link or code").fill("0123456789");
	await ana.button("Join").click();
	await ana.heading("The server can't be reached").waitFor();
	allow(/status of 404/);
	mortal = await mortal.restart();
	await ana.button("Try again").click();
	await ana.heading("Room not found").waitFor();
});

// The same words over a socket, and over the event stream that takes over where upgrades are refused.
for (const isBlocking of [false, true]) {
	const by = isBlocking ? "an event stream" : "a socket";
	const visit = async (person, allow) => {
		allow(/status of 40[34]|Unexpected response code: 403/);
		const owner = await server.openSession("owner"), id = await server.room(owner, { ttl: 3600 }), proxy = await FaultyProxy.to(server.port);
		after(() => proxy.close());
		proxy.isBlocking = isBlocking;
		const bo = await person();
		await bo.enter(`${proxy.url}#/r/${id}`, "bo");
		const tell = (method, path, body) => server.ask(method, `rooms/${id}${path}`, body, owner.session_id);
		const user = async () => (await tell("GET", "/users")).users.find(({ user }) => user === "bo").user_id;
		return { bo, id, proxy, tell, user };
	};

	scenario(`over ${by}: who is removed is told, and may come back`, async ({ person, allow }) => {
		const { bo, tell, user } = await visit(person, allow);
		await bo.box.fill("I was about to say");
		await bo.button("Invite").click();
		await tell("DELETE", `/users/${await user()}`);
		await bo.heading("You were removed from this room").waitFor();
		await bo.page.getByText("Its owner asked you to leave. You may be able to come back.").waitFor();
		assert.equal(await dialogs(bo), 0, "no dialog covers the screen");
		await bo.button("Try again").click();
		await bo.isIn();
		assert.equal(await bo.box.inputValue(), "I was about to say");
	});

	scenario(`over ${by}: who is banned is told, and comes in when the ban is lifted`, async ({ person, allow }) => {
		const { bo, tell, user } = await visit(person, allow);
		const id = await user();
		await tell("DELETE", `/users/${id}?ban=3600`);
		await bo.heading("You were removed from this room").waitFor();
		for (let n = 0; n < 2; n++) {
			await bo.button("Try again").click();
			await bo.heading("You can't come in for now").waitFor();
			await bo.page.getByText("The owner has asked you to stay away for some time. Try again later.").waitFor();
		}
		await bo.page.reload();
		await bo.heading("You can't come in for now").waitFor();
		await tell("DELETE", `/bans/${id}`);
		await bo.button("Try again").click();
		await bo.isIn();
	});

	scenario(`over ${by}: a locked room lets in who is in, and nobody else until it is open`, async ({ person, allow }) => {
		const { bo, id, tell, user } = await visit(person, allow);
		await tell("PATCH", "", { locked: true });
		await bo.page.reload();
		await bo.isIn();
		// A session that has not joined, without and with a name.
		await tell("DELETE", `/users/${await user()}`);
		await bo.heading("You were removed from this room").waitFor();
		await bo.button("Try again").click();
		await bo.heading("This room is locked").waitFor();
		await bo.page.getByText("Nobody new can join right now. Ask someone inside to open it.").waitFor();
		const cy = await person();
		await cy.page.goto(`${server.url}#/r/${id}`);
		await cy.heading("This room is locked").waitFor();
		await tell("PATCH", "", { locked: false });
		await bo.button("Try again").click();
		await bo.isIn();
		await cy.button("Try again").click();
		await cy.page.getByLabel("Your name").fill("cy");
		await cy.button("Join").click();
		await cy.isIn();
	});

	// A room lasts a minute at least, so the last word is put into the server's mouth.
	scenario(`over ${by}: a room whose time is up has ended`, async ({ person, allow }) => {
		const { bo, proxy } = await visit(person, allow);
		await bo.box.fill("one more thing");
		await bo.more();
		proxy.inject({ type: "close", code: 4410, reason: "room expired" });
		await bo.heading("This room has ended").waitFor();
		await bo.page.getByText("Its time was up, and its messages are gone.").waitFor();
		assert.equal(await unsent(bo).inputValue(), "one more thing");
		assert.equal(await dialogs(bo), 0);
		assert.equal(await bo.button("Try again").count(), 0, "a room that has ended can't be retried");
		await home(bo).click();
		await bo.heading("Disposable Chat").waitFor();
	});
}

scenario("back, forward and reload work as on any page", async ({ person }) => {
	const ana = await person(), bo = await person();
	const room = await ana.open(server.url, "ana", { title: "Tea" });
	await bo.enter(room, "bo");
	await bo.say("Hello");
	await ana.reads("Hello");
	await ana.button("Invite").click();
	await ana.page.goBack();
	await ana.heading("Disposable Chat").waitFor();
	assert.equal(await dialogs(ana), 0);
	assert.equal(await ana.page.title(), "Disposable Chat");
	await bo.button("1 person").waitFor();
	await ana.page.goForward();
	await ana.isIn();
	await ana.reads("Hello");
	await bo.button("2 people").waitFor();
	await ana.page.reload();
	await ana.isIn();
	await ana.reads("Hello");
	await ana.page.getByRole("link", { name: "All rooms" }).click();
	await ana.heading("Disposable Chat").waitFor();
	assert.equal(await ana.page.evaluate(() => document.activeElement.tagName), "H1", "screen readers announce the heading");
	await ana.page.getByRole("link", { name: /Tea/ }).first().click();
	await ana.isIn();
	assert.equal(ana.page.url(), room);
});

scenario("an edited address leads to the other room", async ({ person }) => {
	const ana = await person();
	const one = await ana.open(server.url, "ana", { title: "One" });
	await ana.page.goBack();
	await ana.options();
	await ana.page.getByLabel("Title").fill("Two");
	await ana.button("Start a room").click();
	await ana.isIn();
	await ana.heading("Two").waitFor();
	await ana.say("in two");
	await ana.reads("in two");
	await ana.page.evaluate((hash) => { location.hash = hash; }, new URL(one).hash);
	await ana.heading("One").waitFor();
	await ana.isIn();
	await ana.reads();
});
