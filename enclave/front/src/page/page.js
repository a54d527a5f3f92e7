// The whole script: brings a ticket that stands behind the address's #, and renews the page while somebody looks.
"use strict";

const EVERY = 5000;

// A fragment is in no log and goes to no server; from here it goes into the form, and out of the browser's history.
function bring() {
  const ticket = location.hash.slice(1);
  const form = document.querySelector("form.ticket");
  if (!form || !/^[0-9a-f]{64}$/.test(ticket)) return;
  history.replaceState(null, "", location.pathname);
  form.elements.ticket.value = ticket;
  form.requestSubmit();
}

async function renew() {
  const selected = getSelection();
  const busy = document.hidden || (selected && !selected.isCollapsed);
  if (!busy) {
    try {
      const answer = await fetch(location.pathname, { credentials: "same-origin", cache: "no-store" });
      const now = document.querySelector("main");
      // Left, or closed by the vault; or there is something to show at last.
      if (answer.redirected || (answer.ok && now.dataset.live === "waiting")) return location.reload();
      const next = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
      if (answer.ok && next) now.replaceWith(document.adoptNode(next));
      document.body.classList.toggle("stale", !answer.ok);
    } catch {
      document.body.classList.add("stale");
    }
  }
  setTimeout(renew, EVERY);
}

bring();
if (document.querySelector("[data-live]")) setTimeout(renew, EVERY);
