// The page: draws what the server pushes, and presses its buttons. Text is set as text, never as
// markup: names and messages come from whoever is on the graph.

const byId = (id) => document.getElementById(id);
const query = location.search; // carries the token where there is one
const STATES = {
  absent: "the controller is not running",
  unconfigured: "the controller waits for Start",
  inactive: "the controller is inactive: the robot rests",
  active: "the controller is active: the robot may move",
  stopped: "stopped until Start",
};
const COLOURS = ["#2b6cb0", "#c05621", "#2f855a"];
const SILENT_MS = 4000; // the server says something every second
const OLD_S = 5; // a status that is older is shown in grey
const pending = new Set(); // buttons whose answer has not come
let state = null;
let socket = null;
let heard = Date.now(); // when the newest message of the server came

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function row(cells, className = "") {
  const made = element("tr", "", className);
  made.append(...cells.map((cell) => (cell instanceof Node ? cell : element("td", cell))));
  return made;
}

function number(value, digits = 3) {
  return value === null || value === undefined ? "" : value.toFixed(digits);
}

// Buttons -----------------------------------------------------------------------------------

function tell(text, ok) {
  const answer = byId("answer");
  answer.textContent = text;
  answer.className = ok ? "banner" : "banner error";
  answer.hidden = false;
}

async function press(path, body) {
  if (pending.has(path)) return;
  pending.add(path);
  tell(`${path}: asked`, true);
  try {
    const response = await fetch(`${path}${query}`, {
      method: "POST", headers: { "X-WM-Planner": "page" }, body,
    });
    const answer = await response.json();
    tell(answer.text, answer.ok);
  } catch {
    tell(`'${path}' did not reach the server. If the robot moves, use its emergency stop.`, false);
  }
  pending.delete(path);
}

// Not as a request: few of those may be under way at once, and Stop must not wait for others.
function stop() {
  byId("confirm").close();
  tell("stop: asked", true);
  if (socket?.readyState === WebSocket.OPEN) socket.send("stop");
  else press("stop");
}
byId("stop").onclick = stop;
addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});
byId("start").onclick = () => byId("confirm").showModal();
byId("confirm-no").onclick = () => byId("confirm").close();
byId("confirm-start").onclick = () => {
  byId("confirm").close();
  press("start");
};
for (const name of ["here", "clear", "reset"]) byId(name).onclick = () => press(name);
byId("upload").onchange = (event) => {
  const form = new FormData();
  for (const file of event.target.files) form.append("file", file, file.name);
  event.target.value = "";
  press("upload", form);
};

// What is shown -----------------------------------------------------------------------------

// The next picture is fetched when the last one has come: a slow line shows fewer.
function picture(name) {
  const image = byId(name);
  const wanted = state.pictures[name] || 0;
  if (!wanted) {
    image.removeAttribute("src");
    image.dataset.number = "";
    return;
  }
  if (image.dataset.loading || image.dataset.number === String(wanted)) return;
  image.dataset.loading = "yes";
  image.dataset.number = String(wanted);
  const next = new Image();
  next.onload = next.onerror = () => {
    delete image.dataset.loading;
    if (next.naturalWidth) image.src = next.src;
  };
  next.src = `picture/${name}${query}${query ? "&" : "?"}n=${wanted}`;
}

function chart(id, title, series, limit) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const [width, height, top] = [300, 140, 20];
  const add = (tag, attributes, text = "") => {
    const made = document.createElementNS(svg.namespaceURI, tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    svg.append(made);
    return made;
  };
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  add("rect", { x: 0, y: top, width, height: height - top - 16, class: "frame" });
  const times = state.replans.map((replan) => replan.at_s);
  const values = series.flatMap((one) => one.values).filter((value) => value !== null);
  const most = Math.max(...values, limit ?? 0, 1e-9);
  const [first, last] = [times[0], times[times.length - 1]];
  const x = (time) => (last > first ? ((time - first) / (last - first)) * width : width);
  const y = (value) => height - 16 - (value / most) * (height - top - 20);
  if (limit) add("line", { x1: 0, x2: width, y1: y(limit), y2: y(limit), class: "limit" });
  let left = 0;
  series.forEach((one, index) => {
    const points = one.values
      .map((value, i) => (value === null ? null : `${x(times[i])},${y(value)}`))
      .filter((point) => point !== null);
    add("polyline", { points: points.join(" "), stroke: COLOURS[index] });
    const known = one.values.filter((value) => value !== null);
    const newest = known.length ? known[known.length - 1].toPrecision(3) : "none";
    const label = `${one.name} ${newest}`;
    add("text", { x: left, y: 12 }, label).style.fill = COLOURS[index];
    left += 12 + 6.2 * label.length;
  });
  if (values.length) add("text", { x: 4, y: top + 12 }, most.toPrecision(3));
  if (last > first) add("text", { x: 0, y: height - 2 }, `the last ${Math.round(last - first)} s`);
  byId(id).replaceChildren(element("strong", title), svg);
}

