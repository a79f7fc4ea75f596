// Alerts while the page is out of sight: the count in title and icon, notifications, and the sound.
import assert from "node:assert/strict";
import { eventually, harness, until } from "./harness.mjs";

const { scenario, serve } = await harness();
const server = await serve("--leave-grace", "1h");

// Playwright gives every page the focus, so it is replaced here; notifications and sounds are recorded. Without the
// permission of the browser itself the worker shows nothing, and the page's own notifications are used.
const recordAlerts = ({ context }) => context.addInitScript(() => {
	window.isAway = false;
	window.alerts = [];
	document.hasFocus = () => !window.isAway;
	window.Notification = class {
		static permission = "default";
		static allow = "granted";
		static async requestPermission() {
			window.alerts.push("asked");
			return Notification.permission = Notification.allow;
		}
		constructor(title, { body, tag }) {
			window.alerts.push([title, body, tag]);
			window.last = this;
		}
		close() {
			window.alerts.push("closed");
		}
	};
	const { start } = OscillatorNode.prototype;
	OscillatorNode.prototype.start = function (...when) {
		window.alerts.push("beep");
		start.apply(this, when);
	};
});
const away = ({ page }, is) => page.evaluate((is) => {
	window.isAway = is;
	dispatchEvent(new Event(is ? "blur" : "focus"));
}, is);
const alerts = ({ page }) => page.evaluate(() => window.alerts.splice(0));
const icon = ({ page }) => page.locator("link[rel=icon]").getAttribute("href").then(decodeURIComponent);
const SAMPLE = ["Disposable Chat", "Notifications look like this.", undefined];
const choose = (one, what) => one.page.getByLabel("Notifications").selectOption(what);
const chosen = (one) => one.page.getByLabel("Notifications").inputValue();

scenario("unread messages are counted in title and icon until the page has the focus", async ({ person }) => {
	const ana = await person(), bo = await person();
	await recordAlerts(ana);
	const room = await ana.open(server.url, "ana", { title: "Tea" });
	await bo.enter(room, "bo");
	await bo.say("seen");
	await ana.reads("seen");
	assert.equal(await ana.page.title(), "Tea · Disposable Chat");
	const plain = await icon(ana);
	await away(ana, true);
	await bo.say("one", "two");
	await eventually(() => ana.page.title(), "(2) Tea · Disposable Chat");
	const marked = await icon(ana);
	assert.match(plain, /^data:image\/svg\+xml,<svg /);
	assert.ok(!plain.includes("<circle") && marked.includes("<circle"), "a dot on it");
	// Joins and one's own messages are not counted.
	const cy = await person();
	await cy.enter(room, "cy");
	await ana.page.getByText("cy joined").waitFor();
	await ana.say("mine");
	await ana.reads("seen", "one", "two", "mine");
	assert.equal(await ana.page.title(), "(2) Tea · Disposable Chat");
	assert.deepEqual(await alerts(ana), [], "no alert without consent");
	await away(ana, false);
	await eventually(() => ana.page.title(), "Tea · Disposable Chat");
	assert.equal(await icon(ana), plain);
});

scenario("notifications and sound are off until switched on, and can be switched off", async ({ person }) => {
	const ana = await person(), bo = await person();
	await recordAlerts(ana);
	const room = await ana.open(server.url, "ana"), id = new URL(room).hash.slice(4);
	await bo.enter(room, "bo");
	await ana.more();
	const sound = ana.page.getByLabel("Sound");
	assert.deepEqual([await chosen(ana), await sound.isChecked(), await alerts(ana)], ["", false, []]);
	await choose(ana, "For every message");
	await until("a sample is shown", () => ana.page.evaluate(() => window.alerts.length === 2));
	assert.deepEqual(await alerts(ana), ["asked", SAMPLE]);
	await sound.check();
	await until("a sample is played", () => ana.page.evaluate(() => window.alerts[0] === "beep"));
	await alerts(ana);
	await ana.page.keyboard.press("Escape");
	await bo.say("looked at");
	await ana.reads("looked at");
	assert.deepEqual(await alerts(ana), [], "no alert while the page has the focus");
	await away(ana, true);
	await bo.say("<b>unseen</b>");
	await eventually(() => ana.page.evaluate(() => window.alerts), ["beep", ["bo", "<b>unseen</b>", id]]);
	await alerts(ana);
	await ana.page.evaluate(() => window.last.onclick());
	assert.deepEqual(await alerts(ana), ["closed"]);
	// The page stores the settings, the browser stores the permission.
	await ana.page.reload();
	await ana.isIn();
	await ana.page.evaluate(() => { Notification.permission = "granted"; });
	await ana.more();
	assert.deepEqual([await chosen(ana), await sound.isChecked()], ["all", true]);
	await choose(ana, "Off");
	await sound.uncheck();
	await ana.page.keyboard.press("Escape");
	await away(ana, true);
	await bo.say("quietly");
	await until("it is counted", async () => (await ana.page.title()).startsWith("(1) "));
	assert.deepEqual(await alerts(ana), []);
});

