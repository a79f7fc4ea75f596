// The invitation into a room: its link, to be copied, shared or scanned. Owns the dialog behind "Invite", and what a
// room shows until its first guest. Must not know who is in the room.
import { button, copier, dialog, h, svg } from "./dom.js";
import { moment, t } from "./words.js";
import { titled } from "./entry.js";

const ways = (info) => {
	const link = location.href, copy = h("input", { readOnly: true, value: link, ariaLabel: t("link") }), code = h("div");
	import("./qr.js").then(({ path, qr }) => {
		const grid = qr(link), size = grid && grid.length + 8;
		if (grid) code.replaceWith(svg(size, path(grid), { class: "qr", role: "img", "aria-label": link }));
	}).catch(() => {}); // Without the network the link itself is enough.
	const press = copier(copy);
	press.className = "primary";
	return [h("p", t(info.password ? "shareTextPassword" : "shareText")), copy, info.encrypted ? h("small", t("shareKey")) : "",
		h("div.row", press, navigator.share ? button(t("shareOut"), () => navigator.share({ title: titled(info), url: link }).catch(() => {})) : ""),
		code];
};

export const share = (info) => dialog(t("share"), ways(info));

export const invitation = (info) => h("section.card.invitation", { ariaLabel: t("inviteTitle") }, h("h2", t("inviteTitle")), ways(info),
	h("p.waiting", t("waiting")), h("small", info.expires_at ? t("endsAt", { time: moment(info.expires_at) }) : t("vanishes")));
