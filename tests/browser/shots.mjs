// Takes a picture of each state of the page, in both sizes and both colour schemes, to be looked at beside earlier ones.
// Checks nothing: a state that can't be reached is reported and skipped. From the top folder, after a build:
// node tests/browser/shots.mjs DIR [part of a state's name]
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { FaultyProxy, Person, Server, launch, until } from "./harness.mjs";

const [folder = "target/shots", only = ""] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const server = await Server.start(["--leave-grace", "1h", "--message-rate", "0", "--guess-rate", "0"]);
const proxy = await FaultyProxy.to(server.port);
const browser = await launch();
const person = async (options) => {
	const one = await Person.create(browser, { viewport: { width: 1280, height: 800 }, ...options });
	one.context.setDefaultTimeout(3000);
	return one;
};

let number = 0;
const frames = ({ page }) => page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
const picture = ({ page }, state, width, colorScheme) => page.screenshot({ path: join(folder, `${String(number).padStart(2, "0")}-${state.replace(/\W+/g, "-")}-${width}-${colorScheme}.png`) });
const shoot = async ({ page }, state) => {
	number++;
	if (!state.includes(only)) return;
	const kept = page.viewportSize();
	for (const [width, height] of [[360, 740], [1280, 800]]) for (const colorScheme of ["light", "dark"]) {
		await page.setViewportSize({ width, height });
		await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
		await frames({ page });
		await picture({ page }, state, width, colorScheme);
	}
	await page.setViewportSize(kept);
};
const states = async (what, run) => {
	try {
		await run();
	} catch (error) {
		console.log(`${what}: ${error.message.split("\n").slice(0, 3).join(" ")}`);
	}
};
// Leads to a state, takes its picture, and leaves it by Escape.
const aside = (one, state, lead) => states(state, async () => {
	await lead();
	await shoot(one, state);
	await one.page.keyboard.press("Escape");
});

const owner = await server.openSession("marta");
for (const title of ["Tea and biscuits", "A rather long title for a room that is to be listed beside the others", "日本語の部屋"])
	await server.room(owner, { title, listed: true, private: false });

const ana = await person(), bo = await person(), cy = await person();
let room = "";
await states("landing", async () => {
	await ana.page.goto(server.url);
	await ana.page.getByRole("link", { name: /rather long/ }).waitFor();
	await shoot(ana, "landing");
	for (const fold of await ana.page.locator("details").all()) await fold.evaluate((node) => { node.open = true; });
	await shoot(ana, "landing with options");
	await ana.page.reload();
	await ana.page.locator("form .primary").first().click();
	await ana.page.getByRole("alert").filter({ hasText: /./ }).first().waitFor();
	await shoot(ana, "landing with an error");
});
await states("a new room", async () => {
	room = await ana.open(proxy.url, "ana", { title: "Sunday lunch" });
	await shoot(ana, "a new room");
	await bo.page.goto(`${server.url}${new URL(room).hash}`);
	await bo.page.getByLabel("Your name").waitFor();
	await shoot(bo, "invited by a link");
	await bo.enter(`${server.url}${new URL(room).hash}`, "bo");
	await cy.enter(`${server.url}${new URL(room).hash}`, "cyril");
});
await states("a conversation", async () => {
	await bo.say("Hi! Is Sunday still on?", "I could bring a salad 🥗", "see https://example.com/a/rather/long/address/that/does/not/fit/into/one/line?of=a&phone=1");
	await ana.say("Yes, at one o'clock.", "@bo bring bread too, please");
	await cy.say("I have this for the list:\n```\nfor (const guest of guests) {\n  invite(guest);\n}\n```\nand `npm run lunch` starts it.", "🎉🎉", "שלום, מה שלומך?");
	await bo.say(`> Yes, at one o'clock.\nGreat, see you then. ${"Some more words, to see how a longer text breaks. ".repeat(4)}`);
	await ana.say("👍");
	await ana.page.locator(".bubble").last().waitFor();
	await until("cyril is typing", async () => {
		await cy.box.pressSequentially("x");
		return await ana.page.locator(".typing").textContent() !== "";
	});
	await shoot(ana, "a conversation");
	await bo.page.evaluate(() => document.querySelector(".log").scrollTo(0, 1e6));
	await shoot(bo, "a conversation, as a guest");
});
await aside(ana, "invite", () => ana.button("Invite").click());
await aside(ana, "people", () => ana.page.locator(".count").click());
await aside(ana, "more, as the owner", () => ana.button("More", { exact: true }).click());
await aside(bo, "more, as a guest", () => bo.button("More", { exact: true }).click());
await aside(ana, "delete the room", async () => {
	await ana.button("More", { exact: true }).click();
	await ana.button("Delete the room").click();
});
await ana.page.keyboard.press("Escape");
for (const [state, name] of [["another name", "Change name"], ["the settings of the room", "Room settings"], ["from a program", "Use from a program"]])
	await states(state, async () => {
		await ana.more(name);
		await shoot(ana, state);
		for (let n = 0; n < 2; n++) await ana.page.keyboard.press("Escape");
	});
