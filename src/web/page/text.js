// What people typed, understood without drawing it: links, code, mentions and emoji in messages, and which names look
// alike. Must not know the DOM. Reading a message takes time linear in its length: no loop goes back over what
// another one has read, and the regular expressions read a bounded piece or start at its first character only.

// Scripts written without spaces, so that an address may follow a letter of them.
const UNSPACED = /[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{scx=Bopo}\p{scx=Thai}\p{scx=Lao}\p{scx=Khmr}\p{scx=Mymr}\p{scx=Tibt}]$/u;
const LETTER = /[\p{L}\p{N}]$/u;
// A link ends at white space, quotes, angle brackets, backticks, characters that change the direction of text, and
// punctuation of scripts other than Latin, which addresses have in an encoded form.
const STOP = /[\s<>"`\u200b\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u3001\u3002\u3008-\u3011\u3014-\u301b\uff01\uff08\uff09\uff0c\uff0e\uff1a\uff1b\uff1f\uff5b\uff5d\uff61-\uff64،؛؟۔।॥…།။។።፣]/u;
const TAIL = ".,;:!?'*”’»";
const CLOSING = ")]}", OPENING = "([{";
const HOST_MAX = 255;
// In UTF-16 code units, and the ends tried for one mention.
const NAME_MAX = 100, ENDS_MAX = 12;
const EMOJI_MAX = 6;

const before = (text, at) => text.slice(Math.max(0, at - 2), at);

// The link at `at`: `{end, text?}`, without a text if it is none up to `end`.
const linkAt = (text, at) => {
	const begin = at + (/^https?:\/\//i.exec(text.slice(at, at + 8))?.[0].length ?? 0), last = before(text, at);
	if (begin === at || (LETTER.test(last) && !UNSPACED.test(last))) return { end: at + 1 };
	const surplus = [0, 0, 0]; // Of closing brackets, by kind: what the link has not opened is not its own.
	let stop = begin, host = 0;
	for (let one; stop < text.length && !STOP.test(one = text.charAt(stop)); stop++) {
		if (OPENING.includes(one)) surplus[OPENING.indexOf(one)]--;
		else if (CLOSING.includes(one)) surplus[CLOSING.indexOf(one)]++;
		else if (!host && "/?#".includes(one)) host = stop;
	}
	let end = stop;
	for (; end > begin; end--) {
		const one = text.charAt(end - 1), kind = CLOSING.indexOf(one);
		if (!TAIL.includes(one) && !(kind >= 0 && surplus[kind]-- > 0)) break;
	}
	if (end === begin || (host || end) - begin > HOST_MAX) return { end: stop };
	const link = text.slice(at, end);
	// URL.canParse is newer than Safari 16.
	try { new URL(link); } catch { return { end: stop }; }
	return { end, text: link };
};

// Each run of backticks, by its place: `{at, length, next}` with the next run of the same length.
const runsIn = (text) => {
	const runs = new Map(), last = new Map();
	for (let at = text.indexOf("`"); at >= 0; at = text.indexOf("`", at)) {
		const run = { at, length: 0 };
		while (text.charAt(at) === "`") at++;
		run.length = at - run.at;
		const same = last.get(run.length);
		if (same) same.next = run;
		last.set(run.length, run);
		runs.set(run.at, run);
	}
	return runs;
};

// Splits a message into `{type, text}`: text, link, code (within a line), block (of lines) and mention. `isName(folded)`
// says whose names count as mentions.
export const split = (text, isName = () => false) => {
	const parts = [], runs = runsIn(text);
	let done = 0, line = -1; // The end of the last part, and a line's end at or after the place looked at.
	const put = (type, from, to, inside) => {
		const isBlock = type === "block", end = isBlock && text.charAt(from - 1) === "\n" ? from - 1 : from;
		if (end > done) parts.push({ type: "text", text: text.slice(done, end) });
		if (inside) parts.push({ type, text: inside });
		done = isBlock && text.charAt(to) === "\n" ? to + 1 : to;
	};
	const codeAt = ({ at, length, next }) => {
		const begin = at + length, end = next?.at;
		if (!next) return begin;
		if (line < begin) line = text.indexOf("\n", begin);
		if (line < 0) line = text.length;
		const isBlock = length > 2 && (at === 0 || text.charAt(at - 1) === "\n") && /^\n?$/.test(text.charAt(end + length));
		if (!isBlock && line < end) return begin;
		const inside = text.slice(begin, end);
		// The first line of a block may name its language.
		const code = isBlock ? inside.replace(/^[\w+#.-]*\n/, "").replace(/\n$/, "") : inside.trim();
		if (!code.trim()) return begin;
		put(isBlock ? "block" : "code", at, end + length, code);
		return end + length;
	};
	const mentionAt = (at) => {
		if (/[\p{L}\p{N}@]$/u.test(before(text, at)) && !UNSPACED.test(before(text, at))) return at + 1; // An e-mail address.
		let end = at + 1, tries = 0;
		for (let to = end + 1; to <= Math.min(text.length, at + 1 + NAME_MAX) && tries < ENDS_MAX; to++) {
			const one = text.charAt(to);
			if (LETTER.test(one) && !UNSPACED.test(one)) continue;
			tries++;
			if (!/^\s|\s$/.test(text.slice(at + 1, to)) && isName(fold(text.slice(at + 1, to)))) end = to;
			if (one === "@" || one === "\n") break;
		}
		if (end > at + 1) put("mention", at, end, text.slice(at, end));
		return end;
	};
	for (let at = 0; at < text.length;) {
		const one = text.charAt(at);
		if (one === "`") at = codeAt(runs.get(at));
		else if (one === "@") at = mentionAt(at);
		else if (one === "h" || one === "H") {
			const { end, text: link } = linkAt(text, at);
			if (link) put("link", at, end, link);
			at = end;
		} else at++;
	}
	put("text", text.length, text.length);
	return parts;
};

// Names that look alike are equal in this form: without case, compatibility forms and invisible characters.
export const fold = (name) => name.normalize("NFKC").toUpperCase().toLowerCase().normalize("NFKC")
	.replace(/[\p{Default_Ignorable_Code_Point}\u2800]/gu, "").replace(/\s+/gu, " ").trim();

// Letters of scripts that have the same shapes.
export const isMixed = (name) => [/\p{sc=Latin}/u, /\p{sc=Cyrillic}/u, /\p{sc=Greek}/u].filter((script) => script.test(name.replace(/\P{L}/gu, ""))).length > 1;

export const mentions = (text, name) => {
	const own = fold(name);
	return text.includes("@") && split(text, (one) => one === own).some(({ type }) => type === "mention");
};

const EMOJI = /^(?:(?:\p{RI}{2}|[#*\d]\ufe0f?\u20e3|\p{EBase}\p{EMod}|\p{EPres}\ufe0f?[\u{e0020}-\u{e007f}]*|\p{Emoji}\ufe0f)(?:\u200d\p{ExtPict}\p{EMod}?\ufe0f?){0,9} ?){1,6}$/u;
export const isEmoji = (text) => text.length <= EMOJI_MAX * 30 && EMOJI.test(text);

// The first visible character as people count them. Firefox has Intl.Segmenter since 125.
const FIRST = /^(?:\p{RI}{2}|\p{ExtPict}[\p{M}\p{EMod}\u{e0020}-\u{e007f}]*(?:\u200d\p{ExtPict}[\p{M}\p{EMod}]*)*|.)\p{M}*/su;
let segmenter;
export const firstOf = (name) => {
	const text = name.replace(/^[\p{Default_Ignorable_Code_Point}\u2800\s]+/u, "");
	segmenter ??= Intl.Segmenter && new Intl.Segmenter();
	return text && (segmenter ? segmenter.segment(text).containing(0).segment : FIRST.exec(text)[0]);
};
