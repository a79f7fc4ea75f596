// What is put into a message while it is written, without a browser.
import assert from "node:assert/strict";
import test from "node:test";
import { complete, completions, mentionAt, reply } from "../../src/web/page/typed.js";

test("a name is completed after an @ that begins a word", () => {
	const cases = [
		["@", 1, { at: 0, part: "" }],
		["@an", 3, { at: 0, part: "an" }],
		["hi @an", 6, { at: 3, part: "an" }],
		["hi @ana maria", 13, { at: 3, part: "ana maria" }],
		["(@an", 4, { at: 1, part: "an" }],
		["你好，@安", 5, { at: 3, part: "安" }],
		["@ana @b", 7, { at: 5, part: "b" }],
		["one\n@b", 6, { at: 4, part: "b" }],
		["@ana rest", 3, { at: 0, part: "an" }],
		["hi ana", 6, undefined],
		["ana@example", 11, undefined],
		["你@安", 3, undefined],
		["@ana\nnext", 9, undefined],
		[`@${"x".repeat(101)}`, 102, undefined],
	];
	for (const [text, caret, expected] of cases) assert.deepEqual(mentionAt(text, caret), expected, JSON.stringify(text));
});

test("names are offered by their beginning, whatever its case, until one is complete", () => {
	const names = ["Ana", "ANDRÉ", "bo", "Ana Maria", "ana", "Ａnton"];
	assert.deepEqual(completions("", ["Ana", "bo"]), ["Ana", "bo"]);
	assert.deepEqual(completions("an", names), ["Ana", "ANDRÉ", "Ana Maria", "Ａnton"]);
	assert.deepEqual(completions("andré", names), []);
	assert.deepEqual(completions("ana m", names), ["Ana Maria"]);
	assert.deepEqual(completions("x", names), []);
	assert.equal(completions("", Array.from({ length: 5000 }, (_, n) => `guest ${n}`)).length, 6);
});

test("a completed name is followed by one space and the caret", () => {
	assert.deepEqual(complete("hi @an", { at: 3, part: "an" }, "Ana"), { text: "hi @Ana ", caret: 8 });
	assert.deepEqual(complete("hi @an, you", { at: 3, part: "an" }, "Ana"), { text: "hi @Ana , you", caret: 8 });
	assert.deepEqual(complete("@an you", { at: 0, part: "an" }, "Ana"), { text: "@Ana you", caret: 5 });
});

test("a reply quotes at most three lines and two hundred characters", () => {
	assert.equal(reply("Hello", "ana"), "> Hello\n@ana ");
	assert.equal(reply("Hello", ""), "> Hello\n");
	assert.equal(reply("1\n2\n3", "ana"), "> 1\n> 2\n> 3\n@ana ");
	assert.equal(reply("1\n2\n3\n4", "ana"), "> 1\n> 2\n> 3…\n@ana ");
	assert.equal(reply("👍".repeat(200), "ana"), `> ${"👍".repeat(200)}\n@ana `);
	assert.equal(reply("👍".repeat(4000), "ana"), `> ${"👍".repeat(200)}…\n@ana `);
});
