// Small pieces of the document: made, filled and told apart. Text goes in as text, never as markup.

/** The element of that id; the page is broken without it. */
export function find(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** A new element with properties and children. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A problem in the server's words: what happened, and what to do. */
export function notice(problem) {
  const words = [make("p", { textContent: problem.message })];
  if (problem.hint) words.push(make("p", { className: "note", textContent: `What to do: ${problem.hint}` }));
  return make("div", { className: "notice bad" }, ...words);
}

/** A duration as a person says it. */
export function span(milliseconds) {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
}

/** A word with its number. */
export function count(number, word) {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}

/** When something was, with the day where that is not today. */
export function clock(milliseconds) {
  const when = new Date(milliseconds);
  const today = when.toDateString() === new Date().toDateString();
  return today ? when.toLocaleTimeString() : when.toLocaleString();
}
