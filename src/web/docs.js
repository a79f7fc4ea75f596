// Text from the documents and the server is inserted as text, never as HTML.
const base = new URL(location.pathname.endsWith("/") ? ".." : ".", location);
const $ = (query) => document.querySelector(query), main = $("main"), you = $("#you");
let store = {};
try { store = sessionStorage; } catch {}

// Plain objects are properties, everything else is content.
const h = (tag, ...inside) => {
 const node = document.createElement(tag);
 for (const one of inside.flat(9)) one.constructor === Object ? Object.assign(node, one) : node.append(one);
 return node;
};
const inline = (text) => text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) =>
 part[0] === "`" ? h("code", part.slice(1, -1)) : part[0] === "*" ? h("b", part.slice(2, -2)) : part);
const prose = (text) => (text ?? "").split("\n\n").map((block) =>
 /^(-|1\.) /.test(block)
  ? h(block[0] === "-" ? "ul" : "ol", block.split("\n").map((line) => h("li", inline(line.replace(/^\S+ /, "")))))
  : h("p", inline(block)));
const pre = (text) => h("pre", { tabIndex: 0 }, text);
const table = (title, rows) => [h("h3", title), h("div", { className: "wide", tabIndex: 0 }, h("table", rows.map((row, n) =>
 h("tr", row.map((cell) => h(n ? "td" : "th", inline(`${cell}`)))))))];

const resolve = (doc, { $ref, ...rest }) => $ref
 ? { ...resolve(doc, $ref.slice(2).split("/").reduce((at, key) => at[key], doc)), ...rest } : rest;
