// The service worker of the page. Android shows notifications of workers only. Owns notifications and nothing else: it
// caches nothing, and requests don't pass through it. Must not know what a message is.

// `[title, options, url]`, answered with whether it is shown.
addEventListener("message", (event) => {
	const [title, options, url] = event.data, say = (isShown) => event.ports[0].postMessage(isShown);
	event.waitUntil(registration.showNotification(title, { ...options, data: [event.source.id, url] }).then(() => say(true), () => say(false)));
});

// Brings the page that has sent it to the front. If it is closed, opens another at its address.
addEventListener("notificationclick", (event) => {
	const [id, url] = event.notification.data;
	event.notification.close();
	event.waitUntil(clients.get(id).then((page) => page ? page.focus() : clients.openWindow(url)));
});
