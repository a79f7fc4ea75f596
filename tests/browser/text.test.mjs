// How messages are read (src/web/page/text.js), without a browser: links, code, mentions, emoji and names, and the
// number of steps that a long message takes.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

// Read as text, because Node before 22 takes `.js` for CommonJS.
const source = readFileSync(new URL("../../src/web/page/text.js", import.meta.url), "utf8");
const load = (comment = "") => import(`data:text/javascript,${encodeURIComponent(source + comment)}`);
const { firstOf, fold, isEmoji, isMixed, mentions, split } = await load();

const NAMES = ["ana", "ana maria", "bo", "田中", "jürgen"];
const parts = (text) => split(text, (name) => NAMES.includes(name)).map(({ type, text }) => type === "text" ? text : [type, text]);
const links = (text) => split(text).filter(({ type }) => type === "link").map(({ text }) => text);

test("a link ends before punctuation of every script", () => {
	for (const end of "。，！？；、）」》】（「，،؛؟।॥。۔…`\u3000\u200b\u202e")
		assert.deepEqual(links(`https://example.com/a${end}then`), ["https://example.com/a"], end);
	for (const end of ".,;:!?'*”’»)]}") assert.deepEqual(links(`https://example.com/a${end} then`), ["https://example.com/a"], end);
	for (const kept of ["a_", "~ana", "a~", "a-", "a=", "a/", "a#", "a_(b)", "[a]", "{a}", "a(b", "(a)(b)"])
		assert.deepEqual(links(`https://example.com/${kept}.`), [`https://example.com/${kept}`]);
	assert.deepEqual(links("(https://example.com/a_(b)))."), ["https://example.com/a_(b)"]);
});

test("a link may follow letters of scripts without spaces, and no others", () => {
	for (const before of ["你好", "見て", "リンク", "ดู", "ເບິ່ງ", "မြန်မာ", "、", "𠀀", "❤️", "("])
		assert.deepEqual(links(`${before}https://example.com`), ["https://example.com"], before);
	for (const before of ["x", "é", "ж", "7", "한", "𝐀"]) assert.deepEqual(links(`${before}https://example.com`), [], before);
});

test("what is no address is no link", () => {
	for (const text of ["https://", "https:///", "http://[", "http://a b".slice(0, 7), "ftp://example.com", "javascript:alert(1)", "h", "HH", `https://${"a".repeat(300)}/`])
		assert.deepEqual(links(text), [], text);
});

test("code stands between backticks, in a line or in lines of its own", () => {
	assert.deepEqual(parts("see `a b` and ``c`d``"), ["see ", ["code", "a b"], " and ", ["code", "c`d"]]);
	assert.deepEqual(parts("```js\nlet a = 1;\n\tb()\n```"), [["block", "let a = 1;\n\tb()"]]);
	assert.deepEqual(parts("before\n```\n\n  code\n```\nafter"), ["before", ["block", "\n  code"], "after"]);
	assert.deepEqual(parts("```one```"), [["block", "one"]]);
	assert.deepEqual(parts("x ```one``` y"), ["x ", ["code", "one"], " y"]);
	assert.deepEqual(parts("`https://example.com` `@ana`"), [["code", "https://example.com"], " ", ["code", "@ana"]]);
	// No code: nothing inside, no end, an end in another line.
	for (const text of ["``", "` `", "a ` b", "``a`", "`a\nb`", "```\n\n```", "``` ```"]) assert.deepEqual(parts(text), [text]);
});

test("a mention is the longest name that ends at the end of a word", () => {
	assert.deepEqual(parts("hi @ana, @Ana Maria! @BO's @bob @田中さん"), ["hi ", ["mention", "@ana"], ", ", ["mention", "@Ana Maria"], "! ", ["mention", "@BO"], "'s @bob ", ["mention", "@田中"], "さん"]);
	assert.deepEqual(parts("x@ana @@ana @ ana @ju\u0308rgen"), ["x@ana @@ana @ ana ", ["mention", "@ju\u0308rgen"]]);
	assert.equal(mentions("hey @Ana.", "ana"), true);
	for (const text of ["hey ana", "@anab", "mail@ana", "`@ana`", "https://example.com/@ana", "@bo"]) assert.equal(mentions(text, "ana"), false, text);
});

