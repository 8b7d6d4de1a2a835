// All that is not plain HTML: single keys on the comparison page, for those who want them. Everything works without.
"use strict";
const form = document.querySelector("[data-shortcuts]");
const choice = document.getElementById("shortcuts");
if (form && choice) {
  const NAME = "abeyance-shortcuts";
  try { choice.checked = localStorage.getItem(NAME) !== "off"; } catch { choice.checked = true; }
  choice.addEventListener("change", () => {
    try { localStorage.setItem(NAME, choice.checked ? "on" : "off"); } catch { /* then for this page alone */ }
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("textarea, select, input:not([type=radio])");
    if (!choice.checked || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const radio = form.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    if (radio) { radio.checked = true; radio.focus(); event.preventDefault(); }
    if (event.key === "b") { form.querySelector("#ground").focus(); event.preventDefault(); }
  });
}
