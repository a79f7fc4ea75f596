// Alerts while the page is out of sight: title and icon; also notifications and a sound, if switched on. Owns these
// settings, and what the tabs of one room tell each other. Must not know how messages are drawn. The invariant: an alert
// that this browser can't give disturbs nothing, so nothing here throws.
import { field, h } from "./dom.js";
import { base } from "./rest.js";
import { shared } from "./store.js";
import { mentions } from "./text.js";
import { t } from "./words.js";

const NAME = "Disposable Chat";
const ANSWER = 1000; // Milliseconds for a tab that had the focus to say that it still has it. It may have crashed.

let title = "", room = null, unread = 0;
let isSeen = false; // Another tab of the room has the focus, as far as it has said.
let held = null, timer; // The alert that waits for its answer.

const draw = () => {
	const dot = unread ? `<circle cx="24" cy="8" r="8" fill="#e5383b"/>` : "";
	const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path d="M1 3h30v21H15l-8 7v-7H1z" fill="#6246ea"/><path d="M7 10h18M7 17h12" stroke="#fff" stroke-width="3"/>${dot}</svg>`;
	document.querySelector("link[rel=icon]").href = `data:image/svg+xml,${encodeURIComponent(icon)}`;
	document.title = `${unread ? `(${unread}) ` : ""}${title ? `${title} · ` : ""}${NAME}`;
};
const read = () => {
	clearTimeout(timer);
	held = null;
	unread = 0;
	draw();
};
const isAway = () => document.hidden || !document.hasFocus();

// `["seen", room]` from the tab with the focus, `["left", room]` when it loses it, `["ask", room]` to learn which one has it.
let tabs = null;
try { tabs = new BroadcastChannel(`disposable-chat ${base.pathname}`); } catch { /* Then each tab alerts for itself. */ }
const tell = (what) => room && tabs?.postMessage([what, room]);
tabs?.addEventListener("message", ({ data: [what, where] }) => {
	if (where !== room) return;
	if (what === "ask") return isAway() || tell("seen");
	isSeen = what === "seen";
	if (isSeen) read();
	else tell("ask"); // The next tab may have got the focus before this one lost it.
});
addEventListener("focus", () => {
	isSeen = false;
	tell("seen");
	read();
});
for (const name of ["blur", "pagehide"]) addEventListener(name, () => tell("left"));

// Of the same room, the title may change while messages are unread.
export const setTitle = (text, id = room) => {
	title = text.replace(/[\u2066-\u2069]/g, ""); // Browsers show isolates in titles as boxes.
	if (id === room) return draw();
	tell("left");
	room = id;
	isSeen = false;
	tell(isAway() ? "ask" : "seen");
	read();
};

// Browsers suspend sound until the page is pressed. Nothing may play then: tones would be stored up, and come at once.
let audio;
const resume = () => {
	audio ??= new AudioContext();
	if (audio.state !== "running") return audio.resume();
};
const sounds = () => !!shared.get("sound");
for (const gesture of ["click", "pointerup", "keydown"]) addEventListener(gesture, async () => {
	try { if (sounds()) await resume(); } catch { /* The switch says so. */ }
}, true);
const beep = () => {
	if (audio?.state !== "running") return;
	const tone = audio.createOscillator(), volume = audio.createGain(), now = audio.currentTime;
	tone.frequency.value = 660;
	volume.gain.setValueAtTime(0.12, now);
	volume.gain.exponentialRampToValueAtTime(0.001, now + 0.25);
	tone.connect(volume).connect(audio.destination);
	tone.start(now);
	tone.stop(now + 0.25);
};

// Whether a notification is shown: by the worker, which is registered for this only, or where there is none by the page.
const show = async (title, options) => {
	try {
		await navigator.serviceWorker.register(new URL("sw.js", base));
		const { active } = await navigator.serviceWorker.ready, { port1, port2 } = new MessageChannel();
		active.postMessage([title, options, location.href], [port2]);
		if (await new Promise((resolve) => { port1.onmessage = ({ data }) => resolve(data); })) return true;
	} catch { /* Without https, or in a private window. */ }
	try {
		const notification = new Notification(title, options);
		notification.onclick = () => {
			focus();
			notification.close();
		};
		return true;
	} catch {
		return false;
	}
};
const isBlocked = () => "Notification" in window && Notification.permission === "denied";
// "all", "mentions" or null.
const notifies = () => "Notification" in window && Notification.permission === "granted" ? shared.get("notify") : null;

// The switches. Each gives a sample, and stays off with a reason if this browser can't.
export const switches = () => {
	const wrong = h("small", { role: "status" }, isBlocked() ? t("notifyDenied") : "Notification" in window ? "" : t("notifyCant"));
	const select = h("select", { id: "notify", disabled: !!wrong.textContent }, Object.entries({ "": "notifyOff", mentions: "notifyMentions", all: "notifyAll" }).map(([value, key]) => h("option", { value }, t(key))));
	select.value = notifies() ?? "";
	select.onchange = async () => {
		const { value } = select;
		let reason = "";
		try {
			if (value && await Notification.requestPermission() !== "granted") reason = isBlocked() ? "notifyDenied" : "notifyAsk";
			else if (value && !await show(NAME, { body: t("notifySample") })) reason = "notifyCant";
		} catch {
			reason = "notifyCant";
		}
		shared.set("notify", !reason && value || null);
		select.value = notifies() ?? "";
		wrong.textContent = reason && t(reason);
	};
	const silent = h("small", { role: "status" });
	const sound = field(t("sound"), { type: "checkbox", checked: sounds(), onchange: async ({ target }) => {
		shared.set("sound", target.checked || null);
		silent.textContent = "";
		if (!target.checked) return;
		try {
			await resume();
			beep();
		} catch {
			shared.set("sound", null);
			target.checked = false;
			silent.textContent = t("soundCant");
		}
	} });
	return [h("div.field", h("label", { htmlFor: "notify" }, t("notify")), select, wrong), sound, silent];
};

const raise = () => {
	const { count, last, mention } = held;
	clearTimeout(timer);
	held = null;
	isSeen = false;
	unread += count;
	draw();
	try { if (sounds()) beep(); } catch { /* It has been seen. */ }
	const kind = notifies(), shown = kind === "mentions" ? mention : kind && last;
	if (shown) show(shown.user, { body: shown.message.slice(0, 200), tag: room });
};

// For new messages of others, in their order. `name` is this person's own.
export const notify = (messages, name) => {
	if (!messages.length || !isAway()) return;
	const mention = messages.findLast(({ message }) => name && mentions(message, name));
	const isFirst = !held;
	held = { count: (held?.count ?? 0) + messages.length, last: messages.at(-1), mention: mention ?? held?.mention };
	if (!isSeen) return raise();
	if (!isFirst) return;
	tell("ask");
	timer = setTimeout(raise, ANSWER);
};
