// Who is signed in: the token that changing requests carry, the development banner, signing out.

import { el } from "/static/elements.js";

let known = { csrf: "" };

/** Headers that prove to the service that a request comes from this page. */
export const proof = () => (known.csrf ? { "X-CSRF-Token": known.csrf } : {});

/** Ask who is signed in; shows the banner of a development service. */
export async function session() {
  const reply = await fetch("/v1/session");
  if (!reply.ok) throw new Error((await reply.json()).error.message);
  known = await reply.json();
  const banner = document.getElementById("development");
  if (known.environment === "development" && banner) {
    banner.textContent = "开发环境：不验证身份，任何人都能访问。请勿用于真实诉求。";
    banner.hidden = false;
  }
  return known;
}

/** Name and sign-out button for the top of a page; empty without a session. `first` is done before signing out. */
export function who({ kind, name }, first = async () => {}) {
  if (kind !== "user") return [];
  return [el("span", {}, name), el("button", { type: "button", class: "quiet", id: "leave", onclick: () => leave(first) }, "退出")];
}

async function leave(first) {
  await first();
  const reply = await fetch("/v1/session", { method: "DELETE", headers: proof() });
  if (reply.ok || reply.status === 401) location.assign("/login");
}
