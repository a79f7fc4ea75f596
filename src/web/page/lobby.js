// The first screen: start a room, join one by its link, and the lists of your rooms and of public rooms.
import { $, button, dialog, field, form, h, icon } from "./dom.js";
import { amount, said, t, why } from "./words.js";
import { ask, begin, end, keepName, keptKey, session } from "./rest.js";
import { nameField, rememberField, titled } from "./entry.js";
import { pathTo, roomIn } from "./link.js";
import { settings } from "./settings.js";
import { canEncrypt, newKey } from "../client.js";

const REFRESH = 10_000, MINE_MAX = 20;
const ENDS = [[1, "hour"], [6, "hour"], [1, "day"], [7, "day"]], SECONDS = { hour: 3600, day: 86400 };

// Asks before an action that can't be undone.
export const sure = (question, action) => new Promise((resolve) => {
	const node = dialog(action, h("p", question), h("div.row.choice",
		button(t("cancel"), () => node.close()), button(action, () => { resolve(true); node.close(); }, "primary danger")));
	node.addEventListener("close", () => resolve(false));
});

const row = (info) => h("li", h("a", { href: pathTo({ id: info.room_id, key: keptKey(info.room_id) }) },
	h("bdi.name", titled(info)), info.private ? icon("lock") : "", h("small", t("people", { n: info.user_count }))));

export const lobby = (refresh) => {
	const me = session();
	const title = field(t("title"), { name: "title", maxLength: 160, dir: "auto" });
	const password = field(t("password"), { name: "password", type: "password", autocomplete: "new-password", oninput: () => unlist() });
	// What is listed is open to all.
	const unlist = () => {
		const { listed, password, encrypted } = openForm.elements;
		listed.disabled = !!password.value || encrypted.checked;
		if (listed.disabled) listed.checked = false;
	};
	const openForm = form(t("openRoom"), [
		me ? h("p.row", h("span", said("youAre", { user: me.username })), button(t("end"), async () => {
			if (!await sure(t("endAsk"), t("end"))) return;
			await end();
			refresh();
		}, "quiet")) : nameField(),
		h("details", h("summary", t("options")), h("div", title, password,
			field(t("ends"), { name: "ttl", options: [["", t("endsUnused")], ...ENDS.map(([n, unit]) => [n * SECONDS[unit], t("endsAfter", { time: amount(n, unit) }).replace(/[\u2068\u2069]/g, "")])] }),
			field(t("listed"), { name: "listed", type: "checkbox" }, t("listedHint")),
			field(t("encrypted"), { name: "encrypted", type: "checkbox", disabled: !canEncrypt(), onchange: unlist }, t(canEncrypt() ? "encryptedHint" : "noCrypto")),
			me ? "" : rememberField())),
	], async ({ name, title, listed, password, ttl, encrypted }) => {
		if (!session()) {
			const answer = await begin(name.value);
			if (!answer.ok) return answer.code === "bad_username" ? { name: why(answer) } : why(answer);
		}
		const answer = await ask("POST", "rooms", {
			title: title.value.trim() || null, private: !listed.checked, password: password.value || null, ttl: +ttl.value || null, encrypted: encrypted.checked,
		});
		if (answer.ok) return void (location.hash = pathTo({ id: answer.room_id, key: encrypted.checked && newKey() }));
		if (answer.status === 401) return void refresh();
		// The sentence names the field.
		const [wrong] = answer.code === "bad_body" && answer.detail.match(/title|password|ttl/) || [];
		return wrong ? { [wrong]: t(wrong === "title" ? "bad_body" : `bad_${wrong}_new`) } : why(answer);
	});
	const enterForm = form(t("goIn"), field(t("link"), { name: "link", spellcheck: false, inputMode: "url" }), async ({ link }) => {
		const found = roomIn(link.value);
		if (!found) return { link: t("bad_link") };
		location.hash = pathTo(found);
	}, "");
	const mine = h("section.card", { hidden: true }, h("h2", t("yourRooms")), h("ul.rooms"));
	const open = h("section.card", h("h2", t("publicRooms")), h("ul.rooms"), h("p", { role: "status" }));
	const node = h("div.lobby",
		h("header", h("img", { src: "page/icon.svg", alt: "" }), h("h1", { tabIndex: -1 }, "Disposable Chat"), h("p", t("about"))),
		h("section.card", h("h2", t("openRoom")), openForm, h("small", t("truth"))),
		h("div", mine, h("section.card", h("h2", t("enterRoom")), enterForm), open),
		h("footer.row", settings(), h("a", { href: "docs" }, t("api"))));

	// A list is redrawn only if it has changed, and keeps the focus.
	const shown = new Map();
	const fill = (section, rooms) => {
		const text = JSON.stringify(rooms), list = $("ul", section);
		if (shown.get(section) === text) return;
		shown.set(section, text);
		const focused = $("a:focus", list)?.getAttribute("href");
		list.replaceChildren(...rooms.map(row));
		if (focused) $(`a[href="${focused}"]`, list)?.focus();
	};
	// Both lists at once, so that a room in both has the same count in each.
	const look = async () => {
		if (document.hidden) return;
		const [all, own] = await Promise.all([ask("GET", "rooms/all?detail=true"), session() && ask("GET", "rooms")]);
		if (own?.status === 401) return refresh();
		const rooms = all.ok ? all.rooms : [], known = new Map(rooms.map((info) => [info.room_id, info]));
		const infos = await Promise.all((own?.ok ? own.rooms : []).slice(-MINE_MAX).reverse().map((id) => known.get(id) ?? ask("GET", `rooms/${id}`)));
		if (all.ok) fill(open, rooms);
		if (own?.ok) fill(mine, infos.filter(({ ok, room_id }) => ok ?? room_id));
		mine.hidden = !$("li", mine);
		$("p", open).textContent = all.ok ? rooms.length ? "" : t("noRooms") : why(all);
	};
	look();
	const timer = setInterval(look, REFRESH);
	document.addEventListener("visibilitychange", look);
	return {
		node,
		close() {
			clearInterval(timer);
			document.removeEventListener("visibilitychange", look);
			const typed = openForm.elements.name?.value.trim();
			if (typed && !session()) keepName(typed);
		},
	};
};
