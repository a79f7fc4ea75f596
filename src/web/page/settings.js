// What a reader may choose on this device: the language and the colours. Owns their switches, and applies the colours.
// Must not know screens.
import { field, h } from "./dom.js";
import { LANGUAGES, lang, setLanguage, t } from "./words.js";
import { shared } from "./store.js";

const paint = () => {
	const theme = shared.get("theme");
	document.documentElement.dataset.theme = theme ?? "system";
	for (const meta of document.querySelectorAll("meta[name=theme-color]")) {
		meta.dataset.media ??= meta.media;
		meta.media = !theme ? meta.dataset.media : meta.dataset.media.includes(theme) ? "all" : "not all";
	}
};
paint();

const choice = (label, value, options, choose) => {
	const node = field(label, { options, onchange: ({ target }) => choose(target.value) });
	node.children[1].value = value;
	return node;
};

export const settings = () => h("div.row.settings",
	// What is typed in a room is kept through a reload, as after any other.
	choice(t("language"), lang.slice(0, 2).toLowerCase(), Object.entries(LANGUAGES), (name) => {
		setLanguage(name);
		location.reload();
	}),
	choice(t("theme"), shared.get("theme") ?? "", ["", "light", "dark"].map((name) => [name, t(`theme_${name || "system"}`)]), (name) => {
		shared.set("theme", name || null);
		paint();
	}));
