// The owner's tools, and what others see of them: settings, removals and bans, handing over; also another name without
// losing the room, a room that ends by itself, announcements, and the room seen from a program.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after } from "node:test";
import { FaultyProxy, eventually, harness, until } from "./harness.mjs";

const { scenario, serve } = await harness();
const server = await serve("--leave-grace", "0s");
const wide = { viewport: { width: 1280, height: 800 } };
const idOf = (url) => new URL(url).hash.slice(4);
const info = (room) => server.ask("GET", `rooms/${idOf(room)}`);
const session = (one) => one.page.evaluate(() => JSON.parse(Object.entries(localStorage).find(([key]) => key.endsWith(" session"))[1]));
const dialog = (one, name) => one.page.getByRole("dialog", { name });
const aside = (one) => one.page.getByRole("complementary").getByRole("listitem");
const people = (one) => aside(one).allTextContents().then((all) => all.map((text) => text.slice(1).replace(/ ·../, "")));
const on = async (one, user, entry) => {
	await one.button(new RegExp(`Actions for \\W?${user}`)).click();
	await one.page.getByRole("menu").getByRole("menuitem", { name: entry }).click();
};
const plain = (text) => text.replace(/[\u2068\u2069]/g, "");
const noted = (one, text) => until(text, async () => (await one.notices()).some((line) => plain(line) === text));

scenario("the owner changes the room, and everybody sees it", async ({ person, allow }) => {
	allow(/status of 4/);
	const ana = await person(wide), bo = await person(wide), cy = await person();
	const room = await ana.open(server.url, "ana", { title: "Tea" });
	await bo.enter(room, "bo");
	await eventually(() => people(ana), ["ana (owner, you)", "bo"]);
	await eventually(() => people(bo), ["ana (owner)", "bo (you)"]);
	await bo.more();
	await dialog(bo, "More").getByText("ana owns this room.").waitFor();
	assert.equal(await bo.button("Room settings").count(), 0);
	await bo.page.keyboard.press("Escape");
	const change = async (deed) => {
		await ana.more("Room settings");
		const settings = dialog(ana, "Room settings");
		await deed(settings);
		await settings.getByRole("button", { name: "Save" }).click();
		await settings.waitFor({ state: "detached" });
		await ana.page.keyboard.press("Escape");
	};
	await change(async (settings) => {
		await settings.getByLabel("Title").fill("Coffee");
		await settings.getByLabel("Lock the room").check();
		await settings.getByLabel("Slow mode").selectOption("300");
	});
	for (const one of [ana, bo]) {
		await one.heading("Coffee").waitFor();
		await one.page.locator(".signs", { hasText: "Locked · Slow mode" }).waitFor();
		assert.match(await one.page.title(), /^Coffee · /);
	}
	const { locked, slow_mode, title, password } = await info(room);
	assert.deepEqual({ locked, slow_mode, title, password }, { locked: true, slow_mode: 300, title: "Coffee", password: false });
	// A newcomer is refused, and told why.
	await cy.page.goto(room);
	await cy.heading("This room is locked").waitFor();
	// What slow mode holds back says so, and is sent later.
	await bo.say("one", "two");
	await bo.page.getByText(/^Slow mode: your message goes out in .*\d+ minutes.*\.$/).waitFor();
	await bo.shows(["one"], ["two"]);
	await change(async (settings) => {
		assert.equal(await settings.getByLabel("Lock the room").isChecked(), true);
		await settings.getByLabel("Lock the room").uncheck();
		await settings.getByLabel("Slow mode").selectOption("0");
		await settings.getByLabel("Password").fill("secret");
	});
	// Without slow mode nothing has to wait any longer.
	await bo.reads("one", "two");
	await until("nothing waits", async () => await bo.page.locator(".waits").textContent() === "");
	await cy.button("Try again").click();
	await cy.page.getByLabel("Your name").fill("cy");
	await cy.page.getByLabel("Password").fill("secret");
	await cy.button("Join").click();
	await cy.isIn();
	await change((settings) => settings.getByLabel("Remove the password").check());
	assert.equal((await info(room)).password, false);
	// A refusal is said in the dialog.
	await ana.more("Room settings");
	await dialog(ana, "Room settings").getByLabel("Title").fill("\u202e");
	await ana.button("Save").click();
	await dialog(ana, "Room settings").getByRole("alert").filter({ hasText: "Too long, or has invisible characters." }).waitFor();
});

