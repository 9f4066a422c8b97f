// How many appeals are audited, and how many two reviewers get: for what is received from now on.

import { el } from "/static/elements.js";
import { ask } from "/static/review-api.js";

const $ = (id) => document.getElementById(id);
const percent = (share) => String(Math.round(share * 1000) / 10);

/** Show the rules in force and let them be changed; `say(text)`: to the status line. */
export function rules(held, say) {
  fill(held);
  $("rules").hidden = false;
  $("rules").addEventListener("submit", async (event) => {
    event.preventDefault();
    const wanted = { audit_share: Number($("audit-share").value) / 100, double_share: Number($("double-share").value) / 100 };
    try {
      fill(await ask("PUT", "rules", wanted));
      $("rules-problem").hidden = true;
      say("比例已保存，对今后收到的诉求有效");
      $("set-rules").textContent = "已保存";
      setTimeout(() => { $("set-rules").textContent = "保存"; }, 3000);
    } catch (error) {
      $("rules-problem").replaceChildren(el("b", {}, error.message));
      $("rules-problem").hidden = false;
    }
  });
}

function fill({ audit_share: audit, double_share: double }) {
  $("audit-share").value = percent(audit);
  $("double-share").value = percent(double);
}
