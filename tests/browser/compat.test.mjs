// A whole conversation in browsers that lack what the supported ones may lack (README), one thing at a time and all at
// once. What is newer than Chromium 109, Firefox 115 and Safari 16.0 is removed, and so is what a policy may block.
import assert from "node:assert/strict";
import { eventually, harness, isFirefox } from "./harness.mjs";

const { scenario, serve } = await harness();
const server = await serve("--leave-grace", "1h");

// Paths of what is removed. `checkVisibility` is not used by the page, but needed by the drivers.
const NEWER = {
	"static methods of URL": ["URL.canParse", "URL.parse"],
	"well-formed strings": ["String.prototype.toWellFormed", "String.prototype.isWellFormed"],
	"ARIA reflection": ["Element.prototype.aria*", "Element.prototype.role"],
	"text segmentation": ["Intl.Segmenter", "Intl.DurationFormat"],
	popovers: ["HTMLElement.prototype.popover", "HTMLElement.prototype.showPopover", "HTMLElement.prototype.hidePopover", "HTMLElement.prototype.togglePopover"],
	"new methods of arrays and iterators": [
		...["toSorted", "toReversed", "toSpliced", "with"].map((name) => `Array.prototype.${name}`), "Array.fromAsync", "Object.groupBy", "Map.groupBy", "Iterator",
		...["union", "intersection", "difference", "isSubsetOf"].map((name) => `Set.prototype.${name}`),
	],
	"new functions": ["Promise.withResolvers", "Promise.try", "RegExp.escape", "AbortSignal.any", "Uint8Array.fromBase64", "Uint8Array.prototype.toHex", "Uint8Array.prototype.toBase64", "Document.prototype.startViewTransition", "Element.prototype.moveBefore"],
	sound: ["AudioContext"],
	notifications: ["Notification", "Navigator.prototype.serviceWorker"],
	"messages between tabs": ["BroadcastChannel"],
	"sharing and the clipboard": ["Navigator.prototype.share", "Navigator.prototype.canShare", "Navigator.prototype.clipboard"],
	"what plain http lacks": ["Crypto.prototype.subtle", "Crypto.prototype.randomUUID", "Navigator.prototype.locks", "caches", "Navigator.prototype.serviceWorker"],
};
const remove = (paths) => {
	for (const path of paths) {
		const names = path.split("."), last = names.pop(), owner = names.reduce((at, name) => at?.[name], window);
		for (const name of owner ? Object.getOwnPropertyNames(owner) : [])
			if (last.endsWith("*") ? name.startsWith(last.slice(0, -1)) : name === last) delete owner[name];
	}
	// Sound is on, so that each message would play it.
	Object.defineProperty(document, "hasFocus", { value: () => !window.isAway });
	for (const key of Object.keys(localStorage)) if (key.endsWith(" session")) localStorage.setItem(key.replace(/ session$/, " sound"), "true");
};

const converse = async (person, prepare) => {
	const [ana, bo] = [await person(), await person()];
	for (const one of [ana, bo]) await prepare(one);
	const room = await ana.open(server.url, "ana", { title: "Tea" });
	await bo.enter(room, "bo");
	await bo.page.reload();
	await bo.isIn();
	const texts = ["see https://example.com/a_b", "👨‍👩‍👧‍👦 and `code`", "@bo 🎉", Array(40).fill("x").join("\n")];
	await ana.say(...texts);
	await eventually(async () => (await bo.texts()).length, texts.length);
	assert.equal(await bo.page.locator(".bubble a").getAttribute("href"), "https://example.com/a_b");
	await bo.page.evaluate(() => { window.isAway = true; });
	await ana.say("Are you there?");
	// In Firefox a window behind others has counted those before, too.
	await eventually(async () => [(await bo.texts()).at(-1), /^\([15]\) /.test(await bo.page.title())], ["Are you there?", true]);
	await bo.say("Yes");
	await eventually(async () => (await ana.texts()).at(-1), "Yes");
	// Each button has a name, and the dialogs open.
	const names = await ana.page.getByRole("button").evaluateAll((all) => all.map((node) => (node.getAttribute("aria-label") ?? node.textContent).trim()));
	assert.ok(names.length >= 4 && names.every(Boolean), `${names}`);
	for (const name of ["Invite", "More"]) {
		await ana.button(name, { exact: true }).click();
		await ana.page.getByRole("dialog").waitFor();
		await ana.button("Close").click();
		await ana.page.getByRole("dialog").waitFor({ state: "detached" });
	}
	await bo.more("Leave the room");
	await bo.heading("Disposable Chat").waitFor();
	await eventually(async () => (await ana.notices()).at(-1)?.replace(/.*bo left/, "bo left"), "bo left");
};

// Firefox, which takes minutes for each of them, tries all at once.
const each = isFirefox ? [] : Object.entries(NEWER);
for (const [what, paths] of [...each, ["all of it", [...new Set(Object.values(NEWER).flat())]]])
	scenario(`people chat without ${what}`, async ({ person }) => {
		await converse(person, ({ context }) => context.addInitScript(remove, paths));
	});

scenario("people chat where the system names its language wrongly", async ({ person }) => {
	await converse(person, ({ context }) => context.addInitScript(() => {
		document.hasFocus = () => !window.isAway;
		Object.defineProperty(Navigator.prototype, "languages", { get: () => ["en-US@posix"] });
		Object.defineProperty(Navigator.prototype, "language", { get: () => "en-US@posix" });
	}));
});
