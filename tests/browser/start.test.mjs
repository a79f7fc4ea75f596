// The first screen, the ways into a room (name, link, code), and the session that the browser keeps.
import assert from "node:assert/strict";
import { eventually, harness, until } from "./harness.mjs";

const { scenario, serve } = await harness();
const server = await serve("--leave-grace", "1h");
const alert = (one) => one.page.getByRole("alert").filter({ hasText: /./ });
const rooms = (one, card) => one.page.locator("section", { has: one.page.getByRole("heading", { name: card }) }).getByRole("listitem");
const focused = (one) => one.page.evaluate(() => document.activeElement.labels?.[0]?.textContent ?? document.activeElement.tagName);

scenario("a name is enough to create a room", async ({ person }) => {
	const ana = await person();
	const link = await ana.open(server.url, " ana ");
	const [, id] = link.match(/#\/r\/([0-9a-f]{10})$/);
	await ana.page.getByRole("heading", { name: `Room \u2068${id}\u2069`, exact: true }).waitFor();
	const info = await server.ask("GET", `rooms/${id}`);
	assert.deepEqual([info.title, info.private, info.password, info.user_count], [null, false, false, 1]);
	assert.equal(await ana.page.title(), `Room ${id} · Disposable Chat`);
});

scenario("a room is private unless listed, and may have a title and a password", async ({ person }) => {
	const ana = await person();
	const secret = await ana.open(server.url, "ana", { title: "Ours", password: "sesame" });
	await ana.heading("Ours").waitFor();
	await ana.page.goBack();
	await ana.heading("Disposable Chat").waitFor();
	await ana.button("Start a room").click();
	await ana.isIn();
	await ana.heading("Private room").waitFor();
	const hidden = ana.page.url();
	const ids = [secret, hidden].map((link) => link.match(/#\/r\/([0-9a-f]{32})$/)[1]);
	const [one, two] = await Promise.all(ids.map((id) => server.ask("GET", `rooms/${id}`)));
	assert.deepEqual([one.title, one.private, one.password], ["Ours", true, true]);
	assert.deepEqual([two.title, two.private, two.password], [null, true, false]);
	const { rooms: listed } = await server.ask("GET", "rooms/all");
	assert.ok(!listed.some((id) => ids.includes(id)));
	// The lobby lists one's own rooms.
	await ana.page.goBack();
	await eventually(() => rooms(ana, "Your rooms").locator(".name").allTextContents(), ["Private room", "Ours"]);
	assert.equal(await rooms(ana, "Your rooms").locator("svg").count(), 2, "each with a lock");
});

// The field that is wrong: its label, its description, and whether it has the focus.
const faults = (one) => one.page.locator("[aria-invalid=true]").evaluateAll((all) => all.map((input) => [
	input.labels[0].textContent, input.getAttribute("aria-describedby").split(" ").map((id) => document.getElementById(id)).filter((node) => node.checkVisibility()).map((node) => node.textContent).join(),
	input === document.activeElement,
]));

scenario("an error stands at its field, which has the focus, and goes when it is corrected", async ({ person, allow }) => {
	allow(/status of (400|422)/);
	const ana = await person(), start = () => ana.button("Start a room").click();
	const wrong = async (label, text) => {
		await eventually(() => faults(ana), [[label, text, true]]);
		await eventually(() => alert(ana).allTextContents(), [text]);
	};
	await ana.page.goto(server.url);
	await ana.page.getByLabel("Your name").fill("a");
	await start();
	await wrong("Your name", "A name has 2 to 50 visible characters.");
	await ana.page.getByLabel("Your name").fill("ana");
	await eventually(() => faults(ana), []);
	await ana.options();
	await ana.page.getByLabel("Title").fill("t".repeat(81));
	await ana.page.getByText("Options").click();
	await start();
	await wrong("Title", "Too long, or has invisible characters.");
	await ana.page.getByLabel("Title").fill("t".repeat(80));
	await ana.page.getByLabel("Password").fill("p".repeat(129));
	await start();
	await wrong("Password", "That password is too long.");
	await ana.page.getByLabel("Password").fill("");
	await ana.page.getByLabel("Link or code").fill("what is this?");
	await ana.button("Join").click();
	await wrong("Link or code", "There is no room in this link.");
	await start();
	await ana.isIn();
});

scenario("a new room may end after a time, as far as the server allows", async ({ person, allow }) => {
	allow(/status of 422/);
	const short = await serve("--room-life-max", "2h");
	const ana = await person();
	await ana.page.goto(short.url);
	await ana.page.getByLabel("Your name").fill("ana");
	await ana.options();
	assert.deepEqual(await ana.page.getByLabel("Ends").locator("option").allTextContents(), ["When nobody uses it", "After 1 hour", "After 6 hours", "After 1 day", "After 7 days"]);
	await ana.page.getByLabel("Ends").selectOption("After 6 hours");
	await ana.button("Start a room").click();
	await eventually(() => faults(ana), [["Ends", "Rooms on this server can't last that long.", true]]);
	await ana.page.getByLabel("Ends").selectOption("After 1 hour");
	await ana.button("Start a room").click();
	await ana.isIn();
	const { created_at, expires_at } = await short.ask("GET", `rooms/${ana.page.url().split("/r/")[1]}`);
	assert.equal(Math.round((Date.parse(expires_at) - Date.parse(created_at)) / 1000), 3600);
});

scenario("a room with a password can't be listed", async ({ person }) => {
	const ana = await person();
	await ana.page.goto(server.url);
	await ana.options();
	const listed = ana.page.getByLabel("List it publicly");
	await listed.check();
	await ana.page.getByLabel("Password").fill("sesame");
	assert.deepEqual([await listed.isChecked(), await listed.isDisabled()], [false, true]);
	await ana.page.getByLabel("Password").fill("");
	assert.equal(await listed.isDisabled(), false);
});

scenario("a name is remembered on the device only if wished", async ({ person }) => {
	const ana = await person();
	const named = async () => {
		const page = await ana.context.newPage();
		await page.goto(server.url);
		const name = await page.getByLabel("Your name").inputValue();
		await page.close();
		return name;
	};
	const end = async () => {
		await ana.page.goto(server.url);
		await ana.button("Start over").click();
		await ana.page.getByRole("dialog").getByRole("button", { name: "Start over" }).click();
		await eventually(() => ana.page.getByLabel("Your name").inputValue(), "ana");
	};
	await ana.open(server.url, "ana");
	await end();
	assert.equal(await named(), "");
	await ana.options();
	await ana.page.getByLabel("Remember my name").check();
	await ana.button("Start a room").click();
	await ana.isIn();
	await end();
	assert.equal(await named(), "ana");
	await ana.options();
	await ana.page.getByLabel("Remember my name").uncheck();
	assert.equal(await named(), "");
});

scenario("the forms keep their height beside long lists, and one room has one count", async ({ person }) => {
	const ana = await person({ viewport: { width: 1280, height: 800 } });
	await ana.page.clock.install();
	const room = await ana.open(server.url, "ana", { title: "Counted" });
	const id = room.split("/r/")[1];
	const { session_id } = await server.openSession("bo");
	for (let n = 0; n < 6; n++) await server.room({ session_id }, { title: `Filler ${n}` });
	await ana.page.goto(server.url);
	const counts = () => ana.page.locator(`.rooms a[href="#/r/${id}"] small`).allTextContents();
	await eventually(counts, ["1 person", "1 person"]);
	const heights = await ana.page.locator("form").evaluateAll((all) => all.map((form) => [form.getBoundingClientRect().height, [...form.children].reduce((sum, node) => sum + node.getBoundingClientRect().height, 0)]));
	for (const [whole, parts] of heights) assert.ok(whole - parts < 60, `${whole} is little more than ${parts}`);
	const cy = await person();
	await cy.enter(room, "cy");
	await ana.page.clock.fastForward(10_000);
	await eventually(counts, ["2 people", "2 people"]);
});

scenario("language and colours can be chosen, and are kept", async ({ person }) => {
	const ana = await person({ colorScheme: "light" });
	const back = () => ana.page.evaluate(() => [getComputedStyle(document.body).backgroundColor, [...document.querySelectorAll("meta[name=theme-color]")].filter((meta) => matchMedia(meta.media).matches).map((meta) => meta.content).join()]);
	await ana.page.goto(server.url);
	const light = await back();
	await ana.page.getByLabel("Theme").selectOption("Dark");
	const dark = await back();
	assert.deepEqual([light, dark], [["rgb(244, 243, 248)", "#f4f3f8"], ["rgb(19, 18, 25)", "#131219"]]);
	await ana.page.emulateMedia({ colorScheme: "dark" });
	await ana.page.getByLabel("Theme").selectOption("Light");
	assert.deepEqual(await back(), light);
	await ana.page.getByLabel("Language").selectOption("Español");
	await ana.page.getByLabel("Tu nombre").waitFor();
	assert.equal(await ana.page.evaluate(() => document.documentElement.lang), "es");
	assert.deepEqual(await back(), light, "kept");
	await ana.page.getByLabel("Tema").selectOption("Del sistema");
	assert.deepEqual(await back(), dark);
});

scenario("a link or a code leads into a room, and a wrong one shows an error", async ({ person, allow }) => {
	allow(/status of 404/);
	const owner = await server.openSession("owner");
	const id = await server.room(owner, { title: "Tea" });
	const ana = await person();
	await ana.page.goto(server.url);
	const go = async (text) => {
		await ana.page.getByLabel("Link or code").fill(text);
		await ana.page.getByLabel("Link or code").press("Enter");
	};
	await go("what is this?");
	await eventually(() => alert(ana).allTextContents(), ["There is no room in this link."]);
	for (const text of [id, ` ${id.toUpperCase()} `, `Come to ${server.url}#/r/${id}!`, `https://0123456789.example/#/r/${id}`]) {
		await go(text);
		await ana.heading("Join Tea").waitFor();
		await ana.page.getByRole("link", { name: "All rooms" }).click();
		await ana.heading("Disposable Chat").waitFor();
	}
	// Characters that a link has gained on its way.
	for (const tail of [".", ")", "/", "?utm=1", "%20"]) {
		await ana.page.goto("about:blank");
		await ana.page.goto(`${server.url}#/r/${id.toUpperCase()}${tail}`);
		await ana.heading("Join Tea").waitFor();
		assert.equal(ana.page.url(), `${server.url}#/r/${id}`);
	}
	await ana.page.getByRole("link", { name: "All rooms" }).click();
	await go("0123456789");
	await ana.heading("Room not found").waitFor();
	for (const address of ["#/r/nonsense", "#/r/", `#/r/${id}0`, "#/r/<img src=x>", "#/r/%"]) {
		await ana.page.goto(server.url + address);
		await ana.heading("Room not found").waitFor();
	}
	await ana.page.getByRole("link", { name: "All rooms" }).click();
	await ana.heading("Disposable Chat").waitFor();
});

scenario("a name typed in the lobby is kept when a link is followed", async ({ person }) => {
	const id = await server.room(await server.openSession("owner"), { title: "Typed" });
	const ana = await person();
	await ana.page.goto(server.url);
	await ana.page.getByLabel("Your name").fill("ana");
	await ana.page.getByRole("link", { name: /Typed/ }).click();
	await eventually(() => ana.page.getByLabel("Your name").inputValue(), "ana");
	assert.equal(ana.page.url(), `${server.url}#/r/${id}`);
	await ana.button("Join").click();
	await ana.isIn();
});

scenario("the lobby lists public rooms with title and people, and is refreshed", async ({ person }) => {
	const owner = await server.openSession("owner");
	await server.room(owner, { title: "Hidden", private: true });
	const quiet = await server.room(owner);
	const ana = await person(), bo = await person();
	await bo.page.clock.install();
	await bo.page.goto(server.url);
	const room = await ana.open(server.url, "ana", { title: "<b>Lively</b>" });
	await bo.page.clock.fastForward(10_000);
	const first = () => rooms(bo, "Public rooms").allTextContents().then((all) => all.slice(0, 2));
	await eventually(first, ["<b>Lively</b>1 person", `Room \u2068${quiet}\u20690 people`]);
	assert.equal(await bo.page.getByText("Hidden").count(), 0);
	// The focus stays on a room when the list is redrawn.
	await rooms(bo, "Public rooms").first().getByRole("link").focus();
	const cy = await person();
	await cy.enter(room, "cy");
	await bo.page.clock.fastForward(10_000);
	await eventually(first, ["<b>Lively</b>2 people", `Room \u2068${quiet}\u20690 people`]);
	await bo.page.keyboard.press("Enter");
	await bo.heading("Join <b>Lively</b>").waitFor();
});

scenario("a link first asks for a name", async ({ person }) => {
	const ana = await person(), bo = await person();
	const room = await ana.open(server.url, "ana", { title: "Tea" });
	await bo.page.goto(room);
	await bo.heading(/^Join /).waitFor();
	await bo.heading("Join Tea").waitFor();
	assert.equal(await focused(bo), "Your name");
	await bo.page.keyboard.type("bo");
	await bo.page.keyboard.press("Enter");
	await bo.isIn();
	await bo.heading("Tea").waitFor();
	await ana.button("2 people").waitFor();
});

scenario("two tabs share one session, which outlives them", async ({ person }) => {
	const ana = await person(), bo = await person();
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	const first = ana.page;
	ana.page = await ana.context.newPage();
	await ana.page.goto(room);
	await ana.isIn();
	await bo.say("To both tabs");
	await ana.reads("To both tabs");
	await ana.say("From the second");
	await bo.reads("To both tabs", "From the second");
	await ana.button("2 people").waitFor();
	assert.equal(await ana.page.locator(".bubble.mine p").textContent(), "From the second");
	await ana.page.close();
	ana.page = first;
	await ana.reads("To both tabs", "From the second");
	assert.equal(await ana.page.locator(".bubble.mine p").textContent(), "From the second");
	assert.deepEqual(await bo.notices(), ["ana and bo joined"]);
	await bo.button("2 people").waitFor();
	await first.close();
	ana.page = await ana.context.newPage();
	await ana.page.goto(server.url);
	await ana.page.getByText("You are ana.").waitFor();
});

scenario("without storage the session lasts until the tab is closed", async ({ person }) => {
	const ana = await person(), bo = await person();
	await ana.context.addInitScript(() => {
		for (const name of ["localStorage", "sessionStorage"])
			Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } });
	});
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	await ana.say("Hello");
	await bo.say("Hi");
	await ana.reads("Hello", "Hi");
	await ana.page.goBack();
	await ana.page.getByText("You are ana.").waitFor();
	await ana.page.goForward();
	await ana.isIn();
	await ana.reads("Hello", "Hi");
	await ana.page.reload();
	await ana.heading(/^Join /).waitFor();
});

