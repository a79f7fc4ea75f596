// How a room can be over for somebody: each way has its own screen, and a way on where there is one.
import assert from "node:assert/strict";
import { after } from "node:test";
import { BadLine, Server, eventually, stage, until } from "./stage.mjs";

const { scene, serve } = await stage();
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

scene("a room is deleted by its owner alone, who is asked first", async ({ person }) => {
	const ana = await person(), bo = await person();
	const room = await ana.open(server.url, "ana", { title: "Tea" });
	await bo.enter(room, "bo");
	assert.equal(await hasDelete(bo), false);
	await bo.box.fill("I was about to say");
	await bo.button("Invite").click();
	await ana.more("Delete the room");
	await ana.page.getByText("For everybody, with all that was said?").waitFor();
	await ana.page.getByRole("dialog", { name: "Delete the room" }).getByText("Close").click();
	await ana.page.keyboard.press("Escape");
	await eventually(() => dialogs(ana), 0);
	await ana.more("Delete the room");
	await ana.page.getByRole("dialog", { name: "Delete the room" }).getByRole("button", { name: "Delete the room" }).click();
	await ana.heading("Disposable Chat").waitFor();
	assert.equal(await dialogs(ana), 0);
	await bo.heading("This room was deleted").waitFor();
	assert.equal(await dialogs(bo), 0, "nothing lies over it");
	assert.equal(await unsent(bo).inputValue(), "I was about to say");
	assert.equal(await bo.button("Try again").count(), 0, "there is no way back");
	await home(bo).click();
	await bo.heading("Disposable Chat").waitFor();
	assert.equal(await bo.page.getByText("Tea").count(), 0);
});

scene("when the owner's session ends, the room is the heir's", async ({ person }) => {
	const ana = await person(), bo = await person();
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	await ana.more("End my session");
	await ana.page.getByText("You leave all rooms, in all tabs, and are somebody new.").waitFor();
	await ana.page.getByRole("dialog", { name: "End my session" }).getByRole("button", { name: "End my session" }).click();
	await eventually(() => ana.page.getByLabel("Your name").inputValue(), "ana");
	await bo.page.getByText("ana left").waitFor();
	await bo.page.reload();
	await bo.isIn();
	assert.equal(await hasDelete(bo), true);
});

scene("a room that has vanished meanwhile says so, and shows what was not sent", async ({ person, noise }) => {
	noise(/WebSocket connection to .* failed|ERR_CONNECTION|status of 404/);
	const line = await BadLine.to(server.port);
	after(() => line.break());
	const ana = await person();
	const room = await ana.open(line.url, "ana");
	const secret = await session(ana);
	await line.break();
	await ana.page.getByText("No connection.").waitFor();
	await ana.say("one");
	await ana.box.fill("two");
	await server.ask("DELETE", `rooms/${new URL(room).hash.slice(4)}`, null, secret);
	await line.mend();
	await ana.wake();
	await ana.heading("There is no such room").waitFor();
	assert.equal(await unsent(ana).inputValue(), "one\n\ntwo");
	await ana.context.grantPermissions(["clipboard-read", "clipboard-write"]);
	await ana.button("Copy").click();
	await ana.button("Copied").waitFor();
	assert.equal(await ana.page.evaluate(() => navigator.clipboard.readText()), "one\n\ntwo");
	await ana.page.reload();
	await ana.heading("There is no such room").waitFor();
	assert.equal(await unsent(ana).count(), 0, "nothing is kept of it");
});

scene("a session ended in one tab is over in the other", async ({ person }) => {
	const ana = await person();
	const room = await ana.open(server.url, "ana");
	const second = await ana.context.newPage();
	await second.goto(server.url);
	await second.getByRole("button", { name: "End my session" }).click();
	await second.getByRole("dialog").getByRole("button", { name: "End my session" }).click();
	await ana.heading("Your session has ended").waitFor();
	assert.equal(await ana.page.getByLabel("Your name").inputValue(), "ana");
	await ana.page.getByLabel("Your name").fill("bea");
	await ana.button("Go in").click();
	await ana.isIn();
	assert.equal(ana.page.url(), room);
	await ana.more();
	await ana.page.getByText("You are bea.").waitFor();
});

scene("a new session begun in one tab is taken up by the other", async ({ person }) => {
	const ana = await person();
	await ana.open(server.url, "ana");
	const old = await session(ana), second = await ana.context.newPage();
	await second.goto(server.url);
	const { session_id, username } = await server.somebody("new");
	await second.evaluate((one) => {
		const key = Object.keys(localStorage).find((key) => key.endsWith(" session"));
		localStorage[key] = JSON.stringify(one);
	}, { session_id, username });
	await server.ask("DELETE", "sessions/me", null, old);
	await ana.page.getByText("new joined").waitFor();
	await ana.isIn();
	assert.equal(await session(ana), session_id);
});

