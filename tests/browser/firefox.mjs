// Firefox for the browser tests, driven by puppeteer-core over WebDriver BiDi. It has the part of Playwright's interface
// that the harness and the tests of the main flows use, with the same names, because Playwright drives only Firefox builds
// of its own. It knows nothing of the page or the server.
import assert from "node:assert/strict";
import { setTimeout as moment } from "node:timers/promises";
import puppeteer from "puppeteer-core";

const DEADLINE = 15_000;
const PREFERENCES = {
	"intl.accept_languages": "en-US",
	// A mouse. A headless Firefox has no pointer otherwise, and the page takes it for a phone.
	"ui.primaryPointerCapabilities": 6,
	"ui.allPointerCapabilities": 6,
	"ui.prefersReducedMotion": 1,
};

// Runs in the page: the elements that a list of steps leads to.
const find = (steps) => {
	const ROLES = {
		alert: "[role=alert]", button: "button, [role=button]", complementary: "aside", dialog: "dialog[open]", heading: "h1, h2, h3", img: "img, [role=img]", link: "a[href]",
		listitem: "li", log: "[role=log]", menuitem: "[role=menuitem]", status: "[role=status]", textbox: "textarea, input:not([type=checkbox], [type=radio], [type=button])",
	};
	const tidy = (text) => text.replace(/[\u2066-\u2069]/g, "").replace(/\s+/g, " ").trim();
	const isLike = (text, { name, exact }) => exact ? tidy(text) === name : tidy(text).toLowerCase().includes(name.toLowerCase());
	const named = (node) => node.getAttribute("aria-label") ?? node.labels?.[0]?.textContent ?? node.textContent;
	const isShown = (node) => node.checkVisibility({ checkVisibilityCSS: true });
	let found = [document];
	for (const step of steps) {
		const below = (css) => [...new Set(found.flatMap((node) => [...node.querySelectorAll(css)]))];
		if (step.css) found = below(step.css);
		else if (step.role) found = below(ROLES[step.role] ?? `[role=${step.role}]`).filter((node) =>
			isShown(node) && (!step.level || node.tagName === `H${step.level}`) && (step.name === undefined || isLike(named(node), step)));
		else if (step.label) found = below("input, textarea, select, [aria-label]").filter((node) => isLike(node.getAttribute("aria-label") ?? node.labels?.[0]?.textContent ?? "", { ...step, name: step.label }));
		else if (step.text) found = below("*").filter((node) => isLike(node.textContent, { ...step, name: step.text }) && ![...node.children].some((inner) => isLike(inner.textContent, { ...step, name: step.text })));
		else if (step.hasText) found = found.filter((node) => step.isPattern ? new RegExp(step.hasText).test(node.textContent) : isLike(node.textContent, { name: step.hasText }));
		else if ("nth" in step) found = found.slice(step.nth, step.nth + 1 || undefined);
	}
	return found;
};

class Locator {
	constructor(page, steps) {
		this.page = page;
		this.steps = steps;
	}

