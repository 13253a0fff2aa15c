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
  const PIECE_BYTES = 16 * 1024 * 1024;
  const upload = (box) => {
    const input = box.querySelector("input[type=file]");
    const bar = box.querySelector("progress");
    const told = box.querySelector("[role=status]");
    const form = box.closest("form");
    const token = form.querySelector("[name=csrf_token]")?.value ?? "";
    const say = (text) => { told.textContent = text; };
    const megabytes = (bytes) => (bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 });

    // The same file goes on under its id, also after the page was loaded again.
    const idOf = (file) => {
      const name = `upload:${file.name}:${file.size}:${file.lastModified}`;
      const known = window.sessionStorage.getItem(name);
      window.sessionStorage.setItem(name, known ?? box.dataset.upload);
      return { id: known ?? box.dataset.upload, begun: known !== null };
    };

    const send = (url, file, offset) => new Promise((resolve, reject) => {
      const piece = file.slice(offset, offset + PIECE_BYTES);
      const call = new XMLHttpRequest();
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
        let problem = {};
        try { problem = JSON.parse(call.responseText); } catch { /* Not a problem of ours. */ }
        reject(new Error(problem.detail ? `${problem.detail}. ${problem.hint ?? ""}` : `The service answered ${call.status}.`));
      };
      call.onerror = () => reject(new Error("The connection broke off. Choose the file again: it goes on where it stopped."));
      call.send(piece);
    });

    const reached = async (url) => {
      const answer = await fetch(url);
      return answer.ok ? Number(answer.headers.get("Upload-Offset")) : 0;
    };

    input.addEventListener("change", async () => {
      const [file] = input.files;
      if (!file) { return; }
      document.getElementById(box.dataset.radio).checked = true;
      form.elements.upload_id.value = "";
      bar.hidden = false;
      const { id, begun } = idOf(file);
      const url = box.dataset.url + id;
      try {
        let offset = begun ? await reached(url) : 0;
        while (offset < file.size) { offset = await send(url, file, offset); }
        form.elements.upload_id.value = id;
        bar.value = 1;
        say(`${file.name} is here: ${megabytes(file.size)} MB.`);
      } catch (error) {
        say(error.message);
      }
    });
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

  document.addEventListener("DOMContentLoaded", () => prepare(document));
  // A page from the browser's memory is never shown again as it was.
  window.addEventListener("pageshow", (event) => { if (event.persisted) { window.location.reload(); } });
  document.addEventListener("htmx:load", (event) => { if (event.target !== document.body) { prepare(event.target); } });
})();
