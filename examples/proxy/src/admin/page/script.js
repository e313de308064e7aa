const STATES = {
  waiting: ["quiet", "○ waits"],
  running: ["busy", "▶ running"],
  done: ["good", "✓ done"],
  failed: ["bad", "✕ failed"],
  panicked: ["bad", "✕ panicked"],
  timed_out: ["warn", "⏱ timed out"],
  aborted: ["warn", "✕ aborted"],
  skipped: ["warn", "– skipped"],
  empty: ["quiet", "– nothing to clean"],
};
const PHASES = {
  serving: "serving",
  lame_duck: "lame duck",
  draining: "draining",
  ended: "ended",
};

let last = null;
let before = null;
let over = false;

const phase = (now) => {
  if (over) return ["ended", "quiet"];
  if (now.phase !== "serving") return [PHASES[now.phase], "warn"];
  return now.readiness === "ready" ? ["ready", "good"] : [now.readiness, "warn"];
};

const showHead = (now) => {
  const [text, tone] = phase(now);
  set(at("phase"), text);
  mark(at("phase"), "data-tone", tone);
  document.title = `${text} · proxy`;
  const facts = [["up", time(now.process.uptime_ms)], ["pid", String(now.process.pid)], ["version", now.process.version]];
  const list = at("facts");
  while (list.children.length < facts.length) {
    const pair = document.createElement("div");
    pair.append(make("dt"), make("dd"));
    list.append(pair);
  }
  facts.forEach(([name, value], index) => {
    set(list.children[index].children[0], name);
    set(list.children[index].children[1], value);
  });
  const button = at("drain");
  button.hidden = over;
  button.disabled = !now.actions || now.phase !== "serving";
  const reason = now.actions ? "" : "No admin token is configured, so draining is disabled here.";
  mark(button, "title", reason);
};

const rate = (now) => {
  const since = before ? now.process.now - before.process.now : 0;
  if (since <= 0) return "";
  const each = ((now.numbers.requests - before.numbers.requests) * 1000) / since;
  return `${each < 10 ? each.toFixed(1) : count(Math.round(each))} a second`;
};

const showTiles = (now) => {
  const numbers = now.numbers;
  const used = Object.fromEntries(now.load.used.map((each) => [each.name, each]));
  const shed = now.load.breaker === "closed" ? "quiet" : "bad";
  const tiles = [
    ["Connections", count(numbers.connections_active), `${count(numbers.connections_peak)} at most`],
    ["Requests in flight", count(numbers.requests_unfinished), rate(now)],
    ["Answered", count(numbers.requests - numbers.requests_unfinished), `${count(numbers.responses_4xx)} × 4xx, ${count(numbers.responses_5xx)} × 5xx`],
    ["Upstream failures", count(numbers.upstream_failures), `${count(numbers.upstream_timeouts)} timed out`],
    ["Refused", count(numbers.connections_refused + numbers.load_shed), now.load.breaker === "closed" ? "accepting load" : "shedding load", shed],
  ];
  const resources = { memory_bytes: ["Memory", bytes], open_files: ["Open files", count], sessions: ["Sessions", count] };
  for (const [name, [title, text]] of Object.entries(resources)) {
    if (used[name]) tiles.push([title, text(used[name].now), `${text(used[name].peak)} at most`]);
  }
  const box = at("tiles");
  while (box.children.length < tiles.length) {
    const tile = make("div", "tile");
    tile.append(make("p", "name"), make("p", "value"), make("p", "more"));
    box.append(tile);
  }
  tiles.forEach(([name, value, more, tone = "quiet"], index) => {
    const tile = box.children[index];
    mark(tile, "data-tone", tone);
    [name, value, more].forEach((text, place) => set(tile.children[place], text));
  });
};

const showConnections = (now) => {
  const { rows, count: all } = now.connections;
  fill(at("connections"), rows.map((row) => [
    [row.peer, "code"],
    [row.protocol ?? ""],
    [time(row.age_ms), "number"],
    [row.does ?? "", "free", /^(idle|silent)/.test(row.does) ? "quiet" : undefined],
  ]));
  set(at("connections-text"), all > rows.length ? `the oldest ${count(rows.length)} of ${count(all)}` : count(all));
  at("connections-empty").hidden = all > 0;
};

