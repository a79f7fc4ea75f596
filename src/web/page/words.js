// All texts of the page, in English and Brazilian Portuguese. `{name}` is replaced; `a|b` are singular and plural.
import { h } from "./dom.js";

const WORDS = {
	about: ["Chat rooms that vanish when unused. No account, nothing kept.", "Salas de conversa que somem quando ninguém as usa. Sem conta, nada fica."],
	api: ["API docs", "Docs da API"],
	name: ["Your name", "Seu nome"],
	nameHint: ["2 to 50 characters", "2 a 50 caracteres"],
	youAre: ["You are {user}.", "Você é {user}."],
	openRoom: ["Create a room", "Criar uma sala"],
	title: ["Title (optional)", "Título (opcional)"],
	private: ["Private", "Privada"],
	privateHint: ["Only with the link", "Só com o link"],
	password: ["Password", "Senha"],
	newPassword: ["Password (optional)", "Senha (opcional)"],
	passwordHint: ["Makes the room private", "Torna a sala privada"],
	enterRoom: ["Join a room", "Entrar numa sala"],
	link: ["Link or code", "Link ou código"],
	goIn: ["Join", "Entrar"],
	yourRooms: ["Your rooms", "Suas salas"],
	publicRooms: ["Public rooms", "Salas públicas"],
	noRooms: ["No public rooms right now.", "Nenhuma sala pública agora."],
	untitled: ["Room {id}", "Sala {id}"],
	privateRoom: ["Private room", "Sala privada"],
	people: ["{n} person|{n} people", "{n} pessoa|{n} pessoas"],
	here: ["Who is here", "Quem está aqui"],
	home: ["All rooms", "Todas as salas"],
	share: ["Invite", "Convidar"],
	more: ["More", "Mais"],
	close: ["Close", "Fechar"],
	whoAreYou: ["Choose a name", "Escolha um nome"],
	invited: ["You are invited to {room}.", "Você recebeu um convite para {room}."],
	message: ["Message", "Mensagem"],
	send: ["Send", "Enviar"],
	log: ["Conversation", "Conversa"],
	left: ["{n} character left|{n} characters left", "Resta {n} caractere|Restam {n} caracteres"],
	tooLong: ["{n} character too many|{n} characters too many", "{n} caractere a mais|{n} caracteres a mais"],
	joined: ["{who} joined", "{who} entrou|{who} entraram"],
	gone: ["{who} left", "{who} saiu|{who} saíram"],
	others: ["{n} more", "mais {n}"],
	you: ["you", "você"],
	types: ["{who} is typing|{who} are typing", "{who} está digitando|{who} estão digitando"],
	newest: ["Latest", "Mais novas"],
	unread: ["{n} new message|{n} new messages", "{n} mensagem nova|{n} mensagens novas"],
	pending: ["Not sent yet", "Ainda não enviada"],
	refused: ["Not sent: {why}", "Não enviada: {why}"],
	retry: ["Try again", "Tentar de novo"],
	discard: ["Discard", "Descartar"],
	full: ["Too many unsent messages.", "Há mensagens demais por enviar."],
	gap: ["Some messages are no longer available.", "Algumas mensagens já não existem."],
	today: ["Today", "Hoje"],
	yesterday: ["Yesterday", "Ontem"],
	connecting: ["Connecting…", "Conectando…"],
	lost: ["No connection. Your messages will be sent when it is back.", "Sem conexão. Suas mensagens serão enviadas quando ela voltar."],
	busy: ["The server is busy. Trying again…", "O servidor está ocupado. Tentando de novo…"],
	copy: ["Copy", "Copiar"],
	copied: ["Copied", "Copiado"],
	shareOut: ["Share…", "Compartilhar…"],
	shareText: ["Send this link to the people you want here.", "Envie este link a quem você quer aqui."],
	notify: ["Notifications", "Notificações"],
	notifyDenied: ["Blocked by this browser.", "Bloqueadas por este navegador."],
	sound: ["Sound", "Som"],
	leave: ["Leave the room", "Sair da sala"],
	remove: ["Delete the room", "Apagar a sala"],
	removeAsk: ["For everyone, with all messages?", "Para todos, com todas as mensagens?"],
	end: ["End my session", "Encerrar minha sessão"],
	endAsk: ["You leave all rooms, in all tabs, and start over.", "Você sai de todas as salas, em todas as abas, e recomeça."],
	ended_deleted: ["This room was deleted", "Esta sala foi apagada"],
	ended_deleted_text: ["Its owner deleted it, with all messages.", "Quem é dono a apagou, com todas as mensagens."],
	ended_gone: ["Room not found", "Sala não encontrada"],
	ended_gone_text: ["It was deleted, or the link is incomplete.", "Ela foi apagada, ou o link está incompleto."],
	ended_session: ["Your session has ended", "Sua sessão terminou"],
	ended_session_text: ["You ended it, it expired, or the server restarted. Choose a name to continue.", "Você a encerrou, ela expirou ou o servidor reiniciou. Escolha um nome para continuar."],
	ended_name: ["The name {user} is taken", "O nome {user} já está em uso"],
	ended_name_text: ["Someone in this room has it. Choose another.", "Alguém nesta sala o usa. Escolha outro."],
	ended_password: ["This room has a password", "Esta sala tem senha"],
	ended_password_text: ["Ask the person who gave you the link.", "Pergunte a quem lhe deu o link."],
	ended_left: ["You have left this room", "Você saiu desta sala"],
	ended_broken: ["Something went wrong", "Algo deu errado"],
	ended_broken_text: ["Reload the page.", "Recarregue a página."],
	ended_lost: ["The server can't be reached", "O servidor não responde"],
	ended_lost_text: ["It is down, or you are offline.", "Ele está fora do ar, ou você está sem rede."],
	unsent: ["This was not sent:", "Isto não foi enviado:"],
	bad_username: ["A name has 2 to 50 visible characters.", "Um nome tem de 2 a 50 caracteres visíveis."],
	bad_body: ["Too long, or has invisible characters.", "Longo demais, ou com caracteres invisíveis."],
	bad_password: ["Wrong password.", "Senha errada."],
	rate_limited: ["Too many attempts. Wait {n} second.|Too many attempts. Wait {n} seconds.", "Tentativas demais. Espere {n} segundo.|Tentativas demais. Espere {n} segundos."],
	server_full: ["The server is full. Try again later.", "O servidor está cheio. Tente mais tarde."],
	too_many_rooms: ["Too many rooms. Leave one or try later.", "Salas demais. Saia de uma ou tente mais tarde."],
};

