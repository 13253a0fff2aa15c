// What a page cannot do without a script: copy, warn before leaving, forget a key, follow an upload.
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
    window.setTimeout(() => { window.removeEventListener("beforeunload", ask); window.location.reload(); },
      Number(box.dataset.seconds) * 1000);
  };

  const prepare = (root) => {
    each(root, "[data-needs-script]", (element) => { element.hidden = false; });
    each(root, "[data-copy]", (button) => button.addEventListener("click", () => copy(button)));
    each(root, "[data-guard]", guardKey);
  };

  document.addEventListener("DOMContentLoaded", () => prepare(document));
  // A page from the browser's memory is never shown again as it was.
  window.addEventListener("pageshow", (event) => { if (event.persisted) { window.location.reload(); } });
  document.addEventListener("htmx:load", (event) => { if (event.target !== document.body) { prepare(event.target); } });
})();