const showUpstreams = (now) => {
  const breakers = { closed: ["good", "closed"], half_open: ["warn", "trying"], open: ["bad", "open"] };
  fill(at("upstreams"), now.upstreams.map((row) => {
    const [tone, text] = breakers[row.breaker] ?? ["quiet", row.breaker];
    return [
      [row.route, "code"],
      [row.upstream, "code"],
      row.healthy ? ["not failing", "", "quiet"] : ["failing", "", "bad"],
      [text, "", tone],
      [time(row.pause_ms), "number"],
      [`${count(row.opened)} ×`, "number"],
    ];
  }));
  const feeds = { open: "good", ended: "quiet" };
  fill(at("feeds"), now.feeds.map((row) => [
    [row.route, "code"],
    [words(row.state), "", feeds[row.state] ?? "warn"],
    ...[row.listeners, row.events, row.dropped, row.opened].map((number) => [count(number), "number"]),
  ]));
  fill(at("programs"), now.programs.map((row) => [
    [row.route, "code"],
    [row.program, "code free"],
    ...[row.sessions, row.running, row.idle, row.started].map((number) => [count(number), "number"]),
  ]));
  for (const id of ["upstreams", "feeds", "programs"]) at(id).closest("section").hidden = now[id].length === 0;
};

const stateOf = (step) => {
  // These steps ended after the last snapshot.
  if (over && step.state === "running") return ["quiet", "▶ finishing"];
  if (over && step.state === "waiting") return ["quiet", "○ follows"];
  return STATES[step.state] ?? ["quiet", words(step.state)];
};

// Flattens the steps. Inner steps are listed while they run, and later if they are not done.
const flat = (steps, depth = 0) => steps.flatMap((step) => {
  const matters = (inner) => inner.state !== "done" || (step.state === "running" && !over);
  const inner = over && step.state === "running" ? [] : step.steps.filter(matters);
  return [[step, depth], ...flat(inner, depth + 1)];
});

// Draws the time that a step took, and the time that it has left.
const bar = (step, whole) => (cell) => {
  let svg = cell.firstElementChild;
  if (!svg) {
    svg = draw("svg", { viewBox: "0 0 1000 20", preserveAspectRatio: "none", "aria-hidden": "true" },
      draw("rect", { class: "rail", x: 0, y: 8, width: 1000, height: 4 }),
      draw("rect", { class: "rest", y: 3, height: 14 }), draw("rect", { class: "bar", y: 3, height: 14 }));
    cell.replaceChildren(svg);
  }
  const [, rest, took] = svg.children;
  mark(svg, "data-tone", stateOf(step)[0]);
  const place = (shape, from, ms, least) => {
    // Even a step that took no time is visible.
    const width = ms === 0 ? 0 : Math.max((ms / whole) * 1000, least);
    mark(shape, "x", Math.min((from / whole) * 1000, 1000 - least));
    mark(shape, "width", width);
  };
  const runs = step.started_ms !== null && step.state !== "waiting";
  const from = step.started_ms ?? 0;
  place(took, from, runs ? Math.max(step.elapsed_ms, 0.5) : 0, 4);
  place(rest, from + step.elapsed_ms, (!over && step.remaining_ms) || 0, 0);
};

const verdict = (shutdown) => {
  const amiss = flat(shutdown.steps).filter(([step]) => ["failed", "panicked", "timed_out", "aborted", "skipped"].includes(step.state));
  if (amiss.length === 0) return "all steps are clean";
  return `not done: ${amiss.map(([step]) => words(step.path)).join(", ")}`;
};

