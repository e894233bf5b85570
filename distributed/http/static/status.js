// The live part of the status pages: fetches one JSON document a second and draws it. Texts go in as text, never as HTML.
"use strict";

const STATES = ["memory", "processing", "executing", "ready", "queued", "waiting", "no-worker", "released", "erred", "error"];
const root = document.documentElement.dataset.root || "";

function byId(id) { return document.getElementById(id); }

function setText(id, text) { const node = byId(id); if (node) { node.textContent = text; } }

function bytes(n) {
  const units = ["B", "kiB", "MiB", "GiB", "TiB", "PiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i += 1; }
  return (i ? n.toFixed(1) : Math.round(n)) + " " + units[i];
}

function seconds(s) {
  if (s < 120) { return s.toFixed(1) + " s"; }
  return s < 7200 ? (s / 60).toFixed(0) + " min" : (s / 3600).toFixed(1) + " h";
}

// parts: [class name, weight, tooltip]
function drawBar(node, parts) {
  if (!node) { return; }
  const total = parts.reduce((sum, part) => sum + part[1], 0) || 1;
  const children = parts.filter((part) => part[1] > 0).map(([kind, weight, title]) => {
    const child = document.createElement("i");
    child.className = kind;
    child.style.width = (100 * weight / total) + "%";
    child.title = title;
    return child;
  });
  node.replaceChildren(...children);
}

function stateParts(states) {
  return STATES.filter((name) => states[name]).map((name) => [name, states[name], name + ": " + states[name]]);
}

function stateText(states) {
  return STATES.filter((name) => states[name]).map((name) => name + " " + states[name]).join(", ") || "none";
}

function drawTable(id, rows) {
  const table = byId(id);
  if (!table) { return; }
  const body = rows.map((cells) => {
    const row = document.createElement("tr");
    for (const cell of cells) {
      const data = document.createElement("td");
      if (cell instanceof Node) { data.append(cell); } else { data.textContent = String(cell); }
      row.append(data);
    }
    return row;
  });
  table.tBodies[0].replaceChildren(...body);
}

function progress(states) {
  const bar = document.createElement("div");
  bar.className = "bar small";
  drawBar(bar, stateParts(states));
  return bar;
}

function onDisk(spilled) {
  return bytes(spilled.results) + (spilled.shuffles ? " + " + bytes(spilled.shuffles) + " of shuffles" : "");
}

function drawScheduler(view) {
  const counts = view.counts;
  setText("summary", view.status + ", up " + seconds(view.uptime_s) + ": " + counts.workers + " workers, " + counts.cores +
    " threads, " + counts.clients + " clients, " + counts.tasks + " tasks");
  const spare = Math.max(0, view.memory_limit - view.memory);
  drawBar(byId("memory"), [["memory", view.memory, "in use"], ["spare", spare, "free"]]);
  setText("memory-text", bytes(view.memory) + (view.memory_limit ? " of " + bytes(view.memory_limit) : "") +
    ", results " + bytes(view.managed));
  drawTable("groups", view.groups.map((g) => [g.name, progress(g.states), g.total, bytes(g.nbytes)]));
  drawTable("workers", view.workers.map((w) => [w.name, w.address, w.status, w.nthreads, w.processing, w.in_memory,
    bytes(w.memory) + (w.memory_limit ? " / " + bytes(w.memory_limit) : ""), onDisk(w.spilled),
    w.cpu.toFixed(0) + " %", seconds(w.last_seen_s)]));
}

function drawWorker(view) {
  setText("summary", view.status + ": " + view.nthreads + " threads, " + view.in_memory + " values in memory, scheduler " +
    view.scheduler);
  const rows = Object.entries(view.metrics).filter(([, value]) => typeof value !== "object");
  drawTable("metrics", rows.map(([name, value]) => [name, value]));
}

async function refresh() {
  let pause = 1000;
  try {
    const answer = await fetch(root + "json/status.json", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (answer.status === 401) { location.reload(); return; } // signed in no more: the page itself says what to do
    if (!answer.ok) { throw new Error(String(answer.status)); }
    const view = await answer.json();
    document.body.classList.remove("stale");
    setText("address", view.address);
    drawBar(byId("tasks"), stateParts(view.tasks));
    setText("tasks-text", stateText(view.tasks));
    (view.kind === "scheduler" ? drawScheduler : drawWorker)(view);
  } catch (error) {
    document.body.classList.add("stale");
    setText("summary", "No answer; it may have ended. Trying again.");
    pause = 3000;
  }
  setTimeout(refresh, pause);
}

refresh();
