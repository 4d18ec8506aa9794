"use strict";
// What pages do without it: everything but staying current, the keys, and the clock of a question.
(() => {
  const root = document.documentElement;
  const base = root.dataset.base;
  const byId = (id) => document.getElementById(id);

  // The clock of questions.
  const tick = () => {
    for (const one of document.querySelectorAll("time[data-until]")) {
      const left = Math.max(0, Math.floor((Number(one.dataset.until) - Date.now()) / 1000));
      one.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
      if (left === 0 && !one.dataset.over) {
        one.dataset.over = "yes";
        refresh();
      }
    }
  };
  setInterval(tick, 1000);

  // Parts of the page that stay current are taken from the page as the server writes it now.
  let busy = false;
  let again = false;
  const refresh = async () => {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      const answer = await fetch(location.href, { redirect: "manual" });
      if (answer.status === 401) {
        location.reload();
        return;
      }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const old of document.querySelectorAll("[data-live]")) {
        const now = fresh.getElementById(old.id);
        if (now && !keeps(old, now) && now.innerHTML !== old.innerHTML) {
          const held = document.activeElement && old.contains(document.activeElement) ? document.activeElement : null;
          old.replaceWith(document.importNode(now, true));
          const target = held && (held.id ? byId(held.id) : held.href && find(held.getAttribute("href")));
          if (target) target.focus({ preventScroll: true });
        }
      }
    } catch {
      // The server is away; the stream of events says when it is there again.
    } finally {
      setTimeout(() => {
        busy = false;
        if (again) {
          again = false;
          refresh();
        }
      }, 700);
    }
  };
  const find = (href) => [...document.querySelectorAll("main a")].find((one) => one.getAttribute("href") === href);
  // A card on which somebody is about to answer stays as it is while its question is open.
  const keeps = (old, now) => old.dataset.live === "card" && old.querySelector("form") && now.querySelector("form");

  let asks = null;
  const source = new EventSource(`${base}/live?pos=${root.dataset.pos}`);
  const heard = (event) => {
    const said = JSON.parse(event.data);
    const key = said.asks.join(" ");
    const count = said.asks.length;
    byId("badge").textContent = count ? String(count) : "";
    document.title = document.title.replace(/^\(\d+\) /, "");
    if (count) document.title = `(${count}) ${document.title}`;
    if (asks !== null && asks !== key) {
      byId("said").textContent = count === 0 ? "no question is open" : count === 1 ? "1 question open" : `${count} questions open`;
    }
    const changed = asks !== key;
    asks = key;
    const wants = [...document.querySelectorAll("[data-live]")].map((one) => one.dataset.live);
    if ((event.type === "news" && wants.length) || (changed && (wants.includes("asks") || wants.includes("card")))) refresh();
  };
  source.addEventListener("news", heard);
  source.addEventListener("same", heard);

  // Keys: `d` and `a` go to the answer, and Enter gives it. Deny has the focus to begin with.
  const deny = byId("deny");
  const allow = byId("allow");
  if (deny) deny.focus({ preventScroll: true });
  if (allow) {
    allow.disabled = true; // A click that was meant for the page before says nothing about this card.
    setTimeout(() => { allow.disabled = false; }, 700);
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select")) return;
    const target = { a: byId("allow"), d: byId("deny"), "/": byId("query") }[event.key];
    if (!target || target.disabled) return;
    event.preventDefault();
    target.scrollIntoView({ block: "nearest" });
    target.focus();
  });
})();
