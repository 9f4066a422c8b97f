"""Who may do what: keys, users, sessions, rate limits, and the guard that every request passes.

roles       scopes and roles; `needs(…)` declares what a route asks for
keys        API keys: made, and recognised from memory
passwords   rules, hashes, constant work
sessions    the cookie's token, and the proof that a request comes from our own page
throttling  how long a login must wait
limits      how many requests a caller may send
sealing     encrypted originals
gate        all of it together, for one application
guard       the middleware that asks the gate before a body is read
starting    what refuses to start outside of development
"""