export const lang = navigator.languages.find((one) => /^(en|pt)\b/i.test(one)) ?? "en";
const which = /^pt/i.test(lang) ? 1 : 0;
const plural = new Intl.PluralRules(lang), list = new Intl.ListFormat(lang), number = new Intl.NumberFormat(lang);

const form = (key, n) => {
	const forms = WORDS[key][which].split("|");
	return forms[n === undefined || plural.select(n) === "one" ? 0 : forms.length - 1];
};

// A text as nodes. Inserted text and nodes are isolated, so that they don't change the direction of the rest.
export const said = (key, { n, ...rest } = {}, count = n) => form(key, count).split(/{(\w+)}/).map((part, at) =>
	at % 2 === 0 ? part : part === "n" ? number.format(n) : h("bdi", rest[part]));

// A text for titles and labels, with inserted text isolated by U+2068 and U+2069.
export const t = (key, { n, ...rest } = {}) => form(key, n).replace(/{(\w+)}/g, (_, name) =>
	name === "n" ? number.format(n) : `\u2068${rest[name]}\u2069`);

// "ana, bo and 3 more", as nodes.
export const listed = (names, n = names.length) => {
	const shown = n > 4 ? [...names.slice(0, 3), t("others", { n: n - 3 })] : names;
	return list.formatToParts(shown).map(({ type, value }) => type === "element" ? h("bdi", value) : value);
};

// The text for an error code, or the server's sentence if there is none.
export const why = ({ code, detail, wait }) => code in WORDS ? t(code, { n: wait || 1 }) : detail ?? code;

const format = (options) => new Intl.DateTimeFormat(lang, options);
const hour = format({ hour: "2-digit", minute: "2-digit" }), date = format({ weekday: "long", day: "numeric", month: "long" });
export const clock = (when) => hour.format(when);
export const day = (when) => {
	const back = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(when).setHours(0, 0, 0, 0)) / 864e5);
	return back === 0 ? t("today") : back === 1 ? t("yesterday") : date.format(when);
};
