// Alerts while the page is out of sight: title and icon; also a notification and a sound, if switched on.
import { shared } from "./store.js";

let title = "", unread = 0, audio;

const draw = () => {
	const dot = unread ? `<circle cx="24" cy="8" r="8" fill="#e5383b"/>` : "";
	const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path d="M1 3h30v21H15l-8 7v-7H1z" fill="#6246ea"/><path d="M7 10h18M7 17h12" stroke="#fff" stroke-width="3"/>${dot}</svg>`;
	document.querySelector("link[rel=icon]").href = `data:image/svg+xml,${encodeURIComponent(icon)}`;
	document.title = `${unread ? `(${unread}) ` : ""}${title ? `${title} · ` : ""}Disposable Chat`;
};

export const setTitle = (text) => {
	title = text.replace(/[\u2066-\u2069]/g, ""); // Window titles show isolates as boxes.
	unread = 0;
	draw();
};

export const isAway = () => document.hidden || !document.hasFocus();
addEventListener("focus", () => {
	unread = 0;
	draw();
});

export const canNotify = () => "Notification" in window && Notification.permission !== "denied";
export const notifies = () => canNotify() && Notification.permission === "granted" && !!shared.get("notify");
export const setNotify = async (on) => shared.set("notify", on && await Notification.requestPermission() === "granted" || null);
export const sounds = () => !!shared.get("sound");
export const setSound = (on) => {
	shared.set("sound", on || null);
	if (on) beep();
};

const beep = () => {
	audio ??= new AudioContext();
	const tone = audio.createOscillator(), volume = audio.createGain(), now = audio.currentTime;
	tone.frequency.value = 660;
	volume.gain.setValueAtTime(0.12, now);
	volume.gain.exponentialRampToValueAtTime(0.001, now + 0.25);
	tone.connect(volume).connect(audio.destination);
	tone.start(now);
	tone.stop(now + 0.25);
};

// For new messages of which `last` is the newest.
export const notify = (count, last, room) => {
	unread += count;
	draw();
	if (sounds()) beep();
	if (!notifies()) return;
	try {
		const notification = new Notification(last.user, { body: last.message.slice(0, 200), tag: room });
		notification.onclick = () => {
			focus();
			notification.close();
		};
	} catch {
		// Some phones allow notifications from service workers only.
	}
};
