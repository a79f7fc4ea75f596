// All that the page says, in English and Brazilian Portuguese. `{name}` stands for what is put in; `a|b` are one and many.
import { h } from "./dom.js";

const WORDS = {
	about: ["Chat rooms that vanish when nobody uses them. No account, nothing kept.", "Salas de conversa que somem quando ninguém as usa. Sem conta, nada fica."],
	api: ["For programs", "Para programas"],
	name: ["Your name", "Seu nome"],
	nameHint: ["2 to 50 characters", "2 a 50 caracteres"],
	youAre: ["You are {user}.", "Você é {user}."],
	openRoom: ["Open a room", "Abrir uma sala"],
	title: ["Title (optional)", "Título (opcional)"],
	private: ["Private", "Privada"],
	privateHint: ["Only by link", "Só com o link"],
	password: ["Password", "Senha"],
	newPassword: ["Password (optional)", "Senha (opcional)"],
	passwordHint: ["Makes it private", "Torna privada"],
	enterRoom: ["Enter a room", "Entrar numa sala"],
	link: ["Link or code", "Link ou código"],
	goIn: ["Go in", "Entrar"],
	yourRooms: ["Your rooms", "Suas salas"],
	publicRooms: ["Public rooms", "Salas públicas"],
	noRooms: ["None is open right now.", "Nenhuma está aberta agora."],
	untitled: ["Room {id}", "Sala {id}"],
	privateRoom: ["Private room", "Sala privada"],
	people: ["{n} person|{n} people", "{n} pessoa|{n} pessoas"],
	here: ["Who is here", "Quem está aqui"],
	home: ["All rooms", "Todas as salas"],
	share: ["Invite", "Convidar"],
	more: ["More", "Mais"],
	close: ["Close", "Fechar"],
	whoAreYou: ["Who are you?", "Quem é você?"],
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
	newest: ["Newest", "Mais novas"],
	news: ["{n} new message|{n} new messages", "{n} mensagem nova|{n} mensagens novas"],
	pending: ["Not sent yet", "Ainda não enviada"],
	refused: ["Not accepted: {why}", "Não aceita: {why}"],
	retry: ["Try again", "Tentar de novo"],
	discard: ["Discard", "Descartar"],
	full: ["Too much waits to be sent.", "Há coisas demais a enviar."],
	gap: ["Some messages are no longer kept.", "Algumas mensagens já não existem."],
	today: ["Today", "Hoje"],
	yesterday: ["Yesterday", "Ontem"],
	connecting: ["Connecting…", "Conectando…"],
	lost: ["No connection. What you write is kept, and sent when there is one.", "Sem conexão. O que você escreve fica guardado e segue quando ela voltar."],
	busy: ["The server is busy. We keep trying.", "O servidor está ocupado. Continuamos tentando."],
	copy: ["Copy", "Copiar"],
	copied: ["Copied", "Copiado"],
	shareOut: ["Share…", "Compartilhar…"],
	shareText: ["Send this to whom you want here.", "Envie a quem você quer aqui."],
	notify: ["Notifications", "Notificações"],
	notifyDenied: ["This browser doesn't allow them.", "Este navegador não permite."],
	sound: ["Sound", "Som"],
	leave: ["Leave the room", "Sair da sala"],
	remove: ["Delete the room", "Apagar a sala"],
	removeAsk: ["For everybody, with all that was said?", "Para todos, com tudo o que foi dito?"],
	end: ["End my session", "Encerrar minha sessão"],
	endAsk: ["You leave all rooms, in all tabs, and are somebody new.", "Você sai de todas as salas, em todas as abas, e passa a ser outra pessoa."],
	over_deleted: ["This room was deleted", "Esta sala foi apagada"],
	over_deleted_text: ["Its owner ended it; what was said is gone.", "Quem é dono a encerrou; o que foi dito se perdeu."],
	over_gone: ["There is no such room", "Esta sala não existe"],
	over_gone_text: ["Rooms vanish when nobody uses them. Or the link is not whole.", "Salas somem quando ninguém as usa. Ou o link está incompleto."],
	over_session: ["Your session has ended", "Sua sessão terminou"],
	over_session_text: ["You ended it, it expired, or the server restarted. Go on as somebody new.", "Você a encerrou, ela expirou ou o servidor reiniciou. Continue como alguém novo."],
	over_name: ["Somebody here is called {user}", "Alguém aqui se chama {user}"],
	over_name_text: ["In a room, a name is one person. Take another.", "Numa sala, um nome é uma pessoa. Escolha outro."],
	over_password: ["This room has a password", "Esta sala tem senha"],
	over_password_text: ["Who gave you the link knows it.", "Quem lhe deu o link a conhece."],
	over_left: ["You have left this room", "Você saiu desta sala"],
	over_broken: ["This page is out of order", "Esta página está com defeito"],
	over_broken_text: ["Load it again.", "Carregue-a de novo."],
	over_lost: ["The server can't be reached", "O servidor não responde"],
	over_lost_text: ["It is down, or you are offline.", "Ele está fora do ar, ou você está sem rede."],
	unsent: ["This was not sent:", "Isto não foi enviado:"],
	bad_username: ["A name has 2 to 50 visible characters.", "Um nome tem de 2 a 50 caracteres visíveis."],
	bad_body: ["Too long, or with invisible characters.", "Longo demais, ou com caracteres invisíveis."],
	bad_password: ["That is not the password.", "A senha não é essa."],
	rate_limited: ["Too often. Wait {n} second.|Too often. Wait {n} seconds.", "Vezes demais. Espere {n} segundo.|Vezes demais. Espere {n} segundos."],
	server_full: ["The server is full. Try again later.", "O servidor está cheio. Tente mais tarde."],
	too_many_rooms: ["You are in too many rooms. Leave one.", "Você está em salas demais. Saia de uma."],
};