const showShutdown = (now) => {
  const shutdown = now.shutdown;
  at("shutdown").hidden = !shutdown;
  if (!shutdown) return;
  const rows = flat(shutdown.steps);
  const ends = over ? [] : rows.map(([step]) => (step.started_ms ?? 0) + step.elapsed_ms + (step.remaining_ms ?? 0));
  const whole = Math.max(shutdown.elapsed_ms, 20, ...ends);
  fill(at("steps"), rows.map(([step, depth]) => {
    const [tone, text] = stateOf(step);
    const waits = step.state === "waiting";
    return [
      [depth > 0 ? step.path.slice(step.path.lastIndexOf(".") + 1) : words(step.path), depth > 0 ? "inner" : "step"],
      [text, "", tone],
      [waits ? "" : time(step.elapsed_ms), "number"],
      [over ? "" : time(step.remaining_ms), "number left"],
      [bar(step, whole), "lane"],
      [step.note ?? "", "free"],
    ];
  }));
  rows.forEach(([step], index) => mark(at("steps").tBodies[0].rows[index], "data-path", step.path));
  at("steps").classList.toggle("over", over);
  const axis = at("axis");
  const marks = [0, 1, 2, 3].map((part) => (part === 0 ? "0" : time((whole * part) / 3)));
  while (axis.children.length < marks.length) axis.append(make("span"));
  marks.forEach((text, index) => set(axis.children[index], text));
  const so = `${shutdown.reason}; ${over ? "took" : "for"} ${time(shutdown.elapsed_ms)}`;
  const left = shutdown.remaining_ms === null ? "" : `, at most ${time(shutdown.remaining_ms)} more`;
  set(at("shutdown-text"), over ? `${so}; ${verdict(shutdown)}` : so + left);
};

// Announces changes to screen readers, but not the numbers of every second.
const tell = (now) => {
  const news = [];
  const [text] = phase(now);
  if (!last || phase(last)[0] !== text) news.push(`The proxy is ${text}.`);
  const known = new Map((last?.shutdown?.steps ?? []).map((step) => [step.path, step.state]));
  for (const step of now.shutdown?.steps ?? []) {
    if (last && known.get(step.path) !== step.state && step.state !== "waiting") news.push(`${words(step.path)}: ${words(step.state)}.`);
  }
  if (news.length > 0) set(at("news"), news.join(" "));
};

const show = (now) => {
  if (last && last.process.now < now.process.now - 500) before = last;
  tell(now);
  showHead(now);
  showTiles(now);
  showConnections(now);
  showUpstreams(now);
  showPlan(now);
  showShutdown(now);
  last = now;
};

const feed = (tone, text) => {
  mark(at("feed"), "data-tone", tone);
  set(at("feed-text"), text);
};
const banner = (text) => {
  at("banner").hidden = text === "";
  set(at("banner-text"), text);
};

const listen = () => {
  const events = new EventSource("/events");
  events.addEventListener("snapshot", (event) => {
    feed("good", "live");
    banner("");
    show(JSON.parse(event.data));
  });
  // The admin listener ends last, so this snapshot has the result of the shutdown.
  events.addEventListener("last", (event) => {
    events.close();
    over = true;
    show(JSON.parse(event.data));
    feed("quiet", "ended");
    const when = new Date(last.process.now).toLocaleTimeString("en-GB");
    mark(at("banner"), "data-tone", "quiet");
    banner(`The proxy ended at ${when}. This is its last report.`);
  });
  events.addEventListener("error", () => {
    if (over) return;
    feed("bad", "connection lost");
    const since = last ? ` The data is from ${new Date(last.process.now).toLocaleTimeString("en-GB")}.` : "";
    banner(`The connection to the proxy is lost. Reconnecting.${since}`);
  });
};

const ask = at("ask");
at("again").addEventListener("click", () => location.reload());
at("drain").addEventListener("click", () => {
  set(at("ask-error"), "");
  ask.showModal();
  at("token").focus();
});
at("cancel").addEventListener("click", () => ask.close());
ask.addEventListener("close", () => { at("token").value = ""; });
at("ask-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const confirm = at("confirm");
  confirm.disabled = true;
  try {
    const headers = { Authorization: `Bearer ${at("token").value.trim()}` };
    const answer = await fetch("/drain", { method: "POST", headers, credentials: "omit" });
    if (answer.ok) ask.close();
    else set(at("ask-error"), `Not done (${answer.status}): ${(await answer.text()).trim()}`);
  } catch {
    set(at("ask-error"), "Not done: the proxy does not answer, or the token is malformed.");
  } finally {
    confirm.disabled = false;
  }
});

listen();