function charts() {
  const key = JSON.stringify([state.replans.at(-1), state.replans.length, state.tolerances]);
  const all = byId("charts");
  if (all.dataset.key === key) return;
  all.dataset.key = key;
  const of = (name, scale = 1) =>
    state.replans.map((replan) => (replan[name] === null ? null : scale * replan[name]));
  const { proprio, picture: seen } = state.tolerances;
  chart("chart-cost", "Cost of the plan", [{ name: "cost", values: of("cost") }]);
  chart("chart-proprio", "Distance of the proprioception",
    [{ name: "greatest difference", values: of("proprio") }], proprio);
  chart("chart-picture", "Distance of the picture",
    [{ name: "of its latent", values: of("picture") }], seen);
  chart("chart-latency", "Latency, milliseconds", [
    { name: "plan", values: of("plan_s", 1000) },
    { name: "camera to command", values: of("command_s", 1000) },
  ]);
}

function goals() {
  const shelf = byId("goals");
  const key = JSON.stringify([state.goals, state.why_no_goal]);
  if (shelf.dataset.key === key) return;
  shelf.dataset.key = key;
  shelf.replaceChildren(...state.goals.map((goal) => {
    const button = element("button");
    const image = new Image();
    image.src = `picture/goal-${goal.number}${query}`;
    image.alt = "";
    button.append(image, element("span", goal.joints ? goal.name : `${goal.name} (picture alone)`));
    button.disabled = state.why_no_goal !== "";
    button.onclick = () => press(`goal/${goal.number}`);
    return button;
  }));
}

function episodes() {
  byId("rule").textContent = state.rule;
  byId("episodes").tBodies[0].replaceChildren(...state.episodes.map((one) => row([
    String(one.number),
    one.steps === null ? one.outcome : `${one.outcome} after ${one.steps} steps`,
    number(one.seconds, 1), number(one.distance), number(one.picture),
  ])));
}

// What somebody has opened stays open.
function diagnostics() {
  const list = byId("diagnostics");
  const open = new Set([...list.querySelectorAll("details[open]")].map((one) => one.dataset.key));
  list.replaceChildren(...state.diagnostics.map((one) => {
    const details = element("details", "", one.age_s > OLD_S ? "old" : "");
    details.dataset.key = `${one.node}: ${one.name}`;
    details.open = open.has(details.dataset.key);
    const summary = element("summary");
    const level = ["OK", "warning", "error", "stale"][one.level];
    const age = one.age_s > OLD_S ? ` (said ${Math.round(one.age_s)} s ago)` : "";
    summary.append(
      element("strong", details.dataset.key), " ",
      element("span", level, `level-${one.level}`), ` ${one.message}${age}`,
    );
    const values = element("table");
    values.append(...Object.entries(one.values).map((pair) => row(pair)));
    details.append(summary, values);
    return details;
  }));
}

function log() {
  byId("log").tBodies[0].replaceChildren(...[...state.log].reverse().map((line) => row([
    new Date(1000 * line.at_s).toLocaleTimeString(), line.node, line.level, line.text,
  ], line.level === "warning" ? "level-1" : "level-2")));
}

function draw() {
  byId("robot").textContent = state.robot || "wm_planner";
  byId("where").textContent = `${state.where}: ${state.nodes.join(", ") || "nobody is there"}`;
  const controller = byId("controller");
  controller.textContent = state.starting ? "starting" : STATES[state.controller];
  controller.className = `state ${state.controller}`;
  byId("start").disabled = state.starting || ["absent", "active"].includes(state.controller);
  byId("problem").textContent = state.problem;
  byId("problem").hidden = !state.problem;
  byId("why-no-goal").textContent = state.why_no_goal && `No goal can be set: ${state.why_no_goal}.`;
  for (const name of ["here", "clear", "upload"]) byId(name).disabled = state.why_no_goal !== "";
  byId("reset").hidden = !state.can_reset;
  for (const name of ["camera", "goal", "imagined"]) picture(name);
  goals();
  charts();
  episodes();
  diagnostics();
  log();
}

// The connection ----------------------------------------------------------------------------

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const path = location.pathname.replace(/[^/]*$/, "live");
  socket = new WebSocket(`${scheme}//${location.host}${path}${query}`);
  socket.onmessage = (message) => {
    heard = Date.now();
    byId("lost").hidden = true;
    const told = JSON.parse(message.data);
    if (told.answer) {
      tell(told.answer.text, told.answer.ok);
      return;
    }
    state = told;
    draw();
  };
  socket.onclose = () => {
    byId("lost").hidden = false;
    setTimeout(connect, 1000);
  };
}
// A line that is cut closes nothing for minutes; what the page shows then is old.
setInterval(() => {
  if (Date.now() - heard > SILENT_MS) {
    byId("lost").hidden = false;
    socket.close();
  }
}, 500);
connect();