// A schema, written as a TypeScript type. Objects of a union are named there, and collected in `named`.
const shape = (doc, schema, named, pad = "\n") => {
 const s = resolve(doc, schema), values = s.enum ?? ("const" in s ? [s.const] : 0);
 if (values) return values.map((one) => JSON.stringify(one)).join(" | ");
 if (s.oneOf) return s.oneOf.map((one) => resolve(doc, one).properties
  ? (named.add(one.$ref), one.$ref.split("/").pop()) : shape(doc, one, named, pad)).join(" | ");
 if (s.items) return shape(doc, s.items, named, pad).replace(/^\w+ \|.*/, "($&)") + "[]";
 if (!s.properties) return [s.type].flat().join(" | ");
 const inner = `${pad}  `;
 return `{${Object.entries(s.properties).map(([name, one]) => {
  const note = resolve(doc, one).description;
  return `${inner}${name}${s.required?.includes(name) ? "" : "?"}: ${shape(doc, one, named, inner)}${note ? `  // ${note.replaceAll("`", "")}` : ""}`;
 }).join("")}${pad}}`;
};
const type = (doc, schema) => {
 const named = new Set();
 let text = shape(doc, schema, named);
 for (const $ref of named) text += `\n\n${$ref.split("/").pop()} = ${shape(doc, { $ref }, named)}`;
 return pre(text);
};

// Values that all forms share, kept for this tab.
const STREAM = "application/x-ndjson", IDS = ["session_id", "room_id"], secret = () => you.elements.session_id.value;
const fill = (name, value) => {
 store[name] = value;
 for (const input of document.getElementsByName(name)) input.value = value;
 dispatchEvent(new Event("filled"));
};
const status = (text) => $("[role=status]").textContent = text;
// `show` gets a stream as far as it has come.
const send = async (method, path, body, withSession, headers = {}, signal, show) => {
 if (withSession && secret()) headers.Authorization = `Bearer ${secret()}`;
 const response = await fetch(new URL(path, base), { method, headers, body: body || null, signal });
 let text = "", json;
 if (response.headers.get("Content-Type") === STREAM) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part; !(part = await reader.read()).done;) show(response, text += part.value);
 } else text = await response.text();
 try {
  json = JSON.parse(text);
  text = JSON.stringify(json, null, 2);
  for (const name of IDS) if (typeof json[name] === "string") fill(name, json[name]);
  if (json.username) status(`You are ${json.username}.`);
 } catch {}
 return { response, text, json };
};
const button = (text, onclick) => h("button", { type: onclick ? "button" : "submit", onclick }, text);
const label = (name, input, hint = "") => h("label", name, input, h("small", inline(hint)));
const text = (value) => h("textarea", { rows: 2, value });
const field = ({ name, required, schema, description }) => label(name,
 h("input", { name, required, placeholder: schema?.default ?? "", value: store[name] ?? "" }),
 (schema?.maximum ? `${schema.minimum} to ${schema.maximum}. ` : "") + (description ?? ""));
const target = (path, form, names) => {
 const value = (name) => form.elements[name].value, set = names.filter(value);
 return path.slice(1).replace(/{(\w+)}/g, (_, name) => encodeURIComponent(value(name)))
  + (set.length ? `?${new URLSearchParams(set.map((name) => [name, value(name)]))}` : "");
};

const call = (doc, path, verb, op, shared = []) => {
 const needs = (op.security ?? doc.security).some((one) => one.session), method = verb.toUpperCase();
 const fields = [...shared, ...op.parameters ?? []].map((one) => resolve(doc, one));
 const names = (place) => fields.filter((one) => one.in === place).map((one) => one.name), queries = names("query");
 const headers = () => names("header").map((name) => [name, form.elements[name].value]).filter(([, value]) => value);
 const content = op.requestBody?.content["application/json"], body = content && text(JSON.stringify(resolve(doc, content.schema).examples[0]));
 const out = h("output"), curl = pre("");
 const isStream = op.responses[200]?.content?.[STREAM];
 let last;
 const form = h("form", fields.map(field), body ? label("Body", body) : "",
  h("p", button("Send"), isStream ? button("Stop", () => last?.abort()) : ""), out);
 const update = () => {
  curl.textContent = `curl -i${isStream ? "N" : ""} -X ${method} '${new URL(target(path, form, queries), base)}'`
   + (needs ? ` -H 'Authorization: Bearer ${secret()}'` : "") + headers().map(([name, value]) => ` -H '${name}: ${value}'`).join("") + (body?.value ? ` -d '${body.value.replaceAll("'", "'\\''")}'` : "");
 };
 form.oninput = update;
 addEventListener("filled", update);
 const show = ({ status, ok, headers }, text) => out.replaceChildren(
  h("b", { className: ok ? "good" : "bad" }, `${status} `),
  ...inline(resolve(doc, op.responses[status] ?? op.responses.default).description),
  pre(["Location", "Retry-After", "WWW-Authenticate"].map((name) => headers.has(name) ? `${name}: ${headers.get(name)}\n` : "").join("") + text));
 form.onsubmit = async (event) => {
  event.preventDefault();
  last?.abort();
  last = new AbortController();
  const { signal } = last;
  try {
   const { response, text } = await send(method, target(path, form, queries), body?.value, needs, Object.fromEntries(headers()), signal, show);
   show(response, text);
  } catch (error) { if (!signal.aborted) out.replaceChildren(h("b", { className: "bad" }, "No response. "), error.message); }
 };
 update();
 const responses = Object.entries(op.responses).map(([status, one]) => [status, resolve(doc, one)]);
 const types = responses.map(([status, one]) => [`Response ${status}`, (one.content?.[STREAM] ?? one.content?.["application/json"])?.schema]).filter(([name, one]) => one && name < "Response 3");
 return h("details", h("summary", h("b", { className: verb }, method), " ", h("code", path),
  h("span", op.summary, needs ? h("small", " · needs a session") : "")), prose(op.description), form, curl,
  [["Body", content?.schema], ...types].map(([name, one]) => one ? [h("h3", name), type(doc, one)] : []),
  table("All responses", [["status", "meaning"], ...responses.map(([status, one]) => [status, one.description])]));
};

const socket = (doc) => {
 const { address, description, bindings, parameters, "x-closes": closes } = doc.channels.room, names = ["history", "after", "welcome"];
 const log = h("div", { className: "log", tabIndex: 0 });
 // Attributes, because Firefox before 119 has no such properties.
 for (const [name, value] of [["role", "log"], ["aria-label", "Frames"]]) log.setAttribute(name, value);
 const note = (mark, text, className = "") => {
  const follow = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(h("div", { className }, new Date().toTimeString().slice(0, 9), h("b", `${mark} `), inline(text)));
  if (log.children.length > 500) log.firstChild.remove();
  if (follow) log.scrollTop = log.scrollHeight;
 };
 const place = h("select", ["subprotocol", "query"].map((one) => h("option", one)));
 const open = button("Open"), close = button("Close", () => ws.close(1000)), send = button("Send"), frame = text("");
 const form = h("form", field({ name: "room_id", required: true, ...parameters.room_id }),
  names.map((name) => { const schema = bindings.ws.query.properties[name]; return field({ name, schema, ...schema }); }),
  label("Send session_id in", place), h("p", open, close));
 const messages = (op) => op.messages.map((one) => resolve(doc, one));
 const pick = messages(doc.operations.send).map((one) => button(one.name, () => {
  const { payload } = one.examples[0];
  frame.value = JSON.stringify(payload.nonce ? { ...payload, nonce: `${Date.now()}` } : payload);
 }));
 pick[0].onclick();
 const writer = h("form", label("Frame to send", frame), h("p", { className: "pick" }, pick), send);
 const setOpen = (isOpen) => { open.disabled = isOpen; close.disabled = send.disabled = !isOpen; };
 setOpen(false);
 let ws;
 form.onsubmit = (event) => {
  event.preventDefault();
  const url = new URL(target(address, form, names), base), id = secret();
  url.protocol = url.protocol.replace("http", "ws");
  note("·", `connecting to ${url}`);
  const offer = place.value === "query" || !id ? [] : ["chat", `bearer.${id}`];
  if (!offer[0]) url.searchParams.set("session_id", id);
  try { ws = new WebSocket(url, offer); } catch (error) { return note("·", error.message, "bad"); }
  setOpen(true);
  ws.onopen = () => note("·", "open", "good");
  ws.onmessage = ({ data }) => {
   note("←", data);
   const event = JSON.parse(data), last = event.id ?? event.messages?.at(-1)?.id;
   if (last) form.elements.after.value = last;
  };
  ws.onclose = ({ code, reason }) => {
   const row = closes.find(([one]) => one === code);
   note("·", `closed with ${code} (${reason}): ${!row ? "the handshake failed, or the connection broke"
    : reason ? `${row[2]}. Reconnect? ${row[3]}` : "by you"}.`, "bad");
   setOpen(false);
  };
 };
 writer.onsubmit = (event) => {
  event.preventDefault();
  ws.send(frame.value);
  note("→", frame.value);
 };
 const part = (op) => [h("h3", op.title), prose(op.description), messages(op).map((one) =>
  h("details", h("summary", h("code", one.name), h("span", inline(one.summary))), type(doc, one.payload)))];
 return section("Socket", prose(doc.info.description), h("h3", "Connecting"), prose(description), h("h3", "Try it"), form, log, writer,
  Object.values(doc.operations).map(part), table("Close codes", [["code", "reason", "when", "reconnect?"], ...closes]));
};

const section = (id, ...inside) => {
 $("nav").append(h("a", { href: `#${id}` }, id));
 return h("section", { id }, h("h2", id), inside);
};