scenario("the owner removes people, for now or for a time, and it is said kindly", async ({ person, allow }) => {
	allow(/status of 403/);
	const ana = await person(wide), bo = await person();
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	await bo.box.fill("I was about to say");
	await until("bo is there", async () => (await people(ana)).length === 2);
	await on(ana, "bo", "Remove from the room");
	await dialog(ana, "Remove from the room").getByText("bo has to leave the room.").waitFor();
	assert.equal(await ana.page.getByLabel("Ban the network address as well").isDisabled(), true);
	await dialog(ana, "Remove from the room").getByRole("button", { name: "Remove from the room" }).click();
	await bo.heading("You were removed from this room").waitFor();
	await eventually(() => people(ana), ["ana (owner, you)"]);
	await bo.button("Try again").click();
	await bo.isIn();
	assert.equal(await bo.box.inputValue(), "I was about to say");
	// From a message, and with a ban.
	await bo.say("rude");
	await ana.reads("rude");
	await ana.page.locator(".bubble", { hasText: "rude" }).hover();
	await ana.button("Message actions").click();
	await ana.page.getByRole("menu").getByRole("menuitem", { name: "Remove from the room" }).click();
	await ana.page.getByLabel("Coming back").selectOption("3600");
	await ana.page.getByLabel("Ban the network address as well").check();
	await dialog(ana, "Remove from the room").getByRole("button", { name: "Remove from the room" }).click();
	await bo.heading("You were removed from this room").waitFor();
	await bo.button("Try again").click();
	await bo.heading("You can't come in for now").waitFor();
	await ana.more("Room settings");
	await dialog(ana, "Room settings").getByRole("listitem").filter({ hasText: "bo" }).getByRole("button", { name: "Lift the ban" }).click();
	await until("no ban is left", async () => await dialog(ana, "Room settings").getByRole("listitem").count() === 0);
	await bo.button("Try again").click();
	await bo.isIn();
});

scenario("a room is handed over to somebody, who then owns it", async ({ person }) => {
	const ana = await person(wide), bo = await person(wide);
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	await until("bo is there", async () => (await people(ana)).length === 2);
	await on(ana, "bo", "Make owner");
	await dialog(ana, "Make owner").getByText("bo becomes the owner, and you become a guest.").waitFor();
	await dialog(ana, "Make owner").getByRole("button", { name: "Make owner" }).click();
	await eventually(() => people(ana), ["ana (you)", "bo (owner)"]);
	await eventually(() => people(bo), ["ana", "bo (owner, you)"]);
	await noted(ana, "bo owns this room.");
	await noted(bo, "You own this room.");
	await bo.more("Room settings");
	await dialog(bo, "Room settings").waitFor();
});

scenario("a person changes name and keeps the room, and owns it still", async ({ person }) => {
	const ana = await person(wide), bo = await person(wide);
	const other = await ana.open(server.url, "ana");
	const second = await ana.context.newPage();
	await second.goto(server.url);
	const { session_id } = await session(ana);
	const locked = `${server.url}#/r/${await server.room({ session_id }, { title: "Tea" })}`;
	await ana.page.goto(locked);
	await ana.isIn();
	await second.goto(other);
	await second.locator(".room[data-state=open]").waitFor();
	await ana.page.bringToFront(); // A tab behind another draws once per second.
	await bo.enter(locked, "bo");
	await server.ask("PATCH", `rooms/${idOf(locked)}`, { locked: true }, session_id);
	await ana.say("before");
	await bo.reads("before");
	const rename = async (one, name) => {
		await one.more("Change name");
		await dialog(one, "Change name").getByLabel("Your name").fill(name);
		await dialog(one, "Change name").getByRole("button", { name: "Change name" }).click();
	};
	await rename(ana, "Bo");
	await dialog(ana, "Change name").getByRole("alert").filter({ hasText: "is taken" }).waitFor();
	await ana.page.keyboard.press("Escape");
	await ana.page.keyboard.press("Escape");
	await rename(ana, "Ana");
	await noted(ana, "You are now Ana");
	await eventually(() => people(bo), ["bo (you)", "Ana (owner)"]);
	// The contract does not say that both are the same person, so that this is what others see, in one line.
	await noted(bo, "Ana joined · ana left");
	await ana.say("after");
	await bo.reads("before", "after");
	await ana.reads("before", "after");
	assert.equal((await info(locked)).locked, true);
	// The other tab follows, and the old session has ended.
	await second.locator("aside li", { hasText: "Ana" }).waitFor({ state: "attached" });
	await second.locator(".room[data-state=open]").waitFor();
	const { status } = await fetch(`${server.url}sessions/me`, { headers: { Authorization: `Bearer ${session_id}` } });
	assert.equal(status, 401);
	// Only an owner can do so in a locked room.
	await rename(bo, "bob");
	await dialog(bo, "Change name").getByRole("alert").filter({ hasText: "only its owner" }).waitFor();
});

