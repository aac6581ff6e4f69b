// How far a render is, drawn from its events: the stage, the chunks, what there is to know on the way.

import { count, find, make, span } from "./elements.js";

const STAGE_WORDS = {
  wait: "waiting for devices",
  prepare: "preparing",
  earlier: "a step before",
  launch: "starting the processes",
  load: "loading the model",
  generate: "generating",
  save: "saving the video",
  verify: "checking the video",
};

/** The progress of one job. */
export class ProgressView {
  #total = null;

  constructor() {
    this.words = find("progress-words");
    this.bar = find("progress-bar");
    this.figures = find("progress-figures");
    this.stages = find("stages");
    this.warnings = find("warnings");
  }

  /** As it is before anything is known. */
  clear(words) {
    this.#total = null;
    this.words.textContent = words;
    this.figures.textContent = "";
    this.bar.removeAttribute("value");
    this.stages.replaceChildren();
    this.warnings.replaceChildren();
  }

  /** Draw one event of the run. */
  happened({ name, data }) {
    if (name === "run_started") this.#started(data);
    if (name === "stage_started") this.#stage(data);
    if (name === "stage_finished") this.#stageDone(data);
    if (name === "chunk_finished") this.#chunk(data);
    if (name === "warning") this.#warning(data.message);
  }

  /** A job that is started again begins anew. */
  #started(data) {
    this.clear("Begins");
    this.#total = data.chunks;
    if (data.chunks) this.figures.textContent = `${count(data.chunks, "chunk")} to come`;
  }

  #stage({ stage, detail }) {
    const words = STAGE_WORDS[stage] ?? stage;
    this.words.textContent = words[0].toUpperCase() + words.slice(1) + (detail ? `: ${detail}` : "");
    const entry = make("li", { textContent: words });
    entry.dataset.stage = stage;
    entry.setAttribute("aria-current", "step");
    this.stages.append(entry);
  }

  #stageDone({ stage, duration_ms: duration }) {
    const entry = this.stages.querySelector(`[data-stage="${CSS.escape(stage)}"][aria-current]`);
    if (!entry) return;
    entry.removeAttribute("aria-current");
    entry.className = "done";
    entry.textContent = `${STAGE_WORDS[stage] ?? stage} ${span(duration)}`;
  }

  #chunk({ index, total, interval_ms: interval, rtf, eta_s: eta }) {
    const all = total ?? this.#total;
    const facts = [all ? `chunk ${index + 1} of ${all}` : `chunk ${index + 1}`];
    if (interval !== null) facts.push(`the last took ${span(interval)}`);
    if (rtf !== null) facts.push(`${rtf.toFixed(2)} times the video's duration`);
    if (eta) facts.push(`about ${span(eta * 1000)} left`);
    this.figures.textContent = facts.join(" · ");
    if (!all) return;
    this.bar.max = all;
    this.bar.value = index + 1;
  }

  #warning(message) {
    this.warnings.append(make("li", { textContent: message }));
  }
}
