// What only the owner of a room sees: its settings, removing a person, and the bans.
// Owns these dialogs and their requests. Must not know the socket: what has changed comes back from there.
import { button, dialog, field, form, h } from "./dom.js";
import { said, span, t, why } from "./words.js";
import { ask } from "./rest.js";

const PAUSES = [0, 5, 10, 30, 60, 300];
const BANS = [0, 600, 3600, 86_400, 2_592_000];

const select = (label, name, values, chosen, text) => {
	const id = `s-${name}`;
	return h("div.field", h("label", { for: id }, label),
		h("select", { id, name }, values.map((value) => h("option", { value, selected: value === chosen }, text(value)))));
};

const bans = async (room, place) => {
	const answer = await ask("GET", `rooms/${room}/bans`);
	if (!answer.ok || !answer.bans.length) return;
	const heading = h("h3", { tabIndex: -1 }, t("bans"));
	place.replaceChildren(heading, h("ul.people", answer.bans.map(({ user_id, user }) => {
		const line = h("li", h("bdi.name", user), button(t("lift"), async () => {
			const { ok } = await ask("DELETE", `rooms/${room}/bans/${user_id}`);
			if (!ok) return;
			line.remove();
			heading.focus();
		}));
		return line;
	})));
};

// `info` is the room as it is now.
export const roomSettings = (info) => {
	const { room_id, title, locked, slow_mode, password } = info, place = h("div.bans");
	const node = dialog(t("settings"), form(t("apply"), [
		field(t("title"), { name: "title", maxLength: 160, value: title ?? "", dir: "auto" }),
		field(t("locked"), { name: "locked", type: "checkbox", checked: locked }, t("lockedHint")),
		select(t("slow"), "slow", [...new Set([...PAUSES, slow_mode])].sort((a, b) => a - b), slow_mode, (n) => n ? t("slowEvery", { time: span(n) }) : t("off")),
		field(t(password ? "otherPassword" : "password"), { name: "password", type: "password", autocomplete: "new-password" }, t(password ? "otherPasswordHint" : "roomPasswordHint")),
		password ? field(t("noPassword"), { name: "open", type: "checkbox" }) : "",
	], async (fields) => {
		const wanted = { title: fields.title.value.trim() || null, locked: fields.locked.checked, slow_mode: +fields.slow.value };
		const changes = Object.fromEntries(Object.entries(wanted).filter(([name, value]) => value !== info[name]));
		if (fields.password.value) changes.password = fields.password.value;
		else if (fields.open?.checked) changes.password = null;
		const answer = await ask("PATCH", `rooms/${room_id}`, changes);
		if (!answer.ok) return why(answer);
		node.close();
	}), place);
	bans(room_id, place);
};

export const removal = (room, user_id, user) => {
	const node = dialog(t("removeOne"), h("p", said("removeOneText", { user })), form(t("removeOne"), [
		select(t("comesBack"), "ban", BANS, 0, (n) => n ? t("comesBackIn", { time: span(n) }) : t("comesBackAtOnce")),
		field(t("sameAddress"), { name: "address", type: "checkbox" }, t("sameAddressHint")),
	], async ({ ban, address }) => {
		const query = +ban.value ? `?ban=${ban.value}${address.checked ? "&address=true" : ""}` : "";
		const answer = await ask("DELETE", `rooms/${room}/users/${user_id}${query}`);
		if (!answer.ok && answer.code !== "user_not_found") return why(answer);
		node.close();
	}, "primary danger", button(t("cancel"), () => node.close())));
	// Without a ban there is no address to keep out.
	const { ban, address } = node.querySelector("form").elements, follow = () => { address.disabled = !+ban.value; };
	ban.onchange = follow;
	follow();
};
