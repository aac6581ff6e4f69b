// The page: a form, the jobs, and the one job that is looked at, which the address after # names.

import { UNAUTHORISED, hasKey, readiness, useKey } from "./api.js";
import { count, find } from "./elements.js";
import { OrderForm } from "./form.js";
import { JobView } from "./job.js";
import { QueueView } from "./queue.js";

const JOB = /^#job\/([0-9a-f]{32})$/;

const queue = new QueueView(serverProblem);
const view = new JobView(() => queue.refresh());
const form = new OrderForm((job) => {
  location.hash = `#job/${job.id}`;
  queue.refresh();
});

/** Load everything; where the server wants a key, ask for one. */
async function begin() {
  try {
    await form.load();
  } catch (problem) {
    serverProblem(problem);
    return;
  }
  find("key-form").hidden = true;
  find("work").hidden = false;
  // Its pages are for servers without a key.
  find("api").hidden = hasKey();
  await queue.refresh();
  lookAtNamedJob();
}

function lookAtNamedJob() {
  const id = JOB.exec(location.hash)?.[1] ?? null;
  queue.mark(id);
  view.show(id);
  if (id) find("job").focus();
}

function changeJob() {
  lookAtNamedJob();
  if (!location.hash) find("order").focus();
}

/** Say how the server is: what it refuses, or else whether it is ready. */
async function serverProblem(problem) {
  if (problem?.status === UNAUTHORISED) {
    askForKey(problem);
    return;
  }
  const ready = problem ? null : await readiness();
  const line = find("server");
  line.textContent = problem?.message ?? readyWords(ready);
  line.classList.toggle("bad", Boolean(problem) || !ready?.ok);
}

function readyWords(ready) {
  if (!ready) return "The server does not answer.";
  if (!ready.ok) return `Not ready: ${ready.reason}`;
  return `Ready · ${count(ready.running, "job")} running, ${ready.waiting} waiting`;
}

function askForKey(problem) {
  find("key-words").textContent = hasKey()
    ? "The server does not take that key. Try another."
    : "This server wants a key. It stays in this tab and is forgotten with it.";
  find("server").textContent = problem.message;
  find("key-form").hidden = false;
  find("work").hidden = true;
  view.show(null);
  find("key").focus();
}

find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(find("key").value.trim());
  find("key").value = "";
  begin();
});
window.addEventListener("hashchange", changeJob);
begin();
