// Single keys on the comparison page. The page works without this script.
"use strict";
const form = document.querySelector("[data-shortcuts]");
const choice = document.getElementById("shortcuts");
if (form && choice) {
  const NAME = "abeyance-shortcuts";
  try { choice.checked = localStorage.getItem(NAME) !== "off"; } catch { choice.checked = true; }
  choice.addEventListener("change", () => {
    try { localStorage.setItem(NAME, choice.checked ? "on" : "off"); } catch { /* The choice lasts for this page only. */ }
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("textarea, select, input:not([type=radio])");
    if (!choice.checked || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const radio = form.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    if (radio) { radio.checked = true; radio.focus(); event.preventDefault(); }
    if (event.key === "b") { form.querySelector("#ground").focus(); event.preventDefault(); }
  });
}