scene("a taken name asks for another, and leads into the same room", async ({ person }) => {
	const ana = await person(), other = await person();
	const room = await ana.open(server.url, "ana");
	await other.page.goto(room);
	await other.page.getByLabel("Your name").fill("Ana");
	await other.button("Go in").click();
	await other.heading("Somebody here is called Ana").waitFor();
	await other.page.getByLabel("Your name").fill("ana b");
	await other.page.keyboard.press("Enter");
	await other.isIn();
	assert.equal(other.page.url(), room);
	await other.say("Hello, other ana");
	await ana.reads("Hello, other ana");
});

scene("a room with a password asks for it, with the name or without", async ({ person, noise }) => {
	noise(/status of 403/);
	const ana = await person(), bo = await person(), cy = await person();
	const room = await ana.open(server.url, "ana", { title: "Ours", password: "sesame" });
	// Nobody yet.
	await bo.page.goto(room);
	await bo.page.getByLabel("Your name").fill("bo");
	await bo.page.getByLabel("Password").fill("open");
	await bo.button("Go in").click();
	await bo.page.getByRole("alert").filter({ hasText: "That is not the password." }).waitFor();
	await bo.page.getByLabel("Password").fill("sesame");
	await bo.page.keyboard.press("Enter");
	await bo.isIn();
	// Somebody already.
	await cy.open(server.url, "cy");
	await cy.page.goto(room);
	await cy.heading("This room has a password").waitFor();
	await cy.page.getByLabel("Password").fill("open");
	await cy.button("Go in").click();
	await cy.page.getByRole("alert").filter({ hasText: "That is not the password." }).waitFor();
	await cy.page.getByLabel("Password").fill("sesame");
	await cy.button("Go in").click();
	await cy.isIn();
	await cy.say("Hello");
	await bo.reads("Hello");
	// Nobody is asked twice.
	await cy.page.reload();
	await cy.isIn();
});

scene("guessing is slowed down, and the page says for how long", async ({ person, noise }) => {
	noise(/status of (403|429)/);
	const strict = await serve("--guess-rate", "6");
	const ana = await person(), bo = await person();
	const room = await ana.open(strict.url, "ana", { password: "sesame" });
	await bo.page.goto(room);
	await bo.page.getByLabel("Your name").fill("bo");
	const told = bo.page.getByRole("alert");
	for (let n = 0; n < 5; n++) {
		await bo.page.getByLabel("Password").fill(`guess ${n}`);
		const answer = bo.page.waitForResponse(/\/join$/);
		await bo.button("Go in").click();
		await answer;
		await told.filter({ hasText: "That is not the password." }).waitFor();
		await until("it can be tried again", () => bo.page.locator("form button[aria-busy=false]").count());
	}
	await bo.button("Go in").click();
	await told.filter({ hasText: /\d+ second/ }).waitFor();
});

scene("a room left in one tab is left in the other, which may come back", async ({ person }) => {
	const ana = await person(), bo = await person();
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
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
	await bo.say("Here I am again");
	await ana.reads("Here I am again");
	await eventually(() => ana.notices(), ["ana and bo joined", "bo left", "bo joined"]);
});

scene("a server that can't be reached is told apart from a room that is gone", async ({ person, noise }) => {
	noise(/WebSocket connection to .* failed|ERR_CONNECTION/);
	let mortal = await Server.start();
	after(() => mortal.stop());
	const ana = await person();
	await ana.page.clock.install();
	await ana.page.goto(mortal.url);
	await ana.page.getByText("None is open right now.").waitFor();
	await mortal.stop();
	await ana.page.clock.fastForward(10_000);
	await ana.page.getByText("The server can't be reached").waitFor();
	await ana.page.getByLabel("Your name").fill("ana");
	await ana.button("Open a room").click();
	await ana.page.getByRole("alert").filter({ hasText: "The server can't be reached" }).waitFor();
	await ana.page.getByLabel("Link or code").fill("0123456789");
	await ana.button("Go in").click();
	await ana.heading("The server can't be reached").waitFor();
	noise(/status of 404/);
	mortal = await mortal.again();
	await ana.button("Try again").click();
	await ana.heading("There is no such room").waitFor();
});

scene("back, forward and reload do what they do everywhere", async ({ person }) => {
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
	assert.equal(await ana.page.evaluate(() => document.activeElement.tagName), "H1", "who listens is told where they are");
	await ana.page.getByRole("link", { name: /Tea/ }).first().click();
	await ana.isIn();
	assert.equal(ana.page.url(), room);
});

scene("an address that is changed by hand leads to the other room", async ({ person }) => {
	const ana = await person();
	const one = await ana.open(server.url, "ana", { title: "One" });
	await ana.page.goBack();
	await ana.page.getByLabel("Title").fill("Two");
	await ana.button("Open a room").click();
	await ana.isIn();
	await ana.heading("Two").waitFor();
	await ana.say("in two");
	await ana.reads("in two");
	await ana.page.evaluate((hash) => { location.hash = hash; }, new URL(one).hash);
	await ana.heading("One").waitFor();
	await ana.isIn();
	await ana.reads();
});