await states("removing somebody", async () => {
	await ana.page.locator(".count").click();
	await ana.button(/Actions for/).last().click();
	await ana.page.getByRole("menuitem", { name: "Remove from the room" }).click();
	await shoot(ana, "removing somebody");
	for (let n = 0; n < 2; n++) await ana.page.keyboard.press("Escape");
});
await states("names that complete", async () => {
	await ana.box.pressSequentially("Hello @");
	await ana.page.getByRole("option").first().waitFor();
	await shoot(ana, "names that complete");
	await ana.box.fill("");
});
await states("menus", async () => {
	const kept = ana.page.viewportSize();
	// Another size closes a menu.
	for (const [width, height] of [[360, 740], [1280, 800]]) {
		await ana.page.setViewportSize({ width, height });
		await frames(ana);
		await ana.log.focus();
		for (let n = 0; n < 2; n++) await ana.page.keyboard.press("ArrowUp");
		await ana.page.keyboard.press("Enter");
		for (const colorScheme of ["light", "dark"]) {
			await ana.page.emulateMedia({ colorScheme });
			await picture(ana, "the menu of a message", width, colorScheme);
		}
		await ana.page.keyboard.press("Escape");
	}
	number++;
	await ana.page.setViewportSize(kept);
});
await states("a long message and a full line", async () => {
	await bo.say(Array.from({ length: 80 }, (_, n) => `line ${n}`).join("\n"));
	await ana.box.fill("x ".repeat(2001));
	await shoot(ana, "a long message");
	await ana.box.fill("");
});
await states("without a connection", async () => {
	await proxy.close();
	await ana.page.locator(".room[data-state=retrying]").waitFor();
	await ana.say("Are you still there?");
	await shoot(ana, "without a connection");
	await proxy.reopen();
	await ana.wake();
	await ana.isIn();
});
await states("landing of a returning person", async () => {
	await bo.page.goto(server.url);
	await bo.page.getByRole("link", { name: /Sunday lunch/ }).first().waitFor();
	await shoot(bo, "landing of a returning person");
	await bo.page.goto(`${server.url}${new URL(room).hash}`);
	await bo.isIn();
});
await states("a room with a password", async () => {
	const id = await server.room(owner, { title: "The committee", password: "sesame" });
	const dan = await person();
	await dan.page.goto(`${server.url}#/r/${id}`);
	await dan.page.getByLabel("Password").waitFor();
	await shoot(dan, "name and password");
	await bo.page.goto(`${server.url}#/r/${id}`);
	await bo.page.getByLabel("Password").waitFor();
	await shoot(bo, "password");
	const eve = await person();
	await eve.page.goto(`${server.url}${new URL(room).hash}`);
	await eve.page.getByLabel("Your name").fill("ana");
	await eve.button("Join").click();
	await eve.heading("The name ana is taken").waitFor();
	await shoot(eve, "name taken");
});
await states("encrypted rooms", async () => {
	const [ena, fay, gil] = [await person(), await person(), await person()];
	await ena.page.goto(server.url);
	await ena.options();
	await ena.page.getByLabel("Encrypted").check();
	await ena.page.getByLabel("Encrypted").scrollIntoViewIfNeeded();
	await shoot(ena, "an encrypted room is chosen");
	const link = await ena.open(server.url, "ena", { title: "Our plans", encrypted: true }), [id, key] = new URL(link).hash.split("/").slice(2);
	await shoot(ena, "a new encrypted room");
	await aside(ena, "invite, encrypted", () => ena.button("Invite").click());
	await server.postSealed(owner, id, "Shall we meet on Sunday?", key);
	await server.postSealed(owner, id);
	await ena.say("Yes, let us.");
	await ena.page.locator(".bubble").last().waitFor();
	await shoot(ena, "an encrypted conversation");
	await ena.button("More", { exact: true }).click();
	await aside(ena, "from a program, encrypted", () => ena.button("Use from a program").click());
	await fay.page.goto(link.slice(0, -3));
	await fay.heading("This link is incomplete").waitFor();
	await shoot(fay, "a key is missing");
	await gil.context.addInitScript(() => Object.defineProperty(Crypto.prototype, "subtle", { value: undefined }));
	await gil.page.goto(link);
	await gil.heading("This room is encrypted").waitFor();
	await shoot(gil, "no encryption here");
	await gil.page.goto(server.url);
	await gil.options();
	await gil.page.getByLabel("Encrypted").scrollIntoViewIfNeeded();
	await shoot(gil, "no encryption can be chosen");
});
await states("gone", async () => {
	await cy.page.goto(`${server.url}#/r/0123456789`);
	await cy.page.locator(".card h1").waitFor();
	await shoot(cy, "gone");
});
await states("deleted", async () => {
	await bo.page.goto(`${server.url}${new URL(room).hash}`);
	await bo.isIn();
	await bo.box.fill("never sent");
	await ana.button("More", { exact: true }).click();
	await ana.button("Delete the room").click();
	await ana.page.getByRole("dialog").last().getByRole("button", { name: "Delete the room" }).click();
	await bo.page.locator(".card h1").waitFor();
	await shoot(bo, "deleted");
});
await states("how a visit ends", async () => {
	const guests = {};
	for (const name of ["removed", "banned", "late", "bye"]) guests[name] = await person();
	const host = await server.openSession("host"), id = await server.room(host, { title: "The attic", ttl: 3600 }), url = `${server.url}#/r/${id}`;
	await server.ask("POST", `rooms/${id}/join`, null, host.session_id);
	for (const name of ["removed", "banned", "bye"]) await guests[name].enter(url, name);
	await server.ask("PATCH", `rooms/${id}`, { slow_mode: 60 }, host.session_id);
	await guests.bye.say("One.", "Two, in a hurry.");
	await guests.bye.page.locator(".waits").filter({ hasText: /./ }).waitFor();
	await shoot(guests.bye, "slow mode, and a room that ends");
	await guests.bye.page.goto(`${server.url}#/r/${id}`);
	const { messages } = await server.ask("GET", `rooms/${id}/messages`, null, host.session_id);
	const who = (name) => messages.find(({ user }) => user === name).user_id;
	await server.ask("DELETE", `rooms/${id}/users/${who("removed")}`, null, host.session_id);
	await server.ask("DELETE", `rooms/${id}/users/${who("banned")}?ban=600`, null, host.session_id);
	await guests.removed.heading("You were removed from this room").waitFor();
	await shoot(guests.removed, "removed");
	await guests.banned.page.locator(".card h1").waitFor();
	await guests.banned.page.goto(`${server.url}#`);
	await guests.banned.page.goto(url);
	await guests.banned.heading("You can't come in for now").waitFor();
	await shoot(guests.banned, "banned");
	await server.ask("PATCH", `rooms/${id}`, { locked: true }, host.session_id);
	await guests.late.page.goto(url);
	await guests.late.heading("This room is locked").waitFor();
	await shoot(guests.late, "locked");
	await guests.bye.page.goto(`${server.url}#`);
	const fresh = await guests.bye.page.evaluate(() => JSON.parse(Object.entries(localStorage).find(([key]) => key.endsWith(" session"))[1]).session_id);
	await guests.bye.page.goto(url);
	await guests.bye.isIn();
	await server.ask("DELETE", "sessions/me", null, fresh);
	await guests.bye.heading("Your session has ended").waitFor();
	await shoot(guests.bye, "the session has ended");
});
for (const [locale, start, more] of [["pt-BR", "Criar uma sala", "Mais"], ["es", "Crear una sala", "Más"]]) await states(locale, async () => {
	const one = await person({ locale });
	await one.page.goto(server.url);
	await one.options();
	await shoot(one, `${locale}, landing`);
	await one.page.locator("[name=name]").fill("ana");
	await one.button(start).click();
	await one.isIn();
	await shoot(one, `${locale}, a new room`);
	await one.button(more, { exact: true }).click();
	await shoot(one, `${locale}, more`);
});
await states("documents", async () => {
	await ana.page.goto(`${server.url}docs`);
	await ana.page.locator("h2").first().waitFor();
	await shoot(ana, "documents");
});
await browser.close();
await server.stop();
process.exit(0);