const start = async () => {
 const [rest, events] = await Promise.all(["openapi", "asyncapi"].map(async (name) => (await fetch(new URL(`${name}.json`, base))).json()));
 const calls = Object.entries(rest.paths).flatMap(([path, { parameters, ...verbs }]) =>
  Object.entries(verbs).filter(([, op]) => op.tags).map(([verb, op]) => [op.tags[0], call(rest, path, verb, op, parameters)]));
 main.replaceChildren(section("Start", h("h3", rest.info.summary), prose(rest.info.description)),
  ...rest.tags.map(({ name, description }) => section(name, prose(description), calls.map(([tag, node]) => tag === name ? node : []))), socket(events));
 $(`[id="${location.hash.slice(1)}"]`)?.scrollIntoView();
};

$("header a").href = base;
you.oninput = ({ target }) => fill(target.name, target.value);
you.onsubmit = async (event) => {
 event.preventDefault();
 let last = await send("POST", "sessions", JSON.stringify({ username: `guest${Date.now() % 1000}` }));
 if (last.response.ok) last = await send("POST", "rooms", "", true);
 if (!last.response.ok) status(last.json.detail);
};
for (const name of IDS) fill(name, store[name] ?? "");
start().catch((error) => main.replaceChildren(`Cannot load the documents: ${error.message}`));
