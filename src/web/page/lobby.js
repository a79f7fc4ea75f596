// The first screen: create a room, join one by link, and the lists of your rooms and of public rooms.
import { $, button, dialog, field, form, h, icon } from "./dom.js";
import { said, t, why } from "./words.js";
import { ask, begin, end, session } from "./rest.js";
import { nameField, titled } from "./entry.js";
import { shared } from "./store.js";

const REFRESH = 10_000, MINE_MAX = 20;

// The room id in a pasted text.
export const codeIn = (text) => text.toLowerCase().match(/(?<![0-9a-f])([0-9a-f]{32}|[0-9a-f]{10})(?![0-9a-f])/)?.[1];

// Asks before an action that can't be undone.
export const sure = (question, action) => new Promise((resolve) => {
	const node = dialog(action, h("p", question), h("div.row",
		button(t("close"), () => node.close()), button(action, () => { resolve(true); node.close(); }, "danger")));
	node.addEventListener("close", () => resolve(false));
});

const row = (info) => h("li", h("a", { href: `#/r/${info.room_id}` },
	h("bdi.name", titled(info)), info.private ? icon("lock") : "", h("small", t("people", { n: info.user_count }))));

export const lobby = (refresh) => {
	const me = session();
	const openForm = form(t("openRoom"), [
		me ? "" : nameField(),
		field(t("title"), { name: "title", maxLength: 160, dir: "auto" }),
		field(t("private"), { name: "private", type: "checkbox" }, t("privateHint")),
		field(t("newPassword"), { name: "password", type: "password", autocomplete: "new-password" }, t("passwordHint")),
	], async ({ name, title, private: isPrivate, password }) => {
		if (!session()) {
			const answer = await begin(name.value);
			if (!answer.ok) return why(answer);
		}
		const answer = await ask("POST", "rooms", {
			title: title.value.trim() || null, private: isPrivate.checked, password: password.value || null,
		});
		if (!answer.ok) return answer.status === 401 ? void refresh() : why(answer);
		location.hash = `#/r/${answer.room_id}`;
	});
	const enterForm = form(t("goIn"), field(t("link"), { name: "link", spellcheck: false, inputMode: "url" }), async ({ link }) => {
		const code = codeIn(link.value);
		if (!code) return t("ended_gone");
		location.hash = `#/r/${code}`;
	});
	const mine = h("section.card", { hidden: true }, h("h2", t("yourRooms")), h("ul.rooms"));
	const open = h("section.card", h("h2", t("publicRooms")), h("ul.rooms"), h("p", { role: "status" }));
	const node = h("div.lobby",
		h("header", h("h1", { tabIndex: -1 }, "Disposable Chat"), h("p", t("about")),
			me ? h("p.row", h("span", said("youAre", { user: me.username })), button(t("end"), async () => {
				if (!await sure(t("endAsk"), t("end"))) return;
				await end();
				refresh();
			}, "quiet")) : ""),
		h("section.card", h("h2", t("openRoom")), openForm),
		h("div", h("section.card", h("h2", t("enterRoom")), enterForm), mine, open),
		h("footer", h("a", { href: "docs" }, t("api"))));

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
	const look = async () => {
		if (document.hidden) return;
		const answer = await ask("GET", "rooms/all?detail=true");
		if (answer.ok) fill(open, answer.rooms);
		$("p", open).textContent = answer.ok ? answer.rooms.length ? "" : t("noRooms") : why(answer);
	};
	const lookForMine = async () => {
		const answer = session() && await ask("GET", "rooms");
		if (!answer?.ok) return answer?.status === 401 ? refresh() : undefined;
		const rooms = await Promise.all(answer.rooms.slice(-MINE_MAX).reverse().map((id) => ask("GET", `rooms/${id}`)));
		fill(mine, rooms.filter(({ ok }) => ok));
		mine.hidden = !$("li", mine);
	};
	look();
	lookForMine();
	const timer = setInterval(look, REFRESH);
	document.addEventListener("visibilitychange", look);
	return {
		node,
		close() {
			clearInterval(timer);
			document.removeEventListener("visibilitychange", look);
			const typed = openForm.elements.name?.value.trim();
			if (typed && !session()) shared.set("name", typed);
		},
	};
};
