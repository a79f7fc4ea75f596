// Sharing the link of a room, and alerts while the page is out of sight.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { eventually, mount, harness, until } from "./harness.mjs";

const { default: jsQR } = createRequire(import.meta.url)("jsqr");
const { scenario, serve } = await harness();
const server = await serve("--leave-grace", "1h");

// Decodes a picture in another page, as the policy of this one forbids it.
const scan = async (one, picture) => {
	const page = await one.context.newPage();
	const { width, height, light } = await page.evaluate(async (url) => {
		const image = new Image();
		image.src = url;
		await image.decode();
		const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
		context.drawImage(image, 0, 0);
		const { width, height, data } = context.getImageData(0, 0, image.width, image.height);
		return { width, height, light: Array.from({ length: width * height }, (_, n) => data[n * 4] > 127 ? 1 : 0).join("") };
	}, `data:image/png;base64,${picture.toString("base64")}`);
	await page.close();
	return jsQR(Uint8ClampedArray.from([...light].flatMap((one) => [one * 255, one * 255, one * 255, 255])), width, height)?.data;
};

for (const [what, options, prefix] of [["a public room", { title: "Tea" }, "/"], ["a private one in the dark", { isPrivate: true }, "/"], ["one at a long address", { isPrivate: true }, `/${"a/long/way/".repeat(6)}`]])
	scenario(`the QR code of ${what} is its link`, async ({ person }) => {
		const url = await mount(server.port, prefix);
		const ana = await person({ colorScheme: what.endsWith("dark") ? "dark" : "light" });
		const room = await ana.open(url, "ana", options);
		await ana.button("Invite").click();
		assert.equal(await ana.page.getByRole("textbox", { name: "Link" }).inputValue(), room);
		assert.equal(await scan(ana, await ana.page.getByRole("img", { name: room }).screenshot()), room);
	});

scenario("the link can be copied, with and without the clipboard API", async ({ person }) => {
	const ana = await person();
	const room = await ana.open(server.url, "ana");
	await ana.context.grantPermissions(["clipboard-read", "clipboard-write"]);
	await ana.button("Invite").click();
	await ana.button("Copy").click();
	await ana.button("Copied").waitFor();
	assert.equal(await ana.page.evaluate(() => navigator.clipboard.readText()), room);
	// Pages over plain HTTP have no navigator.clipboard.
	await ana.page.evaluate(async () => {
		await navigator.clipboard.writeText("");
		Object.defineProperty(navigator, "clipboard", { value: undefined, configurable: true });
	});
	await ana.button("Copied").click();
	await eventually(() => ana.page.evaluate(() => Object.getPrototypeOf(navigator).__lookupGetter__("clipboard").call(navigator).readText()), room);
});

scenario("the system's share sheet is offered where there is one", async ({ person }) => {
	const ana = await person(), bo = await person();
	await ana.context.addInitScript(() => {
		window.shared = [];
		// The second share is cancelled.
		navigator.share = (what) => window.shared.push(what) > 1 ? Promise.reject(new DOMException("", "AbortError")) : Promise.resolve();
	});
	await bo.context.addInitScript(() => Object.defineProperty(navigator, "share", { value: undefined }));
	const room = await ana.open(server.url, "ana", { title: "Tea" });
	await ana.button("Invite").click();
	await ana.button("Share…").click();
	await ana.button("Share…").click();
	await eventually(() => ana.page.evaluate(() => window.shared), Array(2).fill({ title: "Tea", url: room }));
	await bo.enter(room, "bo");
	await bo.button("Invite").click();
	await bo.button("Copy").waitFor();
	assert.equal(await bo.button("Share…").count(), 0);
});

// Playwright gives every page the focus, so it is replaced here; notifications and sounds are recorded.
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
	const room = await ana.open(server.url, "ana");
	await bo.enter(room, "bo");
	await ana.more();
	const notify = ana.page.getByLabel("Notifications"), sound = ana.page.getByLabel("Sound");
	assert.deepEqual([await notify.isChecked(), await sound.isChecked(), await alerts(ana)], [false, false, []]);
	await notify.check();
	await sound.check();
	await until("both are set", async () => await notify.isChecked() && await sound.isChecked());
	assert.deepEqual(await alerts(ana), ["asked", "beep"], "the sound is played as a sample");
	await ana.page.keyboard.press("Escape");
	await bo.say("looked at");
	await ana.reads("looked at");
	assert.deepEqual(await alerts(ana), [], "no alert while the page has the focus");
	await away(ana, true);
	await bo.say("<b>unseen</b>");
	await ana.reads("looked at", "<b>unseen</b>");
	assert.deepEqual(await alerts(ana), ["beep", ["bo", "<b>unseen</b>", new URL(room).hash.slice(4)]]);
	await ana.page.evaluate(() => window.last.onclick());
	assert.deepEqual(await alerts(ana), ["closed"]);
	// The page stores the settings, the browser stores the permission.
	await ana.page.reload();
	await ana.isIn();
	await ana.page.evaluate(() => { Notification.permission = "granted"; });
	await ana.more();
	assert.deepEqual([await notify.isChecked(), await sound.isChecked()], [true, true]);
	await notify.uncheck();
	await sound.uncheck();
	await ana.page.keyboard.press("Escape");
	await away(ana, true);
	await bo.say("quietly");
	await until("it is counted", async () => (await ana.page.title()).startsWith("(1) "));
	assert.deepEqual(await alerts(ana), []);
});

scenario("the page shows that the browser blocks notifications", async ({ person }) => {
	const ana = await person(), bo = await person();
	await recordAlerts(ana);
	await ana.context.addInitScript(() => { Notification.allow = "denied"; });
	const room = await ana.open(server.url, "ana");
	await ana.more();
	await ana.page.getByLabel("Notifications").click();
	await until("it was refused", async () => !await ana.page.getByLabel("Notifications").isChecked());
	await ana.page.keyboard.press("Escape");
	await ana.more();
	assert.equal(await ana.page.getByLabel("Notifications").isDisabled(), true);
	await ana.page.getByText("Blocked by this browser.").waitFor();
	// And a browser without notifications.
	await bo.context.addInitScript(() => { delete window.Notification; });
	await bo.enter(room, "bo");
	await bo.more();
	assert.equal(await bo.page.getByLabel("Notifications").isDisabled(), true);
});