scenario("a room that ends soon counts down, and says so when it has ended", async ({ person }) => {
	const owner = await server.openSession("owner"), id = await server.room(owner, { ttl: 7200 });
	const ana = await person();
	let line;
	await ana.page.routeWebSocket(/\/ws\//, (socket) => {
		socket.connectToServer();
		line = socket;
	});
	await ana.enter(`${server.url}#/r/${id}`, "ana");
	const signs = () => ana.page.locator(".signs").textContent().then(plain);
	assert.equal(await signs(), "");
	// The server's word with another end.
	const endsIn = (seconds) => line.send(JSON.stringify({ type: "room_changed", room_id: id, room: { room_id: id, title: null, owner: null, expires_at: new Date(Date.now() + seconds * 1000).toISOString() } }));
	endsIn(3602);
	await eventually(signs, "Ends in 60 minutes");
	endsIn(45);
	const seconds = async () => Number(/^Ends in (\d\d) seconds$/.exec(await signs())?.[1] ?? NaN);
	await until("it counts seconds", async () => await seconds() <= 45);
	const first = await seconds();
	await until("they pass", async () => await seconds() < first);
	await ana.box.fill("one more thing");
	await line.close({ code: 4410, reason: "room expired" });
	await ana.heading("This room has ended").waitFor();
	assert.equal(await ana.page.getByLabel("This was not sent:").inputValue(), "one more thing");
	assert.equal(await ana.button("Try again").count(), 0);
});

scenario("an announcement is shown in the conversation", async ({ person }) => {
	const proxy = await FaultyProxy.to(server.port);
	after(() => proxy.close());
	const ana = await person();
	await ana.open(proxy.url, "ana");
	proxy.inject({ type: "announcement", message: "Back at noon <b>", timestamp: new Date().toISOString() });
	await noted(ana, "From the operator: Back at noon <b>");
});

scenario("the commands shown for a program work in a shell", async ({ person }) => {
	const ana = await person();
	const room = await ana.open(server.url, "ana");
	await ana.context.grantPermissions(["clipboard-read", "clipboard-write"]);
	await ana.more("Use from a program");
	await dialog(ana, "Use from a program").getByRole("button", { name: "Copy" }).click();
	await ana.button("Copied").waitFor();
	const text = await ana.page.evaluate(() => navigator.clipboard.readText());
	assert.equal(text, await ana.page.locator(".commands").textContent());
	const shell = spawn("sh", ["-c", text], { stdio: ["ignore", "pipe", "inherit"] });
	after(() => shell.kill());
	const ended = once(shell, "exit");
	await ana.reads("Hello from a program");
	// It follows the room until that ends, or for ever.
	let heard = "";
	shell.stdout.on("data", (bytes) => { heard += bytes; });
	await until("the program is present", async () => (await info(room)).user_count === 2);
	await ana.page.keyboard.press("Escape");
	await ana.page.keyboard.press("Escape");
	await ana.say("Hello, robot");
	await until("it hears", () => heard.includes("Hello, robot"));
	await server.ask("DELETE", `rooms/${idOf(room)}`, null, (await session(ana)).session_id);
	await ended;
});
