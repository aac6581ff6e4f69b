// One job: its progress while it runs, and afterwards the picture of its run with the video in it.

import { events, getDocument, getFile, getText, hasKey, remove } from "./api.js";
import { clock, find, make, notice } from "./elements.js";
import { ProgressView } from "./progress.js";

const FINAL = new Set(["succeeded", "failed", "cancelled"]);

const NOT_FOUND = 404;

const videoName = (job) => `${job.model}-${job.id.slice(0, 8)}.mp4`;

/** What is asked for; null where the server has no such thing. */
async function ifThere(asked) {
  try {
    return await asked;
  } catch (problem) {
    if (problem.status !== NOT_FOUND) throw problem;
    return null;
  }
}

/** The job that is looked at. */
export class JobView {
  #id = null;
  #leaving = new AbortController();
  #files = [];

  constructor(onChange) {
    this.onChange = onChange;
    this.progress = new ProgressView();
    find("cancel").addEventListener("click", () => this.#cancel());
  }

  /** Look at this job, or at none. */
  async show(id) {
    if (id === this.#id) return;
    this.#leave();
    this.#id = id;
    find("job").hidden = id === null;
    find("main").classList.toggle("looking", id !== null);
    if (id === null) return;
    const signal = this.#leaving.signal;
    try {
      await this.#follow(`/v1/jobs/${encodeURIComponent(id)}`, signal);
    } catch (problem) {
      if (!signal.aborted) find("job-problem").replaceChildren(notice(problem));
    }
  }

  /** Stop listening, and let go of what was downloaded. */
  #leave() {
    this.#leaving.abort();
    this.#leaving = new AbortController();
    this.#files.splice(0).forEach((address) => URL.revokeObjectURL(address));
    for (const part of ["progress", "cancel"]) find(part).hidden = true;
    this.#emptyFrame();
    for (const part of ["job-problem", "job-links"]) find(part).replaceChildren();
    document.title = "OmniRT";
    for (const part of ["job-title", "job-state"]) find(part).textContent = "";
  }

  /** A new frame in place of the old one, whose video would play on. */
  #emptyFrame() {
    const old = find("picture");
    const empty = old.cloneNode();
    empty.removeAttribute("srcdoc");
    empty.hidden = true;
    old.replaceWith(empty);
  }

  async #follow(address, signal) {
    let job = await getDocument(address, { signal });
    this.#head(job);
    if (!FINAL.has(job.state)) {
      await this.#watch(job, signal);
      job = await getDocument(address, { signal });
      this.#head(job);
      this.onChange();
    }
    await this.#ended(job, signal);
  }

  #head(job) {
    find("job-title").textContent = `${job.model}, ${clock(job.enqueued_at_ms)}`;
    find("job-state").textContent = job.state;
    find("job-state").className = `badge ${job.state}`;
    const cancel = find("cancel");
    cancel.hidden = FINAL.has(job.state);
    cancel.disabled = job.cancel_requested;
    cancel.textContent = job.cancel_requested ? "Cancelling …" : "Cancel";
    document.title = `OmniRT: ${job.state}`;
  }

  async #watch(job, signal) {
    this.progress.clear(job.state === "queued" ? "Waits for its turn" : "Begins");
    find("progress").hidden = false;
    for await (const event of events(job.links.events, signal)) {
      if (event.name === "run_started" && find("job-state").textContent === "queued") {
        this.#head({ ...job, state: "running" });
      }
      this.progress.happened(event);
    }
    find("progress").hidden = true;
  }

  async #ended(job, signal) {
    // A job that was cancelled while it waited has no report, one that was refused no log.
    const drawn = await ifThere(getText(`${job.links.self}/page`, { signal }));
    const logged = await ifThere(getText(`${job.links.log}?tail=1`, { signal }));
    // The picture tells why a run failed; without one the job does.
    if (job.error && !drawn) find("job-problem").replaceChildren(notice(job.error));
    find("job-links").replaceChildren(...this.#links(job, drawn !== null, logged !== null));
    if (drawn) await this.#picture(job, drawn, signal);
  }

  #links(job, reported, logged) {
    const wanted = [];
    if (job.state === "succeeded") wanted.push(["Download the video", job.links.video, videoName(job)]);
    if (reported) wanted.push(["Report (JSON)", job.links.report, "report.json"]);
    if (logged) wanted.push(["Log", job.links.log, "run.log"]);
    return wanted.map(([textContent, href, download]) => {
      const link = make("a", { textContent, href, download });
      link.addEventListener("click", (event) => this.#download(event, link));
      return link;
    });
  }

  /** A link cannot carry the key: with one, the file is fetched first and saved from here. */
  async #download(event, link) {
    if (!hasKey()) return;
    event.preventDefault();
    try {
      const copy = make("a", { href: await this.#fetched(link.href), download: link.download });
      copy.click();
    } catch (problem) {
      find("job-problem").replaceChildren(notice(problem));
    }
  }

  /** The address of a copy in this tab, which is let go when another job is looked at. */
  async #fetched(address, signal) {
    const made = URL.createObjectURL(await getFile(address, { signal }));
    this.#files.push(made);
    return made;
  }

  /** The picture in its frame, as high as it is; the frame runs no script. */
  async #picture(job, drawn, signal) {
    const frame = find("picture");
    frame.hidden = false;
    await new Promise((resolve) => {
      frame.addEventListener("load", resolve, { once: true });
      frame.srcdoc = drawn;
    });
    if (signal.aborted) return;
    const inside = frame.contentDocument;
    const sized = new ResizeObserver(() => (frame.style.height = `${inside.documentElement.offsetHeight + 4}px`));
    sized.observe(inside.documentElement);
    signal.addEventListener("abort", () => sized.disconnect());
    const video = inside.querySelector("video");
    if (video && hasKey()) video.src = await this.#fetched(job.links.video, signal);
  }

  async #cancel() {
    const button = find("cancel");
    button.disabled = true;
    button.textContent = "Cancelling …";
    try {
      await remove(`/v1/jobs/${this.#id}`);
      this.onChange();
    } catch (problem) {
      button.disabled = false;
      button.textContent = "Cancel";
      find("job-problem").replaceChildren(notice(problem));
    }
  }
}
