// The screens before and after a room: name, password, and how a visit ended.
import { $, button, copier, field, form, h } from "./dom.js";
import { said, t, why } from "./words.js";
import { ask, begin, isNameKept, keepName, nameBefore, session } from "./rest.js";
import { pathTo, roomIn } from "./link.js";

export const nameField = () => field(t("name"), { name: "name", required: true, maxLength: 100, value: nameBefore(), autocomplete: "nickname", dir: "auto" }, t("nameHint"));
export const rememberField = () => field(t("remember"), { name: "remember", type: "checkbox", checked: isNameKept(), onchange: ({ target }) => keepName(nameBefore(), target.checked) });
export const passwordField = () => field(t("password"), { name: "password", type: "password", required: true, maxLength: 128 });

export const titled = ({ room_id, title, private: isPrivate }) => title ?? (isPrivate ? t("privateRoom") : t("untitled", { id: room_id }));

// A screen with one message and the actions to choose from.
export const card = (heading, ...inside) => h("section.card", h("h1", { tabIndex: -1 }, heading), inside);

const home = () => h("a.button", { href: "#" }, t("home"));

// Shows texts that were not sent, so that they can be copied.
const unsent = (texts) => {
	if (!texts.length) return [];
	const all = h("textarea", { readOnly: true, rows: 4, value: texts.join("\n\n"), ariaLabel: t("unsent"), dir: "auto" });
	return [h("p", t("unsent")), all, copier(all)];
};

const takeName = async (name) => {
	if (session()?.username === name.trim()) return;
	const answer = await begin(name);
	if (!answer.ok) return answer.code === "bad_username" ? { name: why(answer) } : why(answer);
};
const join = async (room, password) => {
	const answer = await ask("POST", `rooms/${room}/join`, { password });
	if (!answer.ok && answer.code !== "room_not_found") return answer.code === "bad_password" ? { password: why(answer) } : why(answer);
};

// For a visitor without a session: asks for a name, and for the room's password if there is one.
export const askName = (info, enter) => card(info.title ? said("joinRoom", { room: info.title }) : t("joinThis"),
	h("p", t(info.password ? "whoAreYouPassword" : "whoAreYou")),
	form(t("goIn"), [nameField(), rememberField(), info.password ? passwordField() : ""], async ({ name, password }) => {
		const wrong = await takeName(name.value) ?? (password && await join(info.room_id, password.value));
		if (!wrong) enter();
		return wrong;
	}), home());

const linkField = () => field(t("link"), { name: "link", spellcheck: false, inputMode: "url" });
const followLink = (text) => {
	const found = roomIn(text);
	if (!found || pathTo(found) === location.hash) return { link: t("ended_key") };
	location.hash = pathTo(found);
};

// By reason: the field that leads back into the room, and its action.
const ASKS = { session: [nameField, (_, name) => takeName(name)], password: [passwordField, join], key: [linkField, (_, text) => followLink(text)] };
ASKS.name = ASKS.session;

// The screen for a reason of client.js, or for a link whose `key` is wrong, or a browser without `crypto`. `again()` leads back, if possible; `texts` were not sent.
export const ended = (reason, room, again, texts) => {
	const [ask, submit] = ASKS[reason] ?? [], input = ask?.();
	const on = input ? form(t("goIn"), input, async () => {
		const wrong = await submit(room, $("input", input).value);
		if (!wrong) again?.();
		return wrong;
	}) : again ? button(t("retry"), again, "primary") : "";
	return card(said(`ended_${reason}`, { user: nameBefore() }), reason === "left" ? "" : h("p", t(reason === "crypto" ? "noCrypto" : `ended_${reason}_text`)), on, unsent(texts), home());
};
