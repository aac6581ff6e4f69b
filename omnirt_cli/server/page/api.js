// Speaks to the server: documents, files, a job's events, and errors in the server's own words.
//
// The API key lives in this tab, in memory and in sessionStorage. It goes out as a header only, so it is in no address
// and in no log; that is why events are read from a streamed answer, for EventSource cannot set headers.

const KEPT = "omnirt-api-key";
const RECONNECT_MS = 1000;

/** The status of an answer to a request without the right key. */
export const UNAUTHORISED = 401;

let key = sessionStorage.getItem(KEPT) ?? "";

/** Whether requests carry a key. */
export const hasKey = () => key !== "";

/** Use this key from now on; an empty one forgets it. */
export function useKey(text) {
  key = text;
  if (text) sessionStorage.setItem(KEPT, text);
  else sessionStorage.removeItem(KEPT);
}

/** An answer of 400 or more, or none at all (status 0). */
export class ServerError extends Error {
  constructor(message, hint, status) {
    super(message);
    this.hint = hint;
    this.status = status;
  }
}

/** Ask the server; the answer, if it is a good one. */
async function ask(address, options = {}) {
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let answer;
  try {
    answer = await fetch(address, { ...options, headers, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server does not answer.", "see whether it still runs", 0);
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  const body = await answer.json().catch(() => null);
  const said = body?.error;
  return new ServerError(said?.message ?? `The server answered ${answer.status}.`, said?.hint ?? null, answer.status);
}

export const getDocument = async (address, options) => (await ask(address, options)).json();
export const getText = async (address, options) => (await ask(address, options)).text();
export const getFile = async (address, options) => (await ask(address, options)).blob();
export const post = async (address, body) => (await ask(address, { method: "POST", body })).json();
export const remove = async (address) => (await ask(address, { method: "DELETE" })).json();

/** The server's readiness, which it also tells when it is not ready. */
export async function readiness() {
  try {
    return await (await fetch("/readyz", { cache: "no-store", credentials: "omit" })).json();
  } catch {
    return null;
  }
}

/**
 * A job's events, one after the other, to the one that ends it. Cut off, it goes on after the last one it saw.
 *
 * @yields {{name: string, data: object}}
 */
export async function* events(address, signal) {
  let last = "0";
  for (;;) {
    try {
      const answer = await ask(address, { signal, headers: { "Last-Event-ID": last } });
      for await (const event of parsed(answer.body)) {
        last = event.id;
        yield event;
        if (ending(event)) return;
      }
    } catch (error) {
      // What the server refuses it refuses again; a lost connection comes back.
      if (signal.aborted || error.status >= 400) throw error;
    }
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
  }
}

const ending = (event) => ["job_succeeded", "job_failed", "job_cancelled"].includes(event.name);

/** Server-sent events out of a stream of bytes: blocks of `name: value` lines with an empty line after each. */
async function* parsed(body) {
  let text = "";
  for await (const part of chunksOf(body.pipeThrough(new TextDecoderStream()))) {
    text += part.replaceAll("\r", "");
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map(pair));
      if (fields.data) yield { id: fields.id, name: fields.event, data: JSON.parse(fields.data) };
    }
  }
}

function pair(line) {
  const colon = line.indexOf(":");
  return [line.slice(0, colon), line.slice(colon + 1).trimStart()];
}

/** Not every browser can loop over a stream. */
async function* chunksOf(stream) {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
