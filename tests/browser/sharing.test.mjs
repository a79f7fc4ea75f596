// Sharing the link of a room.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { eventually, mount, harness } from "./harness.mjs";

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
		// A new room shows it at once.
		const invitation = ana.page.getByRole("region", { name: "Invite people" });
		assert.equal(await scan(ana, await invitation.getByRole("img", { name: room }).screenshot()), room);
		await ana.button("Invite").click();
		const dialog = ana.page.getByRole("dialog");
		assert.equal(await dialog.getByRole("textbox", { name: "Link" }).inputValue(), room);
		assert.equal(await scan(ana, await dialog.getByRole("img", { name: room }).screenshot()), room);
	});

scenario("a new room invites until the first guest or message, and not again", async ({ person }) => {
	const ana = await person(), bo = await person(), invitation = ana.page.getByRole("region", { name: "Invite people" });
	const room = await ana.open(server.url, "ana", { password: "sesame" });
	await invitation.waitFor();
	assert.equal(await invitation.getByRole("textbox", { name: "Link" }).inputValue(), room);
	for (const text of ["Anyone with this link and the password can join.", "Waiting for the first guest…", "This room vanishes soon after the last person leaves."]) await invitation.getByText(text).waitFor();
	await ana.page.reload();
	await invitation.waitFor();
	await bo.page.goto(room);
	await bo.page.getByLabel("Password").fill("sesame");
	await bo.page.getByLabel("Your name").fill("bo");
	await bo.button("Join").click();
	await bo.isIn();
	await invitation.waitFor({ state: "detached" });
	await bo.more("Leave the room");
	await ana.button("1 person").waitFor();
	await ana.page.reload();
	await ana.isIn();
	await ana.page.locator(".log .moves").waitFor();
	assert.equal(await invitation.count(), 0);
	// Talking alone is talking, too.
	await ana.page.goto(server.url);
	await ana.options();
	await ana.page.getByLabel("Ends").selectOption("After 1 hour");
	await ana.button("Start a room").click();
	await invitation.getByText("Anyone with this link can join.").waitFor();
	await invitation.getByText(/^This room ends on /).waitFor();
	await ana.say("Is anyone there?");
	await ana.reads("Is anyone there?");
	await invitation.waitFor({ state: "detached" });
});

scenario("the page can be installed, below a prefix too", async ({ person }) => {
	const url = await mount(server.port, "/tools/chat/"), ana = await person();
	await ana.page.goto(url);
	const devtools = await ana.context.newCDPSession(ana.page);
	const { url: manifest, errors, data } = await devtools.send("Page.getAppManifest");
	assert.deepEqual([manifest, errors], [`${url}page/app.webmanifest`, []]);
	const { start_url, scope, display, icons } = JSON.parse(data);
	assert.deepEqual([new URL(start_url, manifest).href, new URL(scope, manifest).href, display], [url, url, "standalone"]);
	for (const { src, type } of icons) assert.equal((await fetch(new URL(src, manifest))).headers.get("content-type"), type);
	const { installabilityErrors } = await devtools.send("Page.getInstallabilityErrors");
	assert.deepEqual(installabilityErrors.filter(({ errorId }) => errorId !== "in-incognito"), []);
	const og = await ana.page.locator("meta[property^='og:']").evaluateAll((all) => all.map((meta) => meta.getAttribute("property")));
	assert.deepEqual(og, ["og:title", "og:description", "og:type"]);
});

scenario("the link can be copied, with and without the clipboard API", async ({ person }) => {
	const ana = await person();
	const room = await ana.open(server.url, "ana");
	await ana.context.grantPermissions(["clipboard-read", "clipboard-write"]);
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
	await ana.button("Share…").click();
	await ana.button("Share…").click();
	await eventually(() => ana.page.evaluate(() => window.shared), Array(2).fill({ title: "Tea", url: room }));
	await bo.enter(room, "bo");
	await bo.button("Invite").click();
	await bo.button("Copy").waitFor();
	assert.equal(await bo.button("Share…").count(), 0);
});
