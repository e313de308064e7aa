// Returns the rows of the graph. A step is placed below all steps that it waits for. An
// edge that crosses a row gets a place in it.
const ranks = (steps) => {
  const rank = new Map();
  for (const step of steps) {
    rank.set(step.name, Math.max(-1, ...step.after.map((name) => rank.get(name) ?? -1)) + 1);
  }
  const rows = [];
  const put = (at, place) => {
    const row = (rows[at] ??= []);
    if (!row.some((each) => each.name === place.name)) row.push(place);
  };
  for (const step of steps) {
    put(rank.get(step.name), { name: step.name, wide: WIDE, from: step.after });
    for (const name of step.after) {
      for (let at = rank.get(name) + 1; at < rank.get(step.name); at += 1) {
        put(at, { name: `${name} ${at}`, wide: THIN, from: [at - 1 > rank.get(name) ? `${name} ${at - 1}` : name] });
      }
    }
  }
  return { rank, rows };
};

const [WIDE, THIN, HIGH, GAP_X, GAP_Y] = [112, 10, 40, 12, 26];

// Computes the position of each place: its horizontal middle and its top.
const layout = (steps) => {
  const { rank, rows } = ranks(steps);
  const wideOf = (row) => row.reduce((sum, place) => sum + place.wide + GAP_X, -GAP_X);
  const width = Math.max(2 * WIDE + GAP_X, ...rows.map(wideOf)) + 4;
  const places = new Map();
  rows.forEach((row, index) => {
    const middle = (place) => place.from.reduce((sum, name) => sum + places.get(name)[0], 0) / (place.from.length || 1);
    const ordered = row.map((place) => [place, middle(place)]).sort(([, one], [, other]) => one - other);
    let x = (width - wideOf(row)) / 2;
    for (const [place] of ordered) {
      places.set(place.name, [x + place.wide / 2, 2 + index * (HIGH + GAP_Y)]);
      x += place.wide + GAP_X;
    }
  });
  return { rank, places, width, height: rows.length * (HIGH + GAP_Y) - GAP_Y + 4 };
};

// Draws the edge from one step to another, through its places in between.
const edge = ({ rank, places }, from, to) => {
  const [start, end] = [places.get(from), places.get(to)];
  let [x, y] = [start[0], start[1] + HIGH];
  let path = `M${x} ${y}`;
  const bend = (toX, toY) => {
    const middle = (y + toY) / 2;
    path += `C${x} ${middle} ${toX} ${middle} ${toX} ${toY}`;
    [x, y] = [toX, toY];
  };
  for (let at = rank.get(from) + 1; at < rank.get(to); at += 1) {
    const [toX, top] = places.get(`${from} ${at}`);
    bend(toX, top);
    y = top + HIGH;
    path += `L${x} ${y}`;
  }
  bend(end[0], end[1] - 1);
  return draw("path", { class: "edge", d: path, "marker-end": "url(#tip)" });
};

const limit = (step) => (step.budget_ms === null ? "what is left" : `≤ ${time(step.budget_ms)}`);

const node = (step, [x, y]) => {
  const name = draw("text", { class: "name", x, y: y + 17 });
  name.textContent = step.name;
  const below = draw("text", { class: "limit", x, y: y + 32 });
  below.textContent = limit(step);
  const after = step.after.length > 0 ? `, after ${step.after.join(", ")}` : "";
  const label = `${step.name}: ${limit(step)}${after}${step.best_effort ? ", best effort" : ""}`;
  const title = draw("title", {});
  title.textContent = [label, step.how].filter(Boolean).join(". ");
  const box = draw("rect", { x: x - WIDE / 2, y, width: WIDE, height: HIGH, rx: 6 });
  const kind = step.best_effort ? "node loose" : "node";
  return draw("g", { class: kind, role: "listitem", "aria-label": label, "data-step": step.name }, title, box, name, below);
};

const drawPlan = (plan) => {
  const drawing = layout(plan.steps);
  const label = `The steps of ${plan.name}, in order`;
  const root = draw("svg", { viewBox: `0 0 ${drawing.width} ${drawing.height}`, role: "list", "aria-label": label });
  const tip = draw("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    draw("path", { d: "M0 0L8 4L0 8z", class: "tip" }));
  const edges = plan.steps.flatMap((step) => step.after.map((name) => edge(drawing, name, step.name)));
  const nodes = plan.steps.map((step) => node(step, drawing.places.get(step.name)));
  root.append(draw("defs", {}, tip), draw("g", { "aria-hidden": "true" }, ...edges), ...nodes);
  // Scales down to fit, but stays readable.
  root.style.minWidth = `${drawing.width * 0.85}px`;
  at("plan").replaceChildren(root);
  set(at("plan-text"), plan.budget_ms === null ? "" : `at most ${time(plan.budget_ms)}`);
};

let drawn = "";
const showPlan = (now) => {
  const text = JSON.stringify(now.plan);
  if (text !== drawn) {
    drawn = text;
    drawPlan(now.plan);
  }
  const steps = new Map((now.shutdown?.steps ?? []).map((step) => [step.path, step]));
  for (const shape of at("plan").querySelectorAll(".node")) {
    const step = steps.get(shape.dataset.step);
    if (!step || step.state === "waiting") continue;
    const [tone, text] = stateOf(step);
    mark(shape, "data-tone", tone);
    mark(shape, "aria-label", `${step.path}: ${text}`);
    set(shape.querySelector(".limit"), text);
  }
};