	#then(step) { return new Locator(this.page, [...this.steps, step]); }
	locator(css) { return this.#then({ css }); }
	getByRole(role, options) { return this.#then({ role, ...options }); }
	getByLabel(label, options) { return this.#then({ label, ...options }); }
	getByText(text, options) { return this.#then({ text, ...options }); }
	filter({ hasText }) { return this.#then({ hasText: hasText.source ?? hasText, isPattern: hasText instanceof RegExp }); }
	nth(nth) { return this.#then({ nth }); }
	first() { return this.nth(0); }
	last() { return this.nth(-1); }

	// `run(elements, argument)` in the page.
	evaluateAll(run, argument) {
		// The functions travel as text. Browsers that a policy guards allow that to a debugger only.
		return this.page.inner.evaluate(`(${run})((${find})(${JSON.stringify(this.steps)}), ${JSON.stringify(argument) ?? "undefined"})`);
	}

	// The one element, once there is one in that state.
	async #one(isReady, what) {
		for (const deadline = Date.now() + DEADLINE; ; await moment(20)) {
			const handle = await this.page.inner.evaluateHandle(`(() => {
				const all = (${find})(${JSON.stringify(this.steps)});
				return all.length > 1 ? all.length : all.length && (${isReady})(all[0]) ? all[0] : 0;
			})()`);
			const element = handle.asElement();
			if (element) return element;
			const count = await handle.jsonValue();
			assert.ok(!count, `${count} elements instead of one: ${JSON.stringify(this.steps)}`);
			assert.ok(Date.now() < deadline, `not ${what}: ${JSON.stringify(this.steps)}`);
		}
	}

	#present() { return this.#one(() => true, "there"); }
	#shown() { return this.#one((node) => node.checkVisibility({ checkVisibilityCSS: true }), "visible"); }
	async evaluate(run, argument) { return (await this.#present()).evaluate(run, argument); }
	async waitFor({ state = "visible" } = {}) {
		if (state === "visible") return void await this.#shown();
		const isLeft = (all, state) => !all.some((node) => state === "detached" || node.checkVisibility({ checkVisibilityCSS: true }));
		for (const deadline = Date.now() + DEADLINE; !await this.evaluateAll(isLeft, state); await moment(20))
			assert.ok(Date.now() < deadline, `not ${state}: ${JSON.stringify(this.steps)}`);
	}
	// Real input: at the place of the element, wherever that leads.
	async click() {
		await this.page.inner.bringToFront();
		const element = await this.#one((node) => {
			if (!node.checkVisibility({ checkVisibilityCSS: true }) || node.disabled) return false;
			node.scrollIntoView({ block: "nearest" });
			const { x, y, width, height } = node.getBoundingClientRect(), at = document.elementFromPoint(x + width / 2, y + height / 2);
			return node.contains(at) || [...node.labels ?? []].some((label) => label.contains(at));
		}, "free to be pressed");
		await element.click();
	}
	async check() {
		if (!await this.isChecked()) await this.click();
		assert.ok(await this.isChecked());
	}
	async fill(text) {
		await (await this.#shown()).evaluate((node, text) => {
			node.focus();
			node.value = text;
			node.dispatchEvent(new Event("input", { bubbles: true }));
		}, text);
	}
	async press(keys) {
		await this.page.inner.bringToFront();
		await (await this.#shown()).evaluate((node) => node.focus());
		await this.page.keyboard.press(keys);
	}
	async pressSequentially(text) {
		await this.page.inner.bringToFront();
		await (await this.#shown()).evaluate((node) => node.focus());
		await this.page.inner.keyboard.type(text);
	}
	async hover() {
		await this.page.inner.bringToFront();
		await (await this.#shown()).hover();
	}
	count() { return this.evaluateAll((all) => all.length); }
	allTextContents() { return this.evaluateAll((all) => all.map((node) => node.textContent)); }
	isVisible() { return this.evaluateAll((all) => all.some((node) => node.checkVisibility({ checkVisibilityCSS: true }))); }
	isChecked() { return this.evaluate((node) => node.checked); }
	inputValue() { return this.evaluate((node) => node.value); }
	textContent() { return this.evaluate((node) => node.textContent); }
	innerText() { return this.evaluate((node) => node.innerText); }
	getAttribute(name) { return this.evaluate((node, name) => node.getAttribute(name), name); }
}

class Page extends Locator {
	constructor(inner) {
		super(null, []);
		this.page = this;
		this.inner = inner;
		this.keyboard = {
			type: (text) => inner.keyboard.type(text),
			press: async (keys) => {
				const [key, ...held] = keys.split("+").reverse();
				for (const one of held) await inner.keyboard.down(one);
				await inner.keyboard.press(key);
				for (const one of held) await inner.keyboard.up(one);
			},
		};
	}

	// A link to another room changes only the fragment, which the browser reports as a navigation that never loads.
	async goto(url) {
		const here = new URL(this.url(), url), there = new URL(url);
		if (here.href.split("#")[0] === there.href.split("#")[0] && there.hash) await this.evaluate((hash) => { location.hash = hash; }, there.hash);
		else await this.inner.goto(url);
	}
	reload() { return this.inner.reload(); }
	url() { return this.inner.url(); }
	title() { return this.inner.title(); }
	isClosed() { return this.inner.isClosed(); }
	close() { return this.inner.close(); }
	evaluate(run, argument) { return this.inner.evaluate(run, argument); }
	addInitScript(run, argument) { return this.inner.evaluateOnNewDocument(run, argument); }
	setViewportSize(size) { return this.inner.setViewport(size); }
	bringToFront() { return this.inner.bringToFront(); }
	screenshot(options) { return this.inner.screenshot(options); }
}

class Context {
	#listeners = { console: [], weberror: [] }; #scripts = [];

	constructor(inner, viewport) {
		this.inner = inner;
		this.viewport = viewport;
	}

	setDefaultTimeout() {}
	on(event, listen) { this.#listeners[event].push(listen); }
	async addInitScript(run, argument) { this.#scripts.push([run, argument]); }
	async newPage() {
		// A window for each, because tabs behind another are hidden.
		const inner = await this.inner.newPage({ type: "window" }), page = new Page(inner);
		const tell = (event, value) => { for (const listen of this.#listeners[event]) listen(value); };
		inner.on("console", (line) => tell("console", { text: () => line.text(), location: () => line.location() }));
		inner.on("pageerror", (error) => tell("weberror", { error: () => error }));
		await inner.setViewport(this.viewport);
		for (const script of this.#scripts) await page.addInitScript(...script);
		return page;
	}
	close() { return this.inner.close(); }
}

export const launchFirefox = async (executablePath) => {
	const browser = await puppeteer.launch({ browser: "firefox", executablePath, headless: true, extraPrefsFirefox: PREFERENCES });
	return {
		newContext: async ({ viewport }) => new Context(await browser.createBrowserContext(), viewport),
		close: () => browser.close(),
	};
};