test("messages of up to six emoji and nothing else are emoji", () => {
	for (const text of ["👍", "👍🏽", "🇧🇷", "👨‍👩‍👧‍👦", "❤️", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "☝🏽", "🏳️‍🌈 👩‍❤️‍👩", "😀😀😀😀😀😀"]) assert.equal(isEmoji(text), true, text);
	for (const text of ["", "1", "12", "©", "a👍", "👍a", "😀😀😀😀😀😀😀", "#", "👍".repeat(4000), "\u200d"]) assert.equal(isEmoji(text), false, text);
});

test("an avatar is the first visible grapheme, also without Intl.Segmenter", async () => {
	const cases = { "🇧🇷 ana": "🇧🇷", "👨‍👩‍👧‍👦 us": "👨‍👩‍👧‍👦", "e\u0301a": "e\u0301", "\u200b\u2800 ana": "a", "👍🏽 ok": "👍🏽", "ana": "a", "😀x": "😀", "": "" };
	const { Segmenter } = Intl;
	delete Intl.Segmenter;
	try {
		const old = await load("// without Intl.Segmenter");
		for (const [name, first] of Object.entries(cases)) assert.equal(old.firstOf(name), first);
	} finally {
		Intl.Segmenter = Segmenter;
	}
	for (const [name, first] of Object.entries(cases)) assert.equal(firstOf(name), first);
});

test("names that look alike are equal when folded, and mixed scripts are noticed", () => {
	for (const [one, other] of [["ana", "ANA"], ["ana", "a\u200bn\u2060a"], ["ana", "ａｎａ"], ["ﬁ", "fi"], ["é", "e\u0301"], ["straße", "STRASSE"], ["ana", "ana\u3164"], ["a b", "a\u00a0 b"], ["ΌΣΟΣ", "όσος"]])
		assert.equal(fold(one), fold(other), `${one} ${other}`);
	assert.notEqual(fold("ana"), fold("anа"));
	for (const name of ["anа", "αna", "Яα"]) assert.equal(isMixed(name), true, name);
	for (const name of ["ana", "анна", "Άννα", "ana 田中", "ana 5!", "José"]) assert.equal(isMixed(name), false, name);
});

// A text that counts the code units that are read from it.
class Counted {
	steps = 0;
	constructor(text) { this.text = text; this.length = text.length; }
	charAt(at) { this.steps++; return this.text.charAt(at); }
	slice(from, to) { const piece = this.text.slice(from, to); this.steps += 1 + piece.length; return piece; }
	indexOf(what, at = 0) { const found = this.text.indexOf(what, at); this.steps += 1 + (found < 0 ? this.length : found) - at; return found; }
}

test("the steps for a message grow with its length, whatever is in it", () => {
	const fill = (piece) => (length) => piece.repeat(Math.ceil(length / piece.length)).slice(0, length);
	const texts = {
		"a link that ends in dots and brackets": (length) => `http://a/${".".repeat(length / 2 - 5)}b${")".repeat(length / 2 - 5)}`,
		"brackets in turn": (length) => `http://a/${")].".repeat(length / 3 - 3)}`,
		"backticks of growing length": (length) => {
			let text = "";
			for (let n = 1; text.length < length; n++) text += `${"`".repeat(n)} `;
			return text.slice(0, length);
		},
	};
	for (const piece of ["a", "http://", "http://a ", "http://[", "hhttps:/", "`", "` ", "`\n", "`a`", "```\n", "```\na\n", "``` x\n", "@", "@ ", "@ana ", "@a b c d e f g h i j k l m n o p ", "👍", "(", "http://a)", "。http://a", "e\u0301", "\n"]) texts[piece] = fill(piece);
	for (const [name, make] of Object.entries(texts)) {
		const steps = [1000, 4000].map((length) => {
			const text = new Counted(make(length));
			split(text, (name) => NAMES.includes(name));
			return text.steps;
		});
		assert.ok(steps[1] < 4.5 * steps[0] + 100, `${name}: ${steps}`);
		assert.ok(steps[1] < 120 * 4000, `${name}: ${steps}`);
	}
});
