// The page asks the server every two seconds and shows what it says. Whatever came over
// the network goes into the page as text, never as markup.
"use strict";

const PAUSE = 2000; // milliseconds; the server asks its cores as often
const ROWS = 100; // shown at first, and more each time
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

let last = null; // what the server said last
let failures = 0;
let found = null; // what the server found for a filter: { text, queues, total }
let findTimer = 0;
let finding = 0; // counts, so that a late answer to an older text is let be
let rows = ROWS;
let order = { by: "messages", down: true };
const shown = new Map(); // rows of the table by next hop
let token = "";
try { token = sessionStorage.getItem("token") || ""; } catch { /* the tab may keep nothing */ }

// ---- words ----

const plain = (n) => Number(n).toLocaleString("en");
const plural = (n, word) => `${plain(n)} ${word}${n === 1 ? "" : "s"}`;

function size(octets) {
  if (octets < 1000) return `${octets} B`;
  let value = octets;
  for (const unit of ["KiB", "MiB", "GiB", "TiB"]) {
    value /= 1024;
    if (value < 999.5 || unit === "TiB") return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${unit}`;
  }
}

function span(seconds) {
  seconds = Math.max(0, Math.round(seconds));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 360000) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

function micros(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1000) return `${value} µs`;
  return value < 1e6 ? `${value / 1000} ms` : `${value / 1e6} s`;
}

const rate = (n) => (n > 0 && n < 10 ? n.toFixed(1) : plain(Math.round(n)));
const time = (at) => new Date(at).toLocaleTimeString([], { hour12: false });
const now = () => Date.parse(last.live.at);
const since = (at) => span((now() - Date.parse(at)) / 1000);

function until(at) {
  const left = (Date.parse(at) - now()) / 1000;
  return left <= 0 ? "now" : `in ${span(left)}`;
}

function put(element, text) {
  text = String(text);
  if (element.textContent !== text) element.textContent = text;
}

function make(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function button(text, label, act) {
  const element = make("button", "", text);
  element.type = "button";
  element.setAttribute("aria-label", label);
  element.addEventListener("click", act);
  return element;
}

// ---- the server ----

function headers() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function look() {
  try {
    const answer = await fetch("live", { headers: headers(), cache: "no-store", signal: AbortSignal.timeout(8000) });
    const said = await answer.json();
    if (answer.status === 401) {
      gone("This page shows nothing without its token.");
      askToken();
    } else if (!answer.ok) {
      gone(said.error);
    } else {
      failures = 0;
      last = said;
      back();
      draw();
      if (seeks()) find();
    }
  } catch {
    failures += 1;
    // One answer that is late is no alarm.
    if (failures > 1 || !last) gone("The server does not answer. Trying again.");
  }
  setTimeout(look, PAUSE);
}

// The page is told the fullest queues; where there are more, the server looks through all
// of them for the text.
const wanted = () => $("filter").value.trim();
const isCut = () => last && last.live.queues_total > last.live.queues.length;
const seeks = () => wanted() !== "" && isCut();

async function find() {
  const text = wanted();
  finding += 1;
  const mine = finding;
  try {
    const answer = await fetch("find", { method: "POST", headers: headers(), body: text, cache: "no-store", signal: AbortSignal.timeout(8000) });
    const said = await answer.json();
    if (mine !== finding) return;
    found = answer.ok ? { text, ...said } : { text, queues: [], total: 0, error: said.error };
  } catch {
    if (mine !== finding) return;
    found = null; // the next look tries again
  }
  if (last) drawQueues(last.live);
}

function gone(why) {
  document.body.classList.add("gone");
  const at = last ? ` What is below was true at ${time(last.live.at)}.` : "";
  $("banner").hidden = false;
  put($("banner"), why + at);
  put($("state"), "no answer");
  $("state").className = "pill bad";
}

function back() {
  document.body.classList.remove("gone");
  $("banner").hidden = true;
}

let saidTimer = 0;
function say(text) {
  put($("said"), text);
  clearTimeout(saidTimer);
  saidTimer = setTimeout(() => put($("said"), ""), 8000);
}

async function act(question, yes, action) {
  if (!token && !(await askToken())) return;
  put($("ask-text"), question);
  put($("ask-yes"), yes);
  if ((await open($("ask"))) !== "yes") return;
  try {
    const answer = await fetch("action", {
      method: "POST",
      headers: { ...headers(), "Content-Type": "application/json" },
      body: JSON.stringify(action),
    });
    const said = await answer.json();
    if (answer.status === 401) {
      keepToken("");
      say("The token is wrong. Nothing was done.");
    } else {
      say(answer.ok ? said.done : `Not done: ${said.error}`);
    }
  } catch {
    say("The server does not answer. It may have been done; look again.");
  }
}

function open(dialog) {
  return new Promise((done) => {
    dialog.returnValue = "";
    dialog.addEventListener("close", () => done(dialog.returnValue), { once: true });
    if (dialog.open) return;
    dialog.showModal();
    const first = dialog.querySelector("input") || dialog.querySelector("button[value=yes]");
    first.focus();
  });
}

let asking = null;
function askToken() {
  asking = asking || (async () => {
    put($("token-wrong"), "");
    for (;;) {
      $("token").value = "";
      if ((await open($("token-ask"))) !== "yes") return false;
      const tried = $("token").value.trim();
      $("token").value = "";
      try {
        const answer = await fetch("token", { method: "POST", headers: { Authorization: `Bearer ${tried}` } });
        if (answer.ok) {
          keepToken(tried);
          return true;
        }
        put($("token-wrong"), "That is not the token.");
      } catch {
        put($("token-wrong"), "The server does not answer.");
      }
    }
  })().finally(() => { asking = null; });
  return asking;
}

function keepToken(text) {
  token = text;
  try { sessionStorage.setItem("token", text); } catch { /* kept in this page, then */ }
  put($("sign-in"), token ? "Forget token" : "Enter token");
}

// ---- what is shown ----

function draw() {
  const { live, counters } = last;
  const trouble = live.readiness.stopping ? "stopping"
    : !live.readiness.log_open ? "log closed to writes: no new mail"
    : !live.readiness.has_room ? "no room for new mail" : "";
  put($("host"), last.hostname);
  document.title = `${trouble ? "! " : ""}${last.hostname} – Turnspool`;
  put($("state"), trouble || "takes mail");
  $("state").className = `pill ${trouble ? "bad" : "good"}`;
  put($("uptime"), `${last.program_version}, up ${since(last.started)}`);
  put($("clock"), time(live.at));
  drawNumbers(live, counters);
  drawPlots();
  drawLinks(live);
  drawQueues(live);
  drawSessions(live);
  drawEvents(live);
}

function pairs(list, entries) {
  entries.forEach(([name, value, more], i) => {
    let box = list.children[i];
    if (!box) {
      box = make("div");
      box.append(make("dt"), make("dd"));
      box.lastChild.append(document.createTextNode(""), make("small"));
      list.append(box);
    }
    put(box.firstChild, name);
    if (box.lastChild.firstChild.data !== value) box.lastChild.firstChild.data = value;
    put(box.lastChild.lastChild, more ? ` ${more}` : "");
  });
}

function drawNumbers(live, counters) {
  const sum = Object.values(live.sessions).reduce((a, b) => a + b, 0);
  const commit = last.commit_lately;
  const accept = last.acceptance_lately;
  pairs($("numbers"), [
    ["Waiting", plain(counters.queue_messages || 0), size(counters.queue_octets || 0)],
    ["Oldest", live.oldest ? since(live.oldest) : "–", ""],
    ["Sessions", plain(sum), "open"],
    ["Commit, half within", micros(commit.half_micros), commit.most_micros === null ? "" : `99% ${micros(commit.most_micros)}`],
    ["A client waits", micros(accept.half_micros), accept.most_micros === null ? "" : `99% ${micros(accept.most_micros)}`],
    ["Spool", size(counters.spool_bytes || 0), live.disk_free_octets === null ? "" : `${size(live.disk_free_octets)} free`],
  ]);
}

function rates(name) {
  const points = [];
  const samples = last.samples;
  for (let i = 1; i < samples.length; i += 1) {
    const seconds = (samples[i].at_millis - samples[i - 1].at_millis) / 1000;
    if (seconds <= 0) continue;
    const grown = Math.max(0, samples[i][name] - samples[i - 1][name]);
    points.push([samples[i].at_millis, grown / seconds]);
  }
  return points;
}

const latest = (points) => (points.length ? points[points.length - 1][1] : 0);

function drawPlots() {
  const [inward, outward] = [rates("messages_in"), rates("messages_out")];
  const bytes = (name) => `${size(Math.round(latest(rates(name))))}/s`;
  put($("in-now"), `${rate(latest(inward))} msg/s, ${bytes("octets_in")}`);
  put($("out-now"), `${rate(latest(outward))} msg/s, ${bytes("octets_out")}`);
  const waiting = last.samples.map((s) => [s.at_millis, s.waiting]);
  put($("waiting-now"), plural(latest(waiting), "message"));
  plot($("plot-in"), "in", inward, (n) => `${rate(n)}/s`, "Messages accepted each second");
  plot($("plot-out"), "out", outward, (n) => `${rate(n)}/s`, "Messages delivered each second");
  plot($("plot-waiting"), "waiting", waiting, plain, "Messages waiting");
}

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function plot(place, kind, points, words, label) {
  const [width, height] = [300, 60];
  const span5 = 300000;
  const end = last.samples.length ? last.samples[last.samples.length - 1].at_millis : 0;
  const most = Math.max(...points.map((p) => p[1]), 0);
  const top = most || 1;
  const x = (at) => (width * (1 - (end - at) / span5)).toFixed(1);
  const y = (value) => (height - 1 - (height - 4) * (value / top)).toFixed(1);
  let svg = place.querySelector("svg");
  if (!svg) {
    svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", class: `plot ${kind}`, role: "img" });
    svg.append(shape("path", { class: "area" }), shape("path", { class: "line" }),
      shape("line", { class: "base", x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5 }));
    const axis = make("div", "axis");
    axis.setAttribute("aria-hidden", "true");
    axis.append(make("span", "", "5 min ago"), make("span"), make("span", "", "now"));
    place.append(svg, axis);
  }
  const line = points.map((p) => `${x(p[0])},${y(p[1])}`).join("L");
  svg.setAttribute("aria-label", `${label}, the last five minutes: now ${words(latest(points))}, at most ${words(most)}`);
  svg.children[1].setAttribute("d", line ? `M${line}` : "");
  svg.children[0].setAttribute("d", line ? `M${x(points[0][0])},${height}L${line}L${x(end)},${height}Z` : "");
  put(place.querySelector(".axis").children[1], most ? `most ${words(most)}` : "");
}

const LINK_STYLE = { up: "good", draining: "good", idle: "good", dialling: "warn", "hanging up": "warn" };

function drawLinks(live) {
  $("links").hidden = !live.links;
  if (!live.links) return;
  const { links, ready_messages: ready, waiting_messages: waiting, waiting_octets: octets, next_window: next } = live.links;
  put($("links-sum"), `${plain(ready)} ready, ${plain(waiting)} waiting (${size(octets)}), next window ${next ? `${until(next)}, ${time(next)}` : "not by schedule"}`);
  const list = $("link-list");
  links.forEach((link, i) => {
    let box = list.children[i];
    if (!box) list.append(box = makeLink());
    drawLink(box, link, (live.histories || []).find((h) => h.name === link.name));
  });
  while (list.children.length > links.length) list.lastChild.remove();
}

function makeLink() {
  const box = make("article", "link");
  const title = make("h3");
  title.append(make("span"), make("span", "pill small"));
  const buttons = make("div", "buttons");
  const name = () => box.dataset.name;
  buttons.append(
    button("Dial", "Dial", () => act(`Bring the link ${name()} up?`, "Dial", { action: "dial", link: name() })),
    button("Hang up", "Hang up", () => act(`Take the link ${name()} down? It stays down until it is dialled here or by turnspool link up.`, "Hang up", { action: "hang-up", link: name() })),
  );
  const details = make("details");
  const table = make("table");
  const head = make("tr");
  for (const [text, kind] of [["Began", ""], ["Lasted", "number"], ["Sent", "number"], ["Size", "number"], ["Received", "number"], ["Size", "number"], ["Why", ""], ["Ended", ""]]) head.append(make("th", kind, text));
  table.append(make("thead"), make("tbody"));
  table.firstChild.append(head);
  details.append(make("summary"), table);
  box.append(title, buttons, make("div", "facts"), shape("svg", { viewBox: "0 0 1440 10", preserveAspectRatio: "none", role: "img" }), details);
  return box;
}

function drawLink(box, link, history) {
  box.dataset.name = link.name;
  const [title, buttons, facts, day, details] = box.children;
  put(title.children[0], link.name);
  put(title.children[1], `${link.state} ${since(link.since)}`);
  title.children[1].className = `pill small ${LINK_STYLE[link.state] || ""}`;
  const isUp = ["up", "draining", "idle"].includes(link.state);
  // In the pause between two dials he may have it dialled at once.
  buttons.children[0].disabled = isUp || (link.state === "dialling" && link.next_dial_seconds === null);
  buttons.children[1].disabled = link.held_down && !isUp;
  buttons.children[0].setAttribute("aria-label", `Dial ${link.name}`);
  buttons.children[1].setAttribute("aria-label", `Hang up ${link.name}`);
  const budget = link.budget;
  const left = budget ? [
    budget.seconds_left === null ? "" : span(budget.seconds_left),
    budget.octets_left === null ? "" : size(budget.octets_left),
    budget.money_left === null ? "" : budget.money_left,
  ].filter(Boolean).join(", ") : "";
  const entries = [
    ["", link.why || ""],
    ["", link.held_down ? "down by the operator" : ""],
    ["empty in", link.empty_in_seconds === null ? "" : span(link.empty_in_seconds)],
    ["dials in", link.next_dial_seconds === null ? "" : span(link.next_dial_seconds)],
    ["carried", link.octets ? size(link.octets) : ""],
    ["budget left", left ? `${left} of this ${budget.per}` : ""],
  ].filter((entry) => entry[1]);
  const text = JSON.stringify([entries, link.last_failure]);
  if (facts.dataset.text !== text) {
    facts.dataset.text = text;
    facts.replaceChildren(...entries.map(([name, value]) => {
      const fact = make("span", "", name ? `${name} ` : "");
      fact.append(make("b", "", value));
      return fact;
    }));
    if (link.last_failure) facts.append(make("span", "wrong", `The last dial failed: ${link.last_failure}`));
  }
  const outings = (history && history.outings) || [];
  drawDay(day, link, outings);
  put(details.firstChild, `History: ${plural(outings.length, "time")} on line, the last 24 hours above`);
  details.hidden = outings.length === 0;
  const body = details.querySelector("tbody");
  const key = outings.length ? String(outings[0].began_millis) + outings.length : "";
  if (body.dataset.key !== key) {
    body.dataset.key = key;
    body.replaceChildren(...outings.map((outing) => {
      const row = make("tr");
      row.append(make("td", "", new Date(outing.began_millis).toLocaleString()), make("td", "number", span(outing.millis / 1000)),
        make("td", "number", plain(outing.messages)), make("td", "number", size(outing.message_octets)),
        make("td", "number", plain(outing.received)), make("td", "number", size(outing.received_octets)),
        make("td", "", outing.why), make("td", "", outing.ended));
      return row;
    }));
  }
}

// The last 24 hours as a strip: when it was on line.
function drawDay(svg, link, outings) {
  const end = now();
  const minute = 60000;
  const periods = outings.map((o) => [o.began_millis, o.began_millis + o.millis]);
  if (["up", "draining", "idle", "hanging up"].includes(link.state)) periods.push([Date.parse(link.since), end]);
  const bars = periods.map(([from, to]) => {
    const x = Math.max(0, 1440 - (end - from) / minute);
    const right = 1440 - (end - to) / minute;
    const width = Math.max(3, right - x); // a few seconds are to be seen, also the last ones
    return right <= 0 ? null : shape("rect", { class: "outing", x: Math.min(x, 1440 - width).toFixed(1), y: 0, width: width.toFixed(1), height: 10 });
  }).filter(Boolean);
  svg.setAttribute("aria-label", `On line ${plural(bars.length, "time")} in the last 24 hours`);
  svg.replaceChildren(shape("rect", { class: "day", x: 0, y: 0, width: 1440, height: 10, rx: 3 }), ...bars);
}

// ---- queues ----

const GATES = { open: ["waiting", ""], held: ["held", ""], released: ["released", "good"], resting: ["resting", "warn"] };

function stateOf(queue) {
  if (queue.gate === "open" && queue.connections > 0) return ["sending", "good"];
  if (queue.gate === "open" && queue.deferred > 0) return ["deferred", ""];
  return GATES[queue.gate] || [queue.gate, ""];
}

const keys = {
  customer: (q) => q.customer || "",
  hop: (q) => q.domain || q.next_hop,
  messages: (q) => q.messages,
  octets: (q) => q.octets,
  oldest: (q) => (q.oldest ? -Date.parse(q.oldest) : -Infinity),
  state: (q) => stateOf(q)[0],
};

function drawQueues(live) {
  const text = wanted().toLowerCase();
  const ofAll = seeks() && found !== null && found.text === wanted();
  const matches = ofAll ? found.queues.slice()
    : live.queues.filter((q) => !text || `${q.customer || ""} ${q.next_hop} ${stateOf(q)[0]} ${q.why || ""}`.toLowerCase().includes(text));
  const key = keys[order.by];
  matches.sort((a, b) => {
    const [left, right] = [key(a), key(b)];
    const less = left < right ? -1 : left > right ? 1 : 0;
    return (order.down ? -less : less) || (a.next_hop < b.next_hop ? -1 : 1);
  });
  const total = plain(live.queues_total);
  const fullest = isCut() ? `, the fullest ${plain(live.queues.length)} here` : "";
  if (ofAll) {
    const more = found.total > matches.length ? `, the fullest ${plain(matches.length)} of them here` : "";
    put($("queues-sum"), `${plain(found.total)} of ${total}${more}`);
  } else if (seeks()) put($("queues-sum"), `looking through ${total} …`);
  else put($("queues-sum"), text ? `${plain(matches.length)} of ${total}` : `${total}${fullest}`);
  const visible = matches.slice(0, rows);
  const body = $("rows");
  const names = new Set(visible.map((q) => q.next_hop));
  for (const [name, row] of shown) {
    if (!names.has(name)) {
      row.remove();
      shown.delete(name);
    }
  }
  visible.forEach((queue, i) => {
    let row = shown.get(queue.next_hop);
    if (!row) shown.set(queue.next_hop, row = makeRow());
    drawRow(row, queue);
    // Moving a row takes the focus from its button; so only where it must be.
    if (body.children[i] !== row) {
      const focused = row.contains(document.activeElement) ? document.activeElement : null;
      body.insertBefore(row, body.children[i] || null);
      if (focused) focused.focus();
    }
  });
  $("no-rows").hidden = matches.length > 0;
  body.parentElement.hidden = matches.length === 0;
  const none = seeks() && !ofAll ? "Looking …" : ofAll && found.error ? found.error : "No queue contains this.";
  put($("no-rows"), text ? none : "Nothing waits.");
  const rest = matches.length - visible.length;
  $("more").hidden = rest <= 0;
  put($("more"), `Show ${plain(Math.min(rest, ROWS))} more of ${plain(rest)}`);
}

function makeRow() {
  const row = make("tr");
  const hop = make("td", "hop");
  hop.append(make("span"), make("span", "why"));
  const numbers = ["messages", "", "oldest"].map((label) => {
    const cell = make("td", "number");
    if (label) cell.dataset.label = label;
    return cell;
  });
  const state = make("td", "state");
  state.append(make("span", "pill small"));
  const actions = make("td", "act");
  const release = button("Release", "", () => {
    const queue = row.queue;
    const text = `Release ${plural(queue.messages, "message")}, ${size(queue.octets)}: ${queue.next_hop}?`;
    const action = queue.class === "held" && queue.domain
      ? { action: "release", name: queue.domain } : { action: "release-queue", next_hop: queue.next_hop };
    act(text, "Release", action);
  });
  const hold = button("Hold", "", () => {
    const queue = row.queue;
    act(`Hold all mail for ${queue.next_hop} until it is released?`, "Hold", { action: "hold-queue", next_hop: queue.next_hop });
  });
  actions.append(release, hold);
  row.append(make("td", "customer"), hop, ...numbers, state, actions);
  return row;
}

function drawRow(row, queue) {
  row.queue = queue;
  const [customer, hop, messages, octets, oldest, state, actions] = row.children;
  put(customer, queue.customer || "");
  put(hop.firstChild, queue.class === "held" && queue.domain ? queue.domain : queue.next_hop);
  const notes = [];
  if (queue.why) notes.push(queue.why);
  if (queue.retry) notes.push(`tried again ${until(queue.retry)}`);
  if (queue.held) notes.push(`${plural(queue.held, "message")} held one by one`);
  put(hop.lastChild, notes.join("; "));
  put(messages, plain(queue.messages));
  put(octets, size(queue.octets));
  put(oldest, queue.oldest ? since(queue.oldest) : "–");
  const [word, style] = stateOf(queue);
  put(state.firstChild, word);
  state.firstChild.className = `pill small ${style}`;
  actions.children[0].setAttribute("aria-label", `Release ${queue.next_hop}`);
  actions.children[1].setAttribute("aria-label", `Hold ${queue.next_hop}`);
  actions.children[1].hidden = queue.class === "held" || queue.gate === "held";
}

function drawSessions(live) {
  const words = { mx: "Incoming", submission: "Submission", odmr: "Customers' ATRN", provider: "From our provider", delivery: "Deliveries", collection: "Mailboxes" };
  const list = $("sessions");
  if (!list.children.length) for (const word of Object.values(words)) list.append(make("dt", "", word), make("dd"));
  Object.keys(words).forEach((role, i) => {
    const value = list.children[2 * i + 1];
    put(value, plain(live.sessions[role] || 0));
    value.className = live.sessions[role] ? "" : "none";
  });
}

function drawEvents(live) {
  const list = $("events");
  const key = live.events.length ? live.events[0].at + live.events[0].text + live.events.length : "";
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...live.events.map((event) => {
    const item = make("li", event.level);
    const at = make("time", "", time(event.at));
    at.dateTime = event.at;
    item.append(at, make("span", "", event.text));
    return item;
  }));
}

// ---- beginning ----

document.addEventListener("DOMContentLoaded", () => {
  // The token comes behind the number sign, which no request carries; it does not stay
  // in the address either.
  const given = /^#token=(.+)$/.exec(location.hash);
  if (given) history.replaceState(null, "", location.pathname);
  keepToken(given ? decodeURIComponent(given[1]) : token);
  $("sign-in").addEventListener("click", () => (token ? keepToken("") : askToken()));
  $("filter").addEventListener("input", () => {
    rows = ROWS;
    if (last) drawQueues(last.live);
    clearTimeout(findTimer);
    if (seeks()) findTimer = setTimeout(find, 200); // not for each letter
  });
  $("more").addEventListener("click", () => { rows += ROWS; drawQueues(last.live); });
  // Not a submit button: Enter would press the first of those.
  for (const cancel of document.querySelectorAll("[data-close]")) {
    cancel.addEventListener("click", () => cancel.closest("dialog").close("no"));
  }
  for (const head of document.querySelectorAll("th button")) {
    head.addEventListener("click", () => {
      const by = head.dataset.sort;
      const letters = ["customer", "hop", "state"].includes(by);
      order = { by, down: order.by === by ? !order.down : !letters };
      for (const other of document.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
      head.parentElement.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      if (last) drawQueues(last.live);
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(event.target.tagName) && !document.querySelector("dialog[open]")) {
      event.preventDefault();
      $("filter").focus();
    }
  });
  look();
});
