// What a page cannot do without a script: copy, warn before leaving, forget a key, follow an upload or a list.
"use strict";

(() => {
  const each = (root, selector, act) => root.querySelectorAll(selector).forEach(act);

  // Copy the text of the element that data-copy names.
  const copy = async (button) => {
    const text = document.getElementById(button.dataset.copy)?.textContent ?? "";
    const told = document.getElementById(button.dataset.told);
    try {
      await navigator.clipboard.writeText(text);
      told.textContent = "Copied.";
    } catch {
      told.textContent = "The browser did not allow it: select the text and copy it.";
    }
  };

  // A key that nobody has stored yet: leaving the page asks; afterwards nothing of it is left here.
  const guardKey = (box) => {
    const tick = document.getElementById(box.dataset.guard);
    const forget = () => box.replaceChildren();
    const ask = (event) => { if (!tick.checked) { event.preventDefault(); } };
    window.addEventListener("beforeunload", ask);
    each(document, "form[data-stays]", (form) => {
      form.addEventListener("submit", () => {
        window.removeEventListener("beforeunload", ask);
        window.setTimeout(() => window.addEventListener("beforeunload", ask), 2000);
      });
    });
    window.addEventListener("pagehide", forget);
    // By the clock, too: a timer stands still while a machine sleeps.
    const left = Number(box.dataset.seconds) * 1000, end = Date.now() + left;
    const over = () => { window.removeEventListener("beforeunload", ask); forget(); window.location.reload(); };
    window.setTimeout(over, left);
    document.addEventListener("visibilitychange", () => { if (Date.now() > end) { over(); } });
  };

  // A key file is read here, into the field: it is sent like one that was pasted.
  const readInto = (input) => {
    input.addEventListener("change", async () => {
      const [file] = input.files;
      if (file && file.size < 65536) {
        document.getElementById(input.dataset.into).value = await file.text();
      }
    });
  };

  // An archive goes up in pieces; the service says how far it is, and there it goes on.
  const MIB = 1024 * 1024;
  // The service keeps 10,000 pieces of an upload: what is cut off and sent again is one, too.
  const MOST_PIECES = 5000;
  const PAUSES_S = [1, 2, 4, 8, 15];
  const pieceOf = (size) => Math.max(16, Math.ceil(size / MOST_PIECES / MIB)) * MIB;
  const pause = (seconds) => new Promise((resolve) => { window.setTimeout(resolve, seconds * 1000); });

  // Why a piece did not arrive, and whether the same may succeed in a moment.
  class Refused extends Error {
    constructor(message, again) { super(message); this.again = again; }
  }
  const refusedBy = (status, text) => {
    let problem = {};
    try { problem = JSON.parse(text); } catch { /* Not a problem of ours. */ }
    const message = problem.detail ? `${problem.detail}. ${problem.hint ?? ""}` : `The service answered ${status}.`;
    return new Refused(message, problem.code === "upload.offset" || [408, 429, 500, 502, 503, 504].includes(status));
  };

  const upload = (box) => {
    const input = box.querySelector("input[type=file]");
    const bar = box.querySelector("progress");
    const told = box.querySelector("[role=status]");
    const form = box.closest("form");
    const token = form.querySelector("[name=csrf_token]")?.value ?? "";
    const say = (text) => { told.textContent = text; };
    const megabytes = (bytes) => (bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 });
    let going = null;

    // The same file goes on under its id, also after the page was loaded again.
    const idOf = (file) => {
      const name = `upload:${file.name}:${file.size}:${file.lastModified}`;
      const known = window.sessionStorage.getItem(name);
      window.sessionStorage.setItem(name, known ?? box.dataset.upload);
      return { id: known ?? box.dataset.upload, begun: known !== null };
    };

    const send = (call, url, file, offset) => new Promise((resolve, reject) => {
      call.open("PATCH", url);
      call.setRequestHeader("Content-Type", "application/partial-upload");
      call.setRequestHeader("Upload-Offset", String(offset));
      call.setRequestHeader("Upload-Length", String(file.size));
      call.setRequestHeader("X-CSRF-Token", token);
      call.upload.onprogress = (event) => {
        bar.value = (offset + event.loaded) / file.size;
        say(`${megabytes(offset + event.loaded)} of ${megabytes(file.size)} MB`);
      };
      call.onload = () => {
        if (call.status < 300) { resolve(Number(call.getResponseHeader("Upload-Offset"))); return; }
        reject(refusedBy(call.status, call.responseText));
      };
      call.onerror = () => reject(new Refused("The connection broke off.", true));
      call.onabort = () => reject(new Refused("", false));
      call.send(file.slice(offset, offset + pieceOf(file.size)));
    });

    const reached = async (url) => {
      const answer = await fetch(url).catch(() => { throw new Refused("The connection broke off.", true); });
      if (answer.status === 404) { return 0; }
      if (!answer.ok) { throw refusedBy(answer.status, await answer.text()); }
      return Number(answer.headers.get("Upload-Offset"));
    };

    // What breaks off goes on by itself for a while: after each failure from where the service is.
    const bring = async (call, file, url, begun) => {
      let offset = 0, known = !begun, failures = 0;
      while (!known || offset < file.size) {
        try {
          if (going !== call) { throw new Refused("", false); }
          if (!known) { offset = await reached(url); known = true; continue; }
          offset = await send(call, url, file, offset);
          failures = 0;
        } catch (error) {
          if (!error.again || failures >= PAUSES_S.length) { throw error; }
          say(`${error.message} It goes on by itself.`);
          await pause(PAUSES_S[failures]);
          failures += 1; known = false;
        }
      }
    };

    const begin = async (file) => {
      going?.abort();
      const call = going = new XMLHttpRequest();
      document.getElementById(box.dataset.radio).checked = true;
      form.elements.upload_id.value = "";
      bar.hidden = false;
      const { id, begun } = idOf(file);
      try {
        await bring(call, file, box.dataset.url + id, begun);
        if (going !== call) { return; }
        form.elements.upload_id.value = id;
        bar.value = 1;
        say(`${file.name} is here: ${megabytes(file.size)} MB.`);
      } catch (error) {
        if (going === call) {
          say(error.again ? `${error.message} Choose the file again: it goes on where it stopped.` : error.message);
        }
      }
    };

    // A browser tells of a change alone, and the same file is none.
    input.addEventListener("click", () => { input.value = ""; });
    input.addEventListener("change", () => { if (input.files[0]) { begin(input.files[0]); } });
  };

  // A list tells of each of its changes, and is fetched anew. A browser that was cut off comes back.
  const follow = (box) => {
    const changes = new EventSource(box.dataset.follow);
    changes.addEventListener("operation", () => {
      window.htmx.trigger(document.getElementById(box.dataset.follows), "changed");
    });
    window.addEventListener("pagehide", () => changes.close());
  };

  const prepare = (root) => {
    each(root, "[data-into]", readInto);
    each(root, "[data-upload]", upload);
    each(root, "[data-needs-script]", (element) => { element.hidden = false; });
    each(root, "[data-copy]", (button) => button.addEventListener("click", () => copy(button)));
    each(root, "[data-guard]", guardKey);
    each(root, "[data-follow]", follow);
  };

  // What a page asks by itself keeps no session open: nobody may sit before it.
  document.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.elt.hasAttribute("data-background")) { event.detail.headers["X-Background"] = "1"; }
  });

  // What may be over in a moment is asked again by the next look; any other error takes the place of the part.
  const unanswered = (event) => {
    const told = event.detail.elt.querySelector("[role=status]");
    if (told && (event.type === "htmx:sendError" || [429, 502, 503, 504].includes(event.detail.xhr.status))) {
      told.textContent = "The service does not answer at this moment. This page asks again by itself.";
    }
  };
  document.addEventListener("htmx:sendError", unanswered);
  document.addEventListener("htmx:responseError", unanswered);

  document.addEventListener("DOMContentLoaded", () => prepare(document));
  // A page from the browser's memory is never shown again as it was.
  window.addEventListener("pageshow", (event) => { if (event.persisted) { window.location.reload(); } });
  document.addEventListener("htmx:load", (event) => { if (event.target !== document.body) { prepare(event.target); } });
})();
