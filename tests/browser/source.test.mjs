// What the sources for browsers must not use, because a supported browser would not read the file at all, or draw
// without colours. Needs no browser.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";

const WEB = new URL("../../src/web/", import.meta.url);
const names = [...readdirSync(WEB), ...readdirSync(new URL("page/", WEB)).map((name) => `page/${name}`)];
const sources = (ending) => names.filter((name) => name.endsWith(ending)).map((name) => [name, readFileSync(new URL(name, WEB), "utf8")]);

// The literals of a script: `{type, text}`, where type is "regex" with its flags, "template" or "string".
const literals = (source) => {
	const found = [], open = []; // The depth of braces at which each template goes on.
	let depth = 0, last = ""; // The last character that is no space.
	const read = (type, from, to) => found.push({ type, text: source.slice(from, to) });
	const template = (begin) => {
		for (let at = begin; at < source.length; at++) {
			const one = source[at];
			if (one === "\\") at++;
			else if (one === "`" || one === "$" && source[at + 1] === "{") {
				read("template", begin, at);
				if (one === "`") return at + 1;
				open.push(depth++);
				return at + 2;
			}
		}
		throw new Error("a template without an end");
	};
	for (let at = 0; at < source.length;) {
		const one = source[at], two = source.slice(at, at + 2), begin = at;
		if (two === "//") at = source.indexOf("\n", at);
		else if (two === "/*") at = source.indexOf("*/", at) + 2;
		else if (one === '"' || one === "'") {
			for (at++; source[at] !== one; at++) if (source[at] === "\\") at++;
			read("string", begin, ++at);
			last = one;
		} else if (one === "`") {
			at = template(at + 1);
			last = one;
		} else if (one === "/" && (/[(,=:[!&|?{};>+~]|^$/.test(last) || /\breturn\s*$/.test(source.slice(0, at)))) {
			let isClass = false;
			for (at++; source[at] !== "/" || isClass; at++) {
				if (source[at] === "\n") throw new Error(`no regular expression: ${source.slice(begin, at)}`);
				if (source[at] === "\\") at++;
				else if (source[at] === "[") isClass = true;
				else if (source[at] === "]") isClass = false;
			}
			for (at++; /\w/.test(source[at]); at++);
			read("regex", begin, at);
			last = "/";
		} else {
			if (one === "{") depth++;
			if (one === "}" && --depth === open.at(-1)) {
				open.pop();
				at = template(at + 1);
				last = "`";
				continue;
			}
			if (!/\s/.test(one)) last = one;
			at++;
		}
		if (at < begin) break; // A comment in the last line.
	}
	assert.deepEqual([depth, open], [0, []], "all braces are closed");
	return found;
};

test("the reader of literals reads them", () => {
	const all = (source) => literals(source).map(({ type, text }) => `${type} ${text}`);
	assert.deepEqual(all("a = b / c / d; // `\n/* ' */ e(/[/`\"]\\//gu, 'it\\'s', \"/\");"), ["regex /[/`\"]\\//gu", "string 'it\\'s'", 'string "/"']);
	assert.deepEqual(all("`a${{ b: `c${d}` }}e\\``"), ["template a", "template c", "template ", "template e\\`"]);
	assert.deepEqual(all("if (x) return /a/;"), ["regex /a/"]);
});

// Syntax errors in Safari before 16.4, Chromium before 112 or Firefox before 116; the build joins lines.
test("no regular expression looks behind or has the flag v, no template spans lines, and no class has a static block", () => {
	const wrong = [], isNew = (text) => /\(\?(<[=!]|-?[ims]+[-:])/.test(text);
	let regexes = 0, templates = 0;
	for (const [name, source] of sources(".js")) for (const { type, text } of literals(source)) {
		regexes += type === "regex";
		templates += type === "template";
		// `new RegExp` is given strings.
		if (isNew(text) || type === "regex" && /\/\w*v\w*$/.test(text) || type === "template" && text.includes("\n")) wrong.push(`${name}: ${text}`);
	}
	for (const [name, source] of sources(".js")) if (/\bstatic\s*\{/.test(source)) wrong.push(`${name}: a static block`);
	assert.deepEqual(wrong, []);
	assert.ok(regexes > 20 && templates > 100, `${regexes} regular expressions, ${templates} templates`);
});

// Colours that Chromium 109 and 110, Firefox 115 or Safari before 16.2 do not have.
const NEW = /\b(oklch|oklab|lch|lab|color|color-mix|light-dark)\(/;

// Safari before 16.4 drops the rules in such a query, and Firefox before 121 a rule with `:has()`.
test("no rule depends on newer selectors and queries", () => {
	for (const [name, css] of sources(".css")) {
		assert.doesNotMatch(css, /@media[^{]*[<>]/, name);
		// The page of the documents has one rule that may be dropped.
		if (name !== "docs.css") assert.doesNotMatch(css, /:has\(/, name);
	}
});

// The declarations of a stylesheet: `{context, selector, property, value}`; the context is the rules around.
const declarations = (css) => {
	const all = [], stack = [];
	let text = "";
	const put = () => {
		const colon = text.indexOf(":"), selector = stack.at(-1);
		if (text.trim()) all.push({ context: stack.slice(0, -1).join(" "), selector, property: text.slice(0, colon).trim(), value: text.slice(colon + 1).trim() });
		text = "";
	};
	for (const one of css.replace(/\/\*.*?\*\//gs, "")) {
		if (one === "{") {
			assert.ok(!stack.length || stack.at(-1).startsWith("@"), `nested, which Safari before 16.5 does not know: ${text}`);
			stack.push(text.trim());
			text = "";
		} else if (one === "}") {
			put();
			stack.pop();
		} else if (one === ";") put();
		else text += one;
	}
	return all;
};
// A declaration without `var()` is dropped by a browser that does not know it, so that one before it counts. One with
// `var()` is read too late for that: it needs `@supports`, around it or with another value.
const unguarded = (css) => {
	const all = declarations(css);
	return all.filter(({ context, selector, property, value }, at) => {
		if (!NEW.test(value) || /@supports (?!not)/.test(context)) return false;
		const same = (other) => other.selector === selector && other.property === property && !NEW.test(other.value);
		return !all.some((other, there) => same(other) && (/@supports not/.test(other.context) ? there > at : there < at && other.context === context && !/var\(/.test(value)));
	}).map(({ selector, property, value }) => `${selector} { ${property}: ${value} }`);
};

test("every new colour has an older one to fall back to", () => {
	const guarded = [
		"a { color: red; color: oklch(1% 0 0) }",
		"@supports (color: oklch(0% 0 0)) { a { color: oklch(var(--a) 0 0) } }",
		"a { color: oklch(var(--a) 0 0) } @supports not (color: oklch(0% 0 0)) { a { color: red } }",
		"a { color: var(--color); background: rgb(0 0 0) }",
	];
	for (const css of guarded) assert.deepEqual(unguarded(css), [], css);
	const bare = [
		"a { color: oklch(1% 0 0) }",
		"a { color: oklch(1% 0 0); color: red }",
		"a { color: red; color: color-mix(in srgb, var(--a), red) }",
		"a { background: light-dark(#fff, #000) } @supports not (color: oklch(0% 0 0)) { b { background: red } a { color: red } }",
	];
	for (const css of bare) assert.equal(unguarded(css).length, 1, css);
	assert.throws(() => unguarded("a { b { color: red } }"));
	for (const [name, css] of sources(".css")) assert.deepEqual(unguarded(css), [], name);
});
