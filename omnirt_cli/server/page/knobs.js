// The fields for a model's knobs: which there are the server's /v1/models says, which values each takes its schema.

import { make } from "./elements.js";

/** Knobs that say how weights and caches are quantized; they stand where a person looks for them. */
const QUANTIZATION = new Set(["quantize", "t5_quant", "wan_quant", "fp8_gemm", "fp4_gemm", "fp8_kv_cache"]);

const UNSET = "default";

/** Fill both places with fields for the knobs of a model, and hide the one that has none. */
export function showKnobs(model, schema, quantization, others) {
  const places = [quantization, others];
  for (const place of places) place.querySelectorAll(".field").forEach((field) => field.remove());
  for (const [name, words] of Object.entries(model.knobs)) {
    const control = controlFor(name, schema);
    if (control) (QUANTIZATION.has(name) ? quantization : others).append(fieldFor(name, words, control));
  }
  quantization.hidden = !quantization.querySelector(".field");
}

/** The knobs that were set, as the server's `config`. */
export function readKnobs(...places) {
  const config = {};
  for (const control of places.flatMap((place) => [...place.querySelectorAll("[data-knob]")])) {
    if (control.value !== "") config[control.dataset.knob] = typed(control);
  }
  return config;
}

function typed(control) {
  if (control.dataset.type === "boolean") return control.value === "true";
  // What is no number is sent as it is; the server says what is wrong with it.
  if (control.dataset.type === "number" && Number.isFinite(Number(control.value))) return Number(control.value);
  return control.value;
}

/** Text in which `such marks` stand for code. */
function withCode(text) {
  return text.split("`").map((part, place) => (place % 2 ? make("code", { textContent: part }) : part));
}

function fieldFor(name, words, control) {
  const id = `knob-${name}`;
  const hint = make("p", { className: "note", id: `${id}-words` }, ...withCode(words));
  control.id = id;
  control.setAttribute("aria-describedby", hint.id);
  control.dataset.knob = name;
  const label = make("label", { textContent: name.replaceAll("_", " ") });
  label.htmlFor = id;
  return make("div", { className: "field" }, label, control, hint);
}

/** A control for what the schema says a knob takes; none where that is more than one value. */
function controlFor(name, schema) {
  const facts = valuesOf(schema.GenerationConfig?.properties?.[name], schema);
  if (facts?.enum) return choice("string", facts.enum.map((value) => [value, value]));
  if (facts?.type === "boolean") return choice("boolean", [["true", "on"], ["false", "off"]]);
  if (facts?.type === "integer" || facts?.type === "number") return input("number", "decimal");
  if (facts?.type === "string") return input("string", "text");
  return null;
}

function valuesOf(property, schema) {
  const given = property?.anyOf?.find((option) => option.type !== "null") ?? property;
  return given?.$ref ? schema[given.$ref.split("/").pop()] : given;
}

function choice(type, options) {
  const entries = [["", UNSET], ...options].map(([value, textContent]) => make("option", { value, textContent }));
  return withType(type, make("select", {}, ...entries));
}

function input(type, inputMode) {
  return withType(type, make("input", { type: "text", placeholder: UNSET, inputMode, spellcheck: false }));
}

function withType(type, control) {
  control.dataset.type = type;
  return control;
}