export const lang = navigator.languages.find((one) => /^(en|pt)\b/i.test(one)) ?? "en";
const which = /^pt/i.test(lang) ? 1 : 0;
const plural = new Intl.PluralRules(lang), list = new Intl.ListFormat(lang), number = new Intl.NumberFormat(lang);

const form = (key, n) => {
	const forms = WORDS[key][which].split("|");
	return forms[n === undefined || plural.select(n) === "one" ? 0 : forms.length - 1];
};

// As nodes: whatever is put in, text or nodes, keeps its direction to itself. `n` also chooses the form.
export const said = (key, { n, ...rest } = {}, count = n) => form(key, count).split(/{(\w+)}/).map((part, at) =>
	at % 2 === 0 ? part : part === "n" ? number.format(n) : h("bdi", rest[part]));

// As text, for titles and labels: isolated by U+2068 and U+2069.
export const t = (key, { n, ...rest } = {}) => form(key, n).replace(/{(\w+)}/g, (_, name) =>
	name === "n" ? number.format(n) : `\u2068${rest[name]}\u2069`);

// "ana, bo and 3 more", as nodes.
export const listed = (names, n = names.length) => {
	const shown = n > 4 ? [...names.slice(0, 3), t("others", { n: n - 3 })] : names;
	return list.formatToParts(shown).map(({ type, value }) => type === "element" ? h("bdi", value) : value);
};

// What a refusal's code means to people; the server's own sentence if nobody has translated it.
export const why = ({ code, detail, wait }) => code in WORDS ? t(code, { n: wait || 1 }) : detail ?? code;

const format = (options) => new Intl.DateTimeFormat(lang, options);
const hour = format({ hour: "2-digit", minute: "2-digit" }), date = format({ weekday: "long", day: "numeric", month: "long" });
export const clock = (when) => hour.format(when);
export const day = (when) => {
	const back = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(when).setHours(0, 0, 0, 0)) / 864e5);
	return back === 0 ? t("today") : back === 1 ? t("yesterday") : date.format(when);
};