scenario("a mention is notified where other messages are not", async ({ person }) => {
	const ana = await person(), bo = await person();
	await recordAlerts(ana);
	const room = await ana.open(server.url, "ana"), id = new URL(room).hash.slice(4);
	await bo.enter(room, "bo");
	await ana.more();
	await choose(ana, "When I'm mentioned");
	await until("a sample is shown", () => ana.page.evaluate(() => window.alerts.length === 2));
	await alerts(ana);
	await ana.page.keyboard.press("Escape");
	await away(ana, true);
	await bo.say("Hello", "@anabel is not meant", "but @Ana is", "and so on");
	await eventually(() => ana.page.title().then((title) => title.slice(0, 3)), "(4)");
	await eventually(() => ana.page.evaluate(() => window.alerts), [["bo", "but @Ana is", id]]);
});

scenario("a switch stays off and says why this browser can't", async ({ person }) => {
	const reason = async (one, room, name, text) => {
		await one.enter(room, name);
		await one.more();
		const select = one.page.getByLabel("Notifications");
		if (await select.isEnabled()) await select.selectOption("For every message");
		await one.page.getByRole("status").filter({ hasText: text }).waitFor();
		assert.equal(await select.inputValue(), "");
		assert.equal(await one.page.evaluate(() => Object.keys(localStorage).some((key) => key.endsWith(" notify"))), false);
	};
	const ana = await person();
	await recordAlerts(ana);
	const room = await ana.open(server.url, "ana");
	// The answer is no; from then on the switch is disabled.
	const no = await person();
	await recordAlerts(no);
	await no.context.addInitScript(() => { Notification.allow = "denied"; });
	await reason(no, room, "no", "Blocked in this browser's settings.");
	await no.page.keyboard.press("Escape");
	await no.more();
	assert.equal(await no.page.getByLabel("Notifications").isDisabled(), true);
	await no.page.getByText("Blocked in this browser's settings.").waitFor();
	// The question is closed without an answer.
	const later = await person();
	await recordAlerts(later);
	await later.context.addInitScript(() => { Notification.allow = "default"; });
	await reason(later, room, "later", "Your browser needs your permission first.");
	// As on Android, if there is no worker either.
	const phone = await person();
	await recordAlerts(phone);
	await phone.context.addInitScript(() => {
		window.Notification = new Proxy(Notification, { construct() { throw new TypeError("Illegal constructor."); } });
	});
	await reason(phone, room, "phone", "This browser can't show notifications.");
	const none = await person();
	await none.context.addInitScript(() => { delete window.Notification; });
	await reason(none, room, "none", "This browser can't show notifications.");
	// Nor sounds.
	const mute = await person();
	await mute.context.addInitScript(() => { delete window.AudioContext; });
	await mute.enter(room, "mute");
	await mute.more();
	await mute.page.getByLabel("Sound").click();
	await mute.page.getByText("This browser can't play sounds.").waitFor();
	assert.equal(await mute.page.getByLabel("Sound").isChecked(), false);
});

scenario("where only workers may notify, as on Android, the worker does, and brings the page forward", async ({ person }) => {
	const ana = await person(), bo = await person();
	await ana.context.grantPermissions(["notifications"]);
	await ana.context.addInitScript(() => {
		document.hasFocus = () => !window.isAway;
		window.Notification = new Proxy(Notification, { construct() { throw new TypeError("Illegal constructor."); } });
	});
	const room = await ana.open(server.url, "ana"), id = new URL(room).hash.slice(4);
	assert.equal(ana.context.serviceWorkers().length, 0, "there is no worker unless it is wanted");
	await bo.enter(room, "bo");
	await ana.more();
	await choose(ana, "For every message");
	const shown = () => ana.page.evaluate(async () => {
		const registration = await navigator.serviceWorker.getRegistration();
		return (await registration?.getNotifications() ?? []).map(({ title, body, tag }) => [title, body, tag]);
	});
	await eventually(shown, [["Disposable Chat", "Notifications look like this.", ""]]);
	assert.equal(await chosen(ana), "all");
	await ana.page.keyboard.press("Escape");
	await away(ana, true);
	await bo.say("Hello");
	await eventually(() => shown().then((all) => all.at(-1)), ["bo", "Hello", id]);
	const [worker] = ana.context.serviceWorkers();
	assert.equal(worker.url(), `${server.url}sw.js`);
	// What a press does. A test can't press a notification.
	const press = () => worker.evaluate(async () => {
		const did = [], [notification] = (await registration.getNotifications()).slice(-1);
		WindowClient.prototype.focus = async function () { did.push(["focus", this.url.split("#")[0]]); };
		clients.openWindow = async (url) => did.push(["open", url]);
		let rest;
		dispatchEvent(Object.assign(new Event("notificationclick"), { notification, waitUntil: (work) => { rest = work; } }));
		await rest;
		return did;
	});
	assert.deepEqual(await press(), [["focus", server.url]]);
	await eventually(() => shown().then((all) => all.length), 1);
	await bo.say("again");
	await eventually(() => shown().then((all) => all.at(-1)), ["bo", "again", id]);
	// The page of that name is closed: another opens.
	await ana.page.goto("about:blank");
	assert.deepEqual(await press(), [["open", room]]);
	assert.deepEqual(await worker.evaluate(() => caches.keys()), [], "it caches nothing");
});

