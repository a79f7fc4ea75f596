// Measures the page by tracing: the first paint of the landing page, then a full room: 1,000 messages, 200 people, and 10
// and 50 messages a second. Prints figures and checks none, because they depend on the machine. From the top folder, after
// a release build: CHAT=target/release/disposable-chat node --experimental-websocket tests/browser/measure.mjs [seconds]
import { setTimeout as moment } from "node:timers/promises";
import { Server, launch } from "./harness.mjs";

const PEOPLE = 200, KEPT = 1000, RATES = [10, 50];
const seconds = Number(process.argv[2] ?? 60);
const server = await Server.start(["--message-rate", "0"]);

const people = [];
for (let n = 0; n < PEOPLE; n++) people.push(await server.openSession(`person ${n}`));
const { room_id } = await server.ask("POST", "rooms", { title: "A full room" }, people[0].session_id);
const sockets = await Promise.all(people.map(({ session_id }) => new Promise((open) => {
	const socket = new WebSocket(`${server.url.replace("http", "ws")}ws/${room_id}`, ["chat", `bearer.${session_id}`]);
	socket.onopen = () => open(socket);
})));
const say = (n, message) => sockets[n % PEOPLE].send(JSON.stringify({ type: "chat", message }));
for (let n = 0; n < KEPT; n++) say(n, `message ${n}: ${"some words of a usual length ".repeat(1 + n % 4)}`);

const browser = await launch();
const page = await (await browser.newContext({ viewport: { width: 360, height: 740 } })).newPage();
await page.addInitScript(() => {
	window.long = [];
	window.frames_ = [];
	new PerformanceObserver((list) => long.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: "longtask", buffered: true });
	let last;
	const tick = (now) => {
		if (last) frames_.push(now - last);
		last = now;
		requestAnimationFrame(tick);
	};
	requestAnimationFrame(tick);
});
// The events of a trace, and of those the tasks of the page's main thread in milliseconds.
const traced = async (run) => {
	await browser.startTracing(page, { categories: ["devtools.timeline", "loading", "toplevel"] });
	await run();
	const { traceEvents: events } = JSON.parse(await browser.stopTracing());
	const main = events.find(({ name }) => name === "firstContentfulPaint") ?? events.find(({ name }) => name === "FunctionCall");
	const tasks = events.filter(({ name, pid, tid }) => name.endsWith("RunTask") && pid === main?.pid && tid === main?.tid).map(({ dur = 0 }) => dur / 1000);
	return { events, tasks, sum: tasks.reduce((sum, one) => sum + one, 0), longest: Math.max(0, ...tasks), over: tasks.filter((one) => one > 50).length };
};
const measured = async (what) => {
	const { long, frames, shown } = await page.evaluate(() => ({ long: long.splice(0), frames: frames_.splice(0), shown: document.querySelectorAll(".bubble").length }));
	frames.sort((a, b) => a - b);
	const at = (share) => frames[Math.floor((frames.length - 1) * share)]?.toFixed(1);
	console.log(`${what}: frames p50 ${at(0.5)} p99 ${at(0.99)} max ${at(1)} ms; ${long.length} long tasks, the longest ${Math.round(Math.max(0, ...long))} ms; ${shown} messages shown`);
};

for (let turn = 0; turn < 3; turn++) {
	await page.goto("about:blank");
	const { events } = await traced(async () => {
		await page.goto(server.url);
		await page.getByLabel("Your name").waitFor();
	});
	const html = events.find(({ name, args }) => name === "ResourceSendRequest" && args.data.url === server.url)?.args.data.requestId;
	const ended = events.find(({ name, args }) => name === "ResourceFinish" && args.data.requestId === html)?.ts;
	const paint = events.filter(({ name }) => name === "firstContentfulPaint").at(-1)?.ts;
	console.log(`landing page: first paint ${((paint - ended) / 1000).toFixed(0)} ms after the HTML`);
}
await page.goto(`${server.url}#/r/${room_id}`);
await page.getByLabel("Your name").fill("ana");
await page.keyboard.press("Enter");
await page.locator(".bubble").nth(90).waitFor();
for (let turn = 0; turn < 3; turn++) {
	await page.goto("about:blank");
	const begun = performance.now();
	await page.goto(`${server.url}#/r/${room_id}`);
	await page.locator(".bubble").nth(90).waitFor();
	await measured(`opened in ${Math.round(performance.now() - begun)} ms`);
}
await page.locator(".log").hover();
const scrolled = await traced(async () => {
	for (let n = 0; n < 120; n++) {
		await page.mouse.wheel(0, -600);
		await moment(30);
	}
});
console.log(`scrolled up: all tasks ${scrolled.sum.toFixed(0)} ms, the longest ${scrolled.longest.toFixed(0)} ms`);
await measured("scrolled up");
await page.locator(".jump").click();
await moment(500);
for (const rate of RATES) {
	await page.evaluate(() => { long.length = frames_.length = 0; });
	const { longest, over } = await traced(async () => {
		const begun = Date.now();
		for (let n = 0; n < seconds * rate; n++) {
			say(n, `live ${n}: ${"and more words ".repeat(1 + n % 5)} https://example.com/${n}`);
			await moment(Math.max(0, begun + n * 1000 / rate - Date.now()));
		}
	});
	await measured(`${rate} messages a second for ${seconds} s: the longest task ${longest.toFixed(0)} ms, ${over} over 50 ms`);
}
await browser.close();
await server.stop("SIGTERM");
process.exit(0);
