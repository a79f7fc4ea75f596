// The languages of the page. Needs no browser.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import test from "node:test";

const PAGE = new URL("../../src/web/page/", import.meta.url);
const names = readdirSync(PAGE).filter((name) => /^..\.js$/.test(name) && name !== "qr.js");
const languages = await Promise.all(names.map(async (name) => [name, (await import(new URL(name, PAGE))).default]));
const [, english] = languages.find(([name]) => name === "en.js");
const inserted = (text) => [...new Set(text.match(/{\w+}/g))].sort();

test("every language has every text, with the same parts inserted", () => {
	assert.deepEqual(names.sort(), ["en.js", "es.js", "pt.js"]);
	for (const [name, words] of languages) {
		assert.deepEqual(Object.keys(words), Object.keys(english), `${name}: the same keys in the same order`);
		for (const [key, text] of Object.entries(words)) {
			const forms = text.split("|");
			assert.ok(forms.length <= 2 && forms.every((form) => form.trim() === form && form), `${name} ${key}`);
			for (const form of forms) assert.deepEqual(inserted(form), inserted(english[key].split("|")[0]), `${name} ${key}`);
			assert.doesNotMatch(text.replace(/{\w+}/g, ""), /[{}]/, `${name} ${key}`);
			// A form of which the number decides needs both forms, unless it has only one in this language.
			if (english[key].includes("{n}|") || /{n}.*\|/.test(english[key])) assert.equal(forms.length, 2, `${name} ${key}`);
		}
	}
});

// Words that are written alike in two languages.
const ALIKE = ["api"];

test("no text was left in English", () => {
	for (const [name, words] of languages) if (words !== english)
		for (const [key, text] of Object.entries(words)) if (!ALIKE.includes(key)) assert.notEqual(text, english[key], `${name} ${key}`);
});
