// Colours and type size as this browser's user chose them. Loaded before the first paint, so not a module.

(() => {
  const KEPT = "jiesu.look";
  const SIZES = 4;
  const root = document.documentElement;
  const look = { theme: "auto", size: 0, ...kept() };

  function kept() {
    try {
      return JSON.parse(localStorage.getItem(KEPT)) ?? {};
    } catch {
      return {}; // no storage, or not ours: as the system says
    }
  }

  /** The stylesheet asks the system; a choice of light or dark is written into that very rule. */
  function paint() {
    const media = { auto: "screen and (prefers-color-scheme: dark)", dark: "screen", light: "not all" }[look.theme];
    for (const sheet of document.styleSheets) {
      for (const rule of sheet.cssRules) {
        if (rule instanceof CSSMediaRule && (rule.jiesuDark ||= rule.conditionText.includes("prefers-color-scheme: dark"))) rule.media.mediaText = media;
      }
    }
    root.dataset.theme = look.theme;
    root.dataset.size = String(look.size);
    root.style.colorScheme = look.theme === "auto" ? "light dark" : look.theme;
  }

  function change(more) {
    Object.assign(look, more);
    try {
      localStorage.setItem(KEPT, JSON.stringify(look));
    } catch { /* holds until the page is left */ }
    paint();
    return { ...look };
  }

  globalThis.jiesuLook = {
    now: () => ({ ...look }),
    theme: (name) => change({ theme: name }),
    size: (step) => change({ size: Math.min(SIZES, Math.max(0, look.size + step)) }),
  };
  if (!["auto", "light", "dark"].includes(look.theme)) look.theme = "auto";
  if (!Number.isInteger(look.size) || look.size < 0 || look.size > SIZES) look.size = 0;
  paint();
})();
