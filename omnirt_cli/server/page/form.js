// The form: a portrait, a recording, a model and its settings; sent as one upload, answered with a job.

import { getDocument, post, readiness } from "./api.js";
import { find, make, notice } from "./elements.js";
import { readKnobs, showKnobs } from "./knobs.js";
import { Recorder } from "./recorder.js";

/** A place that takes one file: dropped, chosen, or put there. */
class FilePlace {
  file = null;
  #address = null;

  constructor(name, empty, show) {
    this.input = find(name);
    this.place = find(`${name}-drop`);
    this.words = find(`${name}-name`);
    this.empty = empty;
    this.show = show;
    this.input.addEventListener("change", () => this.input.files[0] && this.put(this.input.files[0]));
    this.place.addEventListener("drop", (event) => this.#dropped(event));
    for (const kind of ["dragover", "dragleave", "drop"]) {
      this.place.addEventListener(kind, (event) => {
        event.preventDefault();
        this.place.classList.toggle("over", kind === "dragover");
      });
    }
  }

  /** Take a file; the one before is let go. */
  put(file) {
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = URL.createObjectURL(file);
    this.file = file;
    this.words.textContent = `${file.name}, ${(file.size / 1e6).toFixed(2)} MB`;
    this.place.classList.add("filled");
    this.show(this.#address);
  }

  #dropped(event) {
    const file = event.dataTransfer.files[0];
    if (file) this.put(file);
  }
}

/** The whole form. */
export class OrderForm {
  #models = new Map();
  #schema = {};
  #ready = {};

  constructor(onJob) {
    this.form = find("order");
    this.onJob = onJob;
    this.image = new FilePlace("image", "portrait", showIn("image-shown"));
    this.audio = new FilePlace("audio", "recording", showIn("audio-played"));
    new Recorder(find("record"), find("record-words"), (file) => this.audio.put(file));
    find("model").addEventListener("change", () => this.#showModel());
    find("preset").addEventListener("change", () => this.#showPreset());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    // A file that misses its place would replace the page.
    for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
  }

  /** Ask the server what it has; throws what the server refuses. */
  async load() {
    const [models, openapi, ready] = await Promise.all([
      getDocument("/v1/models"),
      getDocument("/openapi.json"),
      readiness(),
    ]);
    this.#schema = openapi.components.schemas;
    this.#ready = ready?.models ?? {};
    this.#models = new Map(models.data.map((model) => [model.id, model]));
    find("model").replaceChildren(...models.data.map((model) => make("option", { value: model.id, textContent: model.id })));
    const usable = models.data.find((model) => model.ready !== false);
    if (usable) find("model").value = usable.id;
    this.#showModel();
  }

  get #model() {
    return this.#models.get(find("model").value);
  }

  #showModel() {
    const model = this.#model;
    const state = this.#ready[model.id];
    const obstacle = state && !state.ok ? ` Cannot be rendered right now: ${state.reason}` : "";
    find("model-words").textContent = model.summary + obstacle;
    const presets = [["", "none"], ...Object.keys(model.presets).map((name) => [name, name])];
    find("preset").replaceChildren(...presets.map(([value, textContent]) => make("option", { value, textContent })));
    find("prompt-field").hidden = ![...model.inputs, ...model.optional_inputs].includes("prompt");
    showKnobs(model, this.#schema, find("quantization"), find("knobs"));
    this.#showPreset();
  }

  #showPreset() {
    find("preset-words").textContent =
      this.#model.presets[find("preset").value] ?? "The server's own settings, and otherwise the model's.";
  }

  async #send() {
    const missing = [this.image, this.audio].find((place) => !place.file);
    if (missing) {
      find("order-problem").replaceChildren(notice({ message: `The ${missing.empty} is missing.` }));
      missing.input.focus();
      return;
    }
    const button = find("render");
    button.disabled = true;
    button.textContent = "Sending …";
    find("order-problem").replaceChildren();
    try {
      this.onJob(await post("/v1/jobs", this.#body()));
    } catch (problem) {
      find("order-problem").replaceChildren(notice(problem));
    } finally {
      button.disabled = false;
      button.textContent = "Render";
    }
  }

  #body() {
    const preset = find("preset").value;
    const prompt = find("prompt-field").hidden ? "" : find("prompt").value.trim();
    const request = {
      model: this.#model.id,
      inputs: prompt ? { prompt } : {},
      config: { ...readKnobs(find("quantization"), find("knobs")), ...(preset && { preset }) },
    };
    const body = new FormData();
    body.append("request", JSON.stringify(request));
    body.append("image", this.image.file, this.image.file.name);
    body.append("audio", this.audio.file, this.audio.file.name);
    return body;
  }
}

function showIn(id) {
  return (address) => {
    find(id).src = address;
    find(id).hidden = false;
  };
}
