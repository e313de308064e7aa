"use strict";

// Data from the server is set as text, never as markup.
const at = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

const set = (node, text) => {
  // An unchanged text is not set again, so that a selection in it lasts.
  if (node.textContent !== text) node.textContent = text;
};
const mark = (node, name, value) => {
  if (value === undefined || value === null || value === "") node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
};
const draw = (tag, attributes, ...children) => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) mark(node, name, value);
  node.append(...children);
  return node;
};
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

const time = (ms) => {
  if (ms === null || ms === undefined) return "";
  if (ms < 1) return "< 1 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60e3) return `${(ms / 1000).toFixed(ms < 10e3 ? 1 : 0)} s`;
  const [days, hours] = [Math.floor(ms / 864e5), Math.floor(ms / 36e5) % 24];
  const [minutes, seconds] = [Math.floor(ms / 6e4) % 60, Math.floor(ms / 1000) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  return hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min ${seconds} s`;
};
const count = (number) => number.toLocaleString("en");
const bytes = (number) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const rank = number > 0 ? Math.min(Math.floor(Math.log2(number) / 10), units.length - 1) : 0;
  return `${(number / 2 ** (10 * rank)).toFixed(rank > 1 ? 1 : 0)} ${units[rank]}`;
};
const words = (name) => name.replaceAll("_", " ");

// Fills a table. A cell is `[text, class, tone]`; `text` may be a function that draws into the cell.
const fill = (table, rows) => {
  const body = table.tBodies[0];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, index) => {
    const row = body.rows[index] ?? body.insertRow();
    while (row.cells.length < cells.length) row.insertCell();
    cells.forEach((cell, place) => {
      const [text, className = "", tone] = cell;
      const node = row.cells[place];
      if (node.className !== className) node.className = className;
      mark(node, "data-tone", tone);
      if (typeof text === "function") text(node);
      else set(node, text);
    });
  });
};
