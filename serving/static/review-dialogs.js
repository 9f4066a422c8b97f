// Small dialogs: skipping with a reason, the keys, signing in again, another tab at work.

import { el } from "/static/elements.js";
import { KEYS, singleKeys } from "/static/review-keys.js";
import { session } from "/static/session.js";

/** Open a dialog element. Gives what closes it: at once, so that the next key meets the page again. */
export function modal(node, closed = () => {}) {
  const before = document.activeElement;
  const shut = () => {
    if (!node.isConnected) return;
    node.close();
    node.remove();
    before?.focus?.({ preventScroll: true });
    closed();
  };
  const stays = "stays" in node.dataset;
  node.addEventListener("close", () => (stays && node.isConnected ? node.showModal() : shut()));
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.isComposing) return;
    event.preventDefault();
    event.stopPropagation();
    if (!stays) shut();
  });
  document.body.append(node);
  node.showModal();
  return shut;
}

/** A modal dialog with a heading; `closed` runs when it has closed, the focus goes back to where it was.

Without `leave`, the name of its closing button, only the program closes it. */
export function dialog(id, title, children, { closed, leave = "关闭" } = {}) {
  let shut = () => {};
  const node = el("dialog", { class: "sheet-dialog", id, "aria-labelledby": `${id}-title`, "data-stays": !leave },
    el("div", { class: "dialog-head" }, el("h2", { id: `${id}-title` }, title),
      leave ? el("button", { type: "button", class: "quiet small", onclick: () => shut() }, `${leave} `, el("kbd", {}, "Esc")) : null),
    children);
  shut = modal(node, closed);
  return { node, shut };
}

/** Ask why an appeal is skipped; resolves with the reason's code, or null. */
export function askReason(reasons) {
  return new Promise((resolve) => {
    let chosen = null;
    const choose = (code) => {
      chosen = code;
      shut();
    };
    const { node, shut } = dialog("skip", "跳过这一条：原因是什么？", [
      el("ol", { class: "reason-list" }, reasons.map((one, index) => el("li", {},
        el("button", { type: "button", class: "option", onclick: () => choose(one.code) }, el("kbd", {}, String(index + 1)), el("span", {}, one.name))))),
      el("p", { class: "hint" }, "它会转给其他人，不再发给您。"),
    ], { closed: () => resolve(chosen), leave: "取消" });
    node.addEventListener("keydown", (event) => {
      const reason = reasons[Number(event.key) - 1];
      if (!reason) return;
      event.preventDefault();
      choose(reason.code);
    });
    node.querySelector(".option").focus();
  });
}

/** All keys, and the switch for the printed ones. */
export function showHelp(heads) {
  const groups = [...new Set(KEYS.map((one) => one.group))];
  const row = (keys, name) => el("tr", {}, el("th", { scope: "row" }, keys.map((key, index) => [index ? " " : "", el("kbd", {}, key)])), el("td", {}, name));
  const own = heads.filter((one) => one.letter).map((one) => row([one.letter], `选中“${one.name}”`));
  const rows = (group) => KEYS.filter((one) => one.group === group).map((one) => row(one.range ? [`${one.keys[0]}–${one.keys[1]}`] : one.keys, one.name));
  const table = (title, body) => el("table", {}, el("caption", {}, title), el("tbody", {}, body));
  const box = el("input", { type: "checkbox", id: "single-keys", onchange: () => singleKeys.set(box.checked) });
  box.checked = singleKeys.on();
  const { node } = dialog("help", "快捷键", [
    el("p", { class: "hint" }, "两个键改一项：先按字母选中分类头，再按数字选答案。"),
    el("div", { class: "help-tables", tabindex: "0", role: "group", "aria-label": "快捷键表" }, table("分类头", own), groups.map((group) => table(group, rows(group)))),
    el("label", { class: "switch" }, box, "用单个字母和数字作快捷键（用读屏或语音输入时可关掉，所有操作都有按钮）"),
  ]);
  node.querySelector("button").focus();
}

/** Sign in again without leaving the page; resolves with whether it went well. Only as the same person. */
export function signInAgain(name, waiting) {
  return new Promise((resolve) => {
    let done = false;
    const password = el("input", { id: "again-password", type: "password", required: true, maxlength: "256", autocomplete: "current-password" });
    const problem = el("div", { class: "problem", role: "alert", hidden: true });
    const form = el("form", { class: "again" },
      el("p", {}, "登录已过期。您填写的内容都还在", waiting ? `，${waiting} 条待提交的会在登录后自动提交` : "", "。"),
      el("label", { for: "again-name" }, "用户名"), el("input", { id: "again-name", value: name, readonly: true, autocomplete: "username" }),
      el("label", { for: "again-password" }, "密码"), password, problem,
      el("button", { type: "submit", class: "primary" }, "登录并继续"));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const told = await signIn(name, password.value);
      done = !told;
      if (done) shut();
      problem.hidden = done;
      problem.replaceChildren(...(told ? [el("b", {}, told.message), el("span", {}, told.hint ?? "")] : []));
      password.select();
    });
    const { shut } = dialog("signin", "请重新登录", form, { closed: () => resolve(done), leave: "稍后" });
    password.focus();
  });
}

/** What went wrong, or null. */
async function signIn(name, password) {
  try {
    const reply = await fetch("/v1/session", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ name, password }),
    });
    if (!reply.ok) return (await reply.json()).error;
    await session(); // the new session's token for changing requests
    return null;
  } catch {
    return { message: "连不上服务", hint: "请检查网络后再试一次" };
  }
}

/** Hold the only tab that works for a reviewer: two would answer the same appeals. `lost`: another took over. */
export async function onlyTab(name, lost) {
  if (!navigator.locks) return true; // without TLS there are no locks; tokens still keep rows single
  const take = (options) => new Promise((resolve, reject) => {
    navigator.locks.request(`jiesu-review-${name}`, options, (lock) => {
      resolve(Boolean(lock));
      return lock ? new Promise(() => {}) : null; // held until the tab goes
    }).catch((error) => (error.name === "AbortError" ? lost() : reject(error)));
  });
  if (await take({ ifAvailable: true })) return true;
  return new Promise((resolve) => {
    const here = el("button", { type: "button", class: "primary", onclick: async () => {
      await take({ steal: true });
      shut();
      resolve(true);
    } }, "在这里继续");
    const { shut } = dialog("other-tab", "复核页已在另一个标签页打开", [
      el("p", {}, "同时开两页会领到同样的诉求。请回到那一页，或在这里继续（那一页随即停下，未提交的内容会移到这里）。"), here,
    ], { leave: "" });
    here.focus();
  });
}

/** This tab has been replaced by another. */
export function stopped() {
  dialog("other-tab", "已在另一个标签页继续", [
    el("p", {}, "这一页已停下。"), el("button", { type: "button", class: "primary", onclick: () => location.reload() }, "改回在这里继续"),
  ], { leave: "" });
}
