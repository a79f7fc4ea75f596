// The build joins and minifies the files for browsers. What is served must mean what is written: scripts have the same
// syntax trees, style sheets the same rules.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";
import { parse } from "acorn";
import { harness } from "./harness.mjs";

const WEB = new URL("../../src/web/", import.meta.url);
const source = (path) => readFileSync(new URL(path, WEB), "utf8");
const { scenario, serve } = await harness();
const server = await serve();
const served = async (path) => (await fetch(new URL(path, server.url))).text();

const parsed = (script) => parse(script, { sourceType: "module", ecmaVersion: "latest" }).body;
// A tree without places and spellings.
const text = (tree) => JSON.stringify(tree, (key, value) => ["start", "end", "raw"].includes(key) ? undefined : value instanceof RegExp ? String(value) : value);

test("scripts that stand alone are served as they are written", async () => {
	for (const path of ["client.js", "sw.js", "docs.js", "page/qr.js", "page/en.js", "page/pt.js", "page/es.js"])
		assert.equal(text(parsed(await served(path))), text(parsed(source(path))), path);
});

test("a joined script is its modules, each a function of its own", async () => {
	const names = (one) => one.declaration.id?.name ?? one.declaration.declarations[0].id.name;
	const modules = readdirSync(new URL("page/", WEB)).filter((name) => /...\.js$/.test(name));
	const written = modules.map((name) => {
		const body = parsed(source(`page/${name}`)).filter(({ type, source }) => type !== "ImportDeclaration" && !source);
		const exported = body.filter(({ type }) => type === "ExportNamedDeclaration").map(names);
		return text([body.map((one) => one.declaration ?? one), exported]);
	}).filter((one) => one !== "[[],[]]");
	const joined = (await Promise.all(["page/main.js", "page/extras.js"].map(served))).flatMap(parsed);
	const shown = joined.filter(({ type }) => !/^(Im|Ex)port/.test(type)).map((one) => {
		const call = one.expression ?? one.declarations[0].init, { body } = call.callee.body;
		const exported = one.declarations?.[0].id.properties.map(({ key }) => key.name) ?? [];
		if (exported.length) assert.deepEqual(body.pop().argument.properties.map(({ key }) => key.name), exported);
		return text([body, exported]);
	});
	assert.deepEqual(shown.sort(), written.sort());
});

scenario("style sheets have the rules that are written", async ({ person }) => {
	const { page } = await person();
	await page.goto(server.url);
	for (const path of ["page/page.css", "docs.css"]) {
		const [minified, written] = await page.evaluate((texts) => texts.map((text) => {
			const sheet = new CSSStyleSheet();
			sheet.replaceSync(text);
			// Browsers keep the white space of values with variables, and of conditions.
			return [...sheet.cssRules].map(({ cssText }) => cssText.replace(/([,:]) /g, "$1"));
		}), [await served(path), source(path)]);
		assert.ok(written.length > 10);
		assert.deepEqual(minified, written, path);
	}
});
