// Links and codes of rooms. Needs no browser.
import assert from "node:assert/strict";
import test from "node:test";
import { isLink, pathTo, roomIn } from "../../src/web/page/link.js";

const ID = "0123456789", LONG = "00112233445566778899aabbccddeeff", KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const id = (text) => roomIn(text)?.id;

test("a room is found in a link or a code, whatever stands around it", () => {
	for (const one of [ID, LONG]) {
		for (const tail of ["", ".", ")", "/", "?utm=1", "%20", " ", "!", "。", "\u2069", "_"]) {
			assert.equal(id(`#/r/${one}${tail}`), one, tail);
			assert.equal(id(`Come to https://a.example/chat/#/r/${one.toUpperCase()}${tail} now`), one, tail);
		}
		for (const text of [one, ` ${one} `, `(${one.toUpperCase()})`, `code: ${one}.`, `https://a.example/r/${one}`]) assert.equal(id(text), one, text);
	}
});

test("what follows #/r/ wins over everything else", () => {
	assert.equal(id(`https://${ID}.example/#/r/${LONG}`), LONG);
	assert.equal(id(`https://aaaaaaaaaa.example/#/r/${ID}`), ID);
	assert.equal(id(`https://${ID}.example/#/r/nonsense`), undefined);
});

test("more or fewer digits are no code", () => {
	for (const text of ["", "#/r/", `#/r/${ID}0`, `#/r/${ID.slice(1)}`, `${ID}0`, `x${ID}`, `${ID}x`, `#/r/${LONG}g`, "what is this?", "#/r/%", "#/r/<img src=x>"]) assert.equal(id(text), undefined, text);
});

test("the key of an encrypted room keeps its case, and a damaged one is none", () => {
	assert.deepEqual(roomIn(`https://a.example/#/r/${LONG}/${KEY}.`), { id: LONG, key: KEY });
	assert.deepEqual(roomIn(`#/r/${LONG}/${KEY}A`), { id: LONG, key: undefined });
	assert.deepEqual(roomIn(`#/r/${LONG}/${KEY.slice(1)}`), { id: LONG, key: undefined });
	// The last character stands for four bits only (RFC 4648 §3.5).
	assert.deepEqual(roomIn(`#/R/${LONG.toUpperCase()}/${KEY.slice(0, -1)}9`), { id: LONG, key: undefined });
	for (const link of [{ id: ID, key: undefined }, { id: LONG, key: KEY }]) assert.deepEqual(roomIn(pathTo(link)), link);
	assert.ok(isLink("#/r/x") && !isLink("#/") && !isLink(""));
});
