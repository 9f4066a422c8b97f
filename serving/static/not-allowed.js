// The page for people who may not see a page: who they are signed in as, and the way out.

import { session, who } from "/static/session.js";

const place = document.getElementById("who");
session().then((known) => {
  place.replaceChildren(...who(known));
  place.hidden = known.kind !== "user";
}, () => {});
