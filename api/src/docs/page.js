// Draws the OpenAPI document at /openapi.json. Text goes into the page as text only, never as markup.
"use strict";

const METHODS = ["get", "put", "post", "delete", "patch"];

function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// `code` in backticks, everything else as it is.
function prose(text) {
  return (text || "").split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

function paragraphs(text) {
  return (text || "").split("\n\n").filter(Boolean).map((part) => el("p", {}, ...prose(part)));
}

function resolve(spec, node) {
  if (!node || !node.$ref) return node;
  return node.$ref.replace("#/", "").split("/").reduce((at, key) => at[key.replaceAll("~1", "/").replaceAll("~0", "~")], spec);
}

// A type in a few words; a named schema as a link to it.
function type(schema) {
  if (!schema || Object.keys(schema).length === 0) return ["any"];
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return [el("a", { href: `#schema-${name}` }, name)];
  }
  const options = schema.oneOf || schema.anyOf || schema.allOf;
  if (options) return options.flatMap((option, index) => (index ? [" | ", ...type(option)] : type(option)));
  const types = [schema.type || "any"].flat();
  const parts = types.flatMap((name, index) => {
    const separator = index ? [" | "] : [];
    if (name === "array") return [...separator, "array of ", ...type(schema.items)];
    if (name === "object" && schema.additionalProperties) return [...separator, "object of ", ...type(schema.additionalProperties)];
    return [...separator, name];
  });
  if (schema.format) parts.push(` (${schema.format})`);
  if (schema.enum) parts.push(": ", ...schema.enum.flatMap((word, index) => [index ? ", " : "", el("code", {}, String(word))]));
  const bounds = [
    ["minimum", "≥ "], ["maximum", "≤ "], ["minItems", "at least "], ["maxItems", "at most "],
  ].filter(([key]) => schema[key] !== undefined).map(([key, words]) => words + schema[key]);
  if (bounds.length) parts.push(` ${bounds.join(", ")}`);
  return parts;
}

function row(name, required, schema, description) {
  return el("tr", {},
    el("td", {}, el("code", {}, name), required ? el("span", { class: "required" }, " required") : null),
    el("td", {}, ...type(schema)),
    el("td", {}, ...prose(description || (schema && schema.description))));
}

function table(heads, rows) {
  return el("div", { class: "wide" }, el("table", {},
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", {}, head)))), el("tbody", {}, ...rows)));
}

function contents(content) {
  return Object.entries(content || {}).flatMap(([media, { schema }], index) => [
    index ? el("br") : null, el("code", {}, media), " ", ...type(schema)]);
}

function example(spec, method, path, operation) {
  const media = Object.keys((operation.requestBody || {}).content || {})[0];
  const lines = [`curl -H "Authorization: Bearer $ROADSTEAD_API_KEY"`];
  if (method !== "get") lines[0] += ` -X ${method.toUpperCase()}`;
  if (media) lines.push(`  -H "Content-Type: ${media}" -d @body.json`);
  lines.push(`  "${location.origin}${path}"`);
  return el("pre", {}, lines.join(" \\\n"));
}

function operationView(spec, method, path, operation) {
  const parameters = (operation.parameters || []).map((parameter) => resolve(spec, parameter));
  const view = el("article", { id: operation.operationId },
    el("header", {}, el("span", { class: `method ${method}` }, method.toUpperCase()),
      el("h3", {}, el("a", { href: `#${operation.operationId}` }, el("code", {}, path))),
      el("span", { class: "dim" }, operation.summary || "")),
    ...paragraphs(operation.description));
  if (parameters.length) {
    view.append(el("h4", {}, "Parameters"), table(["Name", "Type", ""], parameters.map((parameter) =>
      row(`${parameter.name}`, parameter.required, parameter.schema, `${parameter.description || ""} (${parameter.in})`.trim()))));
  }
  if (operation.requestBody) {
    view.append(el("h4", {}, "Body"), el("p", {}, ...prose(operation.requestBody.description), " ", ...contents(operation.requestBody.content)));
  }
  const responses = Object.entries(operation.responses).map(([status, response]) => {
    const resolved = resolve(spec, response);
    return el("tr", {}, el("td", {}, el("code", {}, status)),
      el("td", {}, ...prose(response.description || resolved.description)), el("td", {}, ...contents(resolved.content)));
  });
  view.append(el("h4", {}, "Answers"), table(["Status", "", "Content"], responses), example(spec, method, path, operation));
  return view;
}

function schemaView(name, schema) {
  const view = el("article", { id: `schema-${name}` },
    el("header", {}, el("h3", {}, el("a", { href: `#schema-${name}` }, el("code", {}, name)))), ...paragraphs(schema.description));
  const properties = Object.entries(schema.properties || {});
  if (properties.length) {
    const required = schema.required || [];
    view.append(table(["Member", "Type", ""], properties.map(([key, value]) => row(key, required.includes(key), value))));
  } else {
    view.append(el("p", {}, ...type(schema)));
  }
  return view;
}

function draw(spec) {
  const main = document.getElementById("top");
  const toc = document.getElementById("toc");
  main.replaceChildren(
    el("h1", {}, spec.info.title, " ", el("small", { class: "dim" }, spec.info.version)), ...paragraphs(spec.info.description),
    el("p", {}, "The document itself: ", el("a", { href: "/openapi.json" }, "/openapi.json")));
  const operations = Object.entries(spec.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, operation: item[method] })));
  for (const tag of spec.tags) {
    main.append(el("h2", {}, tag.name), el("p", { class: "dim" }, tag.description || ""));
    const list = el("ul");
    for (const { path, method, operation } of operations.filter(({ operation }) => (operation.tags || []).includes(tag.name))) {
      main.append(operationView(spec, method, path, operation));
      list.append(el("li", {}, el("a", { href: `#${operation.operationId}`, title: path },
        el("span", { class: `method ${method}` }, method.toUpperCase()), operation.summary || path)));
    }
    toc.append(el("section", {}, el("h2", {}, tag.name), list));
  }
  main.append(el("h2", {}, "Schemas"));
  const list = el("ul");
  for (const [name, schema] of Object.entries(spec.components.schemas)) {
    main.append(schemaView(name, schema));
    list.append(el("li", {}, el("a", { href: `#schema-${name}` }, name)));
  }
  toc.append(el("section", {}, el("h2", {}, "Schemas"), list));
  document.getElementById("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const item of toc.querySelectorAll("li")) {
      const link = item.firstChild;
      item.hidden = !`${link.textContent} ${link.title}`.toLowerCase().includes(wanted);
    }
  });
  // The target was not there yet when the browser looked for it.
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

fetch("/openapi.json")
  .then((response) => (response.ok ? response.json() : Promise.reject(new Error(`it answered ${response.status}`))))
  .then(draw)
  .catch((error) => { document.getElementById("status").textContent = `Can't read /openapi.json: ${error.message}`; });
