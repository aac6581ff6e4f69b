// The jobs, newest first, looked at every few seconds while somebody looks at the page.

import { UNAUTHORISED, getDocument } from "./api.js";
import { clock, find, make, span } from "./elements.js";

const BUSY_MS = 2000;
const QUIET_MS = 10000;
const A_PAGE = 20;
const MOST = 200;

/** The list of jobs. */
export class QueueView {
  #shown = A_PAGE;
  #timer = 0;
  #current = null;

  constructor(onProblem) {
    this.list = find("queue");
    this.onProblem = onProblem;
    find("queue-more").addEventListener("click", () => {
      this.#shown = Math.min(this.#shown + A_PAGE, MOST);
      this.refresh();
    });
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
  }

  /** Mark the job that is looked at. */
  mark(id) {
    this.#current = id;
    for (const link of this.list.querySelectorAll("a")) this.#markLink(link);
  }

  /** Ask now, and again after a while. */
  async refresh() {
    clearTimeout(this.#timer);
    let wait = QUIET_MS;
    try {
      const jobs = await getDocument(`/v1/jobs?limit=${this.#shown}`);
      this.#draw(jobs);
      if (jobs.data.some((job) => job.state === "queued" || job.state === "running")) wait = BUSY_MS;
      this.onProblem(null);
    } catch (problem) {
      this.onProblem(problem);
      if (problem.status === UNAUTHORISED) return;
    }
    clearTimeout(this.#timer);
    if (!document.hidden) this.#timer = setTimeout(() => this.refresh(), wait);
  }

  /** Rows are kept while their jobs are, so that the keyboard's place in the list is not lost. */
  #draw(jobs) {
    const known = new Map([...this.list.children].map((row) => [row.dataset.id, row]));
    const rows = jobs.data.map((job) => this.#filled(known.get(job.id) ?? this.#row(job.id), job));
    if (rows.some((row, place) => row !== this.list.children[place]) || rows.length !== this.list.children.length) {
      const focused = document.activeElement;
      this.list.replaceChildren(...rows);
      if (this.list.contains(focused)) focused.focus();
    }
    find("queue-empty").hidden = rows.length > 0;
    find("queue-more").hidden = jobs.next === null || this.#shown >= MOST;
  }

  #row(id) {
    const link = make("a", { href: `#job/${id}` });
    const row = make("li", {}, link);
    row.dataset.id = id;
    return row;
  }

  #filled(row, job) {
    const [link] = row.children;
    const parts = [
      make("span", { className: "line" },
        make("span", { className: "name", textContent: job.model }),
        make("span", { className: `badge ${job.state}`, textContent: job.state })),
      make("span", { className: "note", textContent: words(job) }),
    ];
    const { chunks, chunks_done: value } = job.progress ?? {};
    if (chunks) parts.push(make("progress", { max: chunks, value, ariaLabel: "Chunks that are done" }));
    link.replaceChildren(...parts);
    this.#markLink(link);
    return row;
  }

  #markLink(link) {
    if (link.hash === `#job/${this.#current}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

/** What is to be said of a job in one line. */
function words(job) {
  const asked = clock(job.enqueued_at_ms);
  if (job.state === "queued") return `${asked} · ${job.position ? `${job.position} before it` : "the next one"}`;
  if (job.cancel_requested && job.state === "running") return `${asked} · being cancelled`;
  if (job.progress?.chunks) return `${asked} · chunk ${job.progress.chunks_done} of ${job.progress.chunks}`;
  if (job.state === "running") return `${asked} · ${job.progress?.stage ?? "begins"}`;
  if (job.error) return `${asked} · ${job.error.message.split("\n")[0]}`;
  return job.started_at_ms ? `${asked} · took ${span(job.finished_at_ms - job.started_at_ms)}` : asked;
}
