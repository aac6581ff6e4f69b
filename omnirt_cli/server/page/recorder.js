// Records speech with the browser's MediaRecorder, and hands it over as a file.

/** The endings by which the server's tools know what browsers record. */
const ENDINGS = { "audio/webm": ".webm", "audio/ogg": ".ogg", "audio/mp4": ".m4a" };

/** Why this browser cannot record here; null where it can. */
export function whyNot() {
  if (!window.isSecureContext) return "Browsers record only over HTTPS or on localhost.";
  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) return "This browser cannot record.";
  return null;
}

/** One button that starts and stops, with words beside it. */
export class Recorder {
  #recorder = null;
  #since = 0;
  #clock = 0;

  constructor(button, words, onFile) {
    this.button = button;
    this.words = words;
    this.onFile = onFile;
    const reason = whyNot();
    button.hidden = reason !== null;
    words.textContent = reason ?? "";
    button.addEventListener("click", () => (this.#recorder ? this.#recorder.stop() : this.#start()));
  }

  async #start() {
    this.button.disabled = true;
    try {
      this.#record(await navigator.mediaDevices.getUserMedia({ audio: true }));
    } catch (error) {
      this.words.textContent = `The microphone cannot be used: ${error.message}`;
    } finally {
      this.button.disabled = false;
    }
  }

  #record(stream) {
    const parts = [];
    this.#recorder = new MediaRecorder(stream);
    this.#recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
    this.#recorder.addEventListener("stop", () => this.#stopped(stream, parts), { once: true });
    this.#recorder.start();
    this.#since = performance.now();
    this.button.textContent = "Stop recording";
    this.button.classList.add("on");
    this.words.textContent = "Recording …";
    this.#clock = setInterval(() => this.#tick(), 500);
  }

  #tick() {
    const seconds = Math.floor((performance.now() - this.#since) / 1000);
    this.button.textContent = `Stop recording (${seconds} s)`;
  }

  #stopped(stream, parts) {
    clearInterval(this.#clock);
    const type = this.#recorder.mimeType.split(";")[0];
    this.#recorder = null;
    for (const track of stream.getTracks()) track.stop();
    this.button.textContent = "Record again";
    this.button.classList.remove("on");
    this.words.textContent = "";
    this.onFile(new File(parts, `recording${ENDINGS[type] ?? ""}`, { type }));
  }
}