scenario("an ended session is shown, and the name is suggested again", async ({ person, allow }) => {
	allow(/status of 401/);
	const ana = await person();
	const room = await ana.open(server.url, "ana");
	const stored = () => ana.page.evaluate(() => JSON.parse(Object.entries(localStorage).find(([key]) => key.endsWith(" session"))?.[1] ?? "null"));
	const { session_id } = await stored();
	await server.ask("DELETE", "sessions/me", null, session_id);
	await ana.heading("Your session has ended").waitFor();
	assert.equal(await stored(), null);
	assert.equal(await ana.page.getByLabel("Your name").inputValue(), "ana");
	await ana.button("Join").click();
	await ana.isIn();
	const second = await stored();
	assert.notEqual(second.session_id, session_id);
	// The lobby detects it on its own.
	await ana.page.goto("about:blank");
	await server.ask("DELETE", "sessions/me", null, second.session_id);
	await ana.page.goto(server.url);
	await eventually(() => ana.page.getByLabel("Your name").inputValue(), "ana");
	await ana.page.goto(room);
	await ana.heading(/^Join /).waitFor();
});

scenario("ending the session in the lobby needs a confirmation", async ({ person }) => {
	const ana = await person();
	await ana.open(server.url, "ana");
	await ana.page.goBack();
	await ana.button("Start over").click();
	await ana.page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
	await ana.page.getByText("You are ana.").waitFor();
	await ana.button("Start over").click();
	await ana.page.getByRole("dialog").getByRole("button", { name: "Start over" }).click();
	await eventually(() => ana.page.getByLabel("Your name").inputValue(), "ana");
	await until("the stored session is removed", () => ana.page.evaluate(() => !Object.keys(localStorage).some((key) => key.endsWith(" session"))));
});