scenario("nothing is played while sound is suspended, and nothing is stored up", async ({ person }) => {
	const ana = await person(), bo = await person();
	await recordAlerts(ana);
	await ana.context.addInitScript(() => {
		window.isSuspended = true;
		window.contexts = 0;
		window.AudioContext = class extends AudioContext {
			constructor() {
				super();
				window.contexts++;
			}
			get state() { return window.isSuspended ? "suspended" : "running"; }
			async resume() { window.isSuspended = false; }
		};
		if (!localStorage.length) return;
		for (const key of Object.keys(localStorage)) localStorage.setItem(key.replace(/ session$/, " sound"), key.endsWith(" session") ? "true" : localStorage[key]);
	});
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	await ana.page.reload();
	await ana.isIn();
	await away(ana, true);
	await bo.say("one", "two", "three");
	await eventually(() => ana.page.title().then((title) => title.slice(0, 3)), "(3)");
	assert.deepEqual([await alerts(ana), await ana.page.evaluate(() => window.contexts)], [[], 0]);
	await ana.page.keyboard.press("Shift");
	await until("it is resumed", () => ana.page.evaluate(() => !window.isSuspended));
	assert.deepEqual(await alerts(ana), [], "the tones of before are not played");
	await bo.say("four");
	await eventually(() => ana.page.evaluate(() => window.alerts), ["beep"]);
	// It can be suspended again, as when the phone rings.
	await ana.page.evaluate(() => { window.isSuspended = true; });
	await bo.say("five");
	await eventually(() => ana.page.title().then((title) => title.slice(0, 3)), "(5)");
	assert.deepEqual(await alerts(ana), ["beep"]);
});

scenario("a tab is quiet while another tab of the room has the focus", async ({ person }) => {
	const ana = await person(), bo = await person();
	await recordAlerts(ana);
	const room = await ana.open(server.url, "ana", { title: "Tea" });
	await bo.enter(room, "bo");
	await ana.more();
	await ana.page.getByLabel("Sound").check();
	await until("a sample is played", () => ana.page.evaluate(() => window.alerts[0] === "beep"));
	await alerts(ana);
	await ana.page.keyboard.press("Escape");
	await away(ana, true);
	await bo.say("one");
	await eventually(() => ana.page.title(), "(1) Tea · Disposable Chat");
	assert.deepEqual(await alerts(ana), ["beep"]);
	// A second tab shows the room, which also reads what the first has counted.
	const second = { page: await ana.context.newPage() };
	await second.page.goto(room);
	await second.page.locator(".bubble", { hasText: "one" }).waitFor();
	await eventually(() => ana.page.title(), "Tea · Disposable Chat");
	await bo.say("two");
	await ana.reads("one", "two");
	// The first asks, and is answered before it would alert.
	await ana.page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 1100)));
	assert.deepEqual([await ana.page.title(), await alerts(ana)], ["Tea · Disposable Chat", []]);
	await away(second, true);
	await bo.say("three");
	await eventually(() => ana.page.title(), "(1) Tea · Disposable Chat");
	assert.deepEqual(await alerts(ana), ["beep"]);
	// In another room it has the focus of that room only.
	await away(second, false);
	await eventually(() => ana.page.title(), "Tea · Disposable Chat");
	await second.page.evaluate(() => { location.hash = ""; });
	await bo.say("four");
	await eventually(() => ana.page.title(), "(1) Tea · Disposable Chat");
	await second.page.goto(room);
	await eventually(() => ana.page.title(), "Tea · Disposable Chat");
	// A tab that has crashed with the focus answers no more.
	await second.page.evaluate(() => { BroadcastChannel.prototype.postMessage = () => {}; });
	await alerts(ana);
	await bo.say("five");
	await eventually(() => ana.page.title(), "(1) Tea · Disposable Chat");
	assert.deepEqual(await alerts(ana), ["beep"]);
});
