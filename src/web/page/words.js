// The page's texts in the language of its reader, and how numbers, lists and times are written in it. Owns which language
// that is. Must not know the texts: each language is a file, and only one of them is loaded. Nothing is translated before
// `ready`, so no module may ask for a text while it is loaded.
import { h } from "./dom.js";
import { shared } from "./store.js";

// By name of the file.
export const LANGUAGES = { en: "English", pt: "Português", es: "Español" };

// Some systems list what is no language tag (`en-US@posix`), at which Intl throws.
const tags = (navigator.languages ?? []).filter((tag) => { try { return Intl.getCanonicalLocales(tag); } catch { return false; } });
const file = (tag) => tag.split("-")[0].toLowerCase();
const chosen = shared.get("language");
export const lang = tags.find((tag) => chosen in LANGUAGES ? file(tag) === chosen : file(tag) in LANGUAGES) ?? (chosen in LANGUAGES ? chosen : "en");
export const setLanguage = (name) => shared.set("language", name);

let words;
const load = (name) => import(`./${name}.js`);
export const ready = load(file(lang)).catch(() => load("en")).then((module) => { words = module.default; });

// Each takes milliseconds of the first paint, which needs none of them.
const once = (make) => { let made; return () => made ??= make(); };
const plural = once(() => new Intl.PluralRules(lang)), list = once(() => new Intl.ListFormat(lang)), number = once(() => new Intl.NumberFormat(lang));

// "7 days".
export const amount = (n, unit) => new Intl.NumberFormat(lang, { style: "unit", unit, unitDisplay: "long" }).format(n);

// A duration in its largest unit, "5 minutes".
const UNITS = [[86_400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];
export const span = (seconds) => {
	const [size, unit] = UNITS.find(([size]) => seconds >= size) ?? UNITS[3];
	return amount(Math.ceil(seconds / size), unit);
};

const form = (key, n) => {
	const forms = (words[key] ?? key).split("|");
	return forms[n === undefined || plural().select(n) === "one" ? 0 : forms.length - 1];
};

// A text as nodes. Inserted text and nodes are isolated, so that they don't change the direction of the rest.
export const said = (key, { n, ...rest } = {}, count = n) => form(key, count).split(/{(\w+)}/).map((part, at) =>
	at % 2 === 0 ? part : part === "n" ? number().format(n) : h("bdi", rest[part]));

// A text for titles and labels, with inserted text isolated by U+2068 and U+2069.
export const t = (key, { n, ...rest } = {}) => form(key, n).replace(/{(\w+)}/g, (_, name) =>
	name === "n" ? number().format(n) : `\u2068${rest[name]}\u2069`);

// "ana, bo and 3 more", as nodes.
export const listed = (names, n = names.length) => {
	const shown = n > 4 ? [...names.slice(0, 3), t("others", { n: n - 3 })] : names;
	return list().formatToParts(shown).map(({ type, value }) => type === "element" ? h("bdi", value) : value);
};

// The text for an error code, or the server's sentence if there is none.
export const why = ({ code, detail, wait }) => code in words ? t(code, { n: wait || 1 }) : detail ?? code;

const format = (options) => once(() => new Intl.DateTimeFormat(lang, options));
const hour = format({ hour: "numeric", minute: "2-digit" }), date = format({ weekday: "long", day: "numeric", month: "long" });
const full = format({ dateStyle: "medium", timeStyle: "short" });
export const moment = (when) => full().format(new Date(when));
export const clock = (when) => hour().format(when);
// `now` is the server's time, because the clock of a device may be wrong.
export const day = (when, now = Date.now()) => {
	const back = Math.round((new Date(now).setHours(0, 0, 0, 0) - new Date(when).setHours(0, 0, 0, 0)) / 864e5);
	return back === 0 ? t("today") : back === 1 ? t("yesterday") : date().format(when);
};
