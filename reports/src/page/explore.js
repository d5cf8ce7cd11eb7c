// The page without this file says everything; with it tables are sorted by a click, links open their ledgers, and the
// picture's axes can be chosen. Fronts are in the data: nothing here decides which point is on one.
"use strict";

// A link to a ledger opens it.
function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") {
    target.open = true;
    target.scrollIntoView();
  }
}
addEventListener("hashchange", openTarget);
openTarget();

// Numbers before text, by the first number of a cell; cells without one last.
function cellKey(row, column) {
  const text = row.children[column].textContent.trim();
  const number = Number.parseFloat(text);
  return { text, number: Number.isNaN(number) ? null : number };
}

function sortTable(table, column, descending) {
  const body = table.tBodies[0];
  const sign = descending ? -1 : 1;
  const rows = [...body.rows].map((row) => ({ row, key: cellKey(row, column) }));
  const numbers = rows.some(({ key }) => key.number !== null) && table.tHead.rows[0].cells[column].classList.contains("number");
  rows.sort((a, b) => {
    if (!numbers) return sign * a.key.text.localeCompare(b.key.text, "en", { numeric: true });
    if (a.key.number === null || b.key.number === null) return (a.key.number === null) - (b.key.number === null);
    return sign * (a.key.number - b.key.number);
  });
  body.append(...rows.map(({ row }) => row));
}

for (const table of document.querySelectorAll("main table")) {
  if (table.tBodies[0].rows.length < 3) continue;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.classList.add("sortable");
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortTable(table, column, descending);
    });
  });
}

function explore(data) {
  const get = (id) => document.getElementById(id);
  const host = get("chart");
  const controls = { source: data.sources, axis: data.axes, grouping: data.groupings };
  for (const [id, choices] of Object.entries(controls)) {
    for (const choice of choices) get(id).append(new Option(choice.title, choice.key));
  }
  const short = (value) => Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 });
  const range = (value, unit) => value.low === undefined
    ? `${short(value.v)}${unit}` : `${short(value.v)}${unit} (${short(value.low)} – ${short(value.high)})`;

  function draw() {
    const source = data.sources.find((s) => s.key === get("source").value);
    const axis = data.axes.find((a) => a.key === get("axis").value);
    const grouping = get("grouping").value;
    const unit = axis.unit ? ` ${axis.unit}` : "";
    const shown = (p) => p.x[axis.key] && p.y[source.key] && (get("published").checked || !p.published);
    const place = (p) => {
      const x = p.x[axis.key], y = p.y[source.key];
      const from = y.from ? `\naccuracy ${y.from}` : "";
      return {
        point: p, group: p.groups[grouping], x: x.v, y: y.v, x1: x.low, x2: x.high, y1: y.low, y2: y.high,
        text: `${p.label}\n${axis.title}: ${range(x, unit)}\n${source.title}: ${range(y, " %")}${from}\n${p.note}`,
        href: p.case === null ? undefined : `#case-${p.case}`,
      };
    };
    const there = (p) => p.published && p.x[axis.key] && p.y[source.key];
    get("published").parentElement.hidden = !data.points.some(there);
    const points = data.points.filter(shown).map(place);
    const fronts = Object.entries(data.fronts[`${source.key}|${axis.key}|${grouping}`]).flatMap(([name, members]) =>
      members.map((i) => data.points[i]).filter(shown).map((p) => ({ ...place(p), name })));
    const groups = [...new Set(points.map((p) => p.group))];
    const style = (i) => data.styles[i % data.styles.length];
    const log = points.every((p) => p.x > 0);

    // Best under a budget: the last step of the front of all that was measured here.
    const all = data.fronts[`${source.key}|${axis.key}|all`].all ?? [];
    const steps = all.map((i) => place(data.points[i]));
    const measured = points.filter((p) => !p.point.published).map((p) => p.x);
    const [least, most] = [Math.min(...measured), Math.max(...measured)];
    const share = get("budget").value / 1000;
    const budget = log ? least * (most / least) ** share : least + share * (most - least);
    // The slider ends at the slowest point, whatever is lost in rounding.
    const best = steps.filter((p) => p.x <= budget * (1 + 1e-9)).at(-1);
    get("best").replaceChildren(`Under ${short(budget)}${unit}: `);
    if (best) {
      const link = document.createElement("a");
      link.href = best.href;
      link.textContent = best.point.label;
      get("best").append(link, ` with ${range(best.point.y[source.key], " %")} at ${range(best.point.x[axis.key], unit)}.`);
    } else {
      get("best").append("nothing that was measured.");
    }

    const step = { x: "x", y: "y", z: "name", stroke: "group", curve: "step-after", strokeOpacity: 0.7 };
    const chart = Plot.plot({
      width: Math.max(560, host.clientWidth), height: 520, marginLeft: 56, marginRight: 40, marginBottom: 44, grid: true,
      style: { fontSize: "13px" },
      ariaLabel: `${source.title} against ${axis.title}`,
      x: { type: log ? "log" : "linear", label: `${axis.title}${axis.unit ? ` (${axis.unit})` : ""}`, tickFormat: "~s" },
      y: { label: `${source.title} (%)`, inset: 12 },
      color: { domain: groups, range: groups.map((_, i) => style(i).color) },
      symbol: { domain: groups, range: groups.map((_, i) => style(i).symbol), legend: true, fill: "color", stroke: "none" },
      marks: [
        Plot.ruleX([budget], { stroke: "currentColor", strokeDasharray: "2 4", strokeOpacity: 0.6 }),
        Plot.line(fronts.filter((p) => !p.point.published), { ...step, strokeWidth: 2 }),
        Plot.line(fronts.filter((p) => p.point.published), { ...step, strokeDasharray: "5 4" }),
        Plot.link(points.filter((p) => p.x1 !== undefined), { x1: "x1", x2: "x2", y1: "y", y2: "y", stroke: "group" }),
        Plot.link(points.filter((p) => p.y1 !== undefined), { x1: "x", x2: "x", y1: "y1", y2: "y2", stroke: "group" }),
        Plot.dot(points.filter((p) => p.point.published), { x: "x", y: "y", symbol: "group", stroke: "group", fill: "var(--paper)", r: 5, ariaLabel: "text" }),
        Plot.dot(points.filter((p) => !p.point.published), { x: "x", y: "y", symbol: "group", stroke: "var(--paper)", fill: "group", r: 6, href: "href", ariaLabel: "text" }),
        Plot.tip(points, Plot.pointer({ x: "x", y: "y", title: "text", fill: "var(--paper)" })),
      ],
    });
    // Groups of marks have names; a name needs a role.
    for (const group of chart.querySelectorAll("g[aria-label]")) group.setAttribute("role", "group");
    host.replaceChildren(chart);
  }

  for (const id of ["source", "axis", "grouping", "published", "budget"]) get(id).addEventListener("input", draw);
  get("explore").hidden = false;
  draw();
  let width = host.clientWidth;
  addEventListener("resize", () => {
    if (host.clientWidth !== width) {
      width = host.clientWidth;
      draw();
    }
  });
}

const embedded = document.getElementById("data");
if (embedded) explore(JSON.parse(embedded.textContent));
