"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // Theme: the reader's system decides until the button is used.
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => { button.textContent = dark() ? "light" : "dark"; };
  button.hidden = false;
  button.title = "change the theme";
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("llmore-theme", root.dataset.theme); } catch (e) { /* as before */ }
    name();
  });
  system.addEventListener("change", name);
  name();

  // Tables: a click on a heading sorts, a second one turns the order round. Empty cells stay at the end.
  const text = new Intl.Collator(undefined, { numeric: true });
  const key = (row, column) => {
    const cell = row.cells[column];
    return { number: cell.dataset.v === undefined ? NaN : Number(cell.dataset.v), text: cell.textContent.trim() };
  };
  const compare = (a, b) => {
    if (!isNaN(a.number) && !isNaN(b.number)) return a.number - b.number;
    if (!isNaN(a.number) || !isNaN(b.number)) return isNaN(a.number) ? 1 : -1;
    return text.compare(a.text, b.text);
  };
  for (const table of all("table")) {
    const body = table.tBodies[0];
    if (body.rows.length < 2) continue;
    const headings = all("thead th", table);
    headings.forEach((heading, column) => {
      if (!heading.textContent) return;
      heading.setAttribute("aria-sort", "none");
      const sort = make("button", { type: "button" }, ...heading.childNodes);
      heading.append(sort);
      sort.addEventListener("click", () => {
        const numbers = all("td[data-v]:nth-child(" + (column + 1) + ")", body).length > 0;
        const before = heading.getAttribute("aria-sort");
        // Numbers begin with the largest, texts with A.
        const order = before === "none" ? (numbers ? "descending" : "ascending")
          : before === "ascending" ? "descending" : "ascending";
        for (const other of headings) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
        heading.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const rows = [...body.rows].filter((row) => !row.classList.contains("gap"));
        const keyed = rows.map((row) => ({ row, key: key(row, column) }));
        keyed.sort((a, b) => {
          if (!a.key.text !== !b.key.text) return a.key.text ? -1 : 1;
          return sign * compare(a.key, b.key);
        });
        body.prepend(...keyed.map((one) => one.row));
      });
    });
  }

  // Galleries: filters, and a card that opens large.
  const dialog = make("dialog", {});
  const content = make("div", { className: "large" });
  const count = make("span", { className: "count" });
  const arrow = (label, sign, by) => {
    const element = make("button", { type: "button", ariaLabel: label, title: label }, sign);
    element.addEventListener("click", () => move(by));
    return element;
  };
  const close = make("button", { type: "button", ariaLabel: "close", title: "close", autofocus: true }, "\u2715");
  close.addEventListener("click", () => dialog.close());
  dialog.setAttribute("aria-label", "question");
  dialog.append(
    make("div", { className: "bar" }, arrow("previous", "\u2190", -1), count, arrow("next", "\u2192", 1), close),
    content,
  );
  document.body.append(dialog);
  let cards = [], at = 0;
  const fill = () => {
    const copy = cards[at].querySelector("article").cloneNode(true);
    for (const opener of all(".open", copy)) opener.remove();
    for (const details of all("details", copy)) details.open = true;
    content.className = "large " + (cards[at].classList.contains("right") ? "right" : "wrong");
    content.replaceChildren(copy);
    content.scrollTop = 0;
    count.textContent = (at + 1) + " of " + cards.length;
  };
  const move = (by) => {
    at = (at + by + cards.length) % cards.length;
    fill();
  };
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") move(-1);
    else if (event.key === "ArrowRight") move(1);
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    const card = cards[at];
    card.scrollIntoView({ block: "nearest" });
    card.querySelector(".open").focus({ preventScroll: true });
  });

  for (const gallery of all(".gallery")) {
    const members = all(".card", gallery);
    const tools = gallery.querySelector(".tools");
    const choices = all("button[data-show]", tools);
    const category = tools.querySelector("select");
    const shown = tools.querySelector(".shown");
    const show = (what) => {
      for (const choice of choices) choice.setAttribute("aria-pressed", String(choice.dataset.show === what));
      const wanted = category ? category.value : "";
      for (const card of members) {
        card.hidden = (what !== "all" && !card.classList.contains(what)) || (wanted !== "" && card.dataset.category !== wanted);
      }
      const visible = members.filter((card) => !card.hidden).length;
      shown.textContent = visible + (visible === 1 ? " question" : " questions");
    };
    const chosen = () => (choices.find((choice) => choice.getAttribute("aria-pressed") === "true") || choices[2]).dataset.show;
    for (const choice of choices) choice.addEventListener("click", () => show(choice.dataset.show));
    if (category) category.addEventListener("change", () => show(chosen()));
    for (const card of members) {
      const question = card.querySelector(".question").textContent.slice(0, 80);
      const opener = make("button", { type: "button", className: "open", ariaLabel: "open: " + question });
      opener.addEventListener("click", () => {
        cards = members.filter((other) => !other.hidden);
        at = cards.indexOf(card);
        fill();
        dialog.showModal();
      });
      card.querySelector("article").append(opener);
    }
    tools.hidden = false;
    show(members.some((card) => card.classList.contains("wrong")) ? "wrong" : "all");
  }

  // On paper everything is unfolded and nothing is filtered.
  addEventListener("beforeprint", () => {
    for (const details of all("main details.text")) details.open = true;
  });
})();
