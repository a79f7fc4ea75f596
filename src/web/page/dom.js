// Elements. Text that people typed is inserted as text, never as HTML.
import { t } from "./words.js";

// `ariaLabel` sets the attribute, because Firefox before 119 has no such properties.
export const aria = (node, name, value) => node.setAttribute(name.replace(/^aria/, "aria-").toLowerCase(), value);

// `h("p.class", {property}, …inside)`. Names that are not properties become attributes.
export const h = (tag, ...inside) => {
	const [name, ...classes] = tag.split("."), node = document.createElement(name);
	node.className = classes.join(" ");
	if (inside[0]?.constructor === Object)
		for (const [name, value] of Object.entries(inside.shift()))
			if (name.startsWith("aria")) aria(node, name, value);
			else if (name in node) node[name] = value;
			else node.setAttribute(name, value);
	node.append(...inside.flat(9));
	return node;
};

export const $ = (query, from = document) => from.querySelector(query);

let fields = 0;
const tell = (input, wrong) => {
	if (wrong) input.setAttribute("aria-invalid", "true");
	else input.removeAttribute("aria-invalid");
	$(`#${input.id}e`)?.replaceChildren(wrong);
};
// An input, or with `options: [[value, label]]` a choice, with its label and a place for what is wrong.
export const field = (label, { options, ...props }, hint) => {
	const id = `f${++fields}`, isBox = props.type === "checkbox";
	const described = [hint && `${id}h`, !isBox && `${id}e`].filter(Boolean).join(" ");
	const input = options ? h("select", { id, ...props }, options.map(([value, text]) => h("option", { value }, text))) : h("input", { id, autocomplete: "off", ...props });
	if (described) input.setAttribute("aria-describedby", described);
	const words = [h("label", { htmlFor: id }, label), hint ? h("small", { id: `${id}h` }, hint) : ""];
	if (isBox) return h("div.check", input, h("div", words));
	input.addEventListener("input", () => tell(input, ""));
	return h("div.field", words[0], input, h("small.wrong", { id: `${id}e`, role: "alert" }), words[1]);
};

// `submit(elements)` returns nothing, or what is wrong: a sentence, or `{field: sentence}` by the name of the field.
// `beside` is another button, as in a question.
export const form = (action, inside, submit, className = "primary", beside = "") => {
	const wrong = h("p.wrong", { role: "alert" }), button = h("button", { className }, action);
	const node = h("form", { noValidate: true }, inside, wrong, beside ? h("div.row.choice", beside, button) : button);
	let isBusy = false;
	node.onsubmit = async (event) => {
		event.preventDefault();
		if (isBusy) return;
		aria(button, "ariaBusy", isBusy = true);
		wrong.textContent = "";
		for (const one of node.elements) tell(one, "");
		const fault = await submit(node.elements) ?? "";
		if (typeof fault === "string") wrong.textContent = fault;
		else for (const [name, text] of Object.entries(fault)) {
			const input = node.elements[name], fold = input.closest("details");
			if (fold) fold.open = true;
			tell(input, text);
			input.focus();
		}
		aria(button, "ariaBusy", isBusy = false);
	};
	return node;
};

export const button = (label, onclick, className = "") => h("button", { type: "button", className, onclick }, label);

// Paths, 24 by 24.
const ICONS = {
	back: "M15 5l-7 7 7 7",
	people: "M12 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4 21c1-9 15-9 16 0",
	share: "M12 15V4M8 7.5L12 3.5l4 4M6 12v7.5h12V12",
	more: "M4 7h16M4 12h16M4 17h16",
	dots: "M5 12h.1M12 12h.1M19 12h.1",
	send: "M4 12l16-8-5 16-3.5-6.5zM11.5 13.5L20 4",
	down: "M12 5v13M6 12.5l6 6 6-6",
	lock: "M6.5 11h11v9h-11zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
	close: "M6 6l12 12M18 6L6 18",
};
const SVG = "http://www.w3.org/2000/svg";
export const svg = (size, d, props) => {
	const node = document.createElementNS(SVG, "svg"), path = document.createElementNS(SVG, "path");
	path.setAttribute("d", d);
	for (const [name, value] of Object.entries({ viewBox: `0 0 ${size} ${size}`, ...props })) node.setAttribute(name, value);
	node.append(path);
	return node;
};
export const icon = (name) => svg(24, ICONS[name], { class: "icon", "aria-hidden": "true" });
export const iconButton = (name, label, onclick, className = "") =>
	h("button", { type: "button", className: `only-icon ${className}`, ariaLabel: label, title: label, onclick }, icon(name));

export const copy = async (text) => {
	// Without https there is no navigator.clipboard.
	try { return await navigator.clipboard.writeText(text); } catch {}
	const { activeElement } = document, area = h("textarea", { value: text, readOnly: true });
	($("dialog[open]") ?? document.body).append(area);
	area.select();
	document.execCommand("copy");
	area.remove();
	activeElement?.focus();
};

// A button that copies the value of an input, or a text.
export const copier = (source) => {
	const node = button(t("copy"), async () => {
		await copy(source.value ?? source);
		source.select?.();
		node.textContent = t("copied");
	});
	return node;
};

// Closed by Escape, its cross, or a press that begins and ends outside: a selection dragged out leaves it open. Then removed.
export const dialog = (title, ...inside) => {
	const node = h("dialog", { ariaLabel: title }, h("header", h("h2", title), iconButton("close", t("close"), () => node.close())), inside);
	const isOutside = ({ target, clientX: x, clientY: y }) => {
		const { left, right, top, bottom } = node.getBoundingClientRect();
		return target === node && (x < left || x > right || y < top || y > bottom);
	};
	let began = false;
	node.onpointerdown = (event) => { began = isOutside(event); };
	node.onclick = (event) => { if (began && isOutside(event)) node.close(); };
	node.onclose = () => node.remove();
	document.body.append(node);
	node.showModal();
	return node;
};
