// The login page: one request; the answer is a cookie that no script can read.

import { el } from "/static/elements.js";
import { session } from "/static/session.js";

const $ = (id) => document.getElementById(id);
let waiting = false;

async function enter(event) {
  event.preventDefault();
  if (waiting) return;
  busy(true);
  tell(null);
  try {
    const reply = await fetch("/v1/session", {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ name: $("name").value, password: $("password").value }),
    });
    if (reply.ok) {
      location.assign("/");
      return;
    }
    tell((await reply.json()).error);
    $("password").select();
  } catch {
    tell({ message: "连不上服务", hint: "请检查网络后再试一次" });
  }
  busy(false);
}

function busy(on) {
  waiting = on;
  $("submit").setAttribute("aria-disabled", String(on));
  $("submit").textContent = on ? "正在登录…" : "登录";
}

function tell(problem) {
  $("problem").hidden = !problem;
  $("password").toggleAttribute("aria-invalid", Boolean(problem));
  if (problem) $("problem").replaceChildren(el("b", {}, problem.message), el("span", {}, problem.hint));
}

function show() {
  const visible = $("password").type === "password";
  $("password").type = visible ? "text" : "password";
  $("show").textContent = visible ? "隐藏" : "显示";
  $("show").setAttribute("aria-pressed", String(visible));
}

$("login").addEventListener("submit", enter);
$("show").addEventListener("click", show);
$("password").addEventListener("keyup", (event) => { $("caps").hidden = !event.getModifierState?.("CapsLock"); });
session().then((known) => { if (known.kind === "user") location.replace("/"); }, () => {});
