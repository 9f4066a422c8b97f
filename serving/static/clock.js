// Deadlines as times that can be counted down.

const MINUTE = 60_000;

/** "3月4日 19:20", with the year when it is not this one; in the zone the service answered in. */
export function moment(iso, now = new Date()) {
  const [, year, month, day, time] = iso.match(/^(\d+)-(\d+)-(\d+)T(\d+:\d+)/);
  const shown = `${Number(month)}月${Number(day)}日 ${time}`;
  return Number(year) === now.getFullYear() ? shown : `${year}年${shown}`;
}

/** "还有 1 小时 58 分" or "已超过 3 天 2 小时"; two units are enough to act on. */
export function left(iso, now = Date.now()) {
  const minutes = Math.round((Date.parse(iso) - now) / MINUTE);
  const [days, hours, rest] = [Math.abs(minutes) / 1440 | 0, (Math.abs(minutes) % 1440) / 60 | 0, Math.abs(minutes) % 60];
  const parts = days ? [`${days} 天`, hours && `${hours} 小时`] : [hours && `${hours} 小时`, rest && `${rest} 分`];
  const span = parts.filter(Boolean).join(" ") || "不到 1 分";
  return minutes >= 0 ? `还有 ${span}` : `已超过 ${span}`;
}

/** Whether a moment has passed. */
export const past = (iso, now = Date.now()) => Date.parse(iso) < now;
